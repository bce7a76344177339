"""Directions from running sums: the estimators that need not see all pairs at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import VectorError
from trimtab.learning.estimators import SAME_STATES, States, oriented

Doubles: TypeAlias = NDArray[np.float64]


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
    total: Doubles
    units: Doubles
    second: Doubles | None

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
    total: Doubles
    units: Doubles
    second: Doubles | None

    def plus(self, positive: States, negative: States) -> Sums:
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

    direction: Callable[[LayerSums], States]
    second: bool


def _mean_difference(sums: LayerSums) -> States:
    return oriented(sums.total, sums.total)


def _pca_center(sums: LayerSums) -> States:
    """Half differences and their opposites have mean 0, so their covariance is the sum of outer products."""
    assert sums.second is not None
    return oriented(_first_component(sums.second), sums.total)


def _pca_diff(sums: LayerSums) -> States:
    assert sums.second is not None
    centred = sums.second - np.outer(sums.total, sums.total) / sums.pairs
    return oriented(_first_component(centred), sums.total)


STREAMING: Mapping[str, StreamingEstimator] = MappingProxyType(
    {
        "mean_difference": StreamingEstimator(_mean_difference, second=False),
        "pca_center": StreamingEstimator(_pca_center, second=True),
        "pca_diff": StreamingEstimator(_pca_diff, second=True),
    }
)


def _first_component(scatter: Doubles) -> Doubles:
    if not scatter.any():
        raise VectorError(SAME_STATES, fix="make the personas differ more")
    component: Doubles = np.linalg.eigh(scatter).eigenvectors[:, -1]
    return component
