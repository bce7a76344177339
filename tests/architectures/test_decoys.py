"""Models that look like something else: the right blocks are found or the model is refused, never steered in vain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from architectures.toys import WIDTH, Block, Deaf, Named, Parallel, PostNorm, Toy, adding, listed, logits_of, through
from trimtab.engines.layer_search import find_layers
from trimtab.engines.layers import DecoderLayers
from trimtab.engines.transformers.forward.steer import SteeringHooks
from trimtab.errors import ModelError


def vector(seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32))


def steered_logits(model: nn.Module, blocks: DecoderLayers, layer: int) -> Tensor:
    with SteeringHooks(blocks, {layer: vector().numpy()}, sink=False) as hooks:
        logits = logits_of(model)
    hooks.check()
    return logits


def assert_steered_as_by_hand(model: Toy, modules: list[nn.Module]) -> None:
    """``modules`` are the layers in order; one may stand there several times."""
    blocks = find_layers(model).blocks
    assert list(blocks.modules) == modules
    unsteered = logits_of(model)
    for layer, module in enumerate(modules):
        with adding({module: {modules[:layer].count(module): vector()}}):
            wanted = logits_of(model)
        steered = steered_logits(model, blocks, layer)
        torch.testing.assert_close(steered, wanted)
        assert not torch.allclose(steered, unsteered, atol=1e-3)
    assert torch.equal(logits_of(model), unsteered)


# Other lists of blocks ---------------------------------------------------------------------------------------------


def _tower_before(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
    picture = torch.linspace(-1, 1, state[0].numel()).reshape(state[:1].shape).expand_as(state)
    return through(toy.layers, state + through(toy.tower, picture))


def _reading_tower_before(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
    return through(toy.layers, state + through(toy.tower, toy.tower_embed(tokens)))


def _tower_after_in_vain(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
    state = through(toy.layers, state)
    through(toy.tower, state)
    return state


def _reading_tower_after_in_vain(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
    state = through(toy.layers, state)
    through(toy.tower, toy.tower_embed(tokens))
    return state


def _only_layers(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
    return through(toy.layers, state)


@pytest.mark.parametrize(
    "body",
    [_tower_before, _reading_tower_before, _tower_after_in_vain, _reading_tower_after_in_vain, _only_layers],
    ids=lambda body: body.__name__.strip("_"),
)
def test_decoy_longer_list_of_same_width_is_not_chosen(body: Any):
    model = Toy(body, tower=listed(6), layers=listed(3))
    assert_steered_as_by_hand(model, list(model.layers))


def test_consecutive_lists_equal_manual_steering():
    model = Toy(lambda toy, state, _: through(toy.second, through(toy.first, state)), first=listed(5), second=listed(2))
    blocks = find_layers(model).blocks
    assert_steered_as_by_hand(model, list(blocks.modules))
    assert blocks.modules[-1] is model.second[-1]


# Ways past the blocks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1, 3], ids=["first", "middle", "last"])
def test_block_ignoring_input_refused_or_equals_manual(which: int):
    layers = listed(4)
    layers[which] = Deaf()

    def body(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
        toy.layers[which].heard = state
        return through(toy.layers, state)

    model = Toy(body, layers=layers)
    if which == 0:  # what it ignores are the embeddings alone; all that is steered comes behind it
        assert_steered_as_by_hand(model, list(layers))
        return
    with pytest.raises(ModelError, match=r"ignores what it is given|no list of modules"):
        find_layers(model)


def _beside(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
    return through(toy.layers, state) + toy.tower_embed(tokens)


def _residual_from_the_start(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
    return through(toy.layers, state) + state


def _all_layers_averaged(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
    states = [state]
    for block in toy.layers:
        states.append(block(states[-1]))
    return torch.stack(states).mean(0)


@pytest.mark.parametrize(
    "body", [_beside, _residual_from_the_start, _all_layers_averaged], ids=lambda body: body.__name__.strip("_")
)
def test_blocks_with_parallel_path_are_refused(body: Any):
    with pytest.raises(ModelError, match="does not depend on the last of them alone"):
        find_layers(Toy(body, layers=listed(4)))


def test_stream_scaled_between_blocks_is_refused():
    def body(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
        for block in toy.layers:
            state = block(state) * 0.7
        return state

    with pytest.raises(ModelError):
        find_layers(Toy(body, layers=listed(4)))


def test_blocks_bypassing_hooks_are_refused():
    def body(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
        for block in toy.layers:
            state = block.forward(state)
        return state

    with pytest.raises(ModelError):
        find_layers(Toy(body, layers=listed(4)))


@pytest.mark.parametrize("which", [0, 2, 3], ids=["first", "middle", "last"])
def test_single_block_bypassing_hooks_is_refused_or_works(which: int):
    def body(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
        for number, block in enumerate(toy.layers):
            state = block.forward(state) if number == which else block(state)
        return state

    model = Toy(body, layers=listed(4))
    try:
        blocks = find_layers(model).blocks
    except ModelError:
        return
    assert_steered_as_by_hand(model, list(blocks.modules))


# Blocks that run several times -------------------------------------------------------------------------------------


def test_list_run_twice_has_twice_as_many_layers():
    model = Toy(lambda toy, state, _: through([*toy.layers, *toy.layers], state), layers=listed(3))
    assert_steered_as_by_hand(model, [*model.layers, *model.layers])


def test_block_run_six_times_is_six_layers():
    model = Toy(lambda toy, state, _: through([toy.block] * 6, state), block=Block())
    assert len(find_layers(model).blocks) == 6
    assert_steered_as_by_hand(model, [model.block] * 6)


def test_block_listed_six_times_is_six_layers():
    model = Toy(lambda toy, state, _: through(toy.layers, state), layers=nn.ModuleList([Block()] * 6))
    assert_steered_as_by_hand(model, list(model.layers))


def test_shared_block_layers_steer_equally():
    model = Toy(lambda toy, state, _: through([toy.block] * 6, state), block=Block())
    blocks = find_layers(model).blocks
    first = steered_logits(model, blocks, 2)
    with SteeringHooks(blocks, {2: vector().numpy()}, sink=False) as hooks:
        assert torch.equal(logits_of(model), first)
        assert torch.equal(logits_of(model), first)
    hooks.check()


# Kinds of blocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PostNorm, Parallel])
def test_block_shape_does_not_matter(kind: Callable[[], nn.Module]):
    model = Toy(_only_layers, layers=listed(4, kind))
    assert_steered_as_by_hand(model, list(model.layers))


@pytest.mark.parametrize(
    "wrap",
    [lambda s: (s,), lambda s: (s, None), lambda s: (s, s.sum()), lambda s: [s, None], lambda s: Named(s, None)],
    ids=["tuple of one", "tuple", "tuple of tensors", "list", "named tuple"],
)
def test_block_extra_outputs_do_not_matter(wrap: Callable[[Tensor], Any]):
    def body(toy: Any, state: Tensor, tokens: Tensor) -> Tensor:
        for block in toy.layers:
            state = block(state)[0]
        return state

    model = Toy(body, layers=listed(4, lambda: Block(wrap)))
    assert_steered_as_by_hand(model, list(model.layers))
