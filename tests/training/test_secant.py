"""The secant against curves whose answer is known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import CalibrationError
from trimtab.training.search import find_scale


@given(
    factor=st.floats(1e-3, 1e4),
    exponent=st.floats(1.0, 4.0),
    budget=st.floats(0.05, 2.0),
    guess=st.floats(1e-3, 10.0),
)
def test_find_scale_solves_power_law_within_tolerance(factor, exponent, budget, guess):
    point = find_scale(lambda c: factor * c**exponent, budget=budget, guess=guess, tolerance=0.02)
    assert point.kl == pytest.approx(budget, rel=0.02)
    assert point.kl == pytest.approx(factor * point.scale**exponent)


def test_find_scale_good_guess_takes_at_most_three_steps():
    steps = []

    def measure(c: float) -> float:
        steps.append(c)
        return 6 * (1 - math.exp(-2 * c * c))

    find_scale(measure, budget=0.4, guess=0.25, tolerance=0.02)
    assert len(steps) <= 3


def test_find_scale_infinite_guess_approaches_from_below():
    def measure(c: float) -> float:
        return math.nan if c > 0.5 else 4 * c * c

    assert find_scale(measure, budget=0.4, guess=50.0, tolerance=0.05).kl == pytest.approx(0.4, rel=0.05)


def test_find_scale_inert_steering_raises():
    with pytest.raises(CalibrationError, match=r"no strength spends 0\.4 nat"):
        find_scale(lambda _: 0.0, budget=0.4, guess=1.0, tolerance=0.02)
