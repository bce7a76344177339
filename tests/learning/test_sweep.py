"""Choices of layers, and the additions made from them."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.errors import SteeringError
from trimtab.learning.sweep import Steerable, band_layers, candidate_layers, chosen_layers, first_guess


@pytest.mark.parametrize("depth", [1, 2, 3, 12, 30, 80])
def test_candidates_are_distinct_and_lie_within_the_model(depth):
    candidates = candidate_layers(depth)
    assert len(set(candidates)) == len(candidates)
    assert all(0 <= layer < depth for candidate in candidates for layer in candidate)
    assert all(list(candidate) == sorted(set(candidate)) for candidate in candidates)


def test_a_deep_model_is_offered_single_layers_and_bands():
    lengths = {len(candidate) for candidate in candidate_layers(30)}
    assert 1 in lengths
    assert max(lengths) >= 10


def test_the_default_band_lies_in_the_middle():
    assert band_layers(30) == tuple(range(14, 24))


@pytest.mark.parametrize("layers", [[], [30], [-1], [1.5], "all"])
def test_layers_that_are_none_are_refused(layers):
    with pytest.raises(SteeringError):
        chosen_layers(30, layers)


def test_given_layers_are_the_only_candidate_and_come_in_order():
    assert chosen_layers(30, [7, 3, 7]) == ((3, 7),)


def test_additions_are_coefficient_times_norm_times_direction():
    directions = {0: np.array([1, 0], np.float32), 4: np.array([0, 1], np.float32)}
    steerable = Steerable(directions, {0: 10.0, 4: 50.0})
    added = steerable.additions([4], -0.1)
    assert list(added) == [4]
    np.testing.assert_allclose(added[4], [0, -5.0])


def test_a_first_guess_shares_the_scale_among_the_layers_of_a_band():
    assert first_guess(10) < first_guess(1)
