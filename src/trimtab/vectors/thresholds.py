"""Thresholds of readings from texts on which a condition should not fire."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

from trimtab.errors import SteeringError
from trimtab.vectors.vector import ControlVector

KEPT = 512  # readings of a fit
ENOUGH = 400  # for their own quantile
SMALL = 1e-9


def threshold_for(vector: ControlVector, rate: float, *, at: str, above: bool) -> float:
    """See ``ControlVector.fitted_threshold``.

    The quantile of the readings; where there are few, that of the normal distribution with their mean and deviation,
    which some outliers among few texts move less.
    """
    name = vector.behaviour.name
    fit = next((fit for fit in vector.fits if fit.at == at), None)
    if fit is None:
        raise SteeringError(
            f"{name!r} has no threshold fitted at {at}, so no false-positive rate can be kept",
            fix=f"fit it: trimtab condition fit {name} --at {at} --negative FILE",
        )
    needed = math.ceil(1 / rate)
    if fit.texts < needed:
        raise SteeringError(
            f"{name!r} was fitted on {fit.texts} texts at {at}, too few for a rate of {rate:.2%}",
            fix=f"fit it on {needed} texts or more",
        )
    share = 1 - rate if above else rate
    if len(fit.readings) >= ENOUGH:
        return float(np.quantile(fit.readings, share))
    return float(norm(np.mean(fit.readings), max(np.std(fit.readings, ddof=1), SMALL)).ppf(share))
