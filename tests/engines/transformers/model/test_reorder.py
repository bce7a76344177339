"""Weights reordered for oneDNN."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from trimtab.engines.transformers.model import reorder
from trimtab.engines.transformers.model.reorder import ReorderedLinear, refresh_reordered, reorder_weights

pytestmark = pytest.mark.skipif(not reorder._available(), reason="this PyTorch has no oneDNN")


class Two(nn.Module):
    def __init__(self, *, bias=True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(192, 256, bias=bias)
        self.second = nn.Linear(256, 192, bias=bias)

    def forward(self, input):
        return self.second(torch.tanh(self.first(input)))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(reorder, "LEAST_WEIGHTS", 0)


def plain(model, input):
    hidden = torch.tanh(functional.linear(input, model.first.weight, model.first.bias))
    return functional.linear(hidden, model.second.weight, model.second.bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 192), (7, 192), (3, 50, 192)])
def test_reordered_product_equals_plain(small, shape, bias):
    model, input = Two(bias=bias), torch.randn(shape)
    assert reorder_weights(model) == 2
    with torch.inference_mode():
        assert torch.allclose(model(input), plain(model, input), atol=1e-5)


@pytest.mark.parametrize("rows", [2, 16, 33, 64])
def test_reordered_row_has_the_same_bits_beside_others(small, rows):
    model, input = Two(), torch.randn(64, 192)
    reorder_weights(model)
    with torch.inference_mode():
        assert torch.equal(model(input[:rows]), model(input)[:rows])


def test_reordered_gradient_equals_plain(small):
    model, input = Two(), torch.randn(5, 192, requires_grad=True)
    reorder_weights(model)
    for weight in model.parameters():
        weight.requires_grad_(False)
    (found,) = torch.autograd.grad(model(input).square().sum(), input)
    (expected,) = torch.autograd.grad(plain(model, input).square().sum(), input)
    assert torch.allclose(found, expected, atol=1e-4)


def test_reordered_layer_trains_its_own_weights(small):
    model, input = Two(), torch.randn(5, 192)
    reorder_weights(model)
    model(input).sum().backward()
    assert model.first.weight.grad is not None
    assert float(model.first.weight.grad.abs().max()) > 0


def test_reordered_weights_follow_a_change_in_place(small):
    model, input = Two(), torch.randn(5, 192)
    reorder_weights(model)
    with torch.inference_mode():
        before = model(input)
    model.first.weight.data.add_(0.1)  # as merging an adapter does, which leaves no trace in the version counter
    refresh_reordered(model)
    with torch.inference_mode():
        assert not torch.allclose(model(input), before, atol=1e-3)
        assert torch.allclose(model(input), plain(model, input), atol=1e-4)


def test_reordered_model_copied_and_moved_is_plain(small):
    model, input = Two(), torch.randn(5, 192)
    reorder_weights(model)
    twin = copy.deepcopy(model)
    twin.first.weight.data.zero_()
    with torch.inference_mode():
        assert torch.allclose(twin(input), plain(twin, input), atol=1e-6)
        assert torch.allclose(model(input), plain(model, input), atol=1e-5)
        half = model.to(torch.bfloat16)
        assert half(input.bfloat16()).dtype == torch.bfloat16


def test_reorder_leaves_other_models_alone(small, monkeypatch):
    assert reorder_weights(Two().to(torch.bfloat16)) == 0
    monkeypatch.setattr(reorder, "free_memory", lambda: 1024)
    assert reorder_weights(Two()) == 0
    monkeypatch.setattr(reorder, "free_memory", lambda: None)
    assert reorder_weights(Two()) == 0
    monkeypatch.undo()
    assert reorder_weights(Two()) == 0  # too small to gain


def test_reorder_with_wrong_products_stays_plain(small, monkeypatch):
    monkeypatch.setattr(ReorderedLinear, "product", lambda self, input: torch.zeros(len(input), 1))
    model = Two()
    assert reorder_weights(model) == 0
    assert "forward" not in model.first.__dict__
