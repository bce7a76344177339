"""Which tokens of a row a scope holds, decided as they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from trimtab.engines.base import MarkedPrompt
from trimtab.engines.transformers.thinking import ThinkingMarkers
from trimtab.errors import SteeringError
from trimtab.steering.scopes import OF_GENERATED, TURNS, Part, Scope

Floats32 = NDArray[np.float32]
OPEN_PARTS = ("after", "before", "thinking", "answer", "first", "from")  # what they hold changes along the answer


@final
class RowText:
    """One row's prompt, and what was generated after it so far.

    Attributes:
        prompt: The prompt.
        markers: The marks around the model's thoughts; None if it has none.
    """

    def __init__(
        self, prompt: MarkedPrompt, *, markers: ThinkingMarkers | None, decode: Callable[[Sequence[int]], str]
    ) -> None:
        self.prompt = prompt
        self.markers = markers
        self._decode = decode
        self._tokens: list[int] = []
        self._texts = [""]

    def append(self, token: int) -> None:
        """One more generated token was read."""
        self._tokens.append(token)

    def through(self, number: int) -> str:
        """The text of the generated tokens up to and with ``number``; none for -1."""
        while len(self._texts) < number + 2:
            self._texts.append(self._decode(self._tokens[: len(self._texts)]))
        return self._texts[number + 1]


def check_scope(scope: Scope, row: RowText, *, what: str) -> None:
    """Refuse a scope that makes no sense for a row.

    Raises:
        SteeringError: It asks for thoughts of a model that has no marks for them, or for turns that cannot be found.
    """
    kinds = {part.kind for part in scope.parts}
    if "thinking" in kinds and row.markers is None:
        raise SteeringError(
            f"{what}: the model has no marks around thoughts, so none can be told apart", fix="use another scope"
        )
    if kinds & {"system", "user"} and not row.prompt.turns:
        raise SteeringError(f"{what}: the prompt is bare text, which has no turns", fix="give a chat, or another scope")
    if kinds & set(TURNS) and not row.prompt.located:
        raise SteeringError(
            f"{what}: the model's chat template changes the messages, so their turns cannot be found in the prompt",
            fix="use another scope, such as 'generated'",
        )


def prompt_gains(scope: Scope, prompt: MarkedPrompt, *, sink: bool) -> Floats32:
    """1 for the tokens of a prompt that a scope holds, 0 for others, ``[token]``."""
    held = np.ones(len(prompt.tokens), dtype=bool)
    for part in scope.parts:
        held &= _in_prompt(part, prompt)
    if sink:
        held[0] = False
    return held.astype(np.float32)


def _in_prompt(part: Part, prompt: MarkedPrompt) -> NDArray[np.bool_]:
    count = len(prompt.tokens)
    if part.kind in OF_GENERATED:
        return np.zeros(count, dtype=bool)
    if part.kind in TURNS:
        held = np.zeros(count, dtype=bool)
        for turn in prompt.turns:
            held[turn.start : turn.stop] |= turn.role == part.kind
        return held
    if part.kind == "prompt":
        return np.ones(count, dtype=bool)
    at = prompt.text.find(part.text)
    offsets = np.array(prompt.offsets)
    if part.kind == "after":
        return np.zeros(count, dtype=bool) if at < 0 else offsets[:, 0] >= at + len(part.text)
    return np.ones(count, dtype=bool) if at < 0 else offsets[:, 1] <= at


def generated_gain(scope: Scope, row: RowText, number: int) -> float:
    """How strongly a scope holds generated token ``number``; the row has read it."""
    if not all(_in_answer(part, row, number) for part in scope.parts):
        return 0.0
    return 1.0 if scope.schedule is None else scope.schedule.gain(number)


def is_steady(scope: Scope, prompt: MarkedPrompt) -> bool:
    """Whether a scope holds all generated tokens alike, whatever they are."""
    if scope.schedule is not None:
        return False
    if any(part.kind in ("prompt", "system", "user") for part in scope.parts):
        return True
    return not any(
        part.kind in OPEN_PARTS and not (part.kind in ("after", "before") and part.text in prompt.text)
        for part in scope.parts
    )


def _in_answer(part: Part, row: RowText, number: int) -> bool:
    if part.kind in ("generated", "assistant"):
        return True
    if part.kind == "first":
        return number < part.count
    if part.kind == "from":
        return number >= part.count
    if part.kind in ("after", "before"):
        return _beside(part, row, number)
    if part.kind in ("thinking", "answer"):
        return _in_thoughts(part.kind, row, number)
    return False


def _beside(part: Part, row: RowText, number: int) -> bool:
    text = row.prompt.text
    if part.text in text:
        return part.kind == "after"
    tail = text[max(len(text) - len(part.text) + 1, 0) :]
    if part.kind == "after":
        return part.text in tail + row.through(number - 1)
    return part.text not in tail + row.through(number)


def _in_thoughts(kind: str, row: RowText, number: int) -> bool:
    """Thoughts begin with the opening mark, in the template or as the answer's first word, and end with the closing."""
    if row.markers is None:
        return kind == "answer"
    opened, closed = row.markers.open, row.markers.close
    opening = row.prompt.text[row.prompt.opening :]
    before, through = opening + row.through(number - 1), opening + row.through(number)
    if kind == "thinking":
        return opened in before and closed not in through
    if opened in before:
        return closed in before
    if opened in through:
        return False
    begun = row.through(number).lstrip()
    return not (begun and opened.startswith(begun))
