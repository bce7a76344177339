"""Find the scale at which a steering spends a given KL: a few secant steps on logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from trimtab.errors import CalibrationError

MAX_STEPS = 12
EXPONENT = 1.75  # KL grows as the square of a small scale, and a little less steeply around the usual budgets
EXPONENTS = (0.8, 5.0)
MAX_STEP = 8.0


@dataclass(frozen=True)
class Spent:
    """A scale, and the mean per-token KL (nats) that it spends."""

    scale: float
    kl: float

    def at(self, budget: float) -> float:
        """The scale that spends ``budget``, if KL goes on from here as it usually does."""
        return self.scale * float((budget / self.kl) ** (1.0 / EXPONENT))


def spend(kl_at: Callable[[float], float], *, budget: float, guess: float, tolerance: float) -> Spent:
    """The scale at which ``kl_at(scale)`` is within ``tolerance`` (relative) of ``budget``.

    The secant runs on log KL over log scale, where KL is nearly a straight line; it is kept inside the bracket that
    the points so far give.

    Raises:
        CalibrationError: No scale was found: the steering moves the model too little, or breaks it at once.
    """
    scale, low, high = guess, 0.0, math.inf
    before: Spent | None = None
    for _ in range(MAX_STEPS):
        point = Spent(scale, kl_at(scale))
        if math.isfinite(point.kl) and abs(point.kl / budget - 1.0) <= tolerance:
            return point
        if not math.isfinite(point.kl) or point.kl > budget:
            high = min(high, scale)
        else:
            low = max(low, scale)
        scale = _next(point, before, budget)
        if not low < scale < high:
            scale = math.sqrt(low * high) if low > 0 and math.isfinite(high) else (high / 2 if low == 0 else low * 2)
        before = point
    raise CalibrationError(
        f"no strength spends {budget:g} nat (scale {point.scale:.3g} gave {point.kl:.3g} after {MAX_STEPS} steps)",
        fix="try other layers, another method, or another budget",
    )


def _next(point: Spent, before: Spent | None, budget: float) -> float:
    if not math.isfinite(point.kl):
        return point.scale / 4.0
    if point.kl <= 0.0:
        return point.scale * MAX_STEP
    exponent = EXPONENT
    if before is not None and math.isfinite(before.kl) and before.kl > 0 and before.scale != point.scale:
        slope = math.log(point.kl / before.kl) / math.log(point.scale / before.scale)
        if math.isfinite(slope):
            exponent = min(max(slope, EXPONENTS[0]), EXPONENTS[1])
    step: float = (budget / point.kl) ** (1.0 / exponent)
    return point.scale * min(max(step, 1.0 / MAX_STEP), MAX_STEP)
