"""Operators and bounds as values."""

from __future__ import annotations

import math

import pytest

from trimtab.errors import SteeringError
from trimtab.steering import Ablate, Add, Bound, Cap, Clamp, Floor, Rotate
from trimtab.steering.operators import CALIBRATED, OPERATORS, operator_name, takes_amount

BOUND = Bound(2.0)
EACH = (Add(), Add(preserve_norm=True), Ablate(), Floor(BOUND), Cap(BOUND), Clamp(BOUND, BOUND), Rotate())


def test_operator_names_are_those_of_text_form():
    assert tuple(map(operator_name, EACH)) == tuple(OPERATORS)
    assert {name: operator_name(operator) for name, operator in CALIBRATED.items()} == {n: n for n in CALIBRATED}


def test_calibrated_operators_take_amount():
    assert {operator_name(operator) for operator in EACH if takes_amount(operator)} == set(CALIBRATED)
    assert not takes_amount(Rotate(15.0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_bound_nonfinite_is_refused(value):
    with pytest.raises(SteeringError, match=f"the bound {value} is not a number; give a finite number"):
        Bound(value, "z")


@pytest.mark.parametrize("value", [-0.1, 100.1])
def test_bound_percentile_outside_0_and_100_is_refused(value):
    with pytest.raises(SteeringError, match=f"there is no percentile {value}; give 0% to 100%"):
        Bound(value, "percentile")
    assert Bound(value, "z").value == value


def test_bound_unknown_unit_is_refused():
    with pytest.raises(SteeringError, match="there is no unit 'percent'; did you mean 'percentile'"):
        Bound(1.0, "percent")


def test_bound_text():
    assert [str(Bound(value, unit)) for value, unit in ((25, "percentile"), (-1.5, "z"), (3.0, "projection"))] == [
        "25%",
        "-1.5z",
        "3",
    ]


def test_clamp_reversed_bounds_are_refused():
    with pytest.raises(SteeringError, match="cannot clamp from 2% up to 1%; give the lower bound first"):
        Clamp(Bound(2, "percentile"), Bound(1, "percentile"))
    assert Clamp(Bound(2), Bound(1, "z")).low == Bound(2)  # which is higher shows at each layer


@pytest.mark.parametrize("degrees", [-180.5, 181.0, math.nan, math.inf])
def test_rotate_beyond_180_degrees_is_refused(degrees):
    with pytest.raises(SteeringError, match="give an angle from -180 to 180"):
        Rotate(degrees)
