"""Assign the tokens of a prompt to its messages and to the template's marks.

The chat is rendered a second time with a sentinel instead of each message. The text between sentinels belongs to the
template, so messages are found without knowing any template, also where one is folded into another.
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
SENTINEL = re.compile(f"qwzxturn([{DIGITS}]+)xzwq")  # a text that no template contains
SLACK = 16  # characters that a tokenizer may have dropped before a token
UNFINISHED = "\ufffd"  # what the first bytes of a character decode to

Place: TypeAlias = tuple[int, int]  # first character, and the one after the last


@dataclass(frozen=True)
class Layout:
    """Rendered prompt with the places of its messages."""

    text: str
    places: tuple[tuple[str, Place], ...]  # role and place of each message that was found, in order
    opening: int  # where the template opens the assistant's turn
    located: bool  # every message was found


def marked_prompt(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    *,
    raw: bool = False,
    thinking: bool | None = None,
    sink: bool = True,
    encode: Callable[[str], Tokens],
) -> MarkedPrompt:
    """Render a prompt as ``render_chat`` does, and mark each token with its role.

    A chat whose last message is the assistant's ends with that text: its turn is not closed, and no other is opened.
    A ``sink`` (the first token that a decoder reads) is no word. For the other options see ``render_chat``.

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
    turns = tuple(_turn(*message, offsets, inside) for message, inside in zip(layout.places, within, strict=True))
    bare = not layout.places and layout.located
    counted = [inside for (role, _), inside in zip(layout.places, within, strict=True) if role != "system"]
    candidates = {n for n, (start, stop) in enumerate(offsets) if start < stop} if bare else set().union(*counted)
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


def lay_out(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, thinking: bool | None = None) -> Layout:
    """Render a chat, and find its messages in the text.

    Raises:
        PromptError: The template does not take it.
    """
    last = messages[-1] if messages[-1].role == "assistant" else None
    before = messages[:-1] if last else messages
    rendered = render_chat(tokenizer, before, thinking=thinking)
    located = _find(tokenizer, before, rendered, thinking=thinking)
    places = [(before[n].role, place) for n, place in located]
    places = [*_default_system(tokenizer, before, rendered, places), *places]
    complete = {n for n, _ in located} == set(range(len(before)))
    text = rendered
    if last:
        text = type(rendered)(rendered + last.content)
        places.append((last.role, (len(rendered), len(text))))
    return Layout(text, tuple(places), _opening(tokenizer, before, rendered, thinking=thinking), complete)


def _find(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], text: str, *, thinking: bool | None
) -> list[tuple[int, Place]]:
    """Return (number of the message, place) of each message that is found, in the order of the text."""
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
    """Return the forms a template may give a message: unchanged, stripped, or without the thoughts before it."""
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
    """Return the places of the forms that make up the text together with the pieces around them, or None."""
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
    """Search each message after the previous one, first after the template's piece that should precede it."""
    located: list[tuple[int, Place]] = []
    cursor = 0
    for number, choices in enumerate(forms):
        place = _first_place(text, choices, (before.get(number, ""), ""), cursor)
        if place is not None:
            located.append((number, place))
            cursor = place[1]
    return located


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


def offsets_of(tokenizer: PreTrainedTokenizerBase, text: str, tokens: Tokens) -> tuple[Place, ...]:
    """Return the first character of each token and the one after its last, equal for a token without text."""
    if tokenizer.is_fast:
        read = tokenizer(str(text), add_special_tokens=False, return_offsets_mapping=True)
        bare = tuple(read["input_ids"])
        for start in reversed(range(len(tokens) - len(bare) + 1)):  # around it are the tokenizer's special tokens
            if tuple(tokens[start : start + len(bare)]) == bare:
                around = len(tokens) - len(bare) - start
                offsets = ((int(first), int(stop)) for first, stop in read["offset_mapping"])
                return (*[(0, 0)] * start, *offsets, *[(0, 0)] * around)
    return _aligned(tokenizer, text, tokens)


def _aligned(tokenizer: PreTrainedTokenizerBase, text: str, tokens: Tokens) -> tuple[Place, ...]:
    """Return offsets by decoding longer and longer prefixes; the tokens of one character share its place."""
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
    """Return the place of a token's text at the cursor or close behind it; empty if it is not there."""
    for form in (piece, piece.strip()):
        at = text.find(form, cursor, cursor + SLACK + len(form)) if form else -1
        if at >= 0:
            return at, at + len(form)
    return cursor, cursor


def _overlapping(offsets: Sequence[Place], place: Place) -> set[int]:
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
