"""Schedule: the coefficient of each term at each token of a batch, pass by pass.

Columns are those of the padded batch: the prompts end at column ``width``, and generated token ``g`` is at column
``width + g``. Padding and attention sinks have coefficient 0. A condition on the prompt is decided once for each row; a
condition on tokens is decided for every generated token, by the reading of the hidden state from which that token was
chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from trimtab.engines.protocol import MarkedPrompt, ThinkingMarkers
from trimtab.engines.transformers.forward.step_plan import Coefficients, StepPlan
from trimtab.errors import SteeringError
from trimtab.steering.conditions import Comparison, Condition, comparisons, decide
from trimtab.steering.scopes import OF_GENERATED, TURNS, Part, Scope

OPEN_PARTS = ("after", "before", "thinking", "answer", "first", "from")  # what they hold changes along the answer


@final
class RowText:
    """Prompt of one row with the text generated after it so far.

    Args:
        prompt: The prompt.
        markers: Marks around the model's thoughts.
        decode: Returns the text of tokens.
        left_out: Returns True for the number of a generated token on which no term acts; None if terms act on all.
    """

    def __init__(
        self,
        prompt: MarkedPrompt,
        *,
        markers: ThinkingMarkers | None,
        decode: Callable[[Sequence[int]], str],
        left_out: Callable[[int], bool] | None = None,
    ) -> None:
        self.prompt = prompt
        self.markers = markers
        self.left_out = left_out
        self._decode = decode
        self._tokens: list[int] = []
        self._texts = [""]

    def read(self, number: int, token: int) -> None:
        """Add generated token ``number``, once for all schedules that share the row."""
        if number == len(self._tokens):
            self._tokens.append(token)

    def through(self, number: int) -> str:
        """Return the text of the generated tokens up to and with ``number``; none for -1."""
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
            f"{what}: the model has no marks around thoughts, so they cannot be found", fix="use another scope"
        )
    if kinds & {"system", "user"} and not row.prompt.turns:
        raise SteeringError(f"{what}: the prompt is bare text, which has no turns", fix="give a chat, or another scope")
    if kinds & set(TURNS) and not row.prompt.located:
        raise SteeringError(
            f"{what}: the model's chat template changes the messages, so their turns cannot be found in the prompt",
            fix="use another scope, such as 'generated'",
        )


def prompt_coefficients(scope: Scope, prompt: MarkedPrompt, *, sink: bool) -> Coefficients:
    """Return 1 for the tokens of a prompt that are in a scope and 0 for others, ``[token]``."""
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


def generated_coefficient(scope: Scope, row: RowText, number: int) -> float:
    """Return the coefficient of a scope at generated token ``number``, which the row has read."""
    if not all(_in_answer(part, row, number) for part in scope.parts):
        return 0.0
    return 1.0 if scope.schedule is None else scope.schedule.coefficient(number)


def is_steady(scope: Scope, prompt: MarkedPrompt) -> bool:
    """Return True if a scope has the same coefficient at all generated tokens."""
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
    # Thoughts begin with the opening mark, in the template or as the answer's first word, and end with the closing one.
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


Readings = Mapping[Comparison, NDArray[np.float64]]  # of each row


@final
@dataclass
class ConditionState:
    """Condition state of one row: whether the condition holds, and the readings that decided it.

    A reading is the last z-score of a comparison; of one on tokens it is the z-score farthest towards holding.
    """

    condition: Condition
    readings: dict[Comparison, float] = field(default_factory=dict)
    fired: bool = False  # whether it ever held
    _held: dict[Comparison, bool] = field(default_factory=dict)

    @property
    def on_tokens(self) -> bool:
        """Return True if the condition is decided at every token."""
        return any(comparison.at == "token" for comparison in comparisons(self.condition))

    def note(self, now: Mapping[Comparison, float]) -> None:
        """Take readings of some comparisons."""
        for comparison, reading in now.items():
            self._held[comparison] = comparison.holds(reading, held=self._held.get(comparison, False))
            farthest = max if comparison.side == "above" else min
            self.readings[comparison] = farthest(self.readings.get(comparison, reading), reading)

    def decide(self, now: Mapping[Comparison, float]) -> bool:
        """Take readings of some comparisons, and say whether it holds."""
        self.note(now)
        holds = decide(self.condition, self._held)
        self.fired |= holds
        return holds


@final
class BatchSchedule:
    """Coefficients of one step plan on one batch.

    Attributes:
        plan: The step plan.
        conditions: The condition state of each conditional ``(row, term)``.
        width: Length of the padded prompts.
        pads: Padding before each row.
        column: The first column of the current pass.
    """

    def __init__(
        self,
        plan: StepPlan,
        rows: Sequence[RowText],
        *,
        sink: bool,
        cached: bool,
        kept: int = 0,
        pad_left: bool = True,
        prompt_readings: Callable[[Sequence[Comparison]], Readings] | None = None,
        token_readings: Callable[[], Readings] | None = None,
    ) -> None:
        lengths = [len(row.prompt.tokens) for row in rows]
        self.width = max(lengths)
        self.pads = np.array([self.width - length if pad_left else 0 for length in lengths])
        self._rows = rows
        self.plan = plan
        self._cached = cached
        self._next = kept  # the column at which the next pass begins
        self._begun = False
        self.column = kept
        self._token_readings = token_readings
        self._scopes = [term.scope for term in plan.terms]
        self._owned = [
            [n for n, acting in enumerate(plan.rows) if acting is None or row in acting] for row in range(len(rows))
        ]
        self.conditions = {
            (row, term): ConditionState(condition)
            for row, own in enumerate(self._owned)
            for term in own
            if (condition := plan.terms[term].condition) is not None
        }
        self._open = self._first_openings(prompt_readings)
        self._prompt = self._prompt_table(sink=sink)
        self._prompt[:, :kept] = 0.0  # an earlier request read them
        self._answer: list[Coefficients] = []  # [row, term] of each generated token
        self._left_out: dict[int, NDArray[np.bool_]] = {}  # [row, term] that would act, by number of the token
        self._steady = (
            not any(state.on_tokens for state in self.conditions.values())
            and not any(row.left_out for row in rows)
            and all(
                is_steady(self._scopes[term], rows[row].prompt) for row, own in enumerate(self._owned) for term in own
            )
        )

    def _first_openings(self, read: Callable[[Sequence[Comparison]], Readings] | None) -> NDArray[np.bool_]:
        """Decide the conditions on prompts, ``[row, term]``; terms with a condition on tokens do not act yet."""
        opened = np.zeros((len(self._rows), len(self.plan.terms)), dtype=bool)
        for row, own in enumerate(self._owned):
            opened[row, own] = True
        asked = {c: None for state in self.conditions.values() for c in comparisons(state.condition) if c.at != "token"}
        readings = read(list(asked)) if asked and read is not None else {}
        for (row, term), state in self.conditions.items():
            known = {c: float(readings[c][row]) for c in comparisons(state.condition) if c.at != "token"}
            if state.on_tokens:
                state.note(known)
                opened[row, term] = False
            else:
                opened[row, term] = state.decide(known)
        return opened

    def _prompt_table(self, *, sink: bool) -> Coefficients:
        """Return ``[row, column, term]`` of the prompts."""
        table = np.zeros((len(self._rows), self.width, len(self.plan.terms)), dtype=np.float32)
        for row, own in enumerate(self._owned):
            for term in own:
                if self._open[row, term] and self.plan.terms[term].changes:
                    coefficients = prompt_coefficients(self._scopes[term], self._rows[row].prompt, sink=sink)
                    table[row, self.pads[row] : self.pads[row] + len(coefficients), term] = coefficients
        return table

    @property
    def prompt_lengths(self) -> list[int]:
        """Return the number of tokens of each prompt."""
        return [len(row.prompt.tokens) for row in self._rows]

    def begin_at(self, column: int) -> None:
        """Begin the next pass at a column; those before it have been read."""
        self._next = column

    def of_prompt(self, start: int, stop: int) -> Coefficients:
        """Return the coefficients ``[row, column, term]`` of a piece of the padded prompts; ``begin_at`` goes on."""
        return self._prompt[:, start:stop]

    def step(self, tokens: NDArray[np.int64]) -> Coefficients:
        """Return the coefficients ``[row, token, term]`` of the pass that begins, which reads ``tokens [row, token]``.

        Where nothing has changed, it is the same array again, so that tensors made from it can be kept.
        """
        # Some models keep no keys and values even when asked to: then a later pass has several tokens, the whole text.
        whole = not self._cached or (self._begun and tokens.shape[1] > 1)
        start = self.column = 0 if whole else self._next
        self._begun = True
        stop = start + tokens.shape[1]
        self._next = stop
        for column in range(max(self.width + len(self._answer), start), stop):
            self._read_generated(tokens[:, column - start])
        if start >= self.width and stop == start + 1:
            return self._answer[start - self.width][:, None] if not self._steady else self._steady_coefficients
        parts = [self._prompt[:, start : self.width]] if start < self.width else []
        first = max(start - self.width, 0)
        parts += [coefficients[:, None] for coefficients in self._answer[first : max(stop - self.width, 0)]]
        return np.concatenate(parts, axis=1)

    def _read_generated(self, tokens: NDArray[np.int64]) -> None:
        number = len(self._answer)
        if self._steady:
            if number == 0:
                first = self._coefficients_at(0)
                self._steady_coefficients = first[:, None]
            self._answer.append(self._steady_coefficients[:, 0])
            return
        for row, token in zip(self._rows, tokens.tolist(), strict=True):
            row.read(number, token)
        self._decide_tokens()
        coefficients = self._coefficients_at(number)
        left_out = [row for row, text in enumerate(self._rows) if text.left_out is not None and text.left_out(number)]
        if left_out:
            self._left_out[number] = np.zeros(coefficients.shape, dtype=bool)
            self._left_out[number][left_out] = coefficients[left_out] != 0
            coefficients[left_out] = 0
        self._answer.append(coefficients)

    def _coefficients_at(self, number: int) -> Coefficients:
        coefficients = np.zeros(self._open.shape, dtype=np.float32)
        for row, own in enumerate(self._owned):
            for term in own:
                if self._open[row, term] and self.plan.terms[term].changes:
                    coefficients[row, term] = generated_coefficient(self._scopes[term], self._rows[row], number)
        return coefficients

    def _decide_tokens(self) -> None:
        on_tokens = {key: state for key, state in self.conditions.items() if state.on_tokens}
        if not on_tokens or self._token_readings is None:
            return
        readings = self._token_readings()
        for (row, term), state in on_tokens.items():
            now = {c: float(readings[c][row]) for c in comparisons(state.condition) if c.at == "token"}
            self._open[row, term] = state.decide(now)

    def left_out_of(self, row: int, generated: int) -> list[int]:
        """Return on how many of the first ``generated`` tokens each term did not act because they are left out."""
        counts = np.zeros(self._open.shape[1], dtype=int)
        for number, acting in self._left_out.items():
            if number < generated:
                counts += acting[row]
        return list(map(int, counts))

    def terms_of(self, row: int) -> list[int]:
        """Return the numbers of a row's terms, in order."""
        return self._owned[row]

    def coefficients_of(self, row: int, generated: int) -> Coefficients:
        """Return a row's coefficients ``[token, term]`` for its prompt and the first ``generated`` tokens after it."""
        stop = self.pads[row] + len(self._rows[row].prompt.tokens)
        answer = np.zeros((generated, self._open.shape[1]), dtype=np.float32)
        for number, coefficients in enumerate(self._answer[:generated]):  # there are none where no layer is steered
            answer[number] = coefficients[row]
        return np.concatenate([self._prompt[row, self.pads[row] : stop], answer])
