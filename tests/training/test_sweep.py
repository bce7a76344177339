"""Choices of layers, and the additions made from them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from trimtab.errors import SteeringError
from trimtab.training.progress import ignore
from trimtab.training.search import Steerable, band_layers, candidate_layers, chosen_layers, first_guess, rank_layers


@pytest.mark.parametrize("depth", [1, 2, 3, 12, 30, 80])
def test_candidates_are_distinct_and_lie_within_the_model(depth):
    candidates = candidate_layers(depth)
    assert len(set(candidates)) == len(candidates)
    assert all(0 <= layer < depth for candidate in candidates for layer in candidate)
    assert all(list(candidate) == sorted(set(candidate)) for candidate in candidates)


def test_candidate_layers_has_single_layers_and_bands():
    lengths = {len(candidate) for candidate in candidate_layers(30)}
    assert 1 in lengths
    assert max(lengths) >= 10


def test_band_layers_default_is_in_the_middle():
    assert band_layers(30) == tuple(range(14, 24))


@pytest.mark.parametrize("layers", [[], [30], [-1], [1.5], "all"])
def test_chosen_layers_invalid_is_refused(layers):
    with pytest.raises(SteeringError):
        chosen_layers(30, layers)


def test_chosen_layers_given_are_sorted_single_candidate():
    assert chosen_layers(30, [7, 3, 7]) == ((3, 7),)


def test_additions_are_coefficient_times_norm_times_direction():
    directions = {0: np.array([1, 0], np.float32), 4: np.array([0, 1], np.float32)}
    steerable = Steerable(directions, {0: 10.0, 4: 50.0})
    added = steerable.additions([4], -0.1)
    assert list(added) == [4]
    np.testing.assert_allclose(added[4], [0, -5.0])


def test_first_guess_divides_scale_among_band():
    assert first_guess(10) < first_guess(1)


class Measured:
    """Questions with given effects per choice of steered layers."""

    def __init__(self, effects):
        self.effects = effects

    def measure(self, additions):
        layers = tuple(sorted(additions))
        sign = np.sign(additions[layers[0]][0])
        return sign * np.array(self.effects[layers]) / 2


class Spending:
    """Spends the budget whatever is added."""

    def measure(self, additions):
        return 0.4


def chosen(effects):
    steerable = Steerable({n: np.array([1.0], np.float32) for n in range(4)}, dict.fromkeys(range(4), 1.0))
    calibration = SimpleNamespace(sweep_kl=Spending(), rounds=(Measured(effects),))
    ranked = rank_layers(calibration, steerable, list(effects), budget=0.4, progress=ignore)
    return [candidate.layers for candidate in ranked]


def test_sweep_prefers_widest_of_equal_candidates():
    near = {(1,): [1.0, 0.2, 0.9, 0.5], (1, 2): [0.6, 0.6, 0.5, 0.5], (0, 1, 2): [0.2, 1.0, 0.6, 0.6], (3,): [0.1] * 4}
    assert chosen(near) == [(0, 1, 2), (1,), (1, 2), (3,)]


def test_sweep_prefers_clearly_better_narrow_candidate():
    assert chosen({(1,): [1.0, 1.1, 0.9, 1.0], (0, 1, 2): [0.2, 0.4, 0.1, 0.2]}) == [(1,), (0, 1, 2)]


def test_sweep_single_question_prefers_widest_candidate():
    assert chosen({(1,): [1.0], (0, 1, 2): [0.2]}) == [(0, 1, 2), (1,)]
