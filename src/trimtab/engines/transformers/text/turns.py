"""Which tokens of a prompt are the words of which message, and which are the template's marks.

The chat is rendered a second time with a text of our own in place of each message. What stands between those texts is
the template's, so that messages are found without knowing any template, also where one is folded into another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from transformers import PreTrainedTokenizerBase

from trimtab.behaviours import Message
from trimtab.engines.protocol import MarkedPrompt, Prompt, Tokens, Turn, as_messages
from trimtab.engines.transformers.text.chat_template import (
    default_system_prompt,
    render_chat,
    thinking_markers,
)
from trimtab.errors import PromptError

DIGITS = "abcdefghij"
SENTINEL = re.compile(f"qwzxturn([{DIGITS}]+)xzwq")  # a text that no template writes by itself
SLACK = 16  # characters that a tokenizer may have dropped before a token
UNFINISHED = "\ufffd"  # what the first bytes of a character decode to

Place: TypeAlias = tuple[int, int]  # first character, and the one after the last


@dataclass(frozen=True)
class Layout:
    """A rendered prompt and where its messages stand in it.

    Attributes:
        text: As it was rendered.
        places: Role and place of each message that was found, in order.
        opening: Where the template opens the assistant's turn.
        located: Whether every message was found.
    """

    text: str
    places: tuple[tuple[str, Place], ...]
    opening: int
    located: bool


def marked_prompt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    *,
    raw: bool = False,
    thinking: bool | None = None,
    sink: bool = True,
    encode: Callable[[str], Tokens],
) -> MarkedPrompt:
    """Render a prompt as ``render_chat`` does, and tell which of its tokens are whose words.

    A chat whose last message is the assistant's ends with that text: its turn is not closed, and no other is opened.

    Args:
        tokenizer: Whose template renders it.
        prompt: A user message, or a chat.
        raw: Take a string as bare text instead of a user message.
        thinking: Whether the model is to think before it answers; None leaves it to the template.
        sink: Whether the first token is an attention sink, and so no word: true for decoders.
        encode: The engine's own way from text to tokens.

    Raises:
        PromptError: It is no chat, or the template does not take it.

    Example:
        >>> marked = marked_prompt(model.tokenizer, "Hi", encode=model.encode)  # doctest: +SKIP
        >>> [turn.role for turn in marked.turns]  # doctest: +SKIP
        ['system', 'user']
    """
    if raw and isinstance(prompt, str):
        layout = Layout(prompt, (), len(prompt), True)
    else:
        layout = lay_out(tokenizer, as_messages(prompt), thinking=thinking)
    tokens = encode(layout.text)
    offsets = offsets_of(tokenizer, layout.text, tokens)
    within = [_overlapping(offsets, place) for _, place in layout.places]
    turns = tuple(
        _turn(role, place, offsets, found) for (role, place), found in zip(layout.places, within, strict=True)
    )
    bare = not layout.places and layout.located
    said = [found for (role, _), found in zip(layout.places, within, strict=True) if role != "system"]
    candidates = {n for n, (start, stop) in enumerate(offsets) if start < stop} if bare else set().union(*said)
    special = _special_tokens(tokenizer)
    words = tuple(n in candidates and token not in special and not (sink and n == 0) for n, token in enumerate(tokens))
    return MarkedPrompt(layout.text, tokens, offsets, turns, words, layout.opening, layout.located)


def token_texts(tokenizer: PreTrainedTokenizerBase, marked: MarkedPrompt) -> tuple[str, ...]:
    """Return the text of each token, which together are the prompt; for a token without text, its name.

    Where several tokens make one character, the first one has it and the others are empty.
    """
    texts, cursor = [], 0
    for token, (start, stop) in zip(marked.tokens, marked.offsets, strict=True):
        if start == stop:
            texts.append(str(tokenizer.convert_ids_to_tokens(token)))
            continue
        texts.append(marked.text[cursor:stop])
        cursor = max(cursor, stop)
    return tuple(texts)


# Where messages stand in the text ----------------------------------------------------------------------------------


def lay_out(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, thinking: bool | None = None) -> Layout:
    """Render a chat, and find its messages in the text.

    Raises:
        PromptError: The template does not take it.
    """
    last = messages[-1] if messages[-1].role == "assistant" else None
    asked = messages[:-1] if last else messages
    rendered = render_chat(tokenizer, asked, thinking=thinking)
    found = _find(tokenizer, asked, rendered, thinking=thinking)
    places = [(asked[n].role, place) for n, place in found]
    places = [*_default_system(tokenizer, asked, rendered, places), *places]
    located = {n for n, _ in found} == set(range(len(asked)))
    text = rendered
    if last:
        text = rendered + last.content
        places.append((last.role, (len(rendered), len(text))))
    return Layout(text, tuple(places), _opening(tokenizer, asked, rendered, thinking=thinking), located)


def _find(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], text: str, *, thinking: bool | None
) -> list[tuple[int, Place]]:
    """The place of each message that is found, as (number of the message, place), in the order of the text."""
    sentinels = [Message(message.role, _sentinel(n)) for n, message in enumerate(messages)]
    markers = thinking_markers(tokenizer)
    forms = [_forms(message, markers.close if markers else "") for message in messages]
    try:
        split = SENTINEL.split(render_chat(tokenizer, sentinels, thinking=thinking))
    except PromptError:  # the template looks at what messages say
        return _search(text, forms, {})
    pieces, order = split[::2], [_number(digits) for digits in split[1::2]]
    fitted = _fit(text, pieces, [forms[n] for n in order])
    if fitted is not None:
        return list(zip(order, fitted, strict=True))
    return _search(text, forms, dict(zip(reversed(order), reversed(pieces[:-1]), strict=True)))


def _sentinel(number: int) -> str:
    return f"qwzxturn{''.join(DIGITS[int(digit)] for digit in str(number))}xzwq"


def _number(digits: str) -> int:
    return int("".join(str(DIGITS.index(digit)) for digit in digits))


def _forms(message: Message, closing: str) -> tuple[str, ...]:
    """What a template may have made of a message's text: all of it, stripped, or without the thoughts before it."""
    texts = [message.content]
    if message.role == "assistant" and closing and closing in message.content:
        texts.append(message.content.rpartition(closing)[2])
    return tuple(
        dict.fromkeys(
            form
            for text in texts
            for form in (text, text.strip(), text.lstrip(), text.rstrip(), text.strip("\n"), text.lstrip("\n"))
        )
    )


def _fit(text: str, pieces: Sequence[str], forms: Sequence[Iterable[str]]) -> tuple[Place, ...] | None:
    """Where the forms stand that give the text together with the pieces around them; None if none do."""
    paths: dict[int, tuple[Place, ...]] = {len(pieces[0]): ()} if text.startswith(pieces[0]) else {}
    for piece, choices in zip(pieces[1:], forms, strict=True):
        longer: dict[int, tuple[Place, ...]] = {}
        for start, places in paths.items():
            for form in choices:
                if text.startswith(form + piece, start):
                    stop = start + len(form)
                    longer.setdefault(stop + len(piece), (*places, (start, stop)))
        paths = longer
    return paths.get(len(text))


def _search(text: str, forms: Sequence[Sequence[str]], before: Mapping[int, str]) -> list[tuple[int, Place]]:
    """Each message behind the one before it: best behind the template's piece that should precede it."""
    found: list[tuple[int, Place]] = []
    cursor = 0
    for number, choices in enumerate(forms):
        place = _first_place(text, choices, (before.get(number, ""), ""), cursor)
        if place is not None:
            found.append((number, place))
            cursor = place[1]
    return found


def _first_place(text: str, forms: Sequence[str], leads: Sequence[str], cursor: int) -> Place | None:
    for lead in leads:
        for form in forms:
            at = text.find(lead + form, cursor) if form.strip() else -1
            if at >= 0:
                return at + len(lead), at + len(lead) + len(form)
    return None


def _default_system(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], text: str, places: Sequence[tuple[str, Place]]
) -> list[tuple[str, Place]]:
    """Find the template's default system prompt, if it comes before all messages."""
    if messages and messages[0].role == "system":
        return []
    default = default_system_prompt(tokenizer)
    start = text.find(default, 0, places[0][1][0] if places else len(text)) if default else -1
    return [("system", (start, start + len(default or "")))] if start >= 0 else []


def _opening(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], text: str, *, thinking: bool | None
) -> int:
    try:
        closed = render_chat(tokenizer, messages, thinking=thinking, opened=False)
    except PromptError:
        return len(text)
    return len(closed) if text.startswith(closed) else len(text)


# From characters to tokens -----------------------------------------------------------------------------------------


def offsets_of(tokenizer: PreTrainedTokenizerBase, text: str, tokens: Tokens) -> tuple[Place, ...]:
    """Return the first character of each token and the one after its last, equal for a token without text."""
    if tokenizer.is_fast:
        for special in (True, False):
            read = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
            if tuple(read["input_ids"]) == tuple(tokens):
                return tuple((int(start), int(stop)) for start, stop in read["offset_mapping"])
    return _aligned(tokenizer, text, tokens)


def _aligned(tokenizer: PreTrainedTokenizerBase, text: str, tokens: Tokens) -> tuple[Place, ...]:
    """Offsets from what longer and longer beginnings decode to; the tokens of one character share its place."""
    known = text.lower() if len(text.lower()) == len(text) else text
    offsets: list[Place] = []
    before, cursor = "", 0
    for n in range(1, len(tokens) + 1):
        decoded = str(tokenizer.decode(list(tokens[:n])))
        if decoded.endswith(UNFINISHED) and n < len(tokens):
            continue
        piece = decoded[len(before) :]
        start, stop = _next(known, piece.lower() if known is not text else piece, cursor)
        offsets += [(start, stop)] * (n - len(offsets))
        before, cursor = decoded, stop
    return tuple(offsets)


def _next(text: str, piece: str, cursor: int) -> Place:
    """Where a token's text stands at the cursor or close behind it; nowhere where it does not."""
    for form in (piece, piece.strip()):
        at = text.find(form, cursor, cursor + SLACK + len(form)) if form else -1
        if at >= 0:
            return at, at + len(form)
    return cursor, cursor


def _overlapping(offsets: Sequence[Place], place: Place) -> set[int]:
    """The tokens that have a character in common with a place."""
    first, last = place
    return {n for n, (start, stop) in enumerate(offsets) if start < stop and start < last and stop > first}


def _turn(role: str, place: Place, offsets: Sequence[Place], within: set[int]) -> Turn:
    if within:
        return Turn(role, min(within), max(within) + 1)
    behind = next((n for n, (start, stop) in enumerate(offsets) if start < stop and start >= place[0]), len(offsets))
    return Turn(role, behind, behind)


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset(tokenizer.all_special_ids) | {number for number, token in added.items() if token.special}
