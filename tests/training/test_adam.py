"""Adam's steps beside torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trimtab.training.refine import DECAY, Adam


@pytest.mark.parametrize("shrink", [0.0, 0.1])
def test_steps_are_those_of_adamw_in_torch(shrink):
    generator = np.random.default_rng(0)
    start = generator.standard_normal((3, 5))
    weight = torch.nn.Parameter(torch.from_numpy(start.copy()))
    slow = torch.optim.AdamW([weight], lr=0.02, betas=DECAY, eps=1e-12, weight_decay=shrink)
    state = Adam.beginning(start)
    for _ in range(7):
        gradient = generator.standard_normal((3, 5))
        weight.grad = torch.from_numpy(gradient.copy())
        slow.step()
        state = state.downhill(gradient, rate=0.02, shrink=shrink)
    assert state.step == 7
    np.testing.assert_allclose(state.at, weight.detach().numpy(), rtol=1e-9)


def test_what_is_noted_is_gone_on_with_only_if_it_is_of_that_shape():
    state = Adam.beginning(np.ones((2, 3))).downhill(np.ones((2, 3)), rate=0.5)
    again = Adam.of_arrays(state.arrays(), like=np.zeros((2, 3)))
    assert again is not None
    assert (again.step, again.at.tolist()) == (1, state.at.tolist())
    assert Adam.of_arrays(state.arrays(), like=np.zeros((3, 2))) is None
    assert Adam.of_arrays(None, like=np.zeros((2, 3))) is None
