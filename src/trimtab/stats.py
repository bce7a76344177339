"""Intervals and cosines: the statistics that every report shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from trimtab.arrays import F64

RESAMPLES = 2000
TAILS = (2.5, 97.5)  # percentiles between which 95 % lie


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(statistic: Callable[..., F64], *columns: F64, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return a statistic of items with its percentile bootstrap interval (Efron 1979).

    Resamples for which the statistic is not defined, such as a ratio of 0 and 0, are left out of the interval.

    Args:
        statistic: Reduces the last axis of as many arrays as there are columns, so that all resamples are computed at
            once.
        columns: ``[item]`` each. They are resampled together: row ``i`` of all columns belongs to one item, so the
            difference or ratio of two columns is paired.
        seed: Of the resampling.
        resamples: Number of resamples.

    Example:
        >>> bootstrap(lambda own, other: own.mean(-1) / other.mean(-1), np.array([2.0, 4.0]), np.array([1.0, 2.0]))
        Interval(value=2.0, low=2.0, high=2.0)
    """
    count = len(columns[0])
    drawn = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = statistic(*(column[drawn] for column in columns))
    low, high = np.nanpercentile(found, TAILS)
    return Interval(float(statistic(*columns)), float(low), float(high))


def mean_interval(values: F64, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of ``values [item]`` with its bootstrap interval; of a difference, for a paired comparison.

    Example:
        >>> mean_interval(np.array([1.0, 1.0, 1.0]))
        Interval(value=1.0, low=1.0, high=1.0)
    """
    return bootstrap(_mean, values, seed=seed, resamples=resamples)


def _mean(values: F64) -> F64:
    return np.asarray(values.mean(axis=-1))


def two_sample_bootstrap(
    statistic: Callable[[F64, F64], float], one: F64, other: F64, *, seed: int = 0, resamples: int = 1000
) -> Interval:
    """Return a statistic of two independent samples, such as an AUROC, with its percentile bootstrap interval.

    Unlike in ``bootstrap``, the samples are resampled independently and may differ in size.
    """
    noise = np.random.default_rng(seed)
    drawn = [statistic(noise.choice(one, len(one)), noise.choice(other, len(other))) for _ in range(resamples)]
    low, high = np.percentile(drawn, TAILS)
    return Interval(statistic(one, other), float(low), float(high))


def proportion(successes: int, trials: int) -> Interval:
    """Return a share with its exact interval (Clopper and Pearson 1934).

    A bootstrap of no successes at all would claim to be certain; this one does not.

    Example:
        >>> round(proportion(0, 50).high, 3)
        0.071
    """
    from scipy.stats import binomtest

    bounds = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    return Interval(successes / trials, float(bounds.low), float(bounds.high))


def cosine(one: ArrayLike, other: ArrayLike) -> F64:
    """Return the cosine between vectors along the last axis, in float64; 0 where a vector has no length."""
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((a * b).sum(axis=-1) / np.maximum(lengths, 1e-30))
