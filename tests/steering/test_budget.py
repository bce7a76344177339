"""Predicted KL of a mix of vectors."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sample_vectors import calibration_record, make_reader, make_vector
from trimtab.errors import SteeringError
from trimtab.steering import Ablate, Add, Bound, Cap, Rotate, Steering, Term
from trimtab.steering.budget import EXPONENT

HAPPY = make_reader("happy", calibration=calibration_record(plus=0.4, minus=0.3))
TURNING = make_reader(
    "happy",
    calibration=calibration_record(budget=0.5),
    operator_scales={"rotate": {"+": 0.2, "-": 0.3}, "add_preserving_norm": {"+": 0.4, "-": 0.5}},
)
EVEN = make_reader("even", scale={"+": 0.1, "-": 0.1})
FORMAL = make_reader("formal", seed=7)
CALM = make_reader("calm", seed=11)
strengths = st.floats(-2, 2).filter(lambda s: abs(s) > 0.05)
mixes = st.lists(st.tuples(st.sampled_from([HAPPY, FORMAL, CALM]), strengths), min_size=1, max_size=4).map(Steering.of)


def budget(*terms):
    return Steering.of(list(terms)).budget()


def test_budget_of_no_terms_is_zero():
    assert Steering().budget() == budget((HAPPY, 0.0)) == 0.0


def test_budget_at_strength_one_is_calibrated_kl():
    assert budget((HAPPY, 1.0)) == pytest.approx(0.4)
    assert budget((HAPPY, -1.0)) == pytest.approx(0.3)
    assert budget(Term(HAPPY, coefficient=HAPPY.scale["+"])) == pytest.approx(0.4)
    assert budget(Term(HAPPY, coefficient=-HAPPY.scale["-"])) == pytest.approx(0.3)


@pytest.mark.parametrize("operator", [Add(preserve_norm=True), Rotate()])
def test_budget_of_other_operators_uses_their_scale(operator):
    assert budget(Term(TURNING, 1.0, operator=operator)) == pytest.approx(0.5)
    with pytest.raises(
        SteeringError,
        match=r"the KL of '.*' cannot be predicted, .*; calibrate 'happy'",
    ):
        budget(Term(HAPPY, 1.0, operator=operator))


@given(strengths)
def test_budget_of_one_term_follows_power_law(strength):
    kl = 0.4 if strength > 0 else 0.3
    assert budget((HAPPY, strength)) == pytest.approx(kl * abs(strength) ** EXPONENT)


def test_budget_of_strength_ignores_layers():
    assert budget(Term(HAPPY, 1.0, layers=(0,))) == pytest.approx(0.4)
    assert budget(Term(HAPPY, 1.0, layers=(0, 2))) == pytest.approx(0.4)


def test_budget_of_coefficient_equals_same_strength():
    (planned,) = HAPPY.multipliers(1.0, layers=(2,)).values()
    assert budget(Term(HAPPY, coefficient=planned, layers=(2,))) == pytest.approx(0.4)
    each = HAPPY.multipliers(-2.0, layers=(0, 2))[0]
    expected = budget(Term(HAPPY, -2.0, layers=(0, 2)))
    assert budget(Term(HAPPY, coefficient=each, layers="all")) == pytest.approx(expected)


@given(strengths)
def test_budget_of_opposite_terms_is_zero(strength):
    assert budget((EVEN, strength), (EVEN, -strength)) == pytest.approx(0.0, abs=1e-9)


@given(strengths, strengths)
def test_budget_of_same_sign_terms_equals_sum(a, b):
    assume(a * b > 0)
    assert budget((HAPPY, a), (HAPPY, b)) == pytest.approx(budget((HAPPY, a + b)))


def test_budget_of_disjoint_layers_adds_in_quadrature():
    amplitude = 0.4 ** (1 / EXPONENT)
    separate = budget(Term(HAPPY, 1.0, layers=(0,)), Term(HAPPY, 1.0, layers=(2,)))
    assert separate == pytest.approx((2 * amplitude**2) ** (EXPONENT / 2))
    assert budget((HAPPY, 1.0)) < separate < budget((HAPPY, 2.0))


@given(mixes, st.floats(0.1, 3))
def test_budget_of_scaled_mix_follows_power_law(mix, factor):
    assume(mix.budget() > 1e-6)
    scaled = Steering(tuple(dataclasses.replace(term, strength=factor * term.strength) for term in mix.terms))
    assert scaled.budget() == pytest.approx(mix.budget() * factor**EXPONENT)


@given(mixes)
def test_budget_ignores_order_of_terms(mix):
    assert Steering(mix.terms[::-1]).budget() == pytest.approx(mix.budget(), abs=1e-9)


@given(mixes, st.floats(0.05, 2))
def test_normalized_reaches_budget_and_keeps_proportions(mix, wanted):
    assume(mix.budget() > 1e-6)
    normalized = mix.normalized(wanted)
    assert normalized.budget() == pytest.approx(wanted)
    ratios = {round(new.strength / old.strength, 6) for new, old in zip(normalized.terms, mix.terms, strict=True)}
    assert max(ratios) == pytest.approx(min(ratios), rel=1e-3)
    assert normalized == Steering.of(mix, normalize=wanted)


def test_normalized_scales_coefficients():
    mix = Steering((Term(HAPPY, coefficient=0.3), Term(FORMAL, 1.0)))
    assert mix.normalized(0.4).budget() == pytest.approx(0.4)
    assert mix.normalized(0.4).terms[0].strength is None


@pytest.mark.parametrize("wanted", [0.0, -1.0, math.nan, math.inf])
def test_normalized_to_nonpositive_budget_is_refused(wanted):
    with pytest.raises(SteeringError, match=r"is not a positive number of nats; give a number such as 0.4"):
        Steering.of([(HAPPY, 1)]).normalized(wanted)


def test_normalized_of_zero_kl_is_refused():
    for mix in (Steering(), Steering.of([(HAPPY, 0)])):
        with pytest.raises(SteeringError, match="spends nothing, so its strengths cannot be scaled to a budget"):
            mix.normalized(0.4)


@pytest.mark.parametrize(
    ("term", "fix"),
    [
        (Term(make_vector("bare", scale=None), coefficient=1.0), "calibrate 'bare', and steer by strength"),
        (Term(make_vector("old"), 1.0), "calibrate 'old', and steer by strength"),
        (Term(HAPPY, operator=Ablate()), "leave it out"),
        (Term(HAPPY, operator=Cap(Bound(1.0))), "leave it out"),
        (Term(HAPPY, operator=Rotate(15.0)), "leave it out"),
    ],
    ids=str,
)
def test_budget_of_uncalibrated_term_is_refused(term, fix):
    with pytest.raises(SteeringError, match=rf"the KL of '.*' cannot be predicted, .*; {fix}"):
        Steering((term,)).budget()
