"""Change the output of blocks in the forward pass; count what was steered; leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trimtab.engines.layers import DecoderLayers, eagerly, layer_output, with_layer_output
from trimtab.engines.protocol import Changes
from trimtab.engines.transformers.forward.counters import SteeringCounters
from trimtab.engines.transformers.forward.schedule import BatchSchedule, ReplayedSchedule
from trimtab.engines.transformers.forward.step_plan import (
    Gains,
    Program,
    StageTables,
    bounded,
    pushed_preserving_norm,
    slot_gains,
    turned,
)
from trimtab.errors import SteeringError

TOKEN_ARGUMENTS = ("decoder_input_ids", "decoder_inputs_embeds", "input_ids", "inputs_embeds")


@final
class SteeringHooks:
    """A scope in which a program changes what leaves each block.

    By itself it acts on every token of every row but attention sinks and what a mask hides, and its program must be one
    for all rows. Inside ``following`` a timeline says how strongly each term acts on each token of each row.

    What the hooks saw is compared with the tokens that the model was given: if a layer missed some, as happens where
    something else calls a block's code, ``check`` raises. A pass that broke off, as happens where memory runs out,
    counts for nothing.

    Attributes:
        program: What is done.
        entered: Tokens that the model read inside, padding included.
        seen: Of these, the tokens that came by at each layer.
    """

    def __init__(self, blocks: DecoderLayers, program: Program | Changes, *, sink: bool, scoped: bool = False) -> None:
        self.program = program if isinstance(program, Program) else Program.of_all(program)
        self._blocks = blocks
        self._sink = sink
        self._scoped = scoped
        self._tables = [StageTables(self.program, stage) for stage in self.program.stages]
        self._scope = ExitStack()
        self._timeline: BatchSchedule | ReplayedSchedule | None = None
        self._ledger: SteeringCounters | None = None
        self._idle = False
        self._entering = 0  # tokens of each row in the pass under way
        self._rows = 0
        self._gains: Gains | None = None
        self._ready: dict[tuple[int, int], Tensor | None] = {}  # by stage and layer, for the gains at hand
        self._by_stage: dict[int, Tensor | None] = {}
        self._moved: set[tuple[int, int]] = set()
        self._before: tuple[int, dict[int, int]] | None = None  # counts at the start of the pass under way
        self.entered = 0
        self.seen = dict.fromkeys(self.program.layers, 0)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers at which anything is done."""
        return self.program.layers

    def __enter__(self) -> SteeringHooks:
        if self.program.layers:
            body = self._blocks.body
            self._scope.enter_context(eagerly())
            self._scope.callback(body.register_forward_pre_hook(self._begin_pass, with_kwargs=True).remove)
            self._scope.callback(body.register_forward_hook(self._end_pass).remove)
            self._scope.enter_context(self._blocks.hooked(self.program.layers, self._change))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.close()

    @contextmanager
    def following(
        self, timeline: BatchSchedule | ReplayedSchedule, ledger: SteeringCounters | None = None
    ) -> Iterator[None]:
        """Inside, passes are those of one batch, in order; what is done is written into the ledger."""
        self._timeline, self._ledger = timeline, ledger
        self._forget_gains()
        try:
            yield
        finally:
            self._timeline = self._ledger = None
            self._forget_gains()

    @contextmanager
    def writing(self, ledger: SteeringCounters) -> Iterator[None]:
        """Inside, what is done is written into the ledger."""
        self._ledger = ledger
        try:
            yield
        finally:
            self._ledger = None

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

    # Passes --------------------------------------------------------------------------------------------------------

    def _begin_pass(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._idle:
            return
        self._forget_broken_pass()
        self._before = self.entered, dict(self.seen)
        given = tokens_given(args, kwargs)
        self._rows, self._entering = (0, 0) if given is None else (given.shape[0], given.shape[1])
        self.entered += self._rows * self._entering
        gains = self._gains_of_pass(given, kwargs)
        if gains is not self._gains:
            self._forget_gains()
            self._gains = gains
        if self._ledger is not None:
            self._ledger.begin(0 if self._timeline is None else self._timeline.column)

    def _gains_of_pass(self, given: Tensor | None, kwargs: Mapping[str, Any]) -> Gains:
        slots = len(self.program.slots)
        if self._timeline is not None and given is not None:
            ids = given.cpu().numpy() if given.ndim == 2 else np.zeros(given.shape[:2], dtype=np.int64)
            return self._timeline.step(ids)
        if self._scoped:
            raise SteeringError(
                "token scopes and conditions need to know what is prompt and what is answer",
                fix="call generate; only steering of all tokens acts on other passes",
            )
        touched = touched_tokens(given, kwargs, sink=self._sink)
        return np.repeat(touched[:, :, None].astype(np.float32), slots, axis=2)

    def _end_pass(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._before = None

    def _forget_broken_pass(self) -> None:
        """Take back what was counted in a pass that never ended."""
        if self._before is not None:
            self.entered, self.seen = self._before
            self._before = None
            if self._ledger is not None:
                self._ledger.forget()

    def _forget_gains(self) -> None:
        self._gains = None
        self._ready.clear()
        self._by_stage.clear()

    # Changes -------------------------------------------------------------------------------------------------------

    def _change(self, layer: int, output: Any) -> Any:
        if self._idle:
            return None
        layout = self._blocks.layout
        state = layer_output(output)
        view = layout.view(state)
        count = view.shape[0] * view.shape[1]
        self.seen[layer] += min(count, self._rows * self._entering) if layout.extra else count
        if self._gains is None or (view.shape[0] != self._rows and self._gains.shape[0] != 1):
            return None  # a pass of something else; ``check`` will tell
        changed = view
        if self._ledger is not None:
            self._ledger.lengths(layer, self._blocks.tokens(view, self._entering))
        for stage in self.program.by_layer[layer]:
            changed = self._staged(stage, layer, changed)
        return None if changed is view else with_layer_output(output, layout.put(state, changed))

    def _staged(self, number: int, layer: int, state: Tensor) -> Tensor:
        stage = self.program.stages[number]
        if stage.kind == "push":
            added = self._pushes(number, layer, state)
            if added is None:
                return state
            moved = state + added
            if (number, layer) not in self._moved:
                self._check_moved(number, layer, state, moved, added)
            return moved
        gains = self._stage_gains(number, state)
        if gains is None:
            return state
        tables = self._tables[number].at(layer, state)
        if stage.kind == "bound":
            change = bounded(state, tables, gains)
            moved = state + change.to(state.dtype)
        else:
            turn = turned if stage.kind == "turn" else pushed_preserving_norm
            moved = turn(state, tables, gains).to(state.dtype)
            change = moved - state
        if self._ledger is not None:
            self._ledger.moved(number, layer, self._blocks.tokens(change, self._entering))
        return moved

    def _pushes(self, number: int, layer: int, state: Tensor) -> Tensor | None:
        """What a stage of pushes adds, which broadcasts to ``state``; None for nothing."""
        key = number, layer
        if key not in self._ready:
            gains = self._stage_gains(number, state)
            if gains is None:
                self._ready[key] = None
            else:
                (table,) = self._tables[number].at(layer, state)
                self._ready[key] = gains.to(table.dtype) @ table
        return self._ready[key]

    def _stage_gains(self, number: int, state: Tensor) -> Tensor | None:
        """Gains of a stage by position, ``[row, position, slot]`` for pushes, else ``[row, position]``; None if all 0.

        Rows that are all alike become one that broadcasts.
        """
        if number not in self._by_stage:
            assert self._gains is not None
            gains = slot_gains(self.program.stages[number], self._gains)
            if not gains.any():
                self._by_stage[number] = None
            else:
                if gains.shape[0] > 1 and (gains == gains[:1]).all():
                    gains = gains[:1]
                self._by_stage[number] = torch.from_numpy(self._at_positions(gains, state.shape[1])).to(state.device)
        found = self._by_stage[number]
        if found is not None and found.device != state.device:
            found = self._by_stage[number] = found.to(state.device)
        return found

    def _at_positions(self, gains: Gains, positions: int) -> Gains:
        """Positions before the tokens have gain 0; further streams behind them, token by token, the same gains."""
        if gains.shape[1] == positions:
            return np.ascontiguousarray(gains)
        layout = self._blocks.layout
        if layout.offset == 0 and positions % gains.shape[1] == 0:
            return np.concatenate([gains] * (positions // gains.shape[1]), axis=1)
        wide = np.zeros((gains.shape[0], positions, *gains.shape[2:]), dtype=np.float32)
        wide[:, layout.offset : layout.offset + gains.shape[1]] = gains
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
    """What a pass of the model's body reads, ``[row, token]`` or embedded; a decoder's where it has an encoder too."""
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
