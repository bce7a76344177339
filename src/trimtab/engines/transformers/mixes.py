"""The steerings of a batch: every row its own mix, equal ones handled together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trimtab.steering import Steering
from trimtab.vectors import ModelInfo


@dataclass(frozen=True)
class Mix:
    """One steering and the rows that it steers.

    Attributes:
        steering: What was asked for.
        additions: Layer to what is added there, ``[hidden]``.
        rows: Rows of the batch, ascending.
    """

    steering: Steering
    additions: Mapping[int, NDArray[np.float32]]
    rows: tuple[int, ...]


def mixes_of(steerings: Sequence[Steering], model: ModelInfo) -> tuple[Mix, ...]:
    """The distinct steerings of the rows, in order of their first row.

    Raises:
        VectorMismatchError: A vector belongs to another model.
        SteeringError: A strength is not finite, or the vector was never calibrated.
    """
    rows: dict[int, list[int]] = {}
    for row, steering in enumerate(steerings):
        rows.setdefault(id(steering), []).append(row)
    return tuple(Mix(steerings[own[0]], steerings[own[0]].additions(model), tuple(own)) for own in rows.values())


def mixes_within(mixes: Sequence[Mix], rows: slice) -> tuple[Mix, ...]:
    """The mixes of some of the rows, which are numbered from 0 again."""
    own = ((mix, tuple(row - rows.start for row in mix.rows if rows.start <= row < rows.stop)) for mix in mixes)
    return tuple(replace(mix, rows=here) for mix, here in own if here)


def additions_of(mixes: Sequence[Mix]) -> dict[int, NDArray[np.float32]]:
    """What each layer adds: ``[hidden]`` if all rows are steered alike, else one line for each, ``[row, hidden]``."""
    if len(mixes) == 1:
        return dict(mixes[0].additions)
    rows = sum(len(mix.rows) for mix in mixes)
    table: dict[int, NDArray[np.float32]] = {}
    for mix in mixes:
        for layer, added in mix.additions.items():
            lines = table.setdefault(layer, np.zeros((rows, len(added)), dtype=np.float32))
            lines[list(mix.rows)] = added
    return dict(sorted(table.items()))
