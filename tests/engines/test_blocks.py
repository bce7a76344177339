"""Outputs of blocks, and hooks on them."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trimtab.engines.layers import DecoderLayers, Layout, layer_output, with_layer_output
from trimtab.errors import ModelError

Named = namedtuple("Named", ["state", "cache"])


@pytest.mark.parametrize("output", [None, "state", (), {"state": torch.zeros(1)}, (None, torch.zeros(1))])
def test_layer_output_of_another_type_is_refused(output: Any) -> None:
    with pytest.raises(ModelError, match=f"returned {type(output).__name__}"):
        layer_output(output)


@pytest.mark.parametrize("kind", [tuple, list])
def test_with_layer_output_keeps_the_other_members(kind: type) -> None:
    cache = object()
    output = with_layer_output(kind([torch.zeros(1), cache]), torch.ones(1))
    assert type(output) is kind
    assert layer_output(output) == torch.ones(1)
    assert output[1] is cache


def test_with_layer_output_keeps_a_named_tuple() -> None:
    output = with_layer_output(Named(torch.zeros(1), "cache"), torch.ones(1))
    assert isinstance(output, Named)
    assert output.state == torch.ones(1)
    assert output.cache == "cache"


LAYOUTS = st.sampled_from([(0, 1, 3), (1, 0, 3), (0, 1, 4), (1, 2, 4), (2, 0, 4), (0, 2, 4)])


@given(LAYOUTS)
def test_layout_view_puts_rows_and_tokens_first(axes: tuple[int, int, int]) -> None:
    rows, tokens, ndim = axes
    shape = [3] * ndim
    shape[rows], shape[tokens], shape[-1] = 2, 5, 4
    state = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    layout = Layout(rows, tokens)
    view = layout.view(state)
    width = state.numel() // 10
    assert view.shape == (2, 5, width)
    added = torch.randn(2, 5, width, generator=torch.Generator().manual_seed(1))
    moved = layout.put(state, view + added)
    assert moved.shape == state.shape
    torch.testing.assert_close(layout.view(moved), view + added)
    torch.testing.assert_close(layout.put(state, view), state)


def test_hooks_of_a_repeated_module_count_its_runs() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Linear(3, 3)

        def forward(self, state: torch.Tensor) -> torch.Tensor:
            for _ in range(3):
                state = self.block(state)
            return state

    model = Again()
    blocks = DecoderLayers("block", ("block",) * 3, (model.block,) * 3, 3, body=model)
    assert blocks.repeated
    seen: list[int] = []

    def act(layer: int, output: Any) -> Any:
        seen.append(layer)
        return output * 0 if layer == 2 else None

    with blocks.hooked([0, 2], act):
        first = model(torch.ones(1, 3))
        second = model(torch.ones(1, 3))
    assert seen == [0, 2, 0, 2]
    assert not first.any()
    assert not second.any()
    assert model(torch.ones(1, 3)).any()
