"""Ratios of two sides that were measured in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.steering import RESAMPLES, SEED
from trimtab.stats import bootstrap


def ratio_of(side: Sequence[float], other: Sequence[float], wanted: float) -> dict[str, Any]:
    """Return the median of the rounds' ratios with its interval, and the least ratio that is wanted."""
    ratios = np.array(side) / np.array(other)
    median = bootstrap(lambda drawn: np.median(drawn, axis=-1), ratios, seed=SEED, resamples=RESAMPLES)
    return {
        "ratio": round(median.value, 3),
        "low": round(median.low, 3),
        "high": round(median.high, 3),
        "wanted": wanted,
        "rounds": [round(ratio, 3) for ratio in ratios.tolist()],
    }
