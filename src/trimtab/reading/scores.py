"""From hidden states to readings: projections, z-scores, and how well they tell two kinds of text apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from trimtab.errors import VectorError
from trimtab.vectors import ControlVector, Neutral, Pool

Floats = NDArray[np.float64]


def projections(states: NDArray[np.float32], vector: ControlVector, layers: Sequence[int]) -> Floats:
    """How far states lie along a vector's directions.

    Args:
        states: ``[..., layer, hidden]``, of the blocks ``layers``.
        vector: The control vector.
        layers: Which blocks.

    Returns:
        ``[..., layer]``.
    """
    directions = np.stack([vector.directions[layer] for layer in layers])
    found: Floats = np.einsum("...lh,lh->...l", states, directions, dtype=np.float64)
    return found


def z_scores(projected: Floats, vector: ControlVector, layers: Sequence[int], *, pool: Pool) -> Floats:
    """Projections ``[..., layer]`` in standard deviations from those of neutral text.

    Args:
        projected: Of single tokens, of means over words, or of last tokens, as ``pool`` says.
        vector: Whose neutral statistics are taken.
        layers: The blocks of the last axis.
        pool: ``"token"``, ``"mean"`` or ``"last"``.

    Raises:
        VectorError: The vector has no neutral statistics.
    """
    spread = neutral_of(vector).spread(pool)
    mean = np.array([spread.mean[layer] for layer in layers])
    deviation = np.array([spread.deviation[layer] for layer in layers])
    scored: Floats = (projected - mean) / deviation
    return scored


def neutral_of(vector: ControlVector) -> Neutral:
    """The neutral statistics of a vector that is to be read.

    Raises:
        VectorError: It has none.
    """
    if vector.neutral is None:
        raise VectorError(
            f"{vector.behaviour.name!r} has no neutral statistics, so nothing can be read against them",
            fix="train it again, or measure them with trimtab.calibrate(model, vector)",
        )
    return vector.neutral


def auroc(positive: Sequence[float] | Floats, negative: Sequence[float] | Floats) -> float:
    """The chance that a positive text scores above a negative one, ties counting half (Mann and Whitney 1947).

    Raises:
        VectorError: There are no texts of one kind.

    Example:
        >>> auroc([2.0, 3.0], [1.0, 2.0])
        0.875
    """
    n, m = len(positive), len(negative)
    if not (n and m):
        raise VectorError("AUROC needs scores of both kinds", fix="give positive and negative texts")
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
