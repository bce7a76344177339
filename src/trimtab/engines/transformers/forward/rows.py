"""Steering and reading of texts in flat passes: each text has its own plan, schedule, readings and counters.

Nothing of a text is computed together with another text's, so that its hidden states are the same, bit for bit,
whatever is read beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.arrays import F64
from trimtab.engines.layers import DecoderLayers
from trimtab.engines.protocol import TermReceipt
from trimtab.engines.transformers.forward.capture import reading_weights
from trimtab.engines.transformers.forward.flat import Segment
from trimtab.engines.transformers.forward.schedule import BatchSchedule, Readings, RowText
from trimtab.engines.transformers.forward.steer import (
    SteeringCounters,
    changed_by,
    check_moved,
    term_receipts,
)
from trimtab.engines.transformers.forward.step_plan import Coefficients, StepPlan
from trimtab.errors import SteeringError
from trimtab.steering import CompiledSteering
from trimtab.steering.conditions import Comparison, comparisons
from trimtab.vectors import ControlVector

SUMS = 1024  # kept of one plan: a strength that changes with every token has others all the time


@final
class RowPlan:
    """Step plan of one text, with the sums of its additions; texts of equal steerings may share it."""

    def __init__(self, steering: CompiledSteering) -> None:
        self.steering = steering
        self.steps = StepPlan.of_rows([steering])
        self.effects = tuple(term.effect_digest for term in steering.terms)
        self._sums: dict[tuple[int, bytes], Tensor] = {}
        # Layers whose one step is additions: their sum is a vector by token, which is gathered for all texts at once.
        self.added = frozenset(
            layer
            for layer, numbers in self.steps.by_layer.items()
            if len(numbers) == 1 and self.steps.steps[numbers[0]].kind == "add"
        )

    def sum_at(self, layer: int, coefficients: NDArray[np.float32], like: Tensor) -> Tensor:
        """Return the sum of the additions at a layer, ``[hidden]``, for coefficients ``[term]`` of all terms."""
        key = layer, coefficients.tobytes()
        if key not in self._sums or self._sums[key].device != like.device:
            while len(self._sums) >= SUMS:
                del self._sums[next(iter(self._sums))]
            step = self.steps.steps[self.steps.by_layer[layer][0]]
            (table,) = step.tensors(layer, like)
            self._sums[key] = _summed(table, coefficients[list(step.numbers)]).to(like.dtype)
        return self._sums[key]


def _summed(table: Tensor, coefficients: NDArray[np.float32]) -> Tensor:
    """Return the sum over terms, one after another: a matrix product may round in another order in another shape."""
    total = torch.zeros_like(table[0])
    for line, coefficient in zip(table, coefficients.tolist(), strict=True):
        if coefficient:
            total = total + coefficient * line
    return total


@dataclass
class _Counted:
    """What was counted of one text in one pass."""

    start: int  # position of its first token
    column: int  # in the pass
    count: int
    lengths: dict[int, Tensor]  # norms of all hidden states of the pass before they are changed, [token], by layer
    moves: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # [1, token], by step and layer


@final
class RowSteering:
    """Steering of one text along its passes.

    Args:
        plan: Its plan.
        text: Its prompt.
        sink: Whether the first token of a text is an attention sink.
        read: Vectors to read at every generated token.
        prompt_readings: Reads the prompt for conditions on prompts.

    Attributes:
        plan: Its plan.
        readings: Z-scores ``[vector]`` on the vectors to read, of the states that predicted each generated token.
        error: With which the text has failed; it must take part in no other pass.
    """

    def __init__(
        self,
        plan: RowPlan,
        text: RowText,
        *,
        sink: bool,
        read: Sequence[ControlVector] = (),
        prompt_readings: Callable[[Sequence[Comparison]], Readings] | None = None,
    ) -> None:
        self.plan = plan
        conditions = [term.condition for term in plan.steering.terms if term.condition is not None]
        on_tokens = [c for condition in conditions for c in comparisons(condition) if c.at == "token"]
        vectors = [*read, *dict.fromkeys(c.vector for c in on_tokens if c.vector not in read)]
        self._compared = {comparison: vectors.index(comparison.vector) for comparison in on_tokens}
        self._read = len(read)
        self.weights, self._offset = reading_weights(vectors)
        self._latest: F64 | None = None  # z-scores of the last pass, [vector]
        self.readings: list[F64] = []
        self._counted: list[_Counted] = []
        self._kept: list[SteeringCounters] = []  # of tokens that another text has read
        self.checked: set[int] = set()  # layers where additions have been seen to move something
        self.error: Exception | None = None
        self._tokens = text.prompt.tokens
        self._stepped = -1  # number of the generated token for which ``_last`` has the coefficients
        self._last: Coefficients
        self.schedule = BatchSchedule(
            plan.steps,
            [text],
            sink=sink,
            cached=True,
            prompt_readings=prompt_readings,
            token_readings=self._token_readings,
        )

    def _token_readings(self) -> Readings:
        assert self._latest is not None
        latest = self._latest
        return {comparison: latest[[at]] for comparison, at in self._compared.items()}

    @property
    def prompt_steered(self) -> Coefficients:
        """Return the coefficients of the prompt's tokens, ``[token, term]``."""
        table: Coefficients = self.schedule.of_prompt(0, len(self._tokens))[0]
        return table

    def coefficients(self, segment: Segment) -> Coefficients:
        """Return the coefficients ``[token, term]`` of a segment in the pass that begins."""
        if segment.generated:
            number = segment.start - len(self._tokens)
            if number != self._stepped:  # else a pass that broke off is tried again
                self._stepped = number
                steps = [self.schedule.step(np.array([[token]]))[0] for token in segment.tokens]
                self._last = steps[0] if len(steps) == 1 else np.concatenate(steps)
            return self._last
        self.schedule.begin_at(segment.stop)
        piece: Coefficients = self.schedule.of_prompt(segment.start, segment.stop)[0]
        return piece

    def coefficients_or_error(self, segment: Segment) -> Coefficients:
        """Return the coefficients of a segment; those of a text that fails are 0, and its error is noted."""
        try:
            return self.coefficients(segment)
        except Exception as error:
            self.error = error
            return np.zeros((len(segment.tokens), len(self.plan.steering.terms)), dtype=np.float32)

    def note_reading(self, sums: Tensor) -> None:
        """Take the sums of projections ``[vector]`` at the text's last token."""
        self._latest = sums.double().cpu().numpy() - self._offset
        self.readings.append(self._latest[: self._read])

    def count(self, counted: _Counted) -> None:
        """Take the counters of one pass."""
        self._counted.append(counted)

    def counters(self) -> list[SteeringCounters]:
        """Return what was counted so far, in order."""
        return [*self._kept, *map(self._counters_of, self._counted)]

    def _counters_of(self, counted: _Counted) -> SteeringCounters:
        columns = slice(counted.column, counted.column + counted.count)
        norms = counted.lengths
        lengths = {layer: norms[layer][None, columns] for layer in self.plan.steps.layers if layer in norms}
        return SteeringCounters(counted.start, lengths, dict(counted.moves))

    def keep(self, counters: Sequence[SteeringCounters]) -> None:
        """Take the counters of the beginning of the prompt, which another text of the same steering has read."""
        self._kept = list(counters)

    def receipts(self, generated: int) -> tuple[Coefficients, list[TermReceipt]]:
        """Return the coefficients ``[token, term]`` of the text with some generated tokens, and its terms' receipts."""
        coefficients = self.schedule.coefficients_of(0, generated)
        (receipts,) = term_receipts(self.schedule, [coefficients], self.counters())
        return coefficients, receipts

    def block_keys(self, size: int, salt: bytes) -> list[bytes]:
        """Return the identity of the beginnings of the prompt that end at multiples of ``size``.

        It holds the tokens and all that steers them, so that two texts share a beginning where both are the same, and
        only there. The prompt's last token is left out: its logits are wanted.
        """
        acting = self.prompt_steered
        keys = []
        key = hashlib.blake2b(salt, digest_size=16).digest()
        for stop in range(size, len(self._tokens), size):
            block = hashlib.blake2b(key, digest_size=16)
            block.update(np.array(self._tokens[stop - size : stop], dtype=np.int64).tobytes())
            coefficients = acting[stop - size : stop]
            for term in np.flatnonzero(coefficients.any(axis=0)).tolist():
                block.update(self.plan.effects[term].encode())
                block.update(coefficients[:, term].tobytes())
            key = block.digest()
            keys.append(key)
        return keys


@dataclass(frozen=True, eq=False)
class RowInPass:
    """One text in a pass."""

    row: RowSteering
    coefficients: Coefficients  # [token, term]
    wanted: bool  # whether a token is chosen after it
    counted: _Counted

    @property
    def columns(self) -> slice:
        """Return its columns."""
        return slice(self.counted.column, self.counted.column + self.counted.count)

    @cached_property
    def layers(self) -> frozenset[int]:
        """Return the layers at which it is steered in this pass."""
        return frozenset(self.row.plan.steps.layers) if self.coefficients.any() else frozenset()

    @cached_property
    def distinct(self) -> tuple[NDArray[np.float32], Tensor | None]:
        """Return its few distinct coefficients, ``[distinct, term]``, and which of them each token has.

        Most often they are those of the sink and those of all other tokens; None stands for one token.
        """
        if len(self.coefficients) == 1:
            return self.coefficients, None
        lines, which = np.unique(self.coefficients, axis=0, return_inverse=True)
        return lines, torch.from_numpy(which.reshape(-1))

    @cached_property
    def meant(self) -> Tensor:
        """Return the tokens that additions are meant to move, ``[token]``."""
        return torch.from_numpy(self.coefficients.max(axis=1) >= 1)


@dataclass
class _Now:
    """The pass that is running."""

    tokens: int
    rows: tuple[RowInPass, ...]
    lengths: dict[int, Tensor]  # norms of hidden states before they are changed, [token], by layer
    seen: dict[int, int] = field(default_factory=dict)
    sums: dict[int, Tensor] = field(default_factory=dict)  # readings by number of the text


@final
class RowHooks:
    """Hooks that steer, read and count the texts of flat passes; any other pass goes through unchanged."""

    def __init__(self, blocks: DecoderLayers) -> None:
        self._blocks = blocks
        self._now: _Now | None = None
        self._signature: tuple[tuple[RowPlan, int, bytes], ...] = ()
        self._gathered: dict[int, Tensor | None] = {}  # additions [token, hidden] by layer, for that signature

    def installed(self) -> AbstractContextManager[None]:
        """Inside, the hooks are on the model."""
        return self._blocks.rewritten(range(len(self._blocks)), self._change)

    @contextmanager
    def reading(self, segments: Sequence[tuple[RowSteering, Segment]], *, least: int) -> Iterator[None]:
        """Inside, the pass that runs reads these segments of texts, one after another, and ``least`` tokens at least.

        Raises:
            SteeringError: A layer saw other tokens than those.
        """
        lengths, rows, column = dict[int, Tensor](), list[RowInPass](), 0
        for row, segment in segments:
            counted = _Counted(segment.start, column, len(segment.tokens), lengths)
            rows.append(RowInPass(row, row.coefficients_or_error(segment), bool(segment.wanted), counted))
            column += len(segment.tokens)
        signature = tuple((each.row.plan, each.counted.count, each.coefficients.tobytes()) for each in rows)
        if signature != self._signature:
            self._signature, self._gathered = signature, {}
        now = self._now = _Now(max(column, least), tuple(rows), lengths)
        try:
            yield
        finally:
            self._now = None
        self._check(now)
        for number, each in enumerate(rows):
            if each.layers:
                each.row.count(each.counted)
            if number in now.sums:
                each.row.note_reading(now.sums[number])

    def _check(self, now: _Now) -> None:
        for layer in {layer for each in now.rows for layer in (*each.row.plan.steps.layers, *each.row.weights)}:
            if now.seen.get(layer) != now.tokens:
                raise SteeringError(
                    f"layer {layer} ({self._blocks.names[layer]}) steered {now.seen.get(layer, 0)} of {now.tokens} "
                    "tokens",
                    fix="load the model uncompiled, and let nothing else call its blocks",
                )

    def _change(self, layer: int, state: Tensor) -> Tensor | None:
        now = self._now
        if now is None:
            return None
        now.seen[layer] = now.seen.get(layer, 0) + state.shape[1]
        for number, each in enumerate(now.rows):
            if each.wanted and layer in each.row.weights:
                last = state[0, each.columns.stop - 1].float()
                sums = (last[:, None] * each.row.weights[layer].to(last.device)).sum(0)
                now.sums[number] = sums if number not in now.sums else now.sums[number].to(sums.device) + sums
        steered = [each for each in now.rows if layer in each.layers]
        if not steered:
            return None
        now.lengths[layer] = torch.linalg.vector_norm(state[0], dim=-1)
        return self._changed(layer, state, steered)

    def _changed(self, layer: int, state: Tensor, steered: Sequence[RowInPass]) -> Tensor:
        changed = state
        if layer not in self._gathered:
            self._gathered[layer] = _gather(layer, state, steered)
        if (added := self._gathered[layer]) is not None:
            changed = state + added
            for each in steered:
                if layer in each.row.plan.added and layer not in each.row.checked:
                    own = added[each.columns]
                    meant = own.ne(0).any(-1) & each.meant.to(own.device)
                    try:
                        if check_moved(layer, state[0, each.columns], changed[0, each.columns], meant):
                            each.row.checked.add(layer)
                    except SteeringError as error:  # other texts of the pass go on
                        each.row.error = error
        others = [each for each in steered if layer not in each.row.plan.added]
        if others and changed is state:
            changed = state.clone()
        for each in others:
            changed[:, each.columns] = _stepwise(layer, state[:, each.columns], each)
        return changed


def _gather(layer: int, state: Tensor, steered: Sequence[RowInPass]) -> Tensor | None:
    """Return the additions ``[token, hidden]`` of the texts that have nothing else at a layer; None without any."""
    adding = [each for each in steered if layer in each.row.plan.added]
    if not adding:
        return None
    added = torch.zeros_like(state[0])
    for each in adding:
        lines, which = each.distinct
        sums = torch.stack([each.row.plan.sum_at(layer, line, state) for line in lines])
        added[each.columns] = sums if which is None else sums[which.to(sums.device)]
    return added


def _stepwise(layer: int, state: Tensor, each: RowInPass) -> Tensor:
    """Return the hidden states ``[1, token, hidden]`` of one text after all steps of its plan at a layer."""
    steps = each.row.plan.steps
    for number in steps.by_layer[layer]:
        step = steps.steps[number]
        coefficients = step.coefficients(each.coefficients[None])
        if not coefficients.any():
            continue
        if step.kind == "add":
            (table,) = step.tensors(layer, state)
            state = state + torch.stack([_summed(table, line) for line in coefficients[0]]).to(state.dtype)
            continue
        state, change = changed_by(step, layer, state, torch.from_numpy(coefficients).to(state.device))
        each.counted.moves[number, layer] = torch.linalg.vector_norm(change, dim=-1)
    return state
