import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trimtab.stats import bootstrap, cosine, mean_interval, proportion, two_sample_bootstrap

VALUES = arrays(np.float64, st.integers(1, 12), elements=st.floats(-10, 10))
SEEDS = st.integers(0, 1000)


def slow_interval(statistic, columns, seed, resamples):
    """One resample after the other, item by item."""
    count = len(columns[0])
    drawn = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    found = [statistic(*([column[n] for n in row] for column in columns)) for row in drawn]
    return np.percentile(found, 2.5), np.percentile(found, 97.5)


def mean(values):
    return math.fsum(values) / len(values)


@settings(deadline=None, max_examples=30)
@given(values=VALUES, seed=SEEDS)
def test_mean_interval_equals_slow_reference(values, seed):
    found = mean_interval(values, seed=seed, resamples=50)
    assert found.value == pytest.approx(mean(values), abs=1e-9)
    assert (found.low, found.high) == pytest.approx(slow_interval(mean, [values], seed, 50), abs=1e-9)


@settings(deadline=None, max_examples=30)
@given(values=VALUES, seed=SEEDS)
def test_bootstrap_of_ratio_resamples_pairs_together(values, seed):
    own, other = values, np.linspace(1, 2, len(values))
    found = bootstrap(lambda a, b: a.mean(axis=-1) / b.mean(axis=-1), own, other, seed=seed, resamples=50)
    low, high = slow_interval(lambda a, b: mean(a) / mean(b), [own, other], seed, 50)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9)


def test_bootstrap_leaves_out_resamples_without_a_value():
    mostly_nothing = np.array([0.0, 0.0, 0.0, 0.0, 1.0])  # some resamples have 0 / 0
    found = bootstrap(lambda one, other: one.mean(-1) / other.mean(-1), mostly_nothing, 2 * mostly_nothing)
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


def test_bootstrap_of_equal_columns_has_no_width():
    values = np.random.default_rng(0).random(20)
    found = bootstrap(lambda a, b: a.mean(axis=-1) - b.mean(axis=-1), values, values)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_mean_interval_of_normal_sample_has_usual_width():
    values = np.random.default_rng(0).standard_normal(400)
    found = mean_interval(values)
    standard_error = values.std(ddof=1) / math.sqrt(len(values))
    assert found.high - found.low == pytest.approx(2 * 1.96 * standard_error, rel=0.05)


def test_two_sample_bootstrap_draws_samples_independently():
    one, other = np.array([0.0, 1.0]), np.array([0.0, 1.0, 2.0])
    found = two_sample_bootstrap(lambda a, b: float(a.mean() - b.mean()), one, other)
    assert found.value == -0.5
    # of 4 · 27 resamples one gives -2 and three give -5/3; likewise one gives 1 and three give 2/3
    assert (found.low, found.high) == pytest.approx((-5 / 3, 2 / 3))


@pytest.mark.parametrize(("passed", "texts"), [(0, 50), (1, 50), (10, 200), (50, 50)])
def test_proportion_equals_beta_quantiles(passed, texts):
    from scipy.stats import beta

    low = beta.ppf(0.025, passed, texts - passed + 1) if passed else 0.0
    high = beta.ppf(0.975, passed + 1, texts - passed) if passed < texts else 1.0
    found = proportion(passed, texts)
    assert (found.value, found.low, found.high) == pytest.approx((passed / texts, low, high))


@settings(deadline=None)
@given(one=arrays(np.float32, (3, 4), elements=st.floats(-4, 4, width=32)), seed=SEEDS)
def test_cosine_equals_slow_reference(one, seed):
    other = np.random.default_rng(seed).standard_normal((3, 4))
    for a, b, found in zip(one.tolist(), other.tolist(), cosine(one, other), strict=True):
        lengths = math.hypot(*a) * math.hypot(*b)
        along = math.fsum(x * y for x, y in zip(a, b, strict=True))
        assert found == pytest.approx(along / lengths if lengths > 1e-30 else 0.0, abs=1e-6)
