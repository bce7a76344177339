"""Directions from running sums equal those from all states at once, however the pairs are grouped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from trimtab.errors import VectorError
from trimtab.training.directions import STREAMING, Sums

LAYERS, HIDDEN = 3, 8
SEEDS = st.integers(0, 2**32 - 1)


def states(seed: int, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two shifted poles, ``[pair, layer, hidden]``."""
    rng = np.random.default_rng(seed)
    middle, shift = rng.standard_normal((pairs, LAYERS, HIDDEN)), rng.standard_normal((LAYERS, HIDDEN))
    noise = 0.3 * rng.standard_normal((2, pairs, LAYERS, HIDDEN))
    return (middle + shift + noise[0]).astype(np.float32), (middle - shift + noise[1]).astype(np.float32)


def unit_along(direction: np.ndarray, shift: np.ndarray) -> np.ndarray:
    return direction / np.linalg.norm(direction) * (-1.0 if shift @ direction < 0 else 1.0)


def first_component(rows: np.ndarray) -> np.ndarray:
    return PCA(n_components=1, svd_solver="full").fit(rows).components_[0]


def mean_difference(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    differences = positive.astype(np.float64) - negative
    return unit_along(differences.mean(axis=0), differences.mean(axis=0))


def pca_center(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    half = (positive.astype(np.float64) - negative) / 2
    return unit_along(first_component(np.concatenate([half, -half])), half.mean(axis=0))


def pca_diff(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    differences = positive.astype(np.float64) - negative
    return unit_along(first_component(differences), differences.mean(axis=0))


WHOLE = {"mean_difference": mean_difference, "pca_center": pca_center, "pca_diff": pca_diff}


def summed(positive: np.ndarray, negative: np.ndarray, *, cuts: list[int]) -> Sums:
    sums = Sums.empty(LAYERS, HIDDEN, second=True)
    for plus, minus in zip(np.split(positive, cuts), np.split(negative, cuts), strict=True):
        sums = sums.plus(plus, minus)
    return sums


@pytest.mark.parametrize("method", sorted(STREAMING))
@given(seed=SEEDS, cuts=st.lists(st.integers(0, 30), max_size=4).map(sorted))
def test_direction_from_sums_equals_one_from_all_states(method, seed, cuts):
    positive, negative = states(seed, 30)
    sums = summed(positive, negative, cuts=cuts)
    assert sums.pairs == 30
    for layer in range(LAYERS):
        whole = WHOLE[method](positive[:, layer], negative[:, layer])
        found = STREAMING[method](sums, layer)
        assert found.dtype == np.float32
        if method == "pca_diff":  # what is left after centring may point either way
            assert abs(found @ whole) == pytest.approx(1.0, abs=1e-3)
        else:
            np.testing.assert_allclose(found, whole, atol=1e-4)


@given(seed=SEEDS)
def test_pairwise_cosine_equals_mean_over_pairs(seed):
    positive, negative = states(seed, 9)
    sums = summed(positive, negative, cuts=[4])
    for layer in range(LAYERS):
        units = positive[:, layer].astype(np.float64) - negative[:, layer]
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        slow = np.mean([units[i] @ units[j] for i in range(9) for j in range(9) if i != j])
        assert sums.pairwise_cosine(layer) == pytest.approx(slow, abs=1e-9)


def test_sums_survive_being_written_as_arrays():
    sums = summed(*states(1, 5), cuts=[])
    back = Sums.of_arrays(sums.arrays())
    assert back.pairs == 5
    for name in ("total", "units", "second"):
        np.testing.assert_array_equal(getattr(back, name), getattr(sums, name))
    first_only = Sums.empty(LAYERS, HIDDEN, second=False)
    assert Sums.of_arrays(first_only.arrays()).second is None


def test_adding_pairs_leaves_the_old_sums_alone():
    sums = Sums.empty(LAYERS, HIDDEN, second=True)
    sums.plus(*states(2, 4))
    assert not sums.total.any()
    assert not sums.second.any()


@pytest.mark.parametrize("method", sorted(STREAMING))
def test_poles_with_the_same_states_have_no_direction(method):
    same = np.ones((5, LAYERS, HIDDEN), np.float32)
    with pytest.raises(VectorError, match="same hidden states"):
        STREAMING[method](Sums.empty(LAYERS, HIDDEN, second=True).plus(same, same), 0)
