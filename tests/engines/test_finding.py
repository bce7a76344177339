"""Finding the decoder blocks of a model from what they do, and proving them by steering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration

from by_hand import traces_in
from tiny_models import HIDDEN, LAYERS, Family
from trimtab.engines import layer_search
from trimtab.engines.layer_search import find_layers
from trimtab.engines.layers import layer_output
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import ModelError

WIDTH = 16
TOKENS = 20


class Block(nn.Module):
    """Residual block; ``wrap`` makes what it returns from the new state."""

    def __init__(self, wrap: Callable[[Tensor], Any] = lambda state: state, *, width: int = WIDTH) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.wrap = wrap

    def forward(self, hidden_states: Tensor) -> Any:
        return self.wrap(hidden_states + self.linear(hidden_states).tanh())


class Toy(nn.Module):
    """Model of four blocks; ``decoy`` runs on the embedded tokens before them."""

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


def test_blocks_of_every_family_are_found(family: Family, engine: TransformersEngine) -> None:
    located = find_layers(engine.model).blocks
    assert located.path == family.path
    assert located.modules == tuple(family.blocks(engine.model))
    assert len(located.modules) == LAYERS
    assert located.hidden_size == HIDDEN


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_find_layers_coarse_rounding_finds_same_layers(family: Family, dtype: torch.dtype) -> None:
    model = family.build().to(dtype)
    located = find_layers(model).blocks
    assert (located.path, len(located), located.causal) == (family.path, LAYERS, True)


def test_finding_leaves_no_hooks_behind(engine: TransformersEngine) -> None:
    find_layers(engine.model)
    assert traces_in(engine.model) == []


@pytest.mark.parametrize(
    "wrap",
    [lambda state: state, lambda state: (state, None), lambda state: [state, "cache"]],
    ids=["tensor", "tuple", "list"],
)
def test_find_layers_accepts_tensor_tuple_or_list_outputs(wrap: Callable[[Tensor], Any]) -> None:
    model = Toy(
        nn.ModuleList(Block(wrap) for _ in range(3)),
        step=lambda block, state: layer_output(block(state)),
    )
    assert find_layers(model).blocks.path == "layers"


def test_find_layers_accepts_state_as_keyword() -> None:
    model = Toy(step=lambda block, state: block(hidden_states=state))
    assert find_layers(model).blocks.modules == tuple(model.layers)


def test_find_layers_ignores_unused_longer_list() -> None:
    model = Toy(decoy=nn.ModuleList(Block() for _ in range(9)))
    assert find_layers(model).blocks.path == "layers"


def test_find_layers_ignores_unchained_longer_list() -> None:
    def side_by_side(decoy: nn.Module, state: Tensor) -> None:
        for block in decoy:
            block(state)

    model = Toy(decoy=nn.ModuleList(Block() for _ in range(9)), run=side_by_side)
    assert find_layers(model).blocks.path == "layers"


def test_find_layers_ignores_reversed_longer_list() -> None:
    def backwards(decoy: nn.Module, state: Tensor) -> None:
        for block in reversed(list(decoy)):
            state = block(state)

    model = Toy(decoy=nn.ModuleList(Block() for _ in range(9)), run=backwards)
    assert find_layers(model).blocks.path == "layers"


def test_longer_chain_of_another_width_is_not_chosen() -> None:
    def narrow(decoy: nn.Module, state: Tensor) -> None:
        state = state[..., :4]
        for block in decoy:
            state = block(state)

    model = Toy(decoy=nn.ModuleList(Block(width=4) for _ in range(9)), run=narrow)
    assert find_layers(model).blocks.path == "layers"


def test_find_layers_ignores_list_with_flat_outputs() -> None:
    def per_channel(decoy: nn.Module, state: Tensor) -> None:
        flat = state.flatten()
        for gate in decoy:
            flat = gate(flat)

    model = Toy(decoy=nn.ModuleList(nn.Tanh() for _ in range(9)), run=per_channel)
    assert find_layers(model).blocks.path == "layers"


def test_longer_chain_inside_one_block_is_not_chosen() -> None:
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
    assert find_layers(model).blocks.path == "layers"


def test_find_layers_refuses_unchained_blocks() -> None:
    model = Toy(step=lambda block, state: 0.5 * block(state))
    with pytest.raises(ModelError, match=r"cannot find the decoder blocks of Toy.*layers \(4\)"):
        find_layers(model)
    assert traces_in(model) == []


def test_find_layers_blocks_run_twice_count_twice() -> None:
    located = find_layers(Toy(step=lambda block, state: block(block(state)))).blocks
    assert located.names == tuple(f"layers.{number}" for number in range(4) for _ in range(2))


def test_model_without_lists_is_refused() -> None:
    model = Toy(nn.Sequential(Block(), Block()))
    with pytest.raises(ModelError, match="lists seen: none"):
        find_layers(model)


def t5() -> T5ForConditionalGeneration:
    sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_decoder_layers": 3}
    return T5ForConditionalGeneration(T5Config(**sizes, num_heads=2)).eval()


def test_find_layers_of_encoder_decoder_takes_the_decoder() -> None:
    model = t5()
    decoder, encoder = find_layers(model).blocks, find_layers(model, encoder=True).blocks
    assert (decoder.path, len(decoder), decoder.causal) == ("decoder.block", 3, True)
    assert (encoder.path, len(encoder), encoder.causal) == ("encoder.block", 2, False)
    assert encoder.body is model.encoder
    assert encoder.encoder
    assert traces_in(model) == []


def test_find_layers_of_a_decoder_has_no_encoder(llama: TransformersEngine) -> None:
    with pytest.raises(ModelError, match="has no encoder beside its decoder"):
        find_layers(llama.model, encoder=True)


def test_find_layers_refuses_a_model_with_other_inputs() -> None:
    class Picture(Toy):
        def forward(self, input_ids: Tensor, pixels: Tensor, use_cache: bool = False) -> Tensor:
            return super().forward(input_ids) + pixels

    model = Picture()
    with pytest.raises(ModelError, match=r"Picture does not run on tokens alone: .*'pixels'"):
        find_layers(model)
    assert traces_in(model) == []


def test_find_layers_with_a_tiny_vocabulary_works(
    tiny: Callable[..., TransformersEngine],
) -> None:
    engine = tiny("llama", vocab_size=5, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    assert engine.blocks.path == "model.layers"


# Proof -------------------------------------------------------------------------------------------------------------


def passes_of(model: nn.Module) -> list[int]:
    """Return a list that receives the number of tokens of every later pass."""
    sizes: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, __: sizes.append(given[0].numel()))
    return sizes


def test_find_layers_runs_three_passes_of_six_tokens(tiny: Callable[..., Any]) -> None:
    model = tiny("llama").model
    sizes = passes_of(model)
    located = find_layers(model)
    assert sizes == [6, 6, 6]
    assert located.proof.passes == 2
    assert located.proof.moved > 0.01


def test_find_layers_same_config_reuses_proof(tiny: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_search, "PROVEN", {})
    first = tiny("llama").model
    located = find_layers(first)

    def no_pass(*_: Any, **__: Any) -> None:
        pytest.fail("the model ran again")

    second = tiny("llama", seed=1).model
    other = tiny("llama", num_hidden_layers=2).model
    with monkeypatch.context() as patch:
        patch.setattr(layer_search, "watched_pass", no_pass)
        again = find_layers(second)
    assert again.proof == located.proof
    assert again.blocks.modules == tuple(second.model.layers)
    assert again.blocks.body is second.model
    assert len(find_layers(other).blocks) == 2


def test_find_layers_of_a_changed_model_searches_again(tiny: Callable[..., Any]) -> None:
    model = tiny("llama").model
    find_layers(model)
    for block in model.model.layers:
        block.forward = lambda hidden_states, **_: hidden_states.mean() + torch.zeros_like(hidden_states)
    with pytest.raises(ModelError, match=r"model.layers: model.layers.1 ignores what it is given|does not depend"):
        find_layers(model)


def test_find_layers_repeated_block_counts_each_run() -> None:
    def again(block: nn.Module, state: Tensor) -> Tensor:
        for _ in range(5):
            state = block(state)
        return state

    class Deep(Block):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH))

    model = Toy(nn.ModuleList([Deep()]), step=again)
    located = find_layers(model).blocks
    assert located.names == ("layers.0",) * 5
    assert located.repeated


def test_find_layers_refuses_blocks_with_a_side_branch() -> None:
    class Forked(Toy):
        def forward(self, input_ids: Tensor, use_cache: bool = False) -> Tensor:
            return super().forward(input_ids) + 0.1 * self.embeddings(input_ids).flip(-1)

    with pytest.raises(ModelError, match="does not depend on the last of them alone"):
        find_layers(Forked())


def test_blocks_whose_hooks_are_ignored_are_refused() -> None:
    model = Toy(step=lambda block, state: block.forward(state))
    with pytest.raises(ModelError, match="cannot find the decoder blocks of Toy"):
        find_layers(model)


def test_find_layers_random_model_is_refused() -> None:
    class Restless(Toy):
        def forward(self, input_ids: Tensor, use_cache: bool = False) -> Tensor:
            return super().forward(input_ids) * (1 + torch.rand(1))

    with pytest.raises(ModelError, match=r"cannot be proven: layers: the result (is not the same|does not hang)"):
        find_layers(Restless())
