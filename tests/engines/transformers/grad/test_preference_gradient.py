"""Gradients of preference and KL with respect to what is added to hidden states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from trimtab.engines import ForcedItem
from trimtab.engines.protocol import Preference
from trimtab.engines.transformers.grad.additive import AdditivePasses
from trimtab.engines.transformers.grad.objectives import TreePreferenceGradients
from trimtab.errors import ModelError

PRICE = 0.7


def items(engine):
    texts = [("Hello there", " fine day", " sad day, it is", " a day"), ("What?", " no", " yes I do", " perhaps not")]
    return [Preference(*(engine.encode(text) for text in row)) for row in texts]


def pushes(engine, *, scale=0.3, seed=0):
    generator = np.random.default_rng(seed)
    size = engine.info.hidden_size
    return {layer: (scale * generator.standard_normal(size)).astype(np.float32) for layer in range(engine.info.layers)}


def slow_value(engine, given, additions):
    """The same by teacher forcing, one sign after the other."""
    forced = engine.teacher_forcing(
        [ForcedItem(item.prompt, (item.positive, item.negative, item.answer), reference=2) for item in given]
    )
    preference = kl = 0.0
    for sign in (1.0, -1.0):
        scores = forced.measure({layer: np.float32(sign) * added for layer, added in additions.items()})
        means = np.array([logprob / count for logprob, count in zip(scores.logprob, scores.tokens, strict=True)])
        preference += sign * float((means[:, 0] - means[:, 1]).mean()) / 2
        kl += float((scores.kl / scores.kl_tokens).mean()) / 2
    return preference, kl


def test_preference_equals_teacher_forcing(engine):
    given, additions = items(engine), pushes(engine)
    found = engine.gradients.preference_gradients(given).at(additions, [0, 1], price=PRICE)
    preference, kl = slow_value(engine, given, additions)
    assert found.preference == pytest.approx(preference, abs=2e-5)
    assert found.kl == pytest.approx(kl, abs=2e-5)


@pytest.mark.parametrize("room", [1, 40, 512])
def test_preference_shared_prefixes_change_nothing(llama, room):
    given, additions = items(llama), pushes(llama)
    given = [*given, replace(given[0], positive=given[1].answer), replace(given[1], prompt=given[0].prompt)]
    separate, shared = (
        TreePreferenceGradients(AdditivePasses(llama.model, llama.blocks, sink=True, shared_tokens=tokens), given)
        for tokens in (None, room)
    )
    expected, found = (slopes.at(additions, [2, 0, 3, 1], price=PRICE) for slopes in (separate, shared))
    assert found.preference == pytest.approx(expected.preference, abs=1e-6)
    assert found.kl == pytest.approx(expected.kl, abs=1e-6)
    for layer, gradient in expected.gradient.items():
        assert np.allclose(found.gradient[layer], gradient, atol=1e-6)


def test_preference_out_of_memory_goes_one_by_one(llama, monkeypatch):
    given, additions = items(llama), pushes(llama)
    slopes = TreePreferenceGradients(AdditivePasses(llama.model, llama.blocks, sink=True, shared_tokens=512), given)
    expected = slopes.at(additions, [0, 1], price=PRICE)
    part = TreePreferenceGradients._part

    def little(self, group, *arguments, **options):
        if len(group) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return part(self, group, *arguments, **options)

    monkeypatch.setattr(TreePreferenceGradients, "_part", little)
    most = 1
    found = slopes.at(additions, [0, 1], price=PRICE)
    assert found.preference == pytest.approx(expected.preference, abs=1e-6)
    assert np.allclose(found.gradient[1], expected.gradient[1], atol=1e-6)
    most = 0
    with pytest.raises(ModelError, match=r"memory does not suffice .*refine=0"):
        slopes.at(additions, [0, 1], price=PRICE)


def test_preference_without_gradients_is_an_error(llama, monkeypatch):
    slopes = llama.gradients.preference_gradients(items(llama))

    def cut(self, *arguments, **options):
        return [[logprobs.detach() for logprobs in row] for row in found(self, *arguments, **options)]

    found = AdditivePasses.logprobs
    monkeypatch.setattr(AdditivePasses, "logprobs", cut)
    with pytest.raises(ModelError, match="no gradients: element 0 of tensors does not require grad"):
        slopes.at(pushes(llama), [0, 1], price=PRICE)


def test_preference_without_tree_attention_uses_rows(tiny):
    recurrent = tiny("mamba", seed=2)
    given, additions = items(recurrent), pushes(recurrent)
    slopes = recurrent.gradients.preference_gradients(given)
    preference, kl = slow_value(recurrent, given, additions)
    found = slopes.at(additions, [0, 1], price=PRICE)
    assert found.preference == pytest.approx(preference, abs=2e-5)
    assert found.kl == pytest.approx(kl, abs=2e-5)


def test_preference_gradient_equals_finite_differences(engine):
    if "Moe" in engine.info.architecture:
        pytest.skip("a router that turns to another expert makes a jump, which has no slope")
    slopes, additions = engine.gradients.preference_gradients(items(engine)), pushes(engine)
    found = slopes.at(additions, [0, 1], price=PRICE)
    way = pushes(engine, scale=1.0, seed=1)
    step = 2e-3

    def value(sign):
        moved = {layer: (additions[layer] + sign * step * way[layer]).astype(np.float32) for layer in additions}
        at = slopes.at(moved, [0, 1], price=PRICE)
        return at.preference - PRICE * at.kl

    slope = sum(float(found.gradient[layer] @ way[layer]) for layer in additions)
    assert slope == pytest.approx((value(1) - value(-1)) / (2 * step), rel=2e-2, abs=1e-3)


def test_preference_is_independent_of_other_questions(llama):
    engine = llama
    slopes, additions = engine.gradients.preference_gradients(items(engine)), pushes(engine)
    alone = [slopes.at(additions, [n], price=PRICE) for n in (0, 1)]
    both = slopes.at(additions, [0, 1], price=PRICE)
    assert both.preference == pytest.approx((alone[0].preference + alone[1].preference) / 2, abs=1e-5)
    assert np.allclose(both.gradient[0], (alone[0].gradient[0] + alone[1].gradient[0]) / 2, atol=1e-5)


def test_preference_zero_addition_leaves_model_unchanged(llama):
    engine = llama
    weights = {name: weight.clone() for name, weight in engine.model.named_parameters()}
    wanted = {name: weight.requires_grad for name, weight in engine.model.named_parameters()}
    nothing = {layer: np.zeros(engine.info.hidden_size, np.float32) for layer in range(engine.info.layers)}
    found = engine.gradients.preference_gradients(items(engine)).at(nothing, [0, 1], price=PRICE)
    assert found.kl == pytest.approx(0.0, abs=1e-6)
    assert found.preference == pytest.approx(0.0, abs=1e-6)
    for name, weight in engine.model.named_parameters():
        assert weight.equal(weights[name])
        assert weight.requires_grad == wanted[name]
        assert weight.grad is None


def test_preference_bf16_gradient_points_the_same_way(llama):
    given, additions = items(llama), pushes(llama)
    exact = llama.gradients.preference_gradients(given).at(additions, [0, 1], price=PRICE)
    hasty = llama.gradients.preference_gradients(given, bf16=True).at(additions, [0, 1], price=PRICE)
    for layer, slope in exact.gradient.items():
        other = hasty.gradient[layer]
        assert float(slope @ other) > 0.98 * float(np.linalg.norm(slope) * np.linalg.norm(other))


def test_preference_gradient_at_zero_needs_one_sign(llama):
    engine, given = llama, items(llama)
    layers = range(engine.info.layers)
    nothing = {layer: np.zeros(engine.info.hidden_size, np.float32) for layer in layers}
    little = {layer: np.full(engine.info.hidden_size, 1e-5, np.float32) for layer in layers}
    slopes = engine.gradients.preference_gradients(given)
    for price in (0.0, PRICE):
        one, both = (slopes.at(added, [0, 1], price=price) for added in (nothing, little))
        for layer in layers:
            assert np.abs(one.gradient[layer]).max() > 0
            assert np.allclose(one.gradient[layer], both.gradient[layer], rtol=1e-3, atol=1e-6)


def test_preference_swapped_answers_flip_the_gradient(llama):
    engine = llama
    given, additions = items(engine), pushes(engine)
    turned = [replace(item, positive=item.negative, negative=item.positive) for item in given]
    one = engine.gradients.preference_gradients(given).at(additions, [0, 1], price=0.0)
    other = engine.gradients.preference_gradients(turned).at(additions, [0, 1], price=0.0)
    assert other.preference == pytest.approx(-one.preference, abs=1e-6)
    assert np.allclose(other.gradient[0], -one.gradient[0], atol=1e-6)
