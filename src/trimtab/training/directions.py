"""Estimators: from the hidden states of the two poles at one layer to one direction.

Each is a plain function ``(positive [n, hidden], negative [n, hidden]) -> unit direction [hidden]``; row ``i`` of the
two belongs to one pair. Whatever the method, the direction is oriented so that the positive pole lies on its + side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from trimtab.arrays import F32, F64
from trimtab.errors import VectorError

SAME_STATES = "the two poles have the same hidden states"
Estimator: TypeAlias = Callable[[F32, F32], F32]


def mean_difference(positive: F32, negative: F32) -> F32:
    """Mean over pairs of positive minus negative: the best training-free steerer, and the default.

    Source: contrastive activation addition (Rimsky et al. 2024, section 3); "DiffMean" in AxBench (Wu et al. 2025).

    Example:
        >>> mean_difference(np.array([[2.0, 0.0]], np.float32), np.array([[0.0, 0.0]], np.float32))
        array([1., 0.], dtype=float32)
    """
    shift = _differences(positive, negative).mean(axis=0)
    return oriented(shift, shift)


def pca_center(positive: F32, negative: F32) -> F32:
    """First principal component of both poles, each pair's midpoint subtracted.

    Unlike ``pca_diff`` this keeps the mean shift between the poles, which is what one is after.
    """
    half = _distinct(positive, negative) / 2.0
    return oriented(_first_component(np.concatenate([half, -half])), half.mean(axis=0))


def pca_diff(positive: F32, negative: F32) -> F32:
    """First principal component of the differences. For compatibility with older tools only.

    Centring the differences removes the very mean shift that a control vector stands for, so that what is left can
    point anywhere, even backwards. Prefer ``mean_difference``.
    """
    differences = _distinct(positive, negative)
    return oriented(_first_component(differences), differences.mean(axis=0))


def logistic(positive: F32, negative: F32) -> F32:
    """Normal of a logistic regression between the poles: for reading rather than steering."""
    features, labels = _labelled(positive, negative)
    spread = features.std(axis=0) + 1e-6
    probe = LogisticRegression(C=0.1, max_iter=2000).fit(features / spread, labels)
    return oriented(probe.coef_[0] / spread, _differences(positive, negative).mean(axis=0))


def lda(positive: F32, negative: F32) -> F32:
    """Fisher's linear discriminant with Ledoit–Wolf shrinkage of the covariance: for reading rather than steering."""
    features, labels = _labelled(positive, negative)
    probe = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(features, labels)
    return oriented(probe.coef_[0], _differences(positive, negative).mean(axis=0))


ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {
        "mean_difference": mean_difference,
        "pca_center": pca_center,
        "pca_diff": pca_diff,
        "logistic": logistic,
        "lda": lda,
    }
)


def _differences(positive: F32, negative: F32) -> NDArray[np.float64]:
    if positive.shape != negative.shape or positive.ndim != 2 or len(positive) == 0:
        raise VectorError(
            f"states of shape {list(positive.shape)} and {list(negative.shape)} are no pairs",
            fix="give two arrays [pair, hidden] of one shape",
        )
    return positive.astype(np.float64) - negative.astype(np.float64)


def _distinct(positive: F32, negative: F32) -> NDArray[np.float64]:
    differences = _differences(positive, negative)
    if not differences.any():
        raise VectorError(SAME_STATES, fix="make the personas differ more")
    return differences


def _first_component(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    component: NDArray[np.float64] = PCA(n_components=1, svd_solver="full").fit(rows).components_[0]
    return component


def _labelled(positive: F32, negative: F32) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    _differences(positive, negative)  # checks the shapes
    features = np.concatenate([positive, negative]).astype(np.float64)
    return features, np.repeat([1, 0], [len(positive), len(negative)])


def oriented(direction: NDArray[np.float64], shift: NDArray[np.float64]) -> F32:
    """``direction`` at unit length, turned so that the positive pole is on its + side.

    Args:
        direction: Which axis, ``[hidden]``.
        shift: From the negative pole to the positive one, ``[hidden]``; of any length.

    Raises:
        VectorError: The direction has no length.
    """
    length = float(np.linalg.norm(direction))
    if not np.isfinite(length) or length < 1e-12:
        raise VectorError(SAME_STATES, fix="make the personas differ more")
    sign = -1.0 if float(shift @ direction) < 0 else 1.0
    unit: F32 = (sign * direction / length).astype(np.float32)
    return unit


@dataclass(frozen=True)
class LayerSums:
    """Sums over the differences (positive minus negative) of all pairs at one layer.

    Attributes:
        pairs: How many.
        total: Their sum, ``[hidden]``.
        units: The sum of the differences scaled to unit length, ``[hidden]``.
        second: The sum of their outer products, ``[hidden, hidden]``, where an estimator needs it.
    """

    pairs: int
    total: F64
    units: F64
    second: F64 | None

    @property
    def pairwise_cosine(self) -> float:
        """Mean cosine between the differences of two pairs; 1 when all agree, 0 when they have nothing in common."""
        squared = float(self.units @ self.units)
        return (squared - self.pairs) / max(self.pairs * (self.pairs - 1), 1)


@dataclass(frozen=True)
class Sums:
    """``LayerSums`` of every layer, stacked: ``[layer, hidden]``, and ``[layer, hidden, hidden]`` for ``second``.

    Adding pairs makes new sums; the old ones stay as they are.
    """

    pairs: int
    total: F64
    units: F64
    second: F64 | None

    def plus(self, positive: F32, negative: F32) -> Sums:
        """With some more pairs, ``[pair, layer, hidden]`` each; accumulated in float64."""
        total, units = self.total.copy(), self.units.copy()
        second = None if self.second is None else self.second.copy()
        for layer in range(len(total)):
            differences = positive[:, layer].astype(np.float64) - negative[:, layer]
            lengths = np.linalg.norm(differences, axis=1, keepdims=True)
            total[layer] += differences.sum(axis=0)
            units[layer] += (differences / np.maximum(lengths, 1e-30)).sum(axis=0)
            if second is not None:
                second[layer] += differences.T @ differences
        return Sums(self.pairs + len(positive), total, units, second)

    def at(self, layer: int) -> LayerSums:
        """Those of one layer."""
        second = None if self.second is None else self.second[layer]
        return LayerSums(self.pairs, self.total[layer], self.units[layer], second)

    def arrays(self) -> dict[str, Any]:
        """As named arrays, for a file."""
        given = {"pairs": np.int64(self.pairs), "total": self.total, "units": self.units}
        return given if self.second is None else {**given, "second": self.second}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Sums:
        """Back from ``arrays()``."""
        return cls(int(arrays["pairs"]), arrays["total"], arrays["units"], arrays.get("second"))


def no_sums(layers: int, hidden: int, *, second: bool) -> Sums:
    """Sums over no pairs."""
    shape = (layers, hidden)
    return Sums(0, np.zeros(shape), np.zeros(shape), np.zeros((*shape, hidden)) if second else None)


@dataclass(frozen=True)
class StreamingEstimator:
    """An estimator that works on sums; ``second`` says whether it needs second moments."""

    direction: Callable[[LayerSums], F32]
    second: bool


def _mean_difference(sums: LayerSums) -> F32:
    return oriented(sums.total, sums.total)


def _pca_center(sums: LayerSums) -> F32:
    """Half differences and their opposites have mean 0, so their covariance is the sum of outer products."""
    assert sums.second is not None
    return oriented(_first_eigenvector(sums.second), sums.total)


def _pca_diff(sums: LayerSums) -> F32:
    assert sums.second is not None
    centred = sums.second - np.outer(sums.total, sums.total) / sums.pairs
    return oriented(_first_eigenvector(centred), sums.total)


STREAMING: Mapping[str, StreamingEstimator] = MappingProxyType(
    {
        "mean_difference": StreamingEstimator(_mean_difference, second=False),
        "pca_center": StreamingEstimator(_pca_center, second=True),
        "pca_diff": StreamingEstimator(_pca_diff, second=True),
    }
)


def _first_eigenvector(scatter: F64) -> F64:
    if not scatter.any():
        raise VectorError(SAME_STATES, fix="make the personas differ more")
    component: F64 = np.linalg.eigh(scatter).eigenvectors[:, -1]
    return component
