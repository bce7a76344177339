"""Steps along the axes in which layers move together."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.training.distillation import fit as soap
from trimtab.training.distillation.fit import DECAY, MEMORY, Soap
from trimtab.training.refine import Adam


def gradients(steps, shape, *, seed=0):
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((shape[0], shape[0])) + 2  # layers' gradients are alike
    return [mixing @ generator.standard_normal(shape) for _ in range(steps)]


def test_steps_are_those_of_the_paper_written_out():
    """Algorithm 3, one number at a time; its second moments turn with the axes."""
    rate, at = 0.02, np.random.default_rng(1).standard_normal((3, 5))
    state, slow = Soap.beginning(at), at.copy()
    first, second, together, old = np.zeros((3, 5)), np.zeros((3, 5)), np.zeros((3, 3)), np.eye(3)
    for step, gradient in enumerate(gradients(6, (3, 5)), start=1):
        together = MEMORY * together + (1 - MEMORY) * gradient @ gradient.T
        axes = np.linalg.eigh(together)[1]
        carried, moved = np.zeros((3, 5)), np.zeros((3, 5))
        for axis in range(3):
            for before in range(3):
                carried[axis] += float(axes[:, axis] @ old[:, before]) ** 2 * second[before]
        first = DECAY[0] * first + (1 - DECAY[0]) * gradient
        for axis in range(3):
            along = axes[:, axis]
            carried[axis] = DECAY[1] * carried[axis] + (1 - DECAY[1]) * (along @ gradient) ** 2
            ahead = along @ first / (1 - DECAY[0] ** step)
            moved += np.outer(along, ahead / np.sqrt(carried[axis] / (1 - DECAY[1] ** step)))
        second, old = carried, axes
        slow = slow - rate * moved
        state = state.downhill(gradient, rate=rate)
    assert state.step == 6
    np.testing.assert_allclose(state.at, slow, rtol=1e-9)


@pytest.mark.parametrize("shrink", [0.0, 0.1])
def test_of_one_layer_steps_are_adams(monkeypatch, shrink):
    monkeypatch.setattr("trimtab.training.refine.DECAY", soap.DECAY)
    one, other = Soap.beginning(np.ones((1, 5))), Adam.beginning(np.ones((1, 5)))
    for gradient in gradients(5, (1, 5)):
        one = one.downhill(gradient, rate=0.02, shrink=shrink)
        other = other.downhill(gradient, rate=0.02, shrink=shrink)
    np.testing.assert_allclose(one.at, other.at, rtol=1e-9)


def test_it_does_not_matter_how_layers_are_turned():
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((4, 4)))[0]
    one, other = Soap.beginning(np.zeros((4, 6))), Soap.beginning(np.zeros((4, 6)))
    for gradient in gradients(4, (4, 6)):
        one, other = one.downhill(gradient, rate=0.1), other.downhill(turn @ gradient, rate=0.1)
    np.testing.assert_allclose(turn @ one.at, other.at, atol=1e-9)


def test_where_layers_add_up_it_is_sooner_at_the_bottom_than_adam():
    """The loss hangs on running sums of the layers, as a state does on what was added before it."""
    sums, goal = np.tril(np.ones((12, 12))), np.random.default_rng(3).standard_normal((12, 8))

    def left(state):
        for number in range(60):
            rate = 0.3 * (1 - number / 60)
            state = state.downhill(sums.T @ (sums @ state.at - goal), rate=rate)
        return float(((sums @ state.at - goal) ** 2).mean())

    assert left(Soap.beginning(np.zeros((12, 8)))) < 0.5 * left(Adam.beginning(np.zeros((12, 8))))


def test_what_is_noted_is_gone_on_with_only_if_it_is_of_that_shape():
    state = Soap.beginning(np.ones((2, 3))).downhill(np.arange(6.0).reshape(2, 3), rate=0.5)
    again = Soap.of_arrays(state.arrays(), like=np.zeros((2, 3)))
    assert again is not None
    more = np.ones((2, 3))
    assert again.downhill(more, rate=0.1).at.tolist() == state.downhill(more, rate=0.1).at.tolist()
    assert Soap.of_arrays(state.arrays(), like=np.zeros((3, 2))) is None
    assert Soap.of_arrays(None, like=np.zeros((2, 3))) is None
