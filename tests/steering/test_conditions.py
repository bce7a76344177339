"""Conditions as values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_vectors import make_reader, make_vector
from trimtab.errors import SteeringError
from trimtab.steering import AllOf, AnyOf, Comparison, FalsePositives, Not
from trimtab.steering.conditions import comparisons, decide

ANGER, CALM = make_reader("anger"), make_reader("calm", seed=1)
A, B, C = (Comparison(ANGER, "above", 1.0), Comparison(CALM, "below", 2.0), Comparison(CALM, "above", 3.0, "token"))


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_comparison_nonfinite_threshold_is_refused(threshold):
    with pytest.raises(SteeringError, match=rf"the threshold {threshold} on 'anger' is not a number; give a z-score"):
        Comparison(ANGER, "above", threshold)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_false_positive_rate_outside_0_and_1_is_refused(rate):
    with pytest.raises(SteeringError, match="is not a false-positive rate"):
        FalsePositives(rate)


def test_comparison_without_neutral_is_refused():
    with pytest.raises(SteeringError, match=r"'mood' has no neutral statistics, .*measure them with trimtab.calibrate"):
        Comparison(make_vector(), "above", 1.0, name="mood")


def test_rate_without_sufficient_fit_is_refused():
    with pytest.raises(SteeringError, match="has no threshold fitted at prompt"):
        Comparison(make_reader(fits=()), "above", FalsePositives(0.1))
    with pytest.raises(SteeringError, match="fitted on 101 texts at prompt, too few"):
        Comparison(ANGER, "above", FalsePositives(0.001))


def test_rate_level_is_quantile_of_fit():
    for side in ("above", "below"):
        level = ANGER.fitted_threshold(0.05, at="prompt", above=side == "above")
        assert Comparison(ANGER, side, FalsePositives(0.05)).level == level
    assert Comparison(ANGER, "above", FalsePositives(0.05)).level > 90
    assert Comparison(ANGER, "below", FalsePositives(0.05)).level < 10


def test_unknown_side_or_place_is_refused():
    with pytest.raises(SteeringError, match="there is no side 'bellow'; did you mean 'below'"):
        Comparison(ANGER, "bellow", 1.0)
    with pytest.raises(SteeringError, match="there is no place to read 'tokens'; did you mean 'token'"):
        Comparison(ANGER, "above", 1.0, "tokens")


@pytest.mark.parametrize(
    ("side", "release"), [("above", 2.5), ("below", 1.5), ("above", math.nan), ("below", math.inf)]
)
def test_release_beyond_threshold_is_refused(side, release):
    with pytest.raises(SteeringError, match=f"'anger' {side} 2 cannot hold until"):
        Comparison(ANGER, side, 2.0, "token", release)


def test_release_of_prompt_condition_is_refused():
    with pytest.raises(
        SteeringError, match="a condition at prompt is decided once; leave 'until' out, or say 'at token'"
    ):
        Comparison(ANGER, "above", 2.0, release=1.0)


def test_hysteresis_holds_between_two_levels():
    above, below = (Comparison(ANGER, side, 2.0, "token", end) for side, end in (("above", 1.0), ("below", 3.0)))
    assert [above.holds(z) for z in (0.5, 1.5, 2.0, 2.5)] == [False, False, False, True]
    assert [above.holds(z, held=True) for z in (0.5, 1.0, 1.5, 2.5)] == [False, False, True, True]
    assert [below.holds(z) for z in (1.5, 2.0, 2.5)] == [True, False, False]
    assert [below.holds(z, held=True) for z in (1.5, 2.5, 3.0, 3.5)] == [True, True, False, False]


@given(st.floats(-9, 9), st.floats(-9, 9), st.sampled_from(["above", "below"]))
def test_comparison_holds_on_one_side(reading, threshold, side):
    passes = Comparison(ANGER, side, threshold).holds(reading)
    assert passes == (reading > threshold if side == "above" else reading < threshold)


def test_comparisons_are_in_text_order():
    assert list(comparisons(AnyOf((Not(A), AllOf((B, C)), A)))) == [A, B, C, A]


@given(st.booleans(), st.booleans(), st.booleans())
def test_decide_follows_boolean_logic(a, b, c):
    holds = {A: a, B: b, C: c}
    assert decide(AllOf((A, AnyOf((B, Not(C))))), holds) == (a and (b or not c))
    assert decide(Not(AllOf((A, B))), holds) == decide(AnyOf((Not(A), Not(B))), holds)


def test_equal_comparisons_ignore_name():
    assert Comparison(ANGER, "above", 1) == A == Comparison(ANGER, "above", 1.0, name="anger")
    assert len({A, Comparison(ANGER, "above", 1.0), B}) == 2


@pytest.mark.parametrize("join", [AllOf, AnyOf])
def test_joining_one_condition_is_refused(join):
    for parts in ((), (A,)):
        with pytest.raises(SteeringError, match="conditions cannot be joined; join two or more"):
            join(parts)
    assert hash(join([A, B])) == hash(join((A, B)))
