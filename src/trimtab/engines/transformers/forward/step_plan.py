"""The changes that a batch's steerings make, arranged so that all rows are handled together.

Every row has its own list of terms, in its own order. Terms of all rows become *slots*; slots become *stages*, one kind
of change each, such that every row meets its own terms in its own order. Pushes that follow each other share a stage,
where they are summed into one table with a line for each row. How strongly a slot acts on a token is its *gain*, 0
where it does not; a row whose gains are 0 leaves a stage as it came, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.engines.protocol import Changes
from trimtab.steering.compiled import Change, CompiledSteering, CompiledTerm, LayerAdd, LayerClamp, LayerRotate

Kind: TypeAlias = Literal["push", "push_preserving_norm", "bound", "turn"]
Gains: TypeAlias = NDArray[np.float32]


@final
@dataclass(frozen=True, eq=False)
class Slot:
    """One term of one row, or of several that share it.

    Attributes:
        changes: Layer to change.
        rows: The rows that it acts on; None for all.
        term: Where it comes from, if it was a term.
    """

    changes: Mapping[int, Change]
    rows: tuple[int, ...] | None = None
    term: CompiledTerm | None = None


@final
@dataclass(frozen=True, eq=False)
class PlanStage:
    """One kind of change.

    Attributes:
        kind: Which.
        slots: Numbers of the program's slots; no two of a row, but for pushes.
        owner: Of the stage's slots, the one of each row, ``[row]``, or -1; None where there is one slot for all.
    """

    kind: Kind
    slots: tuple[int, ...]
    owner: NDArray[np.int64] | None


@final
@dataclass(frozen=True, eq=False)
class Program:
    """What is done to each layer, and in which order.

    Attributes:
        slots: All terms.
        stages: In order.
        layers: The layers at which anything is done, in order.
    """

    slots: tuple[Slot, ...]
    stages: tuple[PlanStage, ...]
    layers: tuple[int, ...]
    by_layer: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # the stages that act there

    @classmethod
    def of_all(cls, changes: Changes) -> Program:
        """The same changes for every row; an array stands for pushing by it."""
        listed = {layer: [LayerAdd(c)] if isinstance(c, np.ndarray) else list(c) for layer, c in changes.items()}
        depth = max(map(len, listed.values()), default=0)
        kinds_differ = [len({_kind(own[n]) for own in listed.values() if n < len(own)}) > 1 for n in range(depth)]
        slots = []
        for n, differ in enumerate(kinds_differ):
            at = {layer: own[n] for layer, own in listed.items() if n < len(own)}
            slots += [Slot({layer: change}) for layer, change in at.items()] if differ else [Slot(at)]
        return cls._of(slots, rows=None)

    @classmethod
    def of_rows(cls, rows: Sequence[CompiledSteering]) -> Program:
        """Every row its own terms; rows of equal steerings share their slots."""
        owners: dict[CompiledSteering, list[int]] = {}
        for row, steering in enumerate(rows):
            owners.setdefault(steering, []).append(row)
        slots = []
        for steering, own in owners.items():
            which = None if len(own) == len(rows) else tuple(own)
            slots += [Slot(term.changes, which, term) for term in steering.terms]
        return cls._of(slots, rows=len(rows))

    @classmethod
    def _of(cls, slots: Sequence[Slot], *, rows: int | None) -> Program:
        kinds: list[Kind] = []
        members: list[list[int]] = []
        reached: dict[tuple[int, ...] | None, int] = {}
        for number, slot in enumerate(slots):
            if not slot.changes:
                continue
            kind = _kind(next(iter(slot.changes.values())))
            at = reached.get(slot.rows, -1)
            if not (kind == "push" and at >= 0 and kinds[at] == "push"):
                at = next((n for n in range(at + 1, len(kinds)) if kinds[n] == kind), len(kinds))
            if at == len(kinds):
                kinds.append(kind)
                members.append([])
            members[at].append(number)
            reached[slot.rows] = at
        stages = tuple(
            PlanStage(kind, tuple(own), _owners([slots[number] for number in own], rows))
            for kind, own in zip(kinds, members, strict=True)
        )
        layers = tuple(sorted({layer for slot in slots for layer in slot.changes}))
        by_layer = {
            layer: tuple(
                n for n, stage in enumerate(stages) if any(layer in slots[number].changes for number in stage.slots)
            )
            for layer in layers
        }
        return cls(tuple(slots), stages, layers, by_layer)


def _kind(change: Change) -> Kind:
    if isinstance(change, LayerAdd):
        return "push_preserving_norm" if change.preserve_norm else "push"
    return "bound" if isinstance(change, LayerClamp) else "turn"


def _owners(slots: Sequence[Slot], rows: int | None) -> NDArray[np.int64] | None:
    if rows is None or (len(slots) == 1 and slots[0].rows is None):
        return None
    owner = np.full(rows, -1, dtype=np.int64)
    for number, slot in enumerate(slots):
        owner[list(range(rows) if slot.rows is None else slot.rows)] = number
    return owner


@final
class StageTables:
    """The tensors of one stage, made when they are first needed and kept where they are needed."""

    def __init__(self, program: Program, stage: PlanStage) -> None:
        self._slots = [program.slots[number] for number in stage.slots]
        self._stage = stage
        self._made: dict[int, tuple[Tensor, ...]] = {}

    def at(self, layer: int, like: Tensor) -> tuple[Tensor, ...]:
        """What the stage's change needs at a layer, on the device and, for pushes, in the dtype of ``like``."""
        made = self._made.get(layer)
        if (
            made is None
            or made[0].device != like.device
            or (self._stage.kind == "push" and made[0].dtype != like.dtype)
        ):
            made = self._made[layer] = tuple(tensor.to(like.device) for tensor in self._make(layer, like))
        return made

    def _make(self, layer: int, like: Tensor) -> tuple[Tensor, ...]:
        hidden = like.shape[-1]
        own = [slot.changes.get(layer) for slot in self._slots]
        nothing = np.zeros(hidden, dtype=np.float32)
        if self._stage.kind in ("push", "push_preserving_norm"):
            table = _tensor([nothing if c is None else np.asarray(c.added) for c in own])  # type: ignore[union-attr]
            if self._stage.kind == "push":
                return (table.to(like.dtype),)
            return (self._by_row(table),)
        directions = _tensor([nothing if c is None else np.asarray(c.direction) for c in own])  # type: ignore[union-attr]
        if self._stage.kind == "turn":
            angles = [c.radians if isinstance(c, LayerRotate) else 0.0 for c in own]
            return self._by_row(directions), self._by_row(torch.tensor(angles, dtype=torch.float32))
        lows = [c.low if isinstance(c, LayerClamp) else -np.inf for c in own]
        highs = [c.high if isinstance(c, LayerClamp) else np.inf for c in own]
        return (
            self._by_row(directions),
            self._by_row(torch.tensor(lows, dtype=torch.float32)),
            self._by_row(torch.tensor(highs, dtype=torch.float32)),
        )

    def _by_row(self, table: Tensor) -> Tensor:
        """``[row, 1, …]`` from one line for each slot; a row without a slot gets any, for its gain is 0."""
        if self._stage.owner is None:
            return table[:1, None]
        return table[torch.from_numpy(np.maximum(self._stage.owner, 0)), None]


def _tensor(lines: Sequence[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(lines).astype(np.float32))


def slot_gains(stage: PlanStage, gains: Gains) -> Gains:
    """The gains of a stage's slots, ``[row, token, slot]``; ``[row, token]`` but for pushes, as a row then has one."""
    own = gains[:, :, list(stage.slots)]
    if stage.kind == "push":
        return own
    if stage.owner is None:
        return own[:, :, 0]
    chosen = np.take_along_axis(own, np.maximum(stage.owner, 0)[:, None, None], axis=2)[:, :, 0]
    return np.where(stage.owner[:, None] >= 0, chosen, 0)


def bounded(state: Tensor, tables: tuple[Tensor, ...], gains: Tensor) -> Tensor:
    """What ``Bounded`` adds to ``state`` (``[row, token, hidden]``); ``gains`` is ``[row, token]``."""
    direction, low, high = tables
    along = (state.float() * direction).sum(-1)
    return ((along.clamp(low, high) - along) * gains)[..., None] * direction


def turned(state: Tensor, tables: tuple[Tensor, ...], gains: Tensor) -> Tensor:
    """``state`` turned in the plane of itself and the direction; where it lies along that there is no plane."""
    direction, radians = tables
    wide = state.float()
    along = (wide * direction).sum(-1)
    across = wide - along[..., None] * direction
    beside = across.norm(dim=-1)
    length = torch.hypot(along, beside)
    angle = (torch.atan2(beside, along) - radians * gains).clamp(0.0, torch.pi)
    result = length[..., None] * (
        angle.cos()[..., None] * direction + angle.sin()[..., None] * across / beside.clamp_min(1e-30)[..., None]
    )
    still = (radians * gains == 0) | (beside <= 1e-6 * length)
    return torch.where(still[..., None], wide, result)


def pushed_preserving_norm(state: Tensor, tables: tuple[Tensor, ...], gains: Tensor) -> Tensor:
    """``state`` pushed, at the length that it had."""
    (added,) = tables
    wide = state.float()
    result = wide + added * gains[..., None]
    length = result.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    result = result * (wide.norm(dim=-1, keepdim=True) / length)
    return torch.where((gains == 0)[..., None], wide, result)
