"""Fisher's discriminant beside sklearn's covariance and an outright inverse."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import shrunk_covariance

from trimtab.errors import VectorError
from trimtab.training.readers import SHRINKAGE, fisher


def kinds(positives, negatives, width, *, seed=0):
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((width, width)) * np.geomspace(0.01, 10.0, width)
    positive = (random.standard_normal((positives, width)) @ mixing + random.standard_normal(width)).astype(np.float32)
    return positive, (random.standard_normal((negatives, width)) @ mixing).astype(np.float32)


@pytest.mark.parametrize(("positives", "negatives", "width"), [(12, 9, 40), (60, 80, 20), (20, 20, 40)])
def test_fisher_equals_explicit_shrunk_inverse(positives, negatives, width):
    positive, negative = kinds(positives, negatives, width)
    spread = np.concatenate([positive, negative]).astype(np.float64).std(axis=0)
    centred = np.concatenate([kind - kind.mean(axis=0, dtype=np.float64) for kind in (positive, negative)]) / spread
    covariance = shrunk_covariance(centred.T @ centred / len(centred), shrinkage=SHRINKAGE)
    shift = (positive.mean(axis=0, dtype=np.float64) - negative.mean(axis=0, dtype=np.float64)) / spread
    slow = np.linalg.inv(covariance) @ shift / spread
    np.testing.assert_allclose(fisher(positive, negative), slow / np.linalg.norm(slow), atol=1e-5)


def test_fisher_positive_kind_is_on_plus_side():
    positive, negative = kinds(15, 25, 30)
    direction = fisher(positive, negative)
    assert np.linalg.norm(direction) == pytest.approx(1.0, abs=1e-6)
    assert (positive @ direction).mean() > (negative @ direction).mean()
    np.testing.assert_allclose(fisher(negative, positive), -direction, atol=1e-6)


def test_fisher_ignores_constant_coordinate():
    positive, negative = kinds(15, 25, 30)
    positive[:, 4] = negative[:, 4] = 7.0
    assert abs(fisher(positive, negative)[4]) < 1e-6


def test_fisher_without_spread_uses_means():
    positive, negative = np.full((3, 2), [1.0, 0.0], np.float32), np.zeros((4, 2), np.float32)
    np.testing.assert_allclose(fisher(positive, negative), [1.0, 0.0], atol=1e-6)


def test_fisher_equal_means_is_refused():
    with pytest.raises(VectorError, match="same hidden states"):
        fisher(np.ones((3, 4), np.float32), np.ones((5, 4), np.float32))
