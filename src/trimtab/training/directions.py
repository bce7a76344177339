"""Estimators: from the hidden states of the two poles at one layer to one unit direction.

Of the pairs' differences ``d_i = positive_i - negative_i`` most estimators need only sums: ``Σ d`` for the mean
difference, ``Σ d dᵀ`` for principal components. So pairs are added to running sums batch by batch and forgotten.
Logistic regression and LDA need the states of all pairs at once.

Whatever the estimator, the direction is oriented so that the positive pole lies on its + side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32, F64, I64
from trimtab.errors import VectorError


@dataclass(frozen=True)
class Sums:
    """Running sums over the differences of pairs, positive minus negative, of every layer.

    Adding pairs makes new sums; the old ones stay as they are.

    Attributes:
        pairs: Number of pairs.
        total: Sum of the differences, ``[layer, hidden]``.
        units: Sum of the differences scaled to unit length, ``[layer, hidden]``.
        second: Sum of their outer products, ``[layer, hidden, hidden]``; None where no estimator needs it.
    """

    pairs: int
    total: F64
    units: F64
    second: F64 | None

    @classmethod
    def empty(cls, layers: int, hidden: int, *, second: bool) -> Sums:
        """Return sums over no pairs."""
        shape = (layers, hidden)
        return cls(0, np.zeros(shape), np.zeros(shape), np.zeros((*shape, hidden)) if second else None)

    def plus(self, positive: F32, negative: F32) -> Sums:
        """Add more pairs, ``[pair, layer, hidden]`` each.

        Float32 states are subtracted and accumulated in float64: the difference of two large, nearly equal states would
        lose most of its digits otherwise. One layer is converted at a time, to bound memory.
        """
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

    def pairwise_cosine(self, layer: int) -> float:
        """Return the mean cosine between the differences of two pairs: 1 if all agree, 0 if they are unrelated.

        The squared length of a sum of n unit vectors is ``n + Σ_{i≠j} cos(i, j)``, so no pair of pairs is visited.
        """
        squared = float(self.units[layer] @ self.units[layer])
        return (squared - self.pairs) / max(self.pairs * (self.pairs - 1), 1)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the sums as named arrays, for a file."""
        arrays = {"pairs": np.array(self.pairs), "total": self.total, "units": self.units}
        return arrays if self.second is None else {**arrays, "second": self.second}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Sums:
        """Return the sums that ``arrays()`` was called on."""
        return cls(int(arrays["pairs"]), arrays["total"], arrays["units"], arrays.get("second"))


def _mean_difference(sums: Sums, layer: int) -> F32:
    """Mean of the differences: the best training-free steerer, and the default.

    Source: contrastive activation addition (Rimsky et al. 2024, section 3); "DiffMean" in AxBench (Wu et al. 2025).
    """
    return orient(sums.total[layer], sums.total[layer])  # its length does not matter


def _pca_center(sums: Sums, layer: int) -> F32:
    """First principal component of both poles, each pair's midpoint subtracted.

    Centred states are ``±d/2``. Their mean is 0, so their covariance is ``Σ d dᵀ`` up to a factor: unlike with
    ``pca_diff`` the mean shift between the poles, which a control vector is after, stays in it.
    """
    assert sums.second is not None
    return orient(_first_eigenvector(sums.second[layer]), sums.total[layer])


def _pca_diff(sums: Sums, layer: int) -> F32:
    """First principal component of the differences. For compatibility with older tools only.

    Centring the differences, ``Σ d dᵀ - (Σ d)(Σ d)ᵀ / n``, removes the mean shift that a control vector represents, so
    what is left can point anywhere, even backwards. Prefer ``mean_difference``.
    """
    assert sums.second is not None
    total = sums.total[layer]
    return orient(_first_eigenvector(sums.second[layer] - np.outer(total, total) / sums.pairs), total)


def _first_eigenvector(scatter: F64) -> F64:
    if not scatter.any():
        raise _same_states()
    component: F64 = np.linalg.eigh(scatter).eigenvectors[:, -1]
    return component


def _logistic(positive: F32, negative: F32) -> F32:
    """Normal of a logistic regression between the poles: for reading rather than steering."""
    from sklearn.linear_model import LogisticRegression

    features, labels, shift = _labelled(positive, negative)
    spread = features.std(axis=0) + 1e-6
    probe = LogisticRegression(C=0.1, max_iter=2000).fit(features / spread, labels)
    return orient(probe.coef_[0] / spread, shift)


def _lda(positive: F32, negative: F32) -> F32:
    """Return Fisher's linear discriminant with Ledoit–Wolf shrinkage of the covariance: to read, not to steer."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    features, labels, shift = _labelled(positive, negative)
    probe = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(features, labels)
    return orient(probe.coef_[0], shift)


def _labelled(positive: F32, negative: F32) -> tuple[F64, I64, F64]:
    features = np.concatenate([positive, negative]).astype(np.float64)
    shift = (positive.astype(np.float64) - negative).mean(axis=0)
    return features, np.repeat([1, 0], [len(positive), len(negative)]), shift


STREAMING: Mapping[str, Callable[[Sums, int], F32]] = MappingProxyType(
    {"mean_difference": _mean_difference, "pca_center": _pca_center, "pca_diff": _pca_diff}
)
WHOLE: Mapping[str, Callable[[F32, F32], F32]] = MappingProxyType({"logistic": _logistic, "lda": _lda})
SECOND_MOMENTS = frozenset({"pca_center", "pca_diff"})
ESTIMATORS = (*STREAMING, *WHOLE)


def estimate(method: str, positive: F32, negative: F32) -> F32:
    """Return the unit direction ``[hidden]`` of one layer from the states of all pairs, ``[pair, hidden]`` each.

    Args:
        method: One of ``ESTIMATORS``.
        positive: States of the positive pole.
        negative: States of the negative pole; row ``i`` of the two belongs to one pair.

    Raises:
        VectorError: The arrays are no pairs, or the poles have the same states.

    Example:
        >>> estimate("mean_difference", np.array([[2.0, 0.0]], np.float32), np.array([[0.0, 0.0]], np.float32))
        array([1., 0.], dtype=float32)
    """
    if positive.shape != negative.shape or positive.ndim != 2 or len(positive) == 0:
        raise VectorError(
            f"states of shape {list(positive.shape)} and {list(negative.shape)} are no pairs",
            fix="give two arrays [pair, hidden] of one shape",
        )
    if method in WHOLE:
        return WHOLE[method](positive, negative)
    none = Sums.empty(1, positive.shape[1], second=method in SECOND_MOMENTS)
    return STREAMING[method](none.plus(positive[:, None], negative[:, None]), 0)


def orient(direction: F64, shift: F64) -> F32:
    """Return ``direction`` at unit length, with the positive pole on its + side.

    Args:
        direction: An axis, ``[hidden]``.
        shift: From the negative pole to the positive one, ``[hidden]``; of any length.

    Raises:
        VectorError: The direction has no length.
    """
    length = float(np.linalg.norm(direction))
    if not np.isfinite(length) or length < 1e-12:
        raise _same_states()
    sign = -1.0 if float(shift @ direction) < 0 else 1.0
    unit: F32 = (sign * direction / length).astype(np.float32)
    return unit


def _same_states() -> VectorError:
    return VectorError("the two poles have the same hidden states", fix="make the personas differ more")
