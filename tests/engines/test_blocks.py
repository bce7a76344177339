"""Finding the decoder blocks of a model from what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from by_hand import traces_in
from tiny_models import HIDDEN, LAYERS, Family
from trimtab.engines.blocks import block_output, find_blocks, with_block_output
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import ModelError

WIDTH = 16
TOKENS = 20


class Block(nn.Module):
    """A residual block; ``wrap`` makes what it returns from the new state."""

    def __init__(self, wrap: Callable[[Tensor], Any] = lambda state: state, *, width: int = WIDTH) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.wrap = wrap

    def forward(self, hidden_states: Tensor) -> Any:
        return self.wrap(hidden_states + self.linear(hidden_states).tanh())


class Toy(nn.Module):
    """A model of four blocks; ``decoy`` runs on the embedded tokens before them."""

    def __init__(
        self,
        blocks: nn.Module | None = None,
        *,
        decoy: nn.Module | None = None,
        run: Callable[[nn.Module, Tensor], Any] | None = None,
        step: Callable[[nn.Module, Tensor], Tensor] = lambda block, state: block(state),
    ) -> None:
        super().__init__()
        self.decoy = decoy
        self.layers = blocks if blocks is not None else nn.ModuleList(Block() for _ in range(4))
        self.embeddings = nn.Embedding(TOKENS, WIDTH)
        self._run_decoy = run
        self._step = step

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> Tensor:
        state = self.embeddings(input_ids)
        if self.decoy is not None and self._run_decoy is not None:
            self._run_decoy(self.decoy, state)
        for block in self.layers:
            state = self._step(block, state)
        return state


def test_the_blocks_of_every_family_are_found(family: Family, engine: TransformersEngine) -> None:
    found = find_blocks(engine.model)
    assert found.path == family.path
    assert found.modules == tuple(family.blocks(engine.model))
    assert len(found.modules) == LAYERS
    assert found.hidden_size == HIDDEN


def test_finding_leaves_no_hooks_behind(engine: TransformersEngine) -> None:
    find_blocks(engine.model)
    assert traces_in(engine.model) == []


@pytest.mark.parametrize(
    "wrap",
    [lambda state: state, lambda state: (state, None), lambda state: [state, "cache"]],
    ids=["tensor", "tuple", "list"],
)
def test_blocks_may_return_a_tensor_or_a_tuple_or_a_list(wrap: Callable[[Tensor], Any]) -> None:
    model = Toy(
        nn.ModuleList(Block(wrap) for _ in range(3)),
        step=lambda block, state: block_output(block(state)),
    )
    assert find_blocks(model).path == "layers"


def test_blocks_may_take_the_state_by_keyword() -> None:
    model = Toy(step=lambda block, state: block(hidden_states=state))
    assert find_blocks(model).modules == tuple(model.layers)


def test_a_longer_list_that_is_never_run_is_not_chosen() -> None:
    model = Toy(decoy=nn.ModuleList(Block() for _ in range(9)))
    assert find_blocks(model).path == "layers"


def test_a_longer_list_that_does_not_chain_is_not_chosen() -> None:
    def side_by_side(decoy: nn.Module, state: Tensor) -> None:
        for block in decoy:
            block(state)

    model = Toy(decoy=nn.ModuleList(Block() for _ in range(9)), run=side_by_side)
    assert find_blocks(model).path == "layers"


def test_a_longer_list_that_runs_backwards_is_not_chosen() -> None:
    def backwards(decoy: nn.Module, state: Tensor) -> None:
        for block in reversed(list(decoy)):
            state = block(state)

    model = Toy(decoy=nn.ModuleList(Block() for _ in range(9)), run=backwards)
    assert find_blocks(model).path == "layers"


def test_a_longer_chain_of_another_width_is_not_chosen() -> None:
    def narrow(decoy: nn.Module, state: Tensor) -> None:
        state = state[..., :4]
        for block in decoy:
            state = block(state)

    model = Toy(decoy=nn.ModuleList(Block(width=4) for _ in range(9)), run=narrow)
    assert find_blocks(model).path == "layers"


def test_a_list_whose_members_put_out_flat_tensors_is_not_chosen() -> None:
    def per_channel(decoy: nn.Module, state: Tensor) -> None:
        flat = state.flatten()
        for gate in decoy:
            flat = gate(flat)

    model = Toy(decoy=nn.ModuleList(nn.Tanh() for _ in range(9)), run=per_channel)
    assert find_blocks(model).path == "layers"


def test_a_longer_chain_inside_one_block_is_not_chosen() -> None:
    class Deep(Block):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ModuleList(Block() for _ in range(9))

        def forward(self, hidden_states: Tensor) -> Any:
            state = hidden_states
            for block in self.inner:
                state = block(state)
            return super().forward(hidden_states + state)

    model = Toy(nn.ModuleList([Block(), Deep(), Block()]))
    assert find_blocks(model).path == "layers"


def test_a_model_whose_blocks_do_not_chain_is_refused() -> None:
    model = Toy(step=lambda block, state: 0.5 * block(state))
    with pytest.raises(ModelError, match=r"cannot find the decoder blocks of Toy.*layers \(4\)"):
        find_blocks(model)
    assert traces_in(model) == []


def test_a_model_that_runs_its_blocks_twice_is_refused() -> None:
    model = Toy(step=lambda block, state: block(block(state)))
    with pytest.raises(ModelError, match="cannot find the decoder blocks"):
        find_blocks(model)


def test_a_model_without_lists_is_refused() -> None:
    model = Toy(nn.Sequential(Block(), Block()))
    with pytest.raises(ModelError, match="lists seen: none"):
        find_blocks(model)


def test_a_model_that_does_not_run_on_tokens_alone_is_refused_and_keeps_no_hooks() -> None:
    sizes = {"vocab_size": 20, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    model = T5ForConditionalGeneration(T5Config(**sizes)).eval()
    with pytest.raises(ModelError, match="only decoder-only models"):
        find_blocks(model)
    assert traces_in(model) == []


def test_a_model_with_fewer_token_ids_than_the_probe_is_long_is_probed_all_the_same(
    tiny: Callable[..., TransformersEngine],
) -> None:
    engine = tiny("llama", vocab_size=5, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    assert engine.blocks.path == "model.layers"


@pytest.mark.parametrize("output", [None, "state", (), {"state": torch.zeros(1)}, (None, torch.zeros(1))])
def test_what_is_not_a_block_output_is_refused(output: Any) -> None:
    with pytest.raises(ModelError, match=f"returned {type(output).__name__}"):
        block_output(output)


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_new_state_keeps_what_came_with_the_old_one(kind: type) -> None:
    cache = object()
    output = with_block_output(kind([torch.zeros(1), cache]), torch.ones(1))
    assert type(output) is kind
    assert block_output(output) == torch.ones(1)
    assert output[1] is cache
