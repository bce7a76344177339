"""Thresholds for a rate of false positives, and what a vector keeps to give them."""

from __future__ import annotations

import numpy as np
import pytest

from sample_vectors import make_vector
from trimtab.errors import SteeringError
from trimtab.vectors import Neutral, Reader, Spread, ThresholdFit

READINGS = tuple(float(n) for n in range(501))
FITTED = make_vector(fits=(ThresholdFit("prompt", READINGS, 501), ThresholdFit("token", (0.0, 1.0), 20)))


@pytest.mark.parametrize(("rate", "above", "below"), [(0.02, 490.0, 10.0), (0.1, 450.0, 50.0), (0.015, 492.5, 7.5)])
def test_threshold_is_passed_by_given_share(rate, above, below):
    assert FITTED.fitted_threshold(rate, at="prompt") == pytest.approx(above)
    assert FITTED.fitted_threshold(rate, at="prompt", above=False) == pytest.approx(below)
    passed = np.mean(np.array(READINGS) > FITTED.fitted_threshold(rate, at="prompt"))
    assert passed == pytest.approx(rate, abs=1 / len(READINGS))


def test_threshold_of_few_readings_assumes_normal():
    few = tuple(sorted(np.random.default_rng(0).standard_normal(120) * 0.5 + 2.0))
    vector = make_vector(fits=(ThresholdFit("prompt", few, 120),))
    expected = np.mean(few) + 2.0537 * np.std(few, ddof=1)  # the normal distribution's quantile of 98 %
    assert vector.fitted_threshold(0.02, at="prompt") == pytest.approx(expected, abs=1e-3)
    assert vector.fitted_threshold(0.5, at="prompt", above=False) == pytest.approx(np.mean(few))


def test_fitted_threshold_uses_fit_of_place():
    assert FITTED.fitted_threshold(0.5, at="token") == pytest.approx(0.5)


def test_fitted_threshold_unfitted_place_names_command():
    with pytest.raises(SteeringError, match="trimtab condition fit happy --at last-user-turn --negative FILE"):
        FITTED.fitted_threshold(0.1, at="last-user-turn")


def test_fitted_threshold_too_few_texts_is_refused():
    assert FITTED.fitted_threshold(0.05, at="token") > 0
    with pytest.raises(SteeringError, match="fit it on 25 texts or more"):
        FITTED.fitted_threshold(0.04, at="token")


def test_arithmetic_drops_neutral_reader_and_fits():
    spread = Spread({0: 0.0, 2: 0.0}, {0: 1.0, 2: 1.0})
    vector = make_vector(
        fits=FITTED.fits,
        neutral=Neutral(spread, spread, spread, {}, 2, 9),
        reader=Reader((2,)),
        operator_scales={"rotate": {"+": 0.1, "-": 0.1}},
    )
    for mixed in (2 * vector, -vector, vector + vector):
        assert mixed.neutral is None
        assert mixed.reader is None
        assert mixed.fits == ()
        assert mixed.operator_scales == {}


def test_reading_layers_from_reader_or_steered_layers():
    assert make_vector().reading_layers == (0, 2)
    assert make_vector(reader=Reader((2,))).reading_layers == (2,)
