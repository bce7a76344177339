"""Steering in the forward pass: exact, counted, and gone afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from by_hand import digest_of, logits_of, steering_by_hand, traces_in
from tiny_models import HIDDEN, LAYERS, PAD, Family, vector_for
from trimtab.engines import ForcedItem
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.forward.steer import SteeringHooks
from trimtab.errors import SteeringError, VectorMismatchError
from trimtab.steering import Steering, Term

TEXT = "The lighthouse keeper counted the ships"
ITEM = ForcedItem((1, 2, 3), ((4, 5), (6,)), reference=0)


def doings(engine: TransformersEngine) -> dict[str, Callable[[], Any]]:
    """Everything that an engine does with hooks."""
    vector = vector_for(engine, layers=[2, 3])
    forcing = engine.teacher_forcing([ITEM])

    def steered() -> None:
        with engine.steered([(vector, 1)]):
            engine.model(input_ids=torch.tensor([[1, 2, 3]]))

    return {
        "steered": steered,
        "generate": lambda: engine.generate("Hello", steering=[(vector, 1)], max_new_tokens=3, measure_kl=True),
        "hidden_states": lambda: engine.hidden_states(["Hello"]),
        "teacher_forcing": lambda: engine.teacher_forcing([ITEM]),
        "measure": lambda: forcing.measure(vector.addition(1.0)),
    }


@contextmanager
def bypassed(block: nn.Module, parent: nn.Module, name: str) -> Iterator[None]:
    """Something that runs a block's code without running its hooks, as a compiled model may."""

    class Bypass(nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return block.forward(*args, **kwargs)

    setattr(parent, name, Bypass())
    try:
        yield
    finally:
        setattr(parent, name, block)


# Exactness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "strength"),
    [([0], 1.0), ([13], -1.0), ([29], 2.5), ([10, 11, 12, 20], 0.35), ([0, 15, 29], -1.7)],
)
def test_steered_logits_of_default_model_equal_reference(
    smollm2: TransformersEngine, layers: list[int], strength: float
) -> None:
    tokens = smollm2.encode(TEXT)
    vector = vector_for(smollm2, layers=layers)
    with steering_by_hand(smollm2.model.model.layers, (vector, strength)):
        expected = logits_of(smollm2.model, tokens)
    with smollm2.steered([(vector, strength)]):
        steered = logits_of(smollm2.model, tokens)
    torch.testing.assert_close(steered, expected, rtol=0, atol=1e-4)
    assert (steered - logits_of(smollm2.model, tokens)).abs().max() > 0.5


@pytest.mark.parametrize(("layers", "strength"), [([0], 1.0), ([3], -0.5), ([1, 2], 3.0), (range(LAYERS), -2.0)])
def test_steered_logits_of_every_family_equal_reference(
    family: Family, engine: TransformersEngine, layers: list[int], strength: float
) -> None:
    tokens = engine.encode(TEXT)
    vector = vector_for(engine, layers=layers)
    with steering_by_hand(family.blocks(engine.model), (vector, strength)):
        expected = logits_of(engine.model, tokens)
    with engine.steered([(vector, strength)]):
        steered = logits_of(engine.model, tokens)
    torch.testing.assert_close(steered, expected, rtol=0, atol=1e-4)
    assert (steered - logits_of(engine.model, tokens)).abs().max() > 1e-2


def test_several_terms_add_up(llama: TransformersEngine) -> None:
    terms = [(vector_for(llama, seed=1, layers=[0, 2]), 0.7), (vector_for(llama, seed=2, layers=[2, 3]), -1.2)]
    tokens = llama.encode(TEXT)
    with steering_by_hand(llama.model.model.layers, *terms):
        expected = logits_of(llama.model, tokens)
    with llama.steered(terms):
        torch.testing.assert_close(logits_of(llama.model, tokens), expected, rtol=0, atol=1e-5)


def test_coefficient_needs_no_calibration(llama: TransformersEngine) -> None:
    calibrated = vector_for(llama, size=0.4)
    bare = vector_for(llama, size=1.0)
    tokens = llama.encode(TEXT)
    with llama.steered([(calibrated, 1.5)]):
        expected = logits_of(llama.model, tokens)
    with llama.steered(Steering((Term(bare, coefficient=0.6),))):
        torch.testing.assert_close(logits_of(llama.model, tokens), expected, rtol=0, atol=1e-5)


def test_nested_scopes_add_up(llama: TransformersEngine) -> None:
    outer, inner = vector_for(llama, seed=1), vector_for(llama, seed=2, layers=[1])
    tokens = llama.encode(TEXT)
    with steering_by_hand(llama.model.model.layers, (outer, 1), (inner, -1)):
        both = logits_of(llama.model, tokens)
    with steering_by_hand(llama.model.model.layers, (outer, 1)):
        one = logits_of(llama.model, tokens)
    with llama.steered([(outer, 1)]):
        with llama.steered([(inner, -1)]):
            torch.testing.assert_close(logits_of(llama.model, tokens), both, rtol=0, atol=1e-5)
        torch.testing.assert_close(logits_of(llama.model, tokens), one, rtol=0, atol=1e-5)


def test_generate_inside_steered_adds_its_steering(llama: TransformersEngine) -> None:
    outer, inner = (
        vector_for(llama, seed=1, layers=[0], name="outer"),
        vector_for(llama, seed=2, layers=[2], name="inner"),
    )
    together = llama.generate("Hello", steering=[(outer, 2), (inner, -2)], max_new_tokens=12)
    with llama.steered([(outer, 2)]):
        nested = llama.generate("Hello", steering=[(inner, -2)], max_new_tokens=12)
        alone = llama.generate("Hello", max_new_tokens=12)
    assert nested.tokens == together.tokens
    assert nested.receipt.tokens == together.receipt.tokens
    shifts = [[term.shift for term in done.receipt.terms] for done in (nested, together)]
    assert shifts[0] == pytest.approx(shifts[1], rel=1e-4)
    assert nested.receipt.steering == "outer:2 + inner:-2"
    assert nested.receipt.layers == (0, 2)
    assert alone.tokens == llama.generate("Hello", steering=[(outer, 2)], max_new_tokens=12).tokens


def test_hidden_states_inside_scope_are_steered_ones(llama: TransformersEngine) -> None:
    vector = vector_for(llama, layers=[1])
    plain = llama.hidden_states([TEXT])[0]
    with llama.steered([(vector, 1)]):
        steered = llama.hidden_states([TEXT])[0]
    np.testing.assert_array_equal(steered[0], plain[0])
    np.testing.assert_allclose(steered[1], plain[1] + vector.addition(1.0)[1], rtol=1e-5, atol=1e-5)
    assert np.abs(steered[2] - plain[2]).max() > 0.01


# No steering -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["empty", "zero strength", "cancelling terms", "cancelled mix"])
def test_empty_steering_is_bit_for_bit_unsteered(smollm2: TransformersEngine, which: str) -> None:
    vector = vector_for(smollm2, ratio=1.0)
    steering = {
        "empty": [],
        "zero strength": [(vector, 0.0)],
        "cancelling terms": [(vector, 1), (vector, -1)],
        "cancelled mix": [(vector + (-vector), 1.0)],
    }[which]
    tokens = smollm2.encode(TEXT)
    with smollm2.steered(steering):
        steered = logits_of(smollm2.model, tokens)
    assert torch.equal(steered, logits_of(smollm2.model, tokens))
    completion = smollm2.generate("Hello", steering=steering, max_new_tokens=3)
    assert completion.tokens == smollm2.generate("Hello", max_new_tokens=3).tokens
    if which == "cancelling terms":  # each of them did what it says
        assert {term.tokens for term in completion.receipt.terms} == {completion.receipt.tokens}
    else:
        assert (completion.receipt.layers, completion.receipt.tokens) == ((), 0)


# Nothing is left behind --------------------------------------------------------------------------------------------


def test_default_model_is_left_unchanged(smollm2: TransformersEngine) -> None:
    before = digest_of(smollm2.model)
    settings = smollm2.model.generation_config.to_dict()
    for do in doings(smollm2).values():
        do()
    assert traces_in(smollm2.model) == []
    assert digest_of(smollm2.model) == before
    assert smollm2.model.generation_config.to_dict() == settings


def test_families_are_left_unchanged(engine: TransformersEngine) -> None:
    before = digest_of(engine.model)
    for do in doings(engine).values():
        do()
        assert traces_in(engine.model) == []
    assert digest_of(engine.model) == before


def test_exception_inside_steered_leaves_no_hooks(llama: TransformersEngine) -> None:
    tokens = llama.encode(TEXT)
    plain = logits_of(llama.model, tokens)
    before = digest_of(llama.model)
    outer, inner = [(vector_for(llama), 1)], [(vector_for(llama, seed=1), 1)]
    with pytest.raises(KeyboardInterrupt), llama.steered(outer), llama.steered(inner):
        raise KeyboardInterrupt
    assert traces_in(llama.model) == []
    assert digest_of(llama.model) == before
    assert torch.equal(logits_of(llama.model, tokens), plain)
    assert llama.generate("Hello", max_new_tokens=1).receipt.steering == "none"


@pytest.mark.parametrize("what", ["steered", "generate", "hidden_states", "teacher_forcing", "measure"])
@pytest.mark.parametrize("where", ["model.layers.3.mlp", "model.norm"])
def test_exception_in_the_model_leaves_no_hooks(tiny: Callable[..., TransformersEngine], what: str, where: str) -> None:
    if (what, where) == ("hidden_states", "model.norm"):
        pytest.skip("what comes after the last block is not run")
    engine = tiny("llama")
    do = doings(engine)[what]
    before = digest_of(engine.model)
    settings = engine.model.generation_config.to_dict()

    def fail(*args: Any) -> None:
        raise FloatingPointError("the model broke")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.model.get_submodule(where), "forward", fail)
        with pytest.raises(FloatingPointError):
            do()
    engine.model.get_submodule(where).__dict__.pop("forward", None)  # what monkeypatch puts back
    assert traces_in(engine.model) == []
    assert digest_of(engine.model) == before
    assert engine.model.generation_config.to_dict() == settings
    do()


# What was asked for is what was done -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["steered", "generate", "measure"])
def test_layer_whose_hooks_are_ignored_is_error(tiny: Callable[..., TransformersEngine], what: str) -> None:
    engine = tiny("llama")
    do = doings(engine)[what]
    layers = engine.model.model.layers
    complaint = r"layer 3 \(model.layers.3\) steered 0 of \d+ tokens; load the model"
    with bypassed(layers[3], layers, "3"), pytest.raises(SteeringError, match=complaint):
        do()
    assert traces_in(engine.model) == []
    do()


def test_layer_ignoring_hooks_sometimes_is_error(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama")
    layers = engine.model.model.layers

    def read_twice() -> None:
        with engine.steered([(vector_for(engine, layers=[0, 1]), 1)]):
            engine.model(input_ids=torch.tensor([[1, 2, 3]]))
            with bypassed(layers[1], layers, "1"):
                engine.model(input_ids=torch.tensor([[1, 2, 3, 4, 5]]))

    with pytest.raises(SteeringError, match=r"layer 1 .* steered 3 of 8 tokens"):
        read_twice()


def test_failed_pass_is_not_counted(tiny: Callable[..., TransformersEngine]) -> None:
    """Neither the last pass nor an earlier one; and what is ignored in another pass is still seen."""
    engine = tiny("llama")
    layers = engine.model.model.layers
    vector = vector_for(engine, layers=[0, 3])
    tokens = torch.tensor([[1, 2, 3]])

    def broken(*_: Any) -> None:
        raise RuntimeError("no memory")

    def break_off() -> None:
        handle = layers[2].register_forward_pre_hook(broken)
        with pytest.raises(RuntimeError, match="no memory"):
            engine.model(input_ids=tokens)
        handle.remove()

    with engine.steered([(vector, 1)]):
        break_off()
        break_off()
        engine.model(input_ids=tokens)
        break_off()

    def ignore_one() -> None:
        with engine.steered([(vector, 1)]):
            with bypassed(layers[3], layers, "3"):
                engine.model(input_ids=tokens)
            break_off()

    with pytest.raises(SteeringError, match=r"layer 3 .* steered 0 of 3 tokens"):
        ignore_one()
    assert traces_in(engine.model) == []


def test_layer_with_too_many_tokens_is_an_error(llama: TransformersEngine) -> None:
    state = torch.randn(1, 2, HIDDEN)
    rope = llama.model.model.rotary_emb(state, torch.arange(2)[None])
    scope = llama.steered([(vector_for(llama, layers=[1]), 1)])
    with pytest.raises(SteeringError, match="steered 2 of 0 tokens"), scope:
        llama.model.model.layers[1](state, position_embeddings=rope)


def test_addition_below_rounding_is_an_error(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama", dtype=torch.bfloat16)
    vector = vector_for(engine, layers=[2])
    complaint = r"layer 2 is too small to move the hidden states in torch.bfloat16"
    with pytest.raises(SteeringError, match=complaint):
        engine.generate("Hello", steering=[(vector, 1e-6)])
    with pytest.raises(SteeringError, match=complaint), engine.steered([(vector, 1e-6)]):
        engine.model(input_ids=torch.tensor([[1, 2, 3]]))
    assert traces_in(engine.model) == []
    assert engine.generate("Hello", steering=[(vector, 1.0)], max_new_tokens=2).receipt.layers == (2,)


def test_vector_of_another_model_sets_no_hooks(
    llama: TransformersEngine, tiny: Callable[..., TransformersEngine]
) -> None:
    stranger = vector_for(tiny("llama", seed=1))
    with pytest.raises(VectorMismatchError), llama.steered([(stranger, 1)]):
        pytest.fail("the scope was entered")
    assert traces_in(llama.model) == []


@pytest.mark.parametrize("use_cache", [True, False])
def test_hooks_count_tokens_at_each_layer(llama: TransformersEngine, use_cache: bool) -> None:
    added = {layer: np.ones(HIDDEN, dtype=np.float32) for layer in (0, 3)}
    with SteeringHooks(llama.blocks, added, sink=True) as hooks:
        llama.model(input_ids=torch.ones(5, 7, dtype=torch.long), use_cache=use_cache)
        llama.model(input_ids=torch.ones(2, 3, dtype=torch.long), use_cache=use_cache)
    hooks.check()
    assert hooks.entered == 5 * 7 + 2 * 3
    assert hooks.seen == {0: hooks.entered, 3: hooks.entered}
    assert hooks.plan.layers == (0, 3)


@pytest.mark.parametrize("sink", [True, False])
def test_hooks_skip_left_padding_and_attention_sinks(engine: TransformersEngine, sink: bool) -> None:
    """Seen at the last layer, whose output nothing of this pass depends on."""
    ids = torch.tensor([[PAD, PAD, PAD, 1, 2], [PAD, 3, 4, 5, 6], [7, 8, 9, 10, 11]])
    mask = (ids != PAD).long()
    last = LAYERS - 1
    added = np.linspace(1, 2, HIDDEN, dtype=np.float32)

    def states() -> torch.Tensor:
        seen = []
        handle = engine.blocks.modules[last].register_forward_hook(
            lambda _, __, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        with torch.no_grad():
            engine.model(input_ids=ids, attention_mask=mask, use_cache=False)
        handle.remove()
        return seen[0]

    plain = states()
    with SteeringHooks(engine.blocks, {last: added}, sink=sink) as hooks:
        padded = states()
    hooks.check()
    touched = mask.clone()
    if sink:
        touched[[0, 1, 2], [3, 1, 0]] = 0  # the first token behind the padding
    expected = torch.from_numpy(added) * touched[..., None]
    torch.testing.assert_close(padded - plain, expected, rtol=0, atol=1e-4)
    assert torch.equal(padded[touched == 0], plain[touched == 0])


def test_hooks_steer_the_first_token_after_a_cache(family: Family, engine: TransformersEngine) -> None:
    """It is the first of its pass, but not of its text."""
    tokens = engine.encode(TEXT)
    vector = vector_for(engine, layers=[1])
    with steering_by_hand(family.blocks(engine.model), (vector, 1.0)):
        expected = logits_of(engine.model, tokens)
    ids = torch.tensor([tokens])
    with engine.steered([(vector, 1.0)]), torch.no_grad():
        begun = engine.model(input_ids=ids[:, :5], use_cache=True)
        gone_on = engine.model(input_ids=ids[:, 5:], past_key_values=begun.past_key_values, use_cache=True)
    found = torch.cat([begun.logits[0], gone_on.logits[0]])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_text_of_one_token_is_not_steered(llama: TransformersEngine) -> None:
    plain = logits_of(llama.model, [5])
    with llama.steered([(vector_for(llama), 3.0)]):
        assert torch.equal(logits_of(llama.model, [5]), plain)


def test_hook_does_not_change_its_vector(llama: TransformersEngine) -> None:
    vector = vector_for(llama)
    before = {layer: direction.copy() for layer, direction in vector.directions.items()}
    additions = vector.addition(1.0)
    kept = {layer: added.copy() for layer, added in additions.items()}
    with SteeringHooks(llama.blocks, additions, sink=True):
        logits_of(llama.model, [1, 2, 3])
    assert all(np.array_equal(vector.directions[layer], before[layer]) for layer in before)
    assert all(np.array_equal(additions[layer], kept[layer]) for layer in kept)
