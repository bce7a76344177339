"""Steering in the forward pass: hooks that change the output of layers, and counters of what they changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trimtab.arrays import F32
from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.protocol import Changes, TermReceipt
from trimtab.engines.transformers.forward.schedule import BatchSchedule, ConditionState, ReplayedSchedule
from trimtab.engines.transformers.forward.step_plan import (
    Coefficients,
    StepPlan,
    TermRow,
    add_preserving_norm,
    clamp_change,
    rotate,
)
from trimtab.errors import SteeringError
from trimtab.steering.compiled import LayerAdd
from trimtab.steering.conditions import Comparison

TOKEN_ARGUMENTS = ("decoder_input_ids", "decoder_inputs_embeds", "input_ids", "inputs_embeds")


@final
@dataclass
class _Pass:
    """Norms of one pass, ``[row, token]``, which begins at column ``start``; those of moves also by step."""

    start: int
    lengths: dict[int, Tensor] = field(default_factory=dict)
    moves: dict[tuple[int, int], Tensor] = field(default_factory=dict)


@final
class SteeringCounters:
    """Norms of hidden states and of their changes, from which receipts are made.

    They stay tensors until a receipt is made, so that no pass waits for a copy from the device.
    """

    def __init__(self) -> None:
        self._passes: list[_Pass] = []
        self._under_way: _Pass | None = None

    def begin(self, start: int) -> None:
        """A pass begins that reads the columns from ``start`` on."""
        self._under_way = _Pass(start)
        self._passes.append(self._under_way)

    def forget(self) -> None:
        """The pass under way broke off."""
        self._passes.pop()

    def lengths(self, layer: int, states: Tensor) -> None:
        """The states that left a block (``[row, token, hidden]``), before they are changed."""
        assert self._under_way is not None
        self._under_way.lengths[layer] = torch.linalg.vector_norm(states, dim=-1)

    def moved(self, step: int, layer: int, changes: Tensor) -> None:
        """Count what a step changed there, ``[row, token, hidden]``."""
        assert self._under_way is not None
        self._under_way.moves[step, layer] = torch.linalg.vector_norm(changes, dim=-1)

    def all_lengths(self, layer: int, *, rows: int, columns: int) -> F32:
        """``[row, column]``; NaN where nothing was read."""
        return self._table([(part.start, part.lengths.get(layer)) for part in self._passes], rows, columns)

    def all_moves(self, step: int, layer: int, *, rows: int, columns: int) -> F32:
        """``[row, column]``; 0 where nothing was moved."""
        parts = [(part.start, part.moves.get((step, layer))) for part in self._passes]
        return np.nan_to_num(self._table(parts, rows, columns))

    def flat(self) -> tuple[dict[int, F32], dict[tuple[int, int], F32]]:
        """Norms of states and of moves, ``[token]``, all passes one after the other; each has had one row."""
        first = self._passes[0]
        lengths = {layer: _joined([part.lengths[layer] for part in self._passes]) for layer in first.lengths}
        keys = {key for part in self._passes for key in part.moves}
        moves = {
            key: _joined([part.moves.get(key, torch.zeros_like(part.lengths[key[1]])) for part in self._passes])
            for key in keys
        }
        return lengths, moves

    @staticmethod
    def _table(parts: Sequence[tuple[int, Tensor | None]], rows: int, columns: int) -> F32:
        table = np.full((rows, columns), np.nan, dtype=np.float32)
        for start, norms in parts:
            if norms is not None:
                stop = min(start + norms.shape[1], columns)
                table[:, start:stop] = norms[:, : stop - start].float().cpu().numpy()
        return table

    def put(self, lengths: Mapping[int, F32], moves: Mapping[tuple[int, int], F32]) -> None:
        """Norms of columns that were read before the passes of this batch, ``[row, column]`` from column 0 on."""
        part = _Pass(0)
        part.lengths = {layer: torch.from_numpy(table) for layer, table in lengths.items()}
        part.moves = {key: torch.from_numpy(table) for key, table in moves.items()}
        self._passes.insert(0, part)

    def receipts(self, schedule: BatchSchedule, *, generated: Sequence[int]) -> Receipts:
        """Return what every term did in every row.

        Args:
            schedule: The coefficients under which the norms were counted.
            generated: How many generated tokens each row has read.
        """
        plan = schedule.plan
        rows, columns = len(generated), schedule.width + max(generated, default=0)
        coefficients = [schedule.coefficients_of(row, count) for row, count in enumerate(generated)]  # [token, term]
        lengths = cache(lambda layer: self.all_lengths(layer, rows=rows, columns=columns))
        moves = cache(lambda step, layer: self.all_moves(step, layer, rows=rows, columns=columns))
        step_of = {number: n for n, step in enumerate(plan.steps) for number in step.numbers}

        def shift(row: int, number: int, acts: F32) -> float | None:
            """Mean over layers and touched tokens of how far hidden states moved, relative to their length."""
            at, first = np.flatnonzero(acts), int(schedule.pads[row])
            changes = plan.term_rows[number].changes
            if not len(at) or not changes:
                return None
            shares = []
            for layer, change in changes.items():
                if isinstance(change, LayerAdd) and not change.preserve_norm:
                    # Additions of several terms are one product; the share of each is its vector times its coefficient.
                    moved = float(np.linalg.norm(change.added)) * acts[at]
                else:
                    moved = moves(step_of[number], layer)[row, first + at]
                shares.append(moved / np.maximum(lengths(layer)[row, first + at], np.finfo(np.float32).tiny))
            return float(np.mean(shares))

        touched_rows = [
            sum(bool(own[:, number].any()) for own in coefficients) for number in range(len(plan.term_rows))
        ]
        receipts = [
            [
                _receipt(
                    plan.term_rows[number],
                    coefficients[row][:, number],
                    schedule.conditions.get((row, number)),
                    rows=touched_rows[number],
                    shift=shift(row, number, coefficients[row][:, number]),
                )
                for number in schedule.terms_of(row)
            ]
            for row in range(rows)
        ]
        return Receipts(receipts, [np.asarray(own.any(axis=1)) for own in coefficients])


def _joined(parts: Sequence[Tensor]) -> F32:
    joined: F32 = torch.cat([part[0] for part in parts]).float().cpu().numpy()
    return joined


@final
@dataclass(frozen=True)
class Receipts:
    """Return for each row the receipts of its terms and the tokens that any of them steered, ``[token]``."""

    terms: list[list[TermReceipt]]
    touched: list[NDArray[np.bool_]]


def _receipt(
    term_row: TermRow, acts: F32, condition: ConditionState | None, *, rows: int, shift: float | None
) -> TermReceipt:
    return TermReceipt(
        term="" if term_row.term is None else term_row.term.text,
        layers=tuple(sorted(term_row.changes)) if acts.any() else (),
        rows=rows,
        tokens=int(np.count_nonzero(acts)),
        shift=shift,
        fired=None if condition is None else condition.fired,
        readings={} if condition is None else {_name_of(c): value for c, value in condition.readings.items()},
    )


def _name_of(comparison: Comparison) -> str:
    return f"{comparison.name or comparison.vector.behaviour.name} at {comparison.at}"


@final
class SteeringHooks:
    """A scope in which a step plan changes what each layer puts out.

    Alone it acts on every token of every row but attention sinks and what a mask hides; its plan must then be one for
    all rows. Inside ``following``, a schedule has the coefficient of each term at each token of each row.

    The tokens that the hooks saw are compared with those that the model was given: if a layer missed some, because
    something else calls the code of a block, ``check`` raises. A pass that broke off, because memory ran out, does not
    count.

    Attributes:
        plan: The changes.
        entered: Tokens that the model read inside, padding included.
        seen: Of these, the tokens that came by at each layer.
    """

    def __init__(self, blocks: DecoderLayers, plan: StepPlan | Changes, *, sink: bool, scoped: bool = False) -> None:
        self.plan = plan if isinstance(plan, StepPlan) else StepPlan.of_changes(plan)
        self._blocks = blocks
        self._sink = sink
        self._scoped = scoped
        self._scope = ExitStack()
        self._schedule: BatchSchedule | ReplayedSchedule | None = None
        self._counters: SteeringCounters | None = None
        self._idle = False
        self._entering = 0  # tokens of each row in the pass under way
        self._rows = 0
        self._coefficients: Coefficients | None = None
        self._ready: dict[tuple[int, int], Tensor | None] = {}  # by step and layer, for these coefficients
        self._by_step: dict[int, Tensor | None] = {}
        self._moved: set[tuple[int, int]] = set()
        self._before: tuple[int, dict[int, int]] | None = None  # counts at the start of the pass under way
        self.entered = 0
        self.seen = dict.fromkeys(self.plan.layers, 0)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers at which anything is done."""
        return self.plan.layers

    def __enter__(self) -> SteeringHooks:
        if self.plan.layers:
            body = self._blocks.body
            self._scope.enter_context(eagerly())
            self._scope.callback(body.register_forward_pre_hook(self._begin_pass, with_kwargs=True).remove)
            self._scope.callback(body.register_forward_hook(self._end_pass).remove)
            self._scope.enter_context(self._blocks.rewritten(self.plan.layers, self._change))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.close()

    @contextmanager
    def following(
        self, schedule: BatchSchedule | ReplayedSchedule, counters: SteeringCounters | None = None
    ) -> Iterator[None]:
        """Inside, passes are those of one batch, in order; what is done is written into the counters."""
        self._schedule, self._counters = schedule, counters
        self._forget_coefficients()
        try:
            yield
        finally:
            self._schedule = self._counters = None
            self._forget_coefficients()

    @contextmanager
    def writing(self, counters: SteeringCounters) -> Iterator[None]:
        """Inside, what is done is written into the counters."""
        self._counters = counters
        try:
            yield
        finally:
            self._counters = None

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Inside, nothing is done and nothing is counted."""
        before, self._idle = self._idle, True
        try:
            yield
        finally:
            self._idle = before

    def check(self) -> None:
        """Raise if any layer saw fewer or more tokens than the model read.

        Raises:
            SteeringError: What was steered is not what was asked for.
        """
        self._forget_broken_pass()
        for layer, count in self.seen.items():
            if count != self.entered:
                raise SteeringError(
                    f"layer {layer} ({self._blocks.names[layer]}) steered {count} of {self.entered} tokens",
                    fix="load the model uncompiled, let nothing else call its blocks, or generate with use_cache=False",
                )

    def _begin_pass(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._idle:
            return
        self._forget_broken_pass()
        self._before = self.entered, dict(self.seen)
        given = tokens_given(args, kwargs)
        self._rows, self._entering = (0, 0) if given is None else (given.shape[0], given.shape[1])
        self.entered += self._rows * self._entering
        coefficients = self._coefficients_of_pass(given, kwargs)
        if coefficients is not self._coefficients:
            self._forget_coefficients()
            self._coefficients = coefficients
        if self._counters is not None:
            self._counters.begin(0 if self._schedule is None else self._schedule.column)

    def _coefficients_of_pass(self, given: Tensor | None, kwargs: Mapping[str, Any]) -> Coefficients:
        terms = len(self.plan.term_rows)
        if self._schedule is not None and given is not None:
            ids = given.cpu().numpy() if given.ndim == 2 else np.zeros(given.shape[:2], dtype=np.int64)
            return self._schedule.step(ids)
        if self._scoped:
            raise SteeringError(
                "token scopes and conditions need to know what is prompt and what is answer",
                fix="call generate; only steering of all tokens acts on other passes",
            )
        touched = touched_tokens(given, kwargs, sink=self._sink)
        return np.repeat(touched[:, :, None].astype(np.float32), terms, axis=2)

    def _end_pass(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._before = None

    def _forget_broken_pass(self) -> None:
        """Take back what was counted in a pass that never ended."""
        if self._before is not None:
            self.entered, self.seen = self._before
            self._before = None
            if self._counters is not None:
                self._counters.forget()

    def _forget_coefficients(self) -> None:
        self._coefficients = None
        self._ready.clear()
        self._by_step.clear()

    def _change(self, layer: int, hidden: Tensor) -> Tensor | None:
        if self._idle:
            return None
        count = hidden.shape[0] * hidden.shape[1]
        self.seen[layer] += min(count, self._rows * self._entering) if self._blocks.layout.extra else count
        if self._coefficients is None or (hidden.shape[0] != self._rows and self._coefficients.shape[0] != 1):
            return None  # a pass of something else, which ``check`` reports
        if self._counters is not None:
            self._counters.lengths(layer, self._blocks.tokens(hidden, self._entering))
        changed = hidden
        for step in self.plan.by_layer[layer]:
            changed = self._after_step(step, layer, changed)
        return None if changed is hidden else changed

    def _after_step(self, number: int, layer: int, state: Tensor) -> Tensor:
        step = self.plan.steps[number]
        if step.kind == "add":
            added = self._added(number, layer, state)
            if added is None:
                return state
            moved = state + added
            if (number, layer) not in self._moved:
                self._check_moved(number, layer, state, moved, added)
            return moved
        coefficients = self._coefficients_of_step(number, state)
        if coefficients is None:
            return state
        tensors = step.tensors(layer, state)
        if step.kind == "clamp":
            change = clamp_change(state, tensors, coefficients)
            moved = state + change.to(state.dtype)
        else:
            replaced = rotate if step.kind == "rotate" else add_preserving_norm
            moved = replaced(state, tensors, coefficients).to(state.dtype)
            change = moved - state
        if self._counters is not None:
            self._counters.moved(number, layer, self._blocks.tokens(change, self._entering))
        return moved

    def _added(self, number: int, layer: int, state: Tensor) -> Tensor | None:
        """Return the sum of a step's additions, which broadcasts to ``state``; None for nothing."""
        key = number, layer
        if key not in self._ready:
            coefficients = self._coefficients_of_step(number, state)
            if coefficients is None:
                self._ready[key] = None
            else:
                (table,) = self.plan.steps[number].tensors(layer, state)
                # [row, position, term] @ [term, hidden]; kept, because most passes have the coefficients of the last.
                self._ready[key] = coefficients.to(table.dtype) @ table
        return self._ready[key]

    def _coefficients_of_step(self, number: int, state: Tensor) -> Tensor | None:
        """Return a step's coefficients by position: ``[row, position, term]`` for additions, else ``[row, position]``.

        None if all are 0. Rows that are all alike become one, which broadcasts: most batches are steered alike, and the
        product with the added vectors is then a row's instead of a batch's.
        """
        if number not in self._by_step:
            assert self._coefficients is not None
            coefficients = self.plan.steps[number].coefficients(self._coefficients)
            if not coefficients.any():
                self._by_step[number] = None
            else:
                if coefficients.shape[0] > 1 and (coefficients == coefficients[:1]).all():
                    coefficients = coefficients[:1]
                self._by_step[number] = torch.from_numpy(self._at_positions(coefficients, state.shape[1])).to(
                    state.device
                )
        found = self._by_step[number]
        if found is not None and found.device != state.device:
            found = self._by_step[number] = found.to(state.device)
        return found

    def _at_positions(self, coefficients: Coefficients, positions: int) -> Coefficients:
        """Spread coefficients over the positions of a hidden state, of which there may be more than tokens.

        Positions before the tokens have coefficient 0. Further streams behind them repeat the tokens' coefficients.
        """
        if coefficients.shape[1] == positions:
            return np.ascontiguousarray(coefficients)
        layout = self._blocks.layout
        if layout.offset == 0 and positions % coefficients.shape[1] == 0:
            return np.concatenate([coefficients] * (positions // coefficients.shape[1]), axis=1)
        wide = np.zeros((coefficients.shape[0], positions, *coefficients.shape[2:]), dtype=np.float32)
        wide[:, layout.offset : layout.offset + coefficients.shape[1]] = coefficients
        return wide

    def _check_moved(self, number: int, layer: int, before: Tensor, after: Tensor, added: Tensor) -> None:
        meant = added.ne(0).any(-1)
        if not bool(meant.any()):
            return
        if bool((before.eq(after).all(-1) & meant).any()):
            raise SteeringError(
                f"the addition at layer {layer} is too small to move the hidden states in {before.dtype}",
                fix="use a larger strength, or load the model in float32",
            )
        self._moved.add((number, layer))


def tokens_given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the tokens of a pass, ``[row, token]`` or embedded; the decoder's in an encoder-decoder model."""
    named = (kwargs.get(name) for name in TOKEN_ARGUMENTS)
    return next((given for given in (*named, *args[:1]) if isinstance(given, Tensor)), None)


def touched_tokens(given: Tensor | None, kwargs: Mapping[str, Any], *, sink: bool) -> NDArray[np.bool_]:
    """``[row, token]``: neither hidden by a mask nor an attention sink, which is the first token of a text."""
    if given is None:
        return np.ones((1, 1), dtype=bool)
    rows, count = given.shape[:2]
    touched: NDArray[np.bool_] = np.ones((rows, count), dtype=bool)
    mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
    real = None
    if isinstance(mask, Tensor) and mask.ndim == 2 and mask.shape[1] >= count:
        real = mask.bool().cpu().numpy()
        touched &= real[:, real.shape[1] - count :]
    if not sink:
        return touched
    if isinstance(positions, Tensor) and positions.ndim == 2 and positions.shape[1] == count:
        touched &= positions.cpu().numpy() != 0
        return touched
    past = kwargs.get("past_key_values")
    if past is not None and past.get_seq_length() > 0:
        return touched
    first = np.zeros(rows, dtype=np.int64) if real is None else real.argmax(axis=1)
    touched[np.arange(rows), np.minimum(first, count - 1)] = False
    return touched
