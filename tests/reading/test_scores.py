"""Projections, z-scores and AUROC against obvious slow computations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_vectors import MODEL, make_vector
from trimtab.errors import VectorError
from trimtab.reading import auroc, projections, z_scores
from trimtab.vectors import Neutral, Spread

LAYERS = (0, 2)
SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)  # few values: many ties


def neutral() -> Neutral:
    spreads = [Spread({0: n, 2: -n}, {0: 2.0 * n, 2: 3.0 * n}) for n in (1.0, 2.0, 5.0)]
    return Neutral(*spreads, percentiles={}, prompts=3, tokens=30)


@given(SCORES, SCORES)
def test_auroc_equals_share_of_ordered_pairs(positive: list[float], negative: list[float]):
    won = [1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative]
    assert auroc(positive, negative) == pytest.approx(np.mean(won), abs=1e-12)


def test_auroc_accepts_arrays_and_large_numbers():
    assert auroc(np.array([1e30, 2e30]), np.array([-1e30])) == 1.0


@pytest.mark.parametrize(("positive", "negative"), [([], [1.0]), ([1.0], []), ([], [])])
def test_auroc_needs_texts_of_both_kinds(positive: list[float], negative: list[float]):
    with pytest.raises(VectorError, match="both kinds"):
        auroc(positive, negative)


def test_projections_equal_loop_over_tokens_and_layers():
    states = np.random.default_rng(0).standard_normal((5, 2, MODEL.hidden_size)).astype(np.float32)
    vector = make_vector()
    found = projections(states, vector, LAYERS)
    assert found.shape == (5, 2)
    assert found.dtype == np.float64
    for token in range(5):
        for at, layer in enumerate(LAYERS):
            pairs = zip(states[token, at], vector.directions[layer], strict=True)
            assert found[token, at] == pytest.approx(sum(float(a) * float(b) for a, b in pairs), abs=1e-12)


def test_projections_are_summed_in_double_precision():
    vector = make_vector(directions={0: np.array([1, 0, 0, 0], np.float32), 2: np.full(4, 0.5, np.float32)})
    states = np.array([[[0, 0, 0, 0], [2**25, 1, -(2**25), 1]]], np.float32)
    assert projections(states, vector, LAYERS)[0, 1] == 1.0


@pytest.mark.parametrize(("pool", "n"), [("token", 1.0), ("mean", 2.0), ("last", 5.0)])
def test_z_scores_use_statistics_of_pool(pool: str, n: float):
    vector = make_vector(neutral=neutral())
    projected = np.array([[1.0, 4.0], [0.0, -2.0]])
    expected = [[(p0 - n) / (2 * n), (p2 + n) / (3 * n)] for p0, p2 in projected]
    np.testing.assert_allclose(z_scores(projected, vector, LAYERS, pool=pool), expected)
    np.testing.assert_allclose(z_scores(projected[:, 1:], vector, [2], pool=pool), np.array(expected)[:, 1:])


def test_z_scores_without_neutral_are_refused():
    with pytest.raises(VectorError, match="no neutral statistics"):
        z_scores(np.zeros((1, 2)), make_vector(), LAYERS, pool="token")
