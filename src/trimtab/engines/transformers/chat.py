"""Chats and a model's template: render them, and cut openings at token borders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from transformers import PreTrainedTokenizerBase

from trimtab.behaviours import Message
from trimtab.engines.base import Prompt
from trimtab.engines.transformers.thinking import thinking_options
from trimtab.errors import PromptError

# Texts that no template writes by itself, by which it is told what becomes of a message.
SYSTEM = "qwzxsystemxzwq"
USER = "qwzxuserxzwq"
_TAKES_SYSTEM: dict[str, bool] = {}  # by the template's source


def as_messages(prompt: Prompt) -> tuple[Message, ...]:
    """A chat from a string (a user message) or a list of messages.

    Raises:
        PromptError: It is neither, or a message lacks its role or content.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    messages = tuple(map(_message, prompt)) if isinstance(prompt, Sequence) else ()
    if not messages:
        raise PromptError("the chat has no messages", fix="give at least one user message")
    return messages


def is_chat(prompts: Any) -> bool:
    """Whether this is one chat, and not a list of prompts."""
    return bool(prompts) and isinstance(prompts[0], (Message, Mapping))


def _message(given: Any) -> Message:
    if isinstance(given, Message):
        return given
    if isinstance(given, Mapping) and isinstance(given.get("role"), str) and isinstance(given.get("content"), str):
        return Message(given["role"], given["content"])
    raise PromptError(f"{str(given)[:60]!r} is not a chat message", fix='write {"role": "user", "content": "..."}')


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    continuation: str = "",
    thinking: bool | None = None,
    opened: bool = True,
) -> str:
    """The chat as the model sees it, up to and with the opening of the assistant's turn.

    A model without a chat template sees the messages' texts, each on a line of its own. Where a template refuses system
    messages, or drops them without a word, the system text opens the first user message.

    Args:
        tokenizer: Whose template renders it.
        messages: The chat.
        continuation: How the assistant's turn is to begin.
        thinking: Whether the model is to think before it answers; None leaves it to the template.
        opened: Whether the assistant's turn is opened; off, the chat ends with its last message.

    Raises:
        PromptError: The template refuses the messages, or has no switch for thinking.
    """
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
    return f"{text}{continuation}"


def default_system_prompt(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """What the chat template tells the model where a chat has no system message; None if nothing.

    Found by rendering a chat with and without one: what stands in its place is the default.
    """
    user = Message("user", USER)
    try:
        given = _rendered(tokenizer, (Message("system", SYSTEM), user))
        bare = _rendered(tokenizer, (user,))
    except (TemplateError, ValueError, TypeError):
        return None
    before, found, after = given.partition(SYSTEM)
    if not found or not (bare.startswith(before) and bare.endswith(after)):
        return None
    return bare[len(before) : len(bare) - len(after)].strip() or None


def _template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The source of the template that chats are rendered with."""
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
    """Whether system messages reach the model; tried once for each template."""
    if template not in _TAKES_SYSTEM:
        _TAKES_SYSTEM[template] = _system_arrives(tokenizer)
    return _TAKES_SYSTEM[template]


def _system_arrives(tokenizer: PreTrainedTokenizerBase) -> bool:
    user = Message("user", USER)
    try:
        _rendered(tokenizer, (user,))
    except (TemplateError, ValueError, TypeError):
        return True  # it takes nothing at all: what is wrong has nothing to do with system messages
    try:
        return SYSTEM in _rendered(tokenizer, (Message("system", SYSTEM), user))
    except (TemplateError, ValueError, TypeError):
        return False


def _folded(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The chat with its leading system messages in the first user message."""
    start = next((at for at, message in enumerate(messages) if message.role != "system"), len(messages))
    system = "\n\n".join(message.content for message in messages[:start])
    if start < len(messages) and messages[start].role == "user":
        return (Message("user", f"{system}\n\n{messages[start].content}"), *messages[start + 1 :])
    return (Message("user", system), *messages[start:])


def opening_cuts(tokenizer: PreTrainedTokenizerBase, text: str, *, limit: int) -> tuple[str, ...]:
    """``text`` cut after its first token, its second, and so on, ``limit`` at most; none is blank."""
    if tokenizer.is_fast:
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        ends = [end for _, end in offsets]
    else:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ends = [len(tokenizer.decode(ids[:n])) for n in range(1, len(ids) + 1)]
    cuts = dict.fromkeys(text[:end] for end in ends[:limit])
    return tuple(cut for cut in cuts if cut.strip())
