"""What a mix of vectors is predicted to spend."""

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


def test_nothing_spends_nothing():
    assert Steering().budget() == budget((HAPPY, 0.0)) == 0.0


def test_one_term_at_strength_one_spends_what_its_calibration_reached():
    assert budget((HAPPY, 1.0)) == pytest.approx(0.4)
    assert budget((HAPPY, -1.0)) == pytest.approx(0.3)
    assert budget(Term(HAPPY, coefficient=HAPPY.scale["+"])) == pytest.approx(0.4)
    assert budget(Term(HAPPY, coefficient=-HAPPY.scale["-"])) == pytest.approx(0.3)


@pytest.mark.parametrize("operator", [Add(preserve_norm=True), Rotate()])
def test_other_operators_spend_the_budget_of_their_own_scale(operator):
    assert budget(Term(TURNING, 1.0, operator=operator)) == pytest.approx(0.5)
    with pytest.raises(
        SteeringError,
        match=r"the KL of '.*' cannot be predicted, .*; calibrate 'happy'",
    ):
        budget(Term(HAPPY, 1.0, operator=operator))


@given(strengths)
def test_one_term_grows_by_the_measured_power(strength):
    kl = 0.4 if strength > 0 else 0.3
    assert budget((HAPPY, strength)) == pytest.approx(kl * abs(strength) ** EXPONENT)


def test_spreading_over_other_layers_spends_the_same():
    assert budget(Term(HAPPY, 1.0, layers=(0,))) == pytest.approx(0.4)
    assert budget(Term(HAPPY, 1.0, layers=(0, 2))) == pytest.approx(0.4)


def test_a_coefficient_at_given_layers_spends_like_the_strength_that_adds_the_same():
    (planned,) = HAPPY.multipliers(1.0, layers=(2,)).values()
    assert budget(Term(HAPPY, coefficient=planned, layers=(2,))) == pytest.approx(0.4)
    each = HAPPY.multipliers(-2.0, layers=(0, 2))[0]
    expected = budget(Term(HAPPY, -2.0, layers=(0, 2)))
    assert budget(Term(HAPPY, coefficient=each, layers="all")) == pytest.approx(expected)


@given(strengths)
def test_opposite_terms_cancel(strength):
    assert budget((EVEN, strength), (EVEN, -strength)) == pytest.approx(0.0, abs=1e-9)


@given(strengths, strengths)
def test_terms_of_one_sign_of_a_vector_count_as_their_sum(a, b):
    assume(a * b > 0)
    assert budget((HAPPY, a), (HAPPY, b)) == pytest.approx(budget((HAPPY, a + b)))


def test_terms_on_different_layers_add_up_as_at_right_angles():
    amplitude = 0.4 ** (1 / EXPONENT)
    apart = budget(Term(HAPPY, 1.0, layers=(0,)), Term(HAPPY, 1.0, layers=(2,)))
    assert apart == pytest.approx((2 * amplitude**2) ** (EXPONENT / 2))
    assert budget((HAPPY, 1.0)) < apart < budget((HAPPY, 2.0))


@given(mixes, st.floats(0.1, 3))
def test_scaling_all_strengths_scales_by_the_measured_power(mix, factor):
    assume(mix.budget() > 1e-6)
    scaled = Steering(tuple(dataclasses.replace(term, strength=factor * term.strength) for term in mix.terms))
    assert scaled.budget() == pytest.approx(mix.budget() * factor**EXPONENT)


@given(mixes)
def test_the_order_of_terms_does_not_matter(mix):
    assert Steering(mix.terms[::-1]).budget() == pytest.approx(mix.budget(), abs=1e-9)


@given(mixes, st.floats(0.05, 2))
def test_normalizing_hits_the_budget_and_keeps_proportions(mix, wanted):
    assume(mix.budget() > 1e-6)
    normalized = mix.normalized(wanted)
    assert normalized.budget() == pytest.approx(wanted)
    ratios = {round(new.strength / old.strength, 6) for new, old in zip(normalized.terms, mix.terms, strict=True)}
    assert max(ratios) == pytest.approx(min(ratios), rel=1e-3)
    assert normalized == Steering.of(mix, normalize=wanted)


def test_coefficients_are_normalized_too():
    mix = Steering((Term(HAPPY, coefficient=0.3), Term(FORMAL, 1.0)))
    assert mix.normalized(0.4).budget() == pytest.approx(0.4)
    assert mix.normalized(0.4).terms[0].strength is None


@pytest.mark.parametrize("wanted", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_is_a_number_above_nothing(wanted):
    with pytest.raises(SteeringError, match=r"is not a positive number of nats; give a number such as 0.4"):
        Steering.of([(HAPPY, 1)]).normalized(wanted)


def test_what_spends_nothing_cannot_be_normalized():
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
def test_what_was_never_measured_has_no_price(term, fix):
    with pytest.raises(SteeringError, match=rf"the KL of '.*' cannot be predicted, .*; {fix}"):
        Steering((term,)).budget()
