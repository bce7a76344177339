"""Steering in the forward pass: hooks that change the output of layers, and counters of what they changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from trimtab.engines.transformers.forward.schedule import BatchSchedule
from trimtab.engines.transformers.forward.step_plan import (
    Coefficients,
    Step,
    StepPlan,
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
class SteeringCounters:
    """Norms of hidden states and of their changes in one pass, ``[row, token]``, from which receipts are made.

    They stay tensors until a receipt is made, so that no pass waits for a copy from the device.
    """

    start: int = 0  # column of the batch at which the pass begins
    lengths: dict[int, Tensor] = field(default_factory=dict)  # of hidden states before they are changed, by layer
    moves: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # of the changes, by step and layer


def term_receipts(
    schedule: BatchSchedule, coefficients: Sequence[Coefficients], passes: Sequence[SteeringCounters]
) -> list[list[TermReceipt]]:
    """Return the receipt of every term of every row.

    Args:
        schedule: The schedule under which the passes were counted.
        coefficients: Its coefficients for each row, ``[token, term]``: the prompt and the generated tokens read.
        passes: The counters.
    """
    plan = schedule.plan
    columns = max(int(pad) + len(row) for pad, row in zip(schedule.pads, coefficients, strict=True))
    step_of = {number: n for n, step in enumerate(plan.steps) for number in step.numbers}

    def table(norms: Callable[[SteeringCounters], Tensor | None]) -> F32:
        """Return ``[row, column]``; NaN where nothing was counted."""
        result = np.full((len(coefficients), columns), np.nan, dtype=np.float32)
        found = [(part.start, counted) for part in passes if (counted := norms(part)) is not None]
        if found:
            # One copy for all passes.
            values = torch.cat([counted for _, counted in found], dim=1).float().cpu().numpy()
            begin = 0
            for start, counted in found:
                stop = min(start + counted.shape[1], columns)
                result[:, start:stop] = values[:, begin : begin + stop - start]
                begin += counted.shape[1]
        return result

    lengths = cache(lambda layer: table(lambda part: part.lengths.get(layer)))
    moves = cache(lambda step, layer: np.nan_to_num(table(lambda part: part.moves.get((step, layer)))))

    def shift(row: int, number: int, acts: F32) -> float | None:
        """Return the mean over layers and touched tokens of how far hidden states moved, relative to their length."""
        changes = plan.terms[number].changes
        at = int(schedule.pads[row]) + np.flatnonzero(acts)
        if not len(at) or not changes:
            return None
        shares = []
        for layer, change in changes.items():
            if isinstance(change, LayerAdd) and not change.preserve_norm:
                # Additions of several terms are one product; the share of each is its vector times its coefficient.
                moved = float(np.linalg.norm(change.added)) * acts[acts != 0]
            else:
                moved = moves(step_of[number], layer)[row, at]
            shares.append(moved / np.maximum(lengths(layer)[row, at], np.finfo(np.float32).tiny))
        return float(np.mean(shares))

    prompts = schedule.prompt_lengths
    left_out = [schedule.left_out_of(row, len(acts) - prompts[row]) for row, acts in enumerate(coefficients)]

    def receipt(row: int, number: int) -> TermReceipt:
        term, acts = plan.terms[number], coefficients[row][:, number]
        state = schedule.conditions.get((row, number))
        return TermReceipt(
            term=term.text,
            layers=tuple(term.changes) if acts.any() else (),
            tokens=int(np.count_nonzero(acts)),
            shift=shift(row, number, acts),
            fired=None if state is None else state.fired,
            readings={} if state is None else {_name_of(c): value for c, value in state.readings.items()},
            beyond_safe=term.beyond_safe if acts.any() else None,
            constrained=left_out[row][number],
        )

    return [[receipt(row, number) for number in schedule.terms_of(row)] for row in range(len(coefficients))]


def _name_of(comparison: Comparison) -> str:
    return f"{comparison.name or comparison.vector.behaviour.name} at {comparison.at}"


@final
class SteeringHooks:
    """A scope in which a step plan changes what each layer puts out.

    Without a schedule it acts on every token of every row but attention sinks and what a mask hides; its plan must then
    be one for all rows. Inside ``following``, a schedule has the coefficient of each term at each token of each row.

    The tokens that the hooks saw are compared with those that the model was given: if a layer missed some, because
    something else calls the code of a block, ``check`` raises. A pass that broke off, because memory ran out, does not
    count.

    Args:
        blocks: The layers.
        plan: The changes.
        sink: Whether the first token of a text is an attention sink.
        scoped: Whether the plan's terms need a schedule.
        coefficients: Coefficients ``[token, term]`` of a single row that every pass reads from its beginning.
        acts: Returns False during passes that are not to be steered; they go through unchanged and uncounted.

    Attributes:
        plan: The step plan.
        entered: Tokens that the model read inside, padding included.
        seen: Number of these tokens that passed each layer.
    """

    def __init__(
        self,
        blocks: DecoderLayers,
        plan: StepPlan | Changes,
        *,
        sink: bool,
        scoped: bool = False,
        coefficients: Coefficients | None = None,
        acts: Callable[[], bool] | None = None,
    ) -> None:
        self.plan = plan if isinstance(plan, StepPlan) else StepPlan.of_changes(plan)
        self._blocks = blocks
        self._sink = sink
        self._scoped = scoped
        self._scope = ExitStack()
        self._known = coefficients
        self._schedule: BatchSchedule | None = None
        self._passes: list[SteeringCounters] | None = None  # None: nothing is counted
        self._acts = acts
        self._entering = 0  # tokens of each row in the pass under way
        self._rows = 0
        self._coefficients: Coefficients | None = None
        self._ready: dict[tuple[int, int], Tensor | None] = {}  # by step and layer, for these coefficients
        self._by_step: dict[int, Tensor | None] = {}
        self._moved: set[tuple[int, int]] = set()
        self._before: tuple[int, dict[int, int]] | None = None  # counts at the start of the pass under way
        self.entered = 0
        self.seen = dict.fromkeys(self.plan.layers, 0)

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
    def following(self, schedule: BatchSchedule | None = None) -> Iterator[list[SteeringCounters]]:
        """Inside, passes are those of one batch, in order; yield a list to which the counters of each are appended."""
        passes: list[SteeringCounters] = []
        self._schedule, self._passes = schedule, passes
        self._forget_coefficients()
        try:
            yield passes
        finally:
            self._schedule = self._passes = None
            self._forget_coefficients()

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

    def _begin_pass(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> None:
        # Torch passes no kwargs to a hook that was removed while another thread's pass waited for the model.
        if kwargs is None or (self._acts is not None and not self._acts()):
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
        if self._passes is not None:
            self._passes.append(SteeringCounters(0 if self._schedule is None else self._schedule.column))

    def _coefficients_of_pass(self, given: Tensor | None, kwargs: Mapping[str, Any]) -> Coefficients:
        if self._known is not None and given is not None:
            return self._known[None, : given.shape[1]]
        if self._schedule is not None and given is not None:
            ids = given.cpu().numpy() if given.ndim == 2 else np.zeros(given.shape[:2], dtype=np.int64)
            return self._schedule.step(ids)
        if self._scoped:
            raise SteeringError(
                "token scopes and conditions need to know what is prompt and what is answer",
                fix="call generate; only steering of all tokens acts on other passes",
            )
        touched = touched_tokens(given, kwargs, sink=self._sink)
        return np.repeat(touched[:, :, None].astype(np.float32), len(self.plan.terms), axis=2)

    def _end_pass(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self._acts is None or self._acts():
            self._before = None

    def _forget_broken_pass(self) -> None:
        """Take back what was counted in a pass that never ended."""
        if self._before is not None:
            self.entered, self.seen = self._before
            self._before = None
            if self._passes is not None:
                self._passes.pop()

    def _forget_coefficients(self) -> None:
        self._coefficients = None
        self._ready.clear()
        self._by_step.clear()

    def _change(self, layer: int, hidden: Tensor) -> Tensor | None:
        if self._acts is not None and not self._acts():
            return None
        count = hidden.shape[0] * hidden.shape[1]
        self.seen[layer] += min(count, self._rows * self._entering) if self._blocks.layout.extra else count
        if self._coefficients is None or (hidden.shape[0] != self._rows and self._coefficients.shape[0] != 1):
            return None  # a pass of something else, which ``check`` reports
        if self._passes is not None:
            tokens = self._blocks.tokens(hidden, self._entering)
            self._passes[-1].lengths[layer] = torch.linalg.vector_norm(tokens, dim=-1)
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
                coefficients = self._by_step[number]
                assert coefficients is not None
                # An addition that its schedule has faded may become too small to move anything.
                meant = added.ne(0).any(-1) & (coefficients.amax(-1) >= 1)
                if check_moved(layer, state, moved, meant):
                    self._moved.add((number, layer))
            return moved
        coefficients = self._coefficients_of_step(number, state)
        if coefficients is None:
            return state
        moved, change = changed_by(step, layer, state, coefficients)
        if self._passes is not None:
            tokens = self._blocks.tokens(change, self._entering)
            self._passes[-1].moves[number, layer] = torch.linalg.vector_norm(tokens, dim=-1)
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


def check_moved(layer: int, before: Tensor, after: Tensor, meant: Tensor) -> bool:
    """Raise if a token that an addition is meant to move was not moved; return whether any was meant.

    Args:
        layer: The layer.
        before: Hidden states, ``[..., hidden]``.
        after: The same after the addition.
        meant: The tokens that are meant, ``[...]``.

    Raises:
        SteeringError: The addition vanishes in the rounding of the states.
    """
    if not bool(meant.any()):
        return False
    if bool((before.eq(after).all(-1) & meant).any()):
        raise SteeringError(
            f"the addition at layer {layer} is too small to move the hidden states in {before.dtype}",
            fix="use a larger strength, or load the model in float32",
        )
    return True


def changed_by(step: Step, layer: int, state: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Return a hidden state ``[row, position, hidden]`` after a step of a plan, and what the step changed.

    Args:
        step: The step; no addition without preserved norm, of which several terms act at once.
        layer: The layer whose output the state is.
        state: The state.
        coefficients: Those of the step, ``[row, position]``.
    """
    tensors = step.tensors(layer, state)
    if step.kind == "clamp":
        change = clamp_change(state, tensors, coefficients)
        return state + change.to(state.dtype), change
    replaced = rotate if step.kind == "rotate" else add_preserving_norm
    moved = replaced(state, tensors, coefficients).to(state.dtype)
    return moved, moved - state


def tokens_given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the tokens of a pass, ``[row, token]`` or embedded; the decoder's in an encoder-decoder model."""
    named = (kwargs.get(name) for name in TOKEN_ARGUMENTS)
    return next((given for given in (*named, *args[:1]) if isinstance(given, Tensor)), None)


def touched_tokens(given: Tensor | None, kwargs: Mapping[str, Any], *, sink: bool) -> NDArray[np.bool_]:
    """Return which tokens ``[row, token]`` are neither masked nor an attention sink, the first token of a text."""
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
