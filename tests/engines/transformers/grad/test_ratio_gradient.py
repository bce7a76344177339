"""Gradients of the expected persona ratio and KL with respect to what is added to hidden states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from trimtab.engines.protocol import PersonaContrast
from trimtab.engines.transformers.grad import objectives
from trimtab.engines.transformers.grad.additive import AdditivePasses
from trimtab.engines.transformers.grad.objectives import TreeRatioGradients
from trimtab.errors import ModelError
from trimtab.steering import Steering, Term
from trimtab.vectors import ControlVector

PRICES = {"+": 0.7, "-": 0.3}
FACTORS = {"+": 1.0, "-": 0.8}


def items(engine):
    texts = [
        ("Hello there", "Be glad. Hello there", "Be sad. Hello there", (" a day", " fine day", " sad day, it is")),
        ("What?", "Agree. What?", "Disagree. What?", (" perhaps not", " no")),
    ]
    return [
        PersonaContrast(
            *(engine.encode(text) for text in texts[:3]), answers=tuple(engine.encode(answer) for answer in texts[3])
        )
        for texts in texts
    ]


def pushes(engine, *, scale=0.3, seed=0):
    generator = np.random.default_rng(seed)
    size = engine.info.hidden_size
    return {layer: (scale * generator.standard_normal(size)).astype(np.float32) for layer in range(engine.info.layers)}


def gradients_of(engine, given, **options):
    return engine.gradients.ratio_gradients(given, **options)


def at(slopes, additions, numbers=(0, 1), *, factors=FACTORS, prices=PRICES):
    return slopes.at(additions, list(numbers), factors=factors, prices=prices)


def steering(engine, additions, coefficient):
    lengths = {layer: float(np.linalg.norm(added)) for layer, added in additions.items()}
    vector = ControlVector(
        model=engine.info,
        directions={layer: (added / lengths[layer]).astype(np.float32) for layer, added in additions.items()},
        norms=dict.fromkeys(additions, 1.0),
        weights=lengths,
    )
    return Steering((Term(vector, coefficient=coefficient),))


def slow_value(engine, given, additions):
    """Return the same from whole tables, one answer after the other."""
    ratio, kl = {}, {}
    for key, sign in (("+", 1.0), ("-", -1.0)):
        ratios, kls = [], []
        for item in given:
            means = []
            for number, answer in enumerate(item.answers):
                base, positive, negative = (
                    engine.predict([(prompt, answer)])[0].astype(np.float64)
                    for prompt in (item.prompt, item.under_positive, item.under_negative)
                )
                with engine.steered(steering(engine, additions, sign * FACTORS[key])):
                    steered = engine.predict([(item.prompt, answer)])[0].astype(np.float64)
                clipped = np.clip(positive - negative, -objectives.MAX_RATIO, objectives.MAX_RATIO)
                means.append((np.exp(steered) * clipped).sum(axis=-1).mean())
                if number == 0:
                    kls.append((np.exp(base) * (base - steered)).sum(axis=-1).mean())
            ratios.append(np.mean(means))
        ratio[key], kl[key] = float(np.mean(ratios)), float(np.mean(kls))
    return ratio, kl


def assert_equal(one, other, *, abs):
    for key in FACTORS:
        assert one.ratio[key] == pytest.approx(other.ratio[key], abs=abs)
        assert one.kl[key] == pytest.approx(other.kl[key], abs=abs)


def test_ratio_equals_sum_over_vocabulary(engine):
    given, additions = items(engine), pushes(engine)
    found = at(gradients_of(engine, given), additions)
    ratio, kl = slow_value(engine, given, additions)
    assert found.ratio == pytest.approx(ratio, abs=1e-3)  # stored ratios have 16 bits
    assert found.kl == pytest.approx(kl, abs=1e-3)


@pytest.mark.parametrize("room", [1, 40, 512])
def test_ratio_shared_prefixes_change_nothing(llama, room):
    given, additions = items(llama), pushes(llama)
    given = [*given, replace(given[0], answers=given[1].answers), replace(given[1], prompt=given[0].prompt)]
    separate, shared = (
        TreeRatioGradients(AdditivePasses(llama.model, llama.blocks, sink=True, shared_tokens=tokens), given)
        for tokens in (None, room)
    )
    expected, found = (at(slopes, additions, [2, 0, 3, 1]) for slopes in (separate, shared))
    assert_equal(found, expected, abs=1e-4)
    for layer, gradient in expected.gradient.items():
        assert np.allclose(found.gradient[layer], gradient, atol=1e-4)


def test_ratio_out_of_memory_goes_one_by_one(llama, monkeypatch):
    given, additions = items(llama), pushes(llama)
    slopes = TreeRatioGradients(AdditivePasses(llama.model, llama.blocks, sink=True, shared_tokens=512), given)
    expected = at(slopes, additions)
    logits = AdditivePasses.logits

    def little(self, texts, factors, added):
        if len(texts) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits(self, texts, factors, added)

    monkeypatch.setattr(AdditivePasses, "logits", little)
    most = 3
    found = at(slopes, additions)
    assert_equal(found, expected, abs=1e-6)
    assert np.allclose(found.gradient[1], expected.gradient[1], atol=1e-6)
    most = 0
    with pytest.raises(ModelError, match=r"memory does not suffice .*refine=0"):
        at(slopes, additions)


def test_ratio_without_gradients_is_an_error(llama, monkeypatch):
    slopes, logits = gradients_of(llama, items(llama)), AdditivePasses.logits
    monkeypatch.setattr(AdditivePasses, "logits", lambda *arguments: logits(*arguments).detach())
    with pytest.raises(ModelError, match="no gradients: element 0 of tensors does not require grad"):
        at(slopes, pushes(llama))


def test_ratio_without_tree_attention_uses_rows(tiny):
    recurrent = tiny("mamba", seed=2)
    given, additions = items(recurrent), pushes(recurrent)
    found = at(gradients_of(recurrent, given), additions)
    ratio, kl = slow_value(recurrent, given, additions)
    assert found.ratio == pytest.approx(ratio, abs=1e-3)
    assert found.kl == pytest.approx(kl, abs=1e-3)


def test_ratio_gradient_equals_finite_differences(engine):
    if "Moe" in engine.info.architecture:
        pytest.skip("a router that turns to another expert makes a jump, which has no slope")
    slopes, additions = gradients_of(engine, items(engine)), pushes(engine)
    found = at(slopes, additions)
    way = pushes(engine, scale=1.0, seed=1)
    step = 5e-3

    def value(sign):
        moved = {layer: (additions[layer] + sign * step * way[layer]).astype(np.float32) for layer in additions}
        there = at(slopes, moved)
        gain = there.ratio["+"] - there.ratio["-"] - sum(PRICES[key] * there.kl[key] for key in PRICES)
        return gain / 2

    slope = sum(float(found.gradient[layer] @ way[layer]) for layer in additions)
    assert slope == pytest.approx((value(1) - value(-1)) / (2 * step), rel=3e-2, abs=2e-3)


def test_ratio_is_independent_of_other_questions(llama):
    slopes, additions = gradients_of(llama, items(llama)), pushes(llama)
    alone = [at(slopes, additions, [n]) for n in (0, 1)]
    both = at(slopes, additions)
    for key in FACTORS:
        assert both.ratio[key] == pytest.approx((alone[0].ratio[key] + alone[1].ratio[key]) / 2, abs=1e-5)
    assert np.allclose(both.gradient[0], (alone[0].gradient[0] + alone[1].gradient[0]) / 2, atol=1e-5)


def test_ratio_zero_addition_leaves_model_unchanged(llama):
    weights = {name: weight.clone() for name, weight in llama.model.named_parameters()}
    wanted = {name: weight.requires_grad for name, weight in llama.model.named_parameters()}
    nothing = {layer: np.zeros(llama.info.hidden_size, np.float32) for layer in range(llama.info.layers)}
    found = at(gradients_of(llama, items(llama)), nothing)
    assert found.kl == pytest.approx({"+": 0.0, "-": 0.0}, abs=1e-3)
    assert found.ratio["+"] == pytest.approx(found.ratio["-"], abs=1e-6)
    for name, weight in llama.model.named_parameters():
        assert weight.equal(weights[name])
        assert weight.requires_grad == wanted[name]
        assert weight.grad is None


def test_ratio_bf16_gradient_points_the_same_way(llama):
    given, additions = items(llama), pushes(llama)
    exact, hasty = at(gradients_of(llama, given), additions), at(gradients_of(llama, given, bf16=True), additions)
    for layer, slope in exact.gradient.items():
        other = hasty.gradient[layer]
        assert float(slope @ other) > 0.98 * float(np.linalg.norm(slope) * np.linalg.norm(other))


def test_ratio_gradient_at_zero_needs_one_sign(llama):
    nothing = {layer: np.zeros(llama.info.hidden_size, np.float32) for layer in range(llama.info.layers)}
    slopes = gradients_of(llama, items(llama))
    one = at(slopes, nothing, factors={"+": 1.0}, prices={"+": 0.0})
    both = at(slopes, nothing, factors={"+": 1.0, "-": 1.0}, prices={"+": 0.0, "-": 0.0})
    for layer in nothing:
        assert np.abs(one.gradient[layer]).max() > 0
        assert np.allclose(one.gradient[layer], both.gradient[layer], rtol=1e-3, atol=1e-6)


def test_ratio_swapped_poles_flip_the_gradient(llama):
    given, additions = items(llama), pushes(llama)
    turned = [replace(item, under_positive=item.under_negative, under_negative=item.under_positive) for item in given]
    free = dict.fromkeys(FACTORS, 0.0)
    one, other = (at(gradients_of(llama, each), additions, prices=free) for each in (given, turned))
    assert other.ratio["+"] == pytest.approx(-one.ratio["+"], abs=1e-6)
    assert np.allclose(other.gradient[0], -one.gradient[0], atol=1e-6)


def test_ratio_without_room_to_store_is_the_same(llama, monkeypatch):
    given, additions = items(llama), pushes(llama)
    expected = at(gradients_of(llama, given), additions)
    monkeypatch.setattr(objectives, "STORED_BYTES", 0)
    slopes = gradients_of(llama, given)
    for _ in range(2):
        assert_equal(at(slopes, additions), expected, abs=1e-6)
