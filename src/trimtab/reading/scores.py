"""Scores of hidden states along vectors: projections, z-scores against neutral text, and AUROC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from trimtab.arrays import F32, F64
from trimtab.errors import VectorError
from trimtab.vectors import ControlVector, Neutral, Pool


def projections(states: F32, vector: ControlVector, layers: Sequence[int]) -> F64:
    """Return the projections of hidden states on a vector's directions, ``[..., layer]``.

    Args:
        states: ``[..., layer, hidden]``, of the blocks ``layers``.
        vector: The control vector.
        layers: The blocks of the layer axis.
    """
    directions = np.stack([vector.directions[layer] for layer in layers])
    # Summed in float64: projections on wide states are small differences of large products.
    projected: F64 = np.einsum("...lh,lh->...l", states, directions, dtype=np.float64)
    return projected


def z_scores(projected: F64, vector: ControlVector, layers: Sequence[int], *, pool: Pool) -> F64:
    """Return projections as standard deviations from those of neutral text, ``[..., layer]``.

    A mean over many words varies less than a single token does, and a last token is unlike others; so each is compared
    with neutral statistics of its own kind.

    Args:
        projected: ``[..., layer]``, of single tokens, of means over words, or of last tokens, as ``pool`` says.
        vector: The vector whose neutral statistics are used.
        layers: The blocks of the layer axis.
        pool: ``"token"``, ``"mean"`` or ``"last"``.

    Raises:
        VectorError: The vector has no neutral statistics.
    """
    spread = neutral_of(vector).spread(pool)
    mean = np.array([spread.mean[layer] for layer in layers])
    deviation = np.array([spread.deviation[layer] for layer in layers])
    scored: F64 = (projected - mean) / deviation
    return scored


def neutral_of(vector: ControlVector) -> Neutral:
    """Return the neutral statistics of a vector.

    Raises:
        VectorError: It has none.
    """
    if vector.neutral is None:
        raise VectorError(
            f"{vector.behaviour.name!r} has no neutral statistics, so nothing can be read against them",
            fix="train it again, or measure them with trimtab.calibrate(model, vector)",
        )
    return vector.neutral


def auroc(positive: Sequence[float] | F64, negative: Sequence[float] | F64) -> float:
    """Return the chance that a positive text scores above a negative one (Mann and Whitney 1947).

    It follows from the ranks of the ``n`` positive scores among all ``n + m``: ``U = Σ ranks − n(n + 1)/2`` counts the
    pairs in which the positive one is higher, ties as half, and the result is ``U / (n m)``.

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
