"""Render chats with a model's template, and cut openings at token borders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from jinja2 import Environment, meta
from jinja2.exceptions import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trimtab.behaviours import Message
from trimtab.engines.protocol import THINKING_MARKERS, RenderedChat, ThinkingMarkers, Tokens
from trimtab.errors import PromptError

SWITCHES = ("enable_thinking", "thinking")  # variables of templates: Qwen's and most others', DeepSeek's
OWN_TAGS = re.compile(r"{%-?\s*(end)?generation\s*-?%}")  # transformers' addition to Jinja


def thinking_markers(tokenizer: PreTrainedTokenizerBase) -> ThinkingMarkers | None:
    """Return the marks around the model's thoughts, from its chat template or its vocabulary; None if it has none.

    The opening mark may be a part of the prompt, so an answer may have only the closing one.
    """
    templates = tokenizer.chat_template or ""
    source = "".join(templates.values()) if isinstance(templates, dict) else templates
    added = tokenizer.get_added_vocab()
    for markers in THINKING_MARKERS:
        if markers.open in source or {markers.open, markers.close} <= added.keys():
            return markers
    return None


def thinking_options(template: str, thinking: bool | None) -> dict[str, bool]:
    """Return the template's variables that switch thinking on or off.

    Raises:
        PromptError: The template has no switch for it.
    """
    if thinking is None:
        return {}
    switches = [switch for switch in SWITCHES if switch in _variables(template)]
    if not switches:
        raise PromptError(
            f"the model's chat template has no switch for thinking (neither {' nor '.join(SWITCHES)})",
            fix="leave thinking out",
        )
    return dict.fromkeys(switches, thinking)


@lru_cache(maxsize=64)
def _variables(template: str) -> frozenset[str]:
    try:
        parsed = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(OWN_TAGS.sub("", template))
    except TemplateError:
        return frozenset()
    return frozenset(meta.find_undeclared_variables(parsed))


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the tokens that end an answer.

    They are those of the generation config, the tokenizer's EOS, and the token with which the chat template ends a
    turn: each may be missing from the others.
    """
    configured = _token_ids(getattr(getattr(model, "generation_config", None), "eos_token_id", None))
    end = end_of_turn(tokenizer)
    turn = () if end is None else (tokenizer.get_added_vocab()[end],)
    return tuple(dict.fromkeys((*configured, *_token_ids(tokenizer.eos_token_id), *turn)))


def _token_ids(given: Any) -> tuple[int, ...]:
    """Return token ids from a number, a list, an array or a tensor."""
    if given is None:
        return ()
    return tuple(map(int, np.ravel(given.tolist() if hasattr(given, "tolist") else given)))


_ENDS: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[str, str | None]] = WeakKeyDictionary()  # template, its end


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the special token that the chat template writes behind an answer, or None.

    The mark behind thoughts is none, where it also ends turns: an answer would stop before it begins.
    """
    try:
        template = _template(tokenizer)
    except PromptError:
        return None
    if template is None:
        return None
    known = _ENDS.get(tokenizer)
    if known is None or known[0] != template:
        known = _ENDS[tokenizer] = template, _find_end(tokenizer)
    return known[1]


def _find_end(tokenizer: PreTrainedTokenizerBase) -> str | None:
    question, answer = Message("user", USER), Message("assistant", ANSWER)
    try:
        chat = _rendered(tokenizer, (question, answer, question))
    except (TemplateError, ValueError, TypeError):
        return None
    behind = chat.partition(ANSWER)[2].partition(USER)[0].lstrip()
    markers = thinking_markers(tokenizer)
    end = next((token for token in special_in(tokenizer, behind) if behind.startswith(token)), None)
    return None if markers is not None and end == markers.close else end


def special_in(tokenizer: PreTrainedTokenizerBase, text: str) -> Iterator[str]:
    """Yield the added tokens in a text, in order."""
    added = {number: token for token, number in tokenizer.get_added_vocab().items()}
    for number in tokenizer(text, add_special_tokens=False)["input_ids"]:
        if number in added:
            yield added[number]


def special_affixes(tokenizer: PreTrainedTokenizerBase) -> tuple[Tokens, Tokens]:
    """Return the special tokens that a tokenizer puts before and behind every text."""
    bare = tuple(tokenizer("a", add_special_tokens=False)["input_ids"])
    full = tuple(tokenizer("a")["input_ids"])
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    return (), ()


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str, *, continued: bool) -> Tokens:
    """Return the token ids of a text, with special tokens once.

    In a rendered chat the template has written them. Other texts get those of the tokenizer, unless they begin with
    them; a text that the model continues gets none behind, where a decoder would have ended.

    Raises:
        PromptError: The text has characters that cannot be encoded.
    """
    try:
        tokens = tuple(tokenizer(str(text), add_special_tokens=False)["input_ids"])
    except (TypeError, UnicodeError):
        at = next((n for n, character in enumerate(text) if "\ud800" <= character <= "\udfff"), 0)
        near = text[max(at - 20, 0) : at + 20]
        raise PromptError(f"the text is not Unicode near {near!r}", fix="replace its lone surrogates") from None
    if isinstance(text, RenderedChat):
        return tokens
    before, behind = special_affixes(tokenizer)
    if tokens[: len(before)] != before:
        tokens = before + tokens
    return tokens if continued or not behind or tokens[-len(behind) :] == behind else tokens + behind


def pad_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that pads rows; a mask hides it."""
    pad = tokenizer.pad_token_id
    if pad is not None:
        return int(pad)
    stop = stop_tokens(model, tokenizer)
    return stop[0] if stop else 0


def start_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """Return the start tokens of a decoder beside an encoder."""
    for config in (getattr(model, "generation_config", None), model.config):
        given = getattr(config, "decoder_start_token_id", None)
        if isinstance(given, int):
            return (given,)
    start = tokenizer.bos_token_id
    return (int(pad_token(model, tokenizer) if start is None else start),)


def check_tokens(tokens: Tokens, *, name: str, vocabulary: int) -> None:
    """Refuse token ids that a model does not have.

    Raises:
        PromptError: There is one.
    """
    for token in tokens:
        if not 0 <= token < vocabulary:
            raise PromptError(f"there is no token {token}", fix=f"{name} has tokens 0 to {vocabulary - 1}")


def check_length(tokens: Tokens, text: str, *, name: str, window: int | None, room: int = 0) -> None:
    """Refuse a text that is empty or does not fit into the context window with ``room`` tokens for the answer.

    Raises:
        PromptError: It is, or does not.
    """
    if not (tokens and text):
        raise PromptError("the text is empty", fix="give at least one token")
    if window is not None and len(tokens) + room > window:
        answer = f" and {room} for the answer" if room else ""
        raise PromptError(
            f"the prompt has {len(tokens)} tokens{answer}, but {name} reads {window} ({text[:40]!r}...)",
            fix="shorten it" + (" or lower max_new_tokens" if room else ""),
        )


# Texts that no template contains; they show where a template puts a message.
SYSTEM = "qwzxsystemxzwq"
USER = "qwzxuserxzwq"
ANSWER = "qwzxanswerxzwq"
_TAKES_SYSTEM: dict[str, bool] = {}  # by the template's source


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    continuation: str = "",
    thinking: bool | None = None,
    opened: bool = True,
) -> str:
    """Return the chat as the model sees it, with the opening of the assistant's turn.

    A model without a chat template sees the messages' texts, each on a separate line. Where a template refuses or drops
    system messages, the system text opens the first user message. A chat that ends with an assistant message is open
    there: its turn is the one that is continued.

    Args:
        tokenizer: Tokenizer with the template.
        messages: The chat.
        continuation: Beginning of the assistant's turn.
        thinking: Whether the model thinks before it answers; None leaves it to the template.
        opened: Whether the assistant's turn is opened; if not, the chat ends with its last message.

    Raises:
        PromptError: The template refuses the messages, or has no switch for thinking.
    """
    if opened and len(messages) > 1 and messages[-1].role == "assistant":
        messages, continuation = messages[:-1], messages[-1].content + continuation
    template = _template(tokenizer)
    if template is None:
        if thinking is not None:
            raise PromptError("the model has no chat template, and so no switch for thinking", fix="leave thinking out")
        return "\n".join(message.content for message in messages) + "\n" + continuation
    if messages and messages[0].role == "system" and not _takes_system(tokenizer, template):
        messages = _folded(messages)
    try:
        text = _rendered(tokenizer, messages, opened=opened, **thinking_options(template, thinking))
    except (TemplateError, ValueError, TypeError) as error:
        raise PromptError(
            f"the model's chat template does not take this chat: {error}",
            fix="use roles that it knows, in its order",
        ) from None
    return RenderedChat(f"{text}{continuation}")


def default_system_prompt(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the chat template's default system prompt, or None.

    It is the text that replaces the system message when a chat without one is rendered.
    """
    user = Message("user", USER)
    try:
        given = _rendered(tokenizer, (Message("system", SYSTEM), user))
        bare = _rendered(tokenizer, (user,))
    except (TemplateError, ValueError, TypeError):
        return None
    before, system, after = given.partition(SYSTEM)
    if not system or not (bare.startswith(before) and bare.endswith(after)):
        return None
    return bare[len(before) : len(bare) - len(after)].strip() or None


def _template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    if not tokenizer.chat_template:
        return None
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:  # several templates, and none is the default
        raise PromptError(
            f"which of the model's chat templates to use is not said: {error}", fix="set tokenizer.chat_template to one"
        ) from None


def _rendered(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, opened: bool = True, **options: bool
) -> str:
    chat = [{"role": message.role, "content": message.content} for message in messages]
    return str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=opened, **options))


def _takes_system(tokenizer: PreTrainedTokenizerBase, template: str) -> bool:
    if template not in _TAKES_SYSTEM:
        _TAKES_SYSTEM[template] = _system_arrives(tokenizer)
    return _TAKES_SYSTEM[template]


def _system_arrives(tokenizer: PreTrainedTokenizerBase) -> bool:
    user = Message("user", USER)
    try:
        _rendered(tokenizer, (user,))
    except (TemplateError, ValueError, TypeError):
        return True  # the template fails for another reason than system messages
    try:
        return SYSTEM in _rendered(tokenizer, (Message("system", SYSTEM), user))
    except (TemplateError, ValueError, TypeError):
        return False


def _folded(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the chat with its leading system messages in the first user message."""
    start = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    system = "\n\n".join(message.content for message in messages[:start])
    if start < len(messages) and messages[start].role == "user":
        return (Message("user", f"{system}\n\n{messages[start].content}"), *messages[start + 1 :])
    return (Message("user", system), *messages[start:])


def opening_cuts(tokenizer: PreTrainedTokenizerBase, text: str, *, limit: int) -> tuple[str, ...]:
    """Return ``text`` cut after its first token, its second, and so on, at most ``limit`` cuts; none is blank."""
    if tokenizer.is_fast:
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        ends = [end for _, end in offsets]
    else:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ends = [len(tokenizer.decode(ids[:n])) for n in range(1, len(ids) + 1)]
    cuts = dict.fromkeys(text[:end] for end in ends[:limit])
    return tuple(cut for cut in cuts if cut.strip())
