"""Lessons: what a teacher expects, how far a student is from it, and which way that changes."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import trimtab
from tiny_models import BY_NAME, byte_tokenizer, small_t5
from trimtab.engines.protocol import DistillationExample
from trimtab.engines.transformers.grad.additive import AdditivePasses
from trimtab.engines.transformers.grad.objectives import TeacherDistillationLoss
from trimtab.errors import ModelError

ALL = 99_999
ASKED = ("Hello there", "What?")
ANSWERS = (" fine day", " sad day, it is")


def taught(engine):
    """Return the teacher's prompts with their answers."""
    return [
        (engine.encode(f"Be glad. {text}"), engine.encode(f"x{answer}")[1:])
        for text, answer in zip(ASKED, ANSWERS, strict=True)
    ]


def lessons(engine, *, top=ALL, additions=None):
    expected = engine.gradients.teacher_distributions(taught(engine), top=top, additions=additions or {})
    rows = zip(ASKED, taught(engine), expected, strict=True)
    return [DistillationExample(engine.encode(text), answer, found) for text, (_, answer), found in rows]


def pushes(engine, *, scale=0.3, seed=0):
    generator = np.random.default_rng(seed)
    size = engine.info.hidden_size
    return {layer: (scale * generator.standard_normal(size)).astype(np.float32) for layer in range(engine.info.layers)}


@contextmanager
def pushed_by_hand(engine, family, additions, first):
    """Plain hooks: everything from token ``first`` on is moved."""

    def hook(added):
        def add(_, __, output):
            state = output[0] if isinstance(output, tuple) else output
            moved = torch.cat([state[:, :first], state[:, first:] + torch.from_numpy(added)], dim=1)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        return add

    blocks = family.blocks(engine.model)
    handles = [blocks[layer].register_forward_hook(hook(added)) for layer, added in additions.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def logprobs_of(engine, prompt, answer):
    """Return log-probabilities of a text in a separate pass, ``[token, vocabulary]``, at the answer's tokens."""
    with torch.no_grad():
        logits = engine.model(torch.tensor([[*prompt, *answer[:-1]]]), use_cache=False).logits[0, len(prompt) - 1 :]
    return logits.double().log_softmax(-1)


def slow_losses(engine, family, given, additions, *, generated=False):
    """KL from teacher to student over the whole vocabulary, one text after the other."""
    losses = []
    for lesson, (prompt, answer) in zip(given, taught(engine), strict=True):
        teacher = logprobs_of(engine, prompt, answer)
        with pushed_by_hand(engine, family, additions, len(lesson.prompt) if generated else 1):
            student = logprobs_of(engine, lesson.prompt, answer)
        losses.append(float((teacher.exp() * (teacher - student)).sum(-1).mean()))
    return losses


def means(imitation, additions):
    return np.array([each.mean() for each in imitation.measure(additions)])


def test_teacher_is_the_top_tokens_and_the_rest_mass(engine):
    for (prompt, answer), found in zip(
        taught(engine), engine.gradients.teacher_distributions(taught(engine), top=5, additions={}), strict=True
    ):
        slow = logprobs_of(engine, prompt, answer)
        best = slow.topk(5, dim=-1)
        assert found.tokens.shape == found.logprobs.shape == (len(answer), 5)
        assert np.allclose(found.logprobs, best.values, atol=6e-3)
        assert np.allclose(slow.gather(-1, torch.from_numpy(found.tokens).long()), best.values, atol=1e-4)
        assert np.allclose(found.rest, (1 - best.values.exp().sum(-1)).log(), atol=6e-3)
        assert (found.logprobs.dtype, found.rest.dtype) == (np.float16, np.float16)


def test_loss_all_tokens_equals_kl_over_the_vocabulary(engine, family):
    given, additions = lessons(engine), pushes(engine)
    imitation = engine.gradients.distillation_loss(given)
    slow = slow_losses(engine, family, given, additions)
    assert means(imitation, additions) == pytest.approx(slow, abs=2e-3)
    assert imitation.at(additions, [0, 1]).kl == pytest.approx(np.mean(slow), abs=2e-3)


def test_loss_generated_tokens_leaves_prompts_unsteered(engine, family):
    given, additions = lessons(engine), pushes(engine)
    imitation = engine.gradients.distillation_loss(given, generated=True)
    slow = slow_losses(engine, family, given, additions, generated=True)
    assert means(imitation, additions) == pytest.approx(slow, abs=2e-3)


def test_loss_gradient_equals_finite_differences(engine):
    if "Moe" in engine.info.architecture:
        pytest.skip("a router that turns to another expert makes a jump, which has no slope")
    imitation, additions, way = (
        engine.gradients.distillation_loss(lessons(engine)),
        pushes(engine),
        pushes(engine, seed=1),
    )
    step = 6e-3

    def value(sign):
        moved = {layer: (additions[layer] + sign * step * way[layer]).astype(np.float32) for layer in additions}
        return imitation.at(moved, [0, 1]).kl

    found = imitation.at(additions, [0, 1])
    slope = sum(float(found.gradient[layer] @ way[layer]) for layer in additions)
    assert slope == pytest.approx((value(1) - value(-1)) / (2 * step), rel=2e-2, abs=1e-3)


def test_loss_halfway_softens_tokens_far_off(llama):
    additions, way, step, halfway = pushes(llama), pushes(llama, seed=1), 6e-3, 0.2
    imitation = llama.gradients.distillation_loss(lessons(llama))

    def loss(sign):
        moved = {layer: (additions[layer] + sign * step * way[layer]).astype(np.float32) for layer in additions}
        return np.mean([(halfway * np.log1p(kls / halfway)).mean() for kls in imitation.measure(moved)])

    def slope(found):
        return sum(float(found.gradient[layer] @ way[layer]) for layer in additions)

    found, plain = imitation.at(additions, [0, 1], halfway=halfway), imitation.at(additions, [0, 1])
    assert slope(found) == pytest.approx((loss(1) - loss(-1)) / (2 * step), rel=2e-2, abs=1e-3)
    assert abs(slope(found)) < 0.8 * abs(slope(plain))
    assert found.kl == pytest.approx(plain.kl, rel=1e-5)


def test_loss_few_top_tokens_is_a_lower_bound(llama):
    additions = pushes(llama)
    whole = means(llama.gradients.distillation_loss(lessons(llama)), additions)
    shares = [
        means(llama.gradients.distillation_loss(lessons(llama, top=top)), additions) / whole for top in (1, 8, 64, 256)
    ]
    assert all((share <= 1.01).all() for share in shares)
    assert np.mean(shares[0]) < np.mean(shares[1]) < np.mean(shares[2]) < np.mean(shares[3]) + 1e-3


def test_loss_same_prompt_as_teacher_is_zero(llama):
    given = [
        DistillationExample(prompt, answer, lesson.expected)
        for (prompt, answer), lesson in zip(taught(llama), lessons(llama), strict=True)
    ]
    nothing = {layer: np.zeros(llama.info.hidden_size, np.float32) for layer in (1, 2)}
    found = llama.gradients.distillation_loss(given).at(nothing, [0, 1])
    assert found.kl == pytest.approx(0.0, abs=1e-4)
    assert max(np.abs(slope).max() for slope in found.gradient.values()) < 1e-2


def test_teacher_with_additions_is_steered(llama):
    additions = pushes(llama)
    expected = llama.gradients.teacher_distributions(taught(llama), top=3, additions=additions)
    with pushed_by_hand(llama, BY_NAME["llama"], additions, 1):
        for (prompt, answer), found in zip(taught(llama), expected, strict=True):
            assert np.allclose(found.logprobs, logprobs_of(llama, prompt, answer).topk(3, dim=-1).values, atol=6e-3)


@pytest.mark.parametrize("generated", [False, True])
@pytest.mark.parametrize("room", [1, 24, 512])
def test_loss_shared_prefixes_change_nothing(llama, room, generated):
    given, additions = lessons(llama), pushes(llama)
    given = [*given, DistillationExample(given[0].prompt, given[1].answer, given[1].expected)]
    separate, shared = (
        TeacherDistillationLoss(
            AdditivePasses(llama.model, llama.blocks, sink=True, generated=generated, shared_tokens=tokens), given
        )
        for tokens in (None, room)
    )
    assert means(shared, additions) == pytest.approx(means(separate, additions), abs=1e-4)
    one, other = separate.at(additions, [2, 0]), shared.at(additions, [2, 0])
    for layer in additions:
        assert np.allclose(one.gradient[layer], other.gradient[layer], atol=1e-4)


def test_loss_out_of_memory_goes_one_by_one(llama, monkeypatch):
    imitation, additions = llama.gradients.distillation_loss(lessons(llama)), pushes(llama)
    whole = imitation.at(additions, [0, 1])
    most, asked = 1, []
    logits = AdditivePasses.logits

    def little(self, texts, factors, pushes):
        asked.append(len(texts))
        if len(texts) > most:
            raise torch.OutOfMemoryError("out of memory")
        return logits(self, texts, factors, pushes)

    monkeypatch.setattr(AdditivePasses, "logits", little)
    found = imitation.at(additions, [0, 1])
    assert asked == [2, 1, 1]
    assert found.kl == pytest.approx(whole.kl, abs=1e-6)
    assert np.allclose(found.gradient[0], whole.gradient[0], atol=1e-6)
    most = 0
    with pytest.raises(ModelError, match="memory does not suffice"):
        imitation.at(additions, [0, 1])
    with pytest.raises(ModelError, match="memory does not suffice"):
        imitation.measure(additions)


def test_loss_out_of_memory_at_one_recomputes_layers(engine, monkeypatch):
    imitation, additions = engine.gradients.distillation_loss(lessons(engine)), pushes(engine)
    kept = []

    def pack(tensor):
        kept[-1] += tensor.numel()
        return tensor

    def slope():
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            return imitation.at(additions, [0, 1])

    plain = slope()
    logits, failed = AdditivePasses.logits, []

    def little(self, texts, factors, pushes):
        if not self._recompute:
            failed.append(len(texts))
            raise torch.OutOfMemoryError("out of memory")
        return logits(self, texts, factors, pushes)

    monkeypatch.setattr(AdditivePasses, "logits", little)
    sparing = slope()
    assert failed == [2, 1]
    assert kept[1] < 0.7 * kept[0]
    assert sparing.kl == pytest.approx(plain.kl, abs=1e-6)
    for layer in additions:
        assert np.allclose(sparing.gradient[layer], plain.gradient[layer], atol=1e-6)
    assert all("forward" not in block.__dict__ for block in engine.blocks.modules)
    slope()
    assert failed == [2, 1]


def test_gradients_encoder_decoder_has_none(llama):
    assert llama.gradients is not None
    assert trimtab.load(small_t5(), tokenizer=byte_tokenizer()).gradients is None


def test_loss_bf16_gradient_points_the_same_way(llama):
    given, additions = lessons(llama), pushes(llama)
    exact = llama.gradients.distillation_loss(given).at(additions, [0, 1])
    hasty = llama.gradients.distillation_loss(given, bf16=True).at(additions, [0, 1])
    assert hasty.kl == pytest.approx(exact.kl, rel=0.05)
    for layer, slope in exact.gradient.items():
        other = hasty.gradient[layer]
        assert float(slope @ other) > 0.98 * float(np.linalg.norm(slope) * np.linalg.norm(other))
