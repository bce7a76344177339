"""Estimators against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import VectorError
from trimtab.training.directions import ESTIMATORS, estimate

SEEDS = st.integers(0, 2**32 - 1)


def poles(seed: int, *, pairs: int = 40, width: int = 12, shift: float = 3.0):
    """Pairs that share a random midpoint and differ by ``shift`` along a random axis, plus noise."""
    rng = np.random.default_rng(seed)
    axis = rng.standard_normal(width)
    axis /= np.linalg.norm(axis)
    middle = rng.standard_normal((pairs, width)) * 2
    noise = rng.standard_normal((2, pairs, width)) * 0.3
    positive = (middle + shift / 2 * axis + noise[0]).astype(np.float32)
    negative = (middle - shift / 2 * axis + noise[1]).astype(np.float32)
    return positive, negative, axis


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@given(seed=SEEDS)
def test_estimate_returns_oriented_unit_direction(name, seed):
    positive, negative, _ = poles(seed)
    direction = estimate(name, positive, negative)
    assert direction.dtype == np.float32
    assert direction.shape == (12,)
    assert np.linalg.norm(direction) == pytest.approx(1.0, abs=1e-5)
    assert ((positive - negative) @ direction).mean() >= 0


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
@given(seed=SEEDS)
def test_estimate_of_swapped_poles_is_negated(name, seed):
    positive, negative, _ = poles(seed)
    there, back = estimate(name, positive, negative), estimate(name, negative, positive)
    assert there @ back == pytest.approx(-1.0, abs=1e-3)


@pytest.mark.parametrize("name", ["mean_difference", "pca_center", "lda", "logistic"])
def test_estimate_recovers_planted_axis(name):
    positive, negative, axis = poles(1, pairs=200)
    assert estimate(name, positive, negative) @ axis > 0.9


def test_mean_difference_equals_mean_of_differences():
    positive, negative, _ = poles(2)
    mean = np.mean([p.astype(np.float64) - n for p, n in zip(positive, negative, strict=True)], axis=0)
    np.testing.assert_allclose(estimate("mean_difference", positive, negative), mean / np.linalg.norm(mean), atol=1e-6)


def test_pca_diff_loses_shift_that_pca_center_keeps():
    rng = np.random.default_rng(33)
    positive, negative, axis = poles(3, pairs=200, shift=2.0)
    other = rng.standard_normal(12)
    other -= (other @ axis) * axis
    wobble = np.outer(rng.standard_normal(200) * 0.8, other / np.linalg.norm(other)).astype(np.float32)
    positive = positive + wobble
    assert estimate("pca_center", positive, negative) @ axis > 0.9
    assert abs(estimate("pca_diff", positive, negative) @ axis) < 0.5


def test_pca_center_equals_leading_eigenvector():
    positive, negative, _ = poles(4)
    half = (positive.astype(np.float64) - negative) / 2
    _, vectors = np.linalg.eigh(half.T @ half)
    assert abs(estimate("pca_center", positive, negative) @ vectors[:, -1]) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", ["mean_difference", "pca_center", "pca_diff"])
def test_poles_with_the_same_states_have_no_direction(name):
    states = np.ones((5, 3), np.float32)
    with pytest.raises(VectorError, match="same hidden states"):
        estimate(name, states, states)


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_estimate_unequal_pairs_is_refused(name):
    with pytest.raises(VectorError, match="no pairs"):
        estimate(name, np.ones((5, 3), np.float32), np.ones((4, 3), np.float32))
