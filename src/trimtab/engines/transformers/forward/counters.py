"""What was done to the states of a batch, for its receipts: how long they were, and how far they were moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.arrays import F32
from trimtab.engines.protocol import TermReceipt
from trimtab.engines.transformers.forward.schedule import BatchSchedule
from trimtab.engines.transformers.forward.step_plan import Program
from trimtab.steering.compiled import LayerAdd
from trimtab.steering.conditions import Comparison


@final
@dataclass
class _Pass:
    """Norms of one pass, ``[row, token]``, which begins at column ``start``; those of moves also by stage."""

    start: int
    lengths: dict[int, Tensor] = field(default_factory=dict)
    moves: dict[tuple[int, int], Tensor] = field(default_factory=dict)


@final
class SteeringCounters:
    """Norms of states and of what was changed; they stay tensors until someone asks, so that no step waits for them."""

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

    def moved(self, stage: int, layer: int, changes: Tensor) -> None:
        """What a stage changed there, ``[row, token, hidden]``."""
        assert self._under_way is not None
        self._under_way.moves[stage, layer] = torch.linalg.vector_norm(changes, dim=-1)

    def all_lengths(self, layer: int, *, rows: int, columns: int) -> F32:
        """``[row, column]``; NaN where nothing was read."""
        return self._table([(part.start, part.lengths.get(layer)) for part in self._passes], rows, columns)

    def all_moves(self, stage: int, layer: int, *, rows: int, columns: int) -> F32:
        """``[row, column]``; 0 where nothing was moved."""
        parts = [(part.start, part.moves.get((stage, layer))) for part in self._passes]
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


def _joined(parts: Sequence[Tensor]) -> F32:
    joined: F32 = torch.cat([part[0] for part in parts]).float().cpu().numpy()
    return joined


def term_receipts(
    ledger: SteeringCounters, program: Program, timeline: BatchSchedule, *, generated: Sequence[int]
) -> Receipts:
    """What every term did in every row.

    Args:
        ledger: The norms.
        program: What was done.
        timeline: How strongly.
        generated: How many generated tokens each row has read.
    """
    rows, columns = len(generated), timeline.width + max(generated, default=0)
    gains = [timeline.gains_of(row, count) for row, count in enumerate(generated)]  # [token, slot] of each row
    tables = _Tables(ledger, rows, columns)
    shifts = {number: _Shifts(tables, program, number) for number in range(len(program.slots))}
    touched_rows = {number: sum(bool(own[:, number].any()) for own in gains) for number in range(len(program.slots))}
    receipts: list[list[TermReceipt]] = []
    for row in range(rows):
        receipts.append([])
        for number in timeline.slots_of(row):
            slot, gate = program.slots[number], timeline.gates.get((row, number))
            own = gains[row][:, number]
            receipts[row].append(
                TermReceipt(
                    term="" if slot.term is None else slot.term.text,
                    layers=tuple(sorted(slot.changes)) if own.any() else (),
                    rows=touched_rows[number],
                    tokens=int(np.count_nonzero(own)),
                    shift=shifts[number].mean(row, own, first=int(timeline.pads[row])),
                    fired=None if gate is None else gate.fired,
                    readings={} if gate is None else {_asked(c): value for c, value in gate.readings.items()},
                )
            )
    return Receipts(receipts, [np.asarray(own.any(axis=1)) for own in gains])


@final
@dataclass(frozen=True)
class Receipts:
    """What every term did, and which tokens were touched by any (``[token]``), for each row."""

    terms: list[list[TermReceipt]]
    touched: list[NDArray[np.bool_]]


def _asked(comparison: Comparison) -> str:
    return f"{comparison.name or comparison.vector.behaviour.name} at {comparison.at}"


@final
class _Tables:
    """The norms of a ledger as tables, each made once, however many slots ask for it."""

    def __init__(self, ledger: SteeringCounters, rows: int, columns: int) -> None:
        self.lengths = cache(lambda layer: ledger.all_lengths(layer, rows=rows, columns=columns))
        self.moves = cache(lambda stage, layer: ledger.all_moves(stage, layer, rows=rows, columns=columns))


@final
class _Shifts:
    """How far one slot moved the states, relative to their length."""

    def __init__(self, tables: _Tables, program: Program, number: int) -> None:
        self._lengths: list[F32] = []
        self._moves: list[F32 | float] = []
        stage = next((n for n, stage in enumerate(program.stages) if number in stage.slots), None)
        for layer, change in program.slots[number].changes.items():
            assert stage is not None
            self._lengths.append(tables.lengths(layer))
            if isinstance(change, LayerAdd) and not change.preserve_norm:
                self._moves.append(float(np.linalg.norm(change.added)))
            else:
                self._moves.append(tables.moves(stage, layer))

    def mean(self, row: int, gains: F32, *, first: int) -> float | None:
        """Over the layers and the touched tokens of a row, whose first token stands at column ``first``."""
        at = np.flatnonzero(gains)
        if not len(at) or not self._lengths:
            return None
        shares = []
        for lengths, moves in zip(self._lengths, self._moves, strict=True):
            moved = moves * gains[at] if isinstance(moves, float) else moves[row, first + at]
            shares.append(moved / np.maximum(lengths[row, first + at], np.finfo(np.float32).tiny))
        return float(np.mean(shares))
