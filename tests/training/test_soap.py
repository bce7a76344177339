"""Steps along the axes in which layers move together."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.training import optimiser
from trimtab.training.optimiser import SOAP_DECAY, SOAP_MEMORY, adam, soap


def gradients(steps, shape, *, seed=0):
    generator = np.random.default_rng(seed)
    mixing = generator.standard_normal((shape[0], shape[0])) + 2  # layers' gradients are alike
    return [mixing @ generator.standard_normal(shape) for _ in range(steps)]


def test_soap_steps_equal_the_paper_written_out():
    """Algorithm 3, one number at a time; its second moments turn with the axes."""
    rate, at = 0.02, np.random.default_rng(1).standard_normal((3, 5))
    state, slow = soap(at), at.copy()
    first, second, together, old = np.zeros((3, 5)), np.zeros((3, 5)), np.zeros((3, 3)), np.eye(3)
    for step, gradient in enumerate(gradients(6, (3, 5)), start=1):
        together = SOAP_MEMORY * together + (1 - SOAP_MEMORY) * gradient @ gradient.T
        axes = np.linalg.eigh(together)[1]
        carried, moved = np.zeros((3, 5)), np.zeros((3, 5))
        for axis in range(3):
            for before in range(3):
                carried[axis] += float(axes[:, axis] @ old[:, before]) ** 2 * second[before]
        first = SOAP_DECAY[0] * first + (1 - SOAP_DECAY[0]) * gradient
        for axis in range(3):
            along = axes[:, axis]
            carried[axis] = SOAP_DECAY[1] * carried[axis] + (1 - SOAP_DECAY[1]) * (along @ gradient) ** 2
            ahead = along @ first / (1 - SOAP_DECAY[0] ** step)
            moved += np.outer(along, ahead / np.sqrt(carried[axis] / (1 - SOAP_DECAY[1] ** step)))
        second, old = carried, axes
        slow = slow - rate * moved
        state.downhill(gradient, rate=rate)
    assert state.step == 6
    np.testing.assert_allclose(state.at, slow, rtol=1e-9)


@pytest.mark.parametrize("shrink", [0.0, 0.1])
def test_soap_one_layer_equals_adam(monkeypatch, shrink):
    monkeypatch.setattr(optimiser, "ADAM_DECAY", SOAP_DECAY)
    one, other = soap(np.ones((1, 5)), shrink=shrink), adam(np.ones((1, 5)), shrink=shrink)
    for gradient in gradients(5, (1, 5)):
        one.downhill(gradient, rate=0.02)
        other.downhill(gradient, rate=0.02)
    np.testing.assert_allclose(one.at, other.at, rtol=1e-9)


def test_soap_is_equivariant_to_rotated_layers():
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((4, 4)))[0]
    one, other = soap(np.zeros((4, 6))), soap(np.zeros((4, 6)))
    for gradient in gradients(4, (4, 6)):
        one.downhill(gradient, rate=0.1)
        other.downhill(turn @ gradient, rate=0.1)
    np.testing.assert_allclose(turn @ one.at, other.at, atol=1e-9)


def test_soap_summed_layers_converge_faster_than_adam():
    """Loss over running sums of the layers, as a hidden state is the sum of earlier additions."""
    sums, goal = np.tril(np.ones((12, 12))), np.random.default_rng(3).standard_normal((12, 8))

    def left(state):
        for number in range(60):
            rate = 0.3 * (1 - number / 60)
            state.downhill(sums.T @ (sums @ state.at - goal), rate=rate)
        return float(((sums @ state.at - goal) ** 2).mean())

    assert left(soap(np.zeros((12, 8)))) < 0.5 * left(adam(np.zeros((12, 8))))


def test_soap_restores_only_arrays_of_its_shape():
    descent, again = soap(np.ones((2, 3))), soap(np.zeros((2, 3)))
    descent.downhill(np.arange(6.0).reshape(2, 3), rate=0.5)
    assert again.restore(descent.arrays())
    for each in (descent, again):
        each.downhill(np.ones((2, 3)), rate=0.1)
    assert again.at.tolist() == descent.at.tolist()
    other = soap(np.zeros((3, 2)))
    assert not other.restore(descent.arrays())
    assert not other.restore(None)
