"""Step plan: the compiled steerings of a batch, arranged so that one pass changes all rows together.

Every row of a batch has separate terms, in its order. Rows of equal steerings share their terms. Terms are gathered
into *steps*, one kind of change each, such that every row passes its terms in its order. Additions that follow each
other share a step: there they become one matrix product, ``coefficients [row, token, term] @ added [term, hidden]``.
The coefficient of a term at a token is how strongly it acts there. Where all coefficients of a row are 0, a step leaves
the row unchanged, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.arrays import F32
from trimtab.engines.protocol import Changes
from trimtab.steering.compiled import Change, CompiledSteering, CompiledTerm, LayerAdd, LayerClamp, LayerRotate

Kind: TypeAlias = Literal["add", "add_preserving_norm", "clamp", "rotate"]
Coefficients: TypeAlias = F32


@final
@dataclass(frozen=True, eq=False)
class Step:
    """One kind of change, for all rows of the batch; except for additions, a row has at most one of its terms."""

    kind: Kind
    numbers: tuple[int, ...]  # of the plan's terms
    changes: tuple[Mapping[int, Change], ...]  # layer to change, for each of these terms
    owner: NDArray[np.int64] | None  # index into ``numbers`` of each row, or -1; None where one term is for all
    _tensors: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)

    def tensors(self, layer: int, like: Tensor) -> tuple[Tensor, ...]:
        """Return what the change needs at a layer, on the device of ``like`` and, for additions, in its dtype.

        Additions: ``[term, hidden]``. Others have one line per row of the batch, or one for all: the direction or the
        added vector, ``[row, 1, hidden]``, then the angle, or the lower and the upper bound, ``[row, 1]``.
        """
        made = self._tensors.get(layer)
        if made is None or made[0].device != like.device or (self.kind == "add" and made[0].dtype != like.dtype):
            made = self._tensors[layer] = tuple(tensor.to(like.device) for tensor in self._make(layer, like))
        return made

    def _make(self, layer: int, like: Tensor) -> tuple[Tensor, ...]:
        changes = [by_layer.get(layer) for by_layer in self.changes]
        nothing = np.zeros(like.shape[-1], dtype=np.float32)  # of a term that leaves this layer alone
        if self.kind in ("add", "add_preserving_norm"):
            table = _stacked([nothing if c is None else c.added for c in changes])  # type: ignore[union-attr]
            return (table.to(like.dtype),) if self.kind == "add" else (self._by_row(table),)
        directions = self._by_row(_stacked([nothing if c is None else c.direction for c in changes]))  # type: ignore[union-attr]
        if self.kind == "rotate":
            columns = [[c.radians if isinstance(c, LayerRotate) else 0.0 for c in changes]]
        else:
            lows = [c.low if isinstance(c, LayerClamp) else -np.inf for c in changes]
            columns = [lows, [c.high if isinstance(c, LayerClamp) else np.inf for c in changes]]
        return directions, *(self._by_row(torch.tensor(column, dtype=torch.float32)) for column in columns)

    def _by_row(self, table: Tensor) -> Tensor:
        """Return ``[row, 1, …]`` from ``[term, …]``; a row without a term gets any line, as its coefficient is 0."""
        if self.owner is None:
            return table[:1, None]
        return table[torch.from_numpy(np.maximum(self.owner, 0)), None]

    def coefficients(self, of_plan: Coefficients) -> Coefficients:
        """Select the step's from ``[row, token, term]`` of the plan.

        Additions: ``[row, token, term]``. Others: ``[row, token]``, since a row has one term here.
        """
        chosen = of_plan[:, :, list(self.numbers)]
        if self.kind == "add":
            return chosen
        if self.owner is None:
            return chosen[:, :, 0]
        by_row = np.take_along_axis(chosen, np.maximum(self.owner, 0)[:, None, None], axis=2)[:, :, 0]
        return np.where(self.owner[:, None] >= 0, by_row, 0)


@final
@dataclass(frozen=True, eq=False)
class StepPlan:
    """Changes to each layer, in the order in which they are made."""

    terms: tuple[CompiledTerm, ...]  # all terms, also those that change no layer: a receipt lists them
    rows: tuple[tuple[int, ...] | None, ...]  # the rows on which each term acts; None for all
    steps: tuple[Step, ...]  # in order
    by_layer: Mapping[int, tuple[int, ...]]  # layer to the numbers of the steps that change it

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the layers that are changed, in order."""
        return tuple(self.by_layer)

    @classmethod
    def of_changes(cls, changes: Changes) -> StepPlan:
        """Plan the same changes for every row; an array is added."""
        listed = {layer: [LayerAdd(c)] if isinstance(c, np.ndarray) else list(c) for layer, c in changes.items()}
        depth = max(map(len, listed.values()), default=0)
        by_layer: list[dict[int, Change]] = []
        for n in range(depth):
            at = {layer: several[n] for layer, several in listed.items() if n < len(several)}
            # A step has one kind. Where the n-th change differs in kind between layers, each layer gets its term.
            mixed = len(set(map(_kind, at.values()))) > 1
            by_layer += [{layer: change} for layer, change in at.items()] if mixed else [at]
        return cls._of([(CompiledTerm("", changes), None) for changes in by_layer], count=None)

    @classmethod
    def of_rows(cls, steerings: Sequence[CompiledSteering]) -> StepPlan:
        """Plan a steering for each row; rows of equal steerings share their terms."""
        sharing: dict[CompiledSteering, list[int]] = {}
        for row, steering in enumerate(steerings):
            sharing.setdefault(steering, []).append(row)
        terms: list[tuple[CompiledTerm, tuple[int, ...] | None]] = []
        for steering, rows in sharing.items():
            acting = None if len(rows) == len(steerings) else tuple(rows)
            terms += [(term, acting) for term in steering.terms]
        return cls._of(terms, count=len(steerings))

    @classmethod
    def _of(cls, terms: Sequence[tuple[CompiledTerm, tuple[int, ...] | None]], *, count: int | None) -> StepPlan:
        """Give each term to the first step of its kind after the step that its rows reached last."""
        kinds: list[Kind] = []
        members: list[list[int]] = []
        reached: dict[tuple[int, ...] | None, int] = {}  # equal steerings share all of their rows, so this is exact
        for number, (term, rows) in enumerate(terms):
            if not term.changes:
                continue
            kind = _kind(next(iter(term.changes.values())))
            at = reached.get(rows, -1)
            if not (kind == "add" and at >= 0 and kinds[at] == "add"):  # additions that follow each other share a step
                at = next((n for n in range(at + 1, len(kinds)) if kinds[n] == kind), len(kinds))
            if at == len(kinds):
                kinds.append(kind)
                members.append([])
            members[at].append(number)
            reached[rows] = at
        steps = tuple(
            Step(
                kind,
                tuple(numbers),
                tuple(terms[number][0].changes for number in numbers),
                _owners([terms[number][1] for number in numbers], count),
            )
            for kind, numbers in zip(kinds, members, strict=True)
        )
        by_layer = {
            layer: tuple(n for n, step in enumerate(steps) if any(layer in changes for changes in step.changes))
            for layer in sorted({layer for term, _ in terms for layer in term.changes})
        }
        return cls(tuple(term for term, _ in terms), tuple(rows for _, rows in terms), steps, by_layer)


def _kind(change: Change) -> Kind:
    if isinstance(change, LayerAdd):
        return "add_preserving_norm" if change.preserve_norm else "add"
    return "clamp" if isinstance(change, LayerClamp) else "rotate"


def _owners(rows_of_terms: Sequence[tuple[int, ...] | None], count: int | None) -> NDArray[np.int64] | None:
    if count is None or list(rows_of_terms) == [None]:
        return None
    owner = np.full(count, -1, dtype=np.int64)
    for index, rows in enumerate(rows_of_terms):
        owner[list(range(count) if rows is None else rows)] = index
    return owner


def _stacked(lines: Sequence[F32]) -> Tensor:
    return torch.from_numpy(np.stack(lines).astype(np.float32))


def clamp_change(hidden: Tensor, tensors: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
    """Return what clamping adds to ``hidden`` (``[row, token, hidden]``); ``coefficients`` is ``[row, token]``.

    ``c · (clip(p, low, high) - p) · u`` with the projection ``p = h · u``, in float32 whatever the model's dtype: the
    difference of two projections would lose most of its digits in bfloat16.
    """
    direction, low, high = tensors
    along = (hidden.float() * direction).sum(-1)
    return ((along.clamp(low, high) - along) * coefficients)[..., None] * direction


def rotate(hidden: Tensor, tensors: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
    """Return ``hidden`` rotated towards a direction, by the angle times ``coefficients`` (``[row, token]``).

    With ``h = a · u + b · v``, ``v`` being the unit vector across ``u``, the length is ``hypot(a, b)`` and the angle to
    ``u`` is ``atan2(b, a)``. That angle becomes smaller, but not below 0, or larger, but not above pi.
    """
    direction, radians = tensors
    wide = hidden.float()
    along = (wide * direction).sum(-1)
    across = wide - along[..., None] * direction
    beside = across.norm(dim=-1)
    length = torch.hypot(along, beside)
    angle = (torch.atan2(beside, along) - radians * coefficients).clamp(0.0, torch.pi)
    result = length[..., None] * (
        angle.cos()[..., None] * direction + angle.sin()[..., None] * across / beside.clamp_min(1e-30)[..., None]
    )
    # Where hidden lies along the direction, there is no plane to rotate in, and ``across`` is rounding.
    still = (radians * coefficients == 0) | (beside <= 1e-6 * length)
    return torch.where(still[..., None], wide, result)


def add_preserving_norm(hidden: Tensor, tensors: tuple[Tensor, ...], coefficients: Tensor) -> Tensor:
    """Return ``hidden`` plus a vector, scaled back to the length of ``hidden``."""
    (added,) = tensors
    wide = hidden.float()
    result = wide + added * coefficients[..., None]
    length = result.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    result = result * (wide.norm(dim=-1, keepdim=True) / length)
    return torch.where((coefficients == 0)[..., None], wide, result)
