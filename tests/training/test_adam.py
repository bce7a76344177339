"""Adam's steps beside the published formulas."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.training.optimiser import ADAM_DECAY, adam


@pytest.mark.parametrize("shrink", [0.0, 0.1])
def test_adam_steps_equal_those_written_out(shrink):
    generator = np.random.default_rng(0)
    slow = generator.standard_normal((3, 5))
    descent = adam(slow, shrink=shrink)
    first, second = np.zeros((3, 5)), np.zeros((3, 5))
    for step in range(1, 8):
        gradient = generator.standard_normal((3, 5))
        first = ADAM_DECAY[0] * first + (1 - ADAM_DECAY[0]) * gradient
        second = ADAM_DECAY[1] * second + (1 - ADAM_DECAY[1]) * gradient**2
        spread = np.sqrt(second / (1 - ADAM_DECAY[1] ** step)) + 1e-12
        slow = (1 - 0.02 * shrink) * slow - 0.02 * first / (1 - ADAM_DECAY[0] ** step) / spread
        descent.downhill(gradient, rate=0.02)
    assert descent.step == 7
    assert descent.at.dtype == np.float64
    np.testing.assert_allclose(descent.at, slow, rtol=1e-9)


def test_adam_restores_only_arrays_of_its_shape():
    descent, again = adam(np.ones((2, 3))), adam(np.zeros((2, 3)))
    descent.downhill(np.ones((2, 3)), rate=0.5)
    assert again.restore(descent.arrays())
    assert (again.step, again.at.tolist()) == (1, descent.at.tolist())
    more = np.arange(6.0).reshape(2, 3)
    for each in (descent, again):
        each.downhill(more, rate=0.1)
    assert again.at.tolist() == descent.at.tolist()
    other = adam(np.zeros((3, 2)))
    assert not other.restore(descent.arrays())
    assert not other.restore(None)
    assert (other.step, other.at.tolist()) == (0, np.zeros((3, 2)).tolist())
