"""Estimators: from the hidden states of the two poles at one layer to one direction.

Each is a plain function ``(positive [n, hidden], negative [n, hidden]) -> unit direction [hidden]``; row ``i`` of the
two belongs to one pair. Whatever the method, the direction is oriented so that the positive pole lies on its + side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from trimtab.errors import VectorError

States: TypeAlias = NDArray[np.float32]
SAME_STATES = "the two poles have the same hidden states"
Estimator: TypeAlias = Callable[[States, States], States]


def mean_difference(positive: States, negative: States) -> States:
    """Mean over pairs of positive minus negative: the best training-free steerer, and the default.

    Source: contrastive activation addition (Rimsky et al. 2024, section 3); "DiffMean" in AxBench (Wu et al. 2025).

    Example:
        >>> mean_difference(np.array([[2.0, 0.0]], np.float32), np.array([[0.0, 0.0]], np.float32))
        array([1., 0.], dtype=float32)
    """
    shift = _differences(positive, negative).mean(axis=0)
    return oriented(shift, shift)


def pca_center(positive: States, negative: States) -> States:
    """First principal component of both poles, each pair's midpoint subtracted.

    Unlike ``pca_diff`` this keeps the mean shift between the poles, which is what one is after.
    """
    half = _distinct(positive, negative) / 2.0
    return oriented(_first_component(np.concatenate([half, -half])), half.mean(axis=0))


def pca_diff(positive: States, negative: States) -> States:
    """First principal component of the differences. For compatibility with older tools only.

    Centring the differences removes the very mean shift that a control vector stands for, so that what is left can
    point anywhere, even backwards. Prefer ``mean_difference``.
    """
    differences = _distinct(positive, negative)
    return oriented(_first_component(differences), differences.mean(axis=0))


def logistic(positive: States, negative: States) -> States:
    """Normal of a logistic regression between the poles: for reading rather than steering."""
    features, labels = _labelled(positive, negative)
    spread = features.std(axis=0) + 1e-6
    probe = LogisticRegression(C=0.1, max_iter=2000).fit(features / spread, labels)
    return oriented(probe.coef_[0] / spread, _differences(positive, negative).mean(axis=0))


def lda(positive: States, negative: States) -> States:
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


def _differences(positive: States, negative: States) -> NDArray[np.float64]:
    if positive.shape != negative.shape or positive.ndim != 2 or len(positive) == 0:
        raise VectorError(
            f"states of shape {list(positive.shape)} and {list(negative.shape)} are no pairs",
            fix="give two arrays [pair, hidden] of one shape",
        )
    return positive.astype(np.float64) - negative.astype(np.float64)


def _distinct(positive: States, negative: States) -> NDArray[np.float64]:
    differences = _differences(positive, negative)
    if not differences.any():
        raise VectorError(SAME_STATES, fix="make the personas differ more")
    return differences


def _first_component(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    component: NDArray[np.float64] = PCA(n_components=1, svd_solver="full").fit(rows).components_[0]
    return component


def _labelled(positive: States, negative: States) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    _differences(positive, negative)  # checks the shapes
    features = np.concatenate([positive, negative]).astype(np.float64)
    return features, np.repeat([1, 0], [len(positive), len(negative)])


def oriented(direction: NDArray[np.float64], shift: NDArray[np.float64]) -> States:
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
    unit: States = (sign * direction / length).astype(np.float32)
    return unit
