"""Fisher's linear discriminant between two kinds of texts, with a covariance that few texts can carry."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import VectorError
from trimtab.learning.estimators import States

Floats: TypeAlias = NDArray[np.float64]
SHRINKAGE = 0.5  # share of the identity
SMALL = 1e-6  # of the typical spread: a coordinate that hardly varies is not blown up


def fisher(positive: States, negative: States) -> States:
    """The direction along which two kinds of states lie furthest apart for their spread.

    Coordinates are brought to one spread; the covariance within the kinds is shrunk half-way towards a multiple of the
    identity (Friedman 1989, *Regularized discriminant analysis*). What is estimated to be enough for the texts at hand
    (Ledoit and Wolf 2004) is less, and carries over worse to texts from elsewhere. With fewer texts than coordinates
    all is computed between texts, so that wide models cost no more than narrow ones. Other than the estimators of
    contrastive pairs, it takes different numbers of the two kinds.

    Args:
        positive: ``[text, hidden]``.
        negative: ``[text, hidden]``, of another number of texts.

    Returns:
        A unit direction ``[hidden]``, float32; the positive kind lies on its + side.

    Raises:
        VectorError: The two kinds have the same mean.

    Example:
        >>> fisher(np.array([[2.0, 1.0], [2.0, -1.0]], np.float32), np.array([[0.0, 1.0], [0.0, -1.0]], np.float32))
        array([1., 0.], dtype=float32)
    """
    kinds = [kind.astype(np.float64) for kind in (positive, negative)]
    spread = np.concatenate(kinds).std(axis=0)
    spread = np.maximum(spread, SMALL * float(np.sqrt(np.mean(spread**2))) + float(np.finfo(np.float32).tiny))
    shift = (kinds[0].mean(axis=0) - kinds[1].mean(axis=0)) / spread
    within = np.concatenate([(kind - kind.mean(axis=0)) / spread for kind in kinds])
    normal = _solved(within, shift) / spread
    length = float(np.linalg.norm(normal))
    if not np.isfinite(length) or length == 0.0:
        raise VectorError("the two kinds of texts have the same hidden states", fix="give texts that differ more")
    unit: States = (normal / length).astype(np.float32)
    return unit


def _solved(centred: Floats, shift: Floats) -> Floats:
    """The shrunk covariance's inverse times ``shift``, up to its length."""
    count, width = centred.shape
    mean_variance = float(np.sum(centred * centred)) / count / width
    if mean_variance == 0.0:
        return shift
    ridge = SHRINKAGE * mean_variance
    scaled = centred * np.sqrt((1.0 - SHRINKAGE) / count)
    if count <= width:  # Woodbury's identity
        inner = np.linalg.solve(scaled @ scaled.T + ridge * np.eye(count), scaled @ shift)
        solved: Floats = shift - scaled.T @ inner
        return solved
    direct: Floats = np.linalg.solve(scaled.T @ scaled + ridge * np.eye(width), shift)
    return direct
