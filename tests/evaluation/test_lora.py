"""The fine-tuning baseline: what it learns, and that it leaves nothing behind."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from by_hand import digest_of, traces_in
from evaluation.writing import write
from trimtab import Behaviour
from trimtab.behaviours import Message, neutral_prompts
from trimtab.behaviours.pairs import persona_instructions
from trimtab.engines.transformers.model.fingerprint import fingerprint
from trimtab.errors import BehaviourError, CalibrationError, EvaluationError, MissingDependencyError
from trimtab.evaluation.comparison import LORA_SCALE, LORA_TOLERANCE
from trimtab.evaluation.interventions import Intervention, score
from trimtab.evaluation.lora import train_lora
from trimtab.evaluation.metrics.text_quality import kl_per_question
from trimtab.training.progress import ignore
from trimtab.training.questions import ask
from trimtab.training.search import find_scale

pytest.importorskip("peft")

QUICK = {"questions": 10, "answer_tokens": 6, "rank": 2, "epochs": 3, "learning_rate": 1e-2}
PROBE = tuple(range(40, 60))


def trained(engine, *, side="+", seed=0, progress=ignore, **options):
    return train_lora(engine, Behaviour.load("happy"), side=side, seed=seed, progress=progress, **{**QUICK, **options})


@pytest.fixture(scope="module")
def host(tiny):
    """Return a separate model, because tests here put layers in and out."""
    return tiny("llama", max_position_embeddings=1024)


@pytest.fixture(scope="module")
def adapter(host):
    return trained(host)


def logits_of(engine, tokens=PROBE):
    with torch.no_grad():
        return engine.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]


def state_of(engine):
    """Return everything in which an adapter could leave a trace."""
    model = engine.model
    return (
        digest_of(model),
        fingerprint(model),
        [(name, type(module), id(module)) for name, module in model.named_modules()],
        [(name, weight.requires_grad, weight.grad is None) for name, weight in model.named_parameters()],
        sorted(model.__dict__),
        traces_in(model),
        model.training,
    )


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3_moe", "falcon"])
def test_lora_training_and_use_restore_the_model(tiny, name):
    engine = tiny(name, max_position_embeddings=1024)
    before, logits, noise = state_of(engine), logits_of(engine), torch.random.get_rng_state()
    adapter = trained(engine, epochs=1)
    assert state_of(engine) == before
    assert torch.equal(torch.random.get_rng_state(), noise)
    with adapter.intervention().active():
        assert not torch.equal(logits_of(engine), logits)
        assert state_of(engine) != before
    assert state_of(engine) == before
    assert torch.equal(logits_of(engine), logits)


def test_lora_exception_inside_restores_the_model(host, adapter):
    before = state_of(host)
    with pytest.raises(ZeroDivisionError), adapter.intervention().active():
        raise ZeroDivisionError
    assert state_of(host) == before

    def stop(step):
        if step.phase == "Training LoRA" and step.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(host, progress=stop)
    assert state_of(host) == before


def test_lora_scale_multiplies_the_added_part(host, adapter):
    base = logits_of(host)
    layer = "model.layers.3.mlp.down_proj"
    states = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    parts = {}
    for scale in (0.0, 0.5, 1.0, -1.0):
        with adapter.intervention(scale).active():
            parts[scale] = host.model.get_submodule(layer)(states) - host.model.get_submodule(layer)(0 * states)
            if scale == 0.0:
                assert torch.equal(logits_of(host), base)
    added = parts[1.0] - parts[0.0]
    assert added.abs().max() > 1e-4
    torch.testing.assert_close(parts[0.5] - parts[0.0], 0.5 * added, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(parts[-1.0] - parts[0.0], -added, atol=1e-6, rtol=1e-3)


def test_lora_learns_answers_in_character(host, adapter):
    """Compare with the loss of the answers' tokens, read one by one; one question is held out of training."""
    behaviour = Behaviour.load("happy")
    texts = neutral_prompts().calibration[: QUICK["questions"]]
    instructions = [persona_instructions(behaviour, n).positive for n in range(len(texts))]
    chats = [(Message("system", s), Message("user", t)) for s, t in zip(instructions, texts, strict=True)]
    answers = [answer.tokens for answer in host.generate(chats, max_new_tokens=QUICK["answer_tokens"])]

    def losses():
        found = []
        for text, answer in zip(texts, answers, strict=True):
            prompt = host.encode(host.render((Message("user", text),)))
            rows = logits_of(host, (*prompt, *answer))[len(prompt) - 1 : -1]
            found.append(float(cross_entropy(rows, torch.tensor(answer))))
        return np.array(found)

    base = losses()
    with adapter.intervention().active():
        after = losses()
    assert after.mean() < base.mean()
    first, *rest = adapter.losses
    assert [loss.epoch for loss in adapter.losses] == list(range(len(adapter.losses)))
    assert any(first.validation == pytest.approx(value, rel=1e-4) for value in base)  # one question is held out
    best = min(rest, key=lambda loss: loss.validation)
    assert adapter.epoch == best.epoch
    assert best.validation < first.validation
    assert any(best.validation == pytest.approx(value, rel=1e-4) for value in after)


def test_lora_seed_determines_the_adapter(host, adapter):
    with adapter.intervention().active():
        first = logits_of(host)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed + 7)  # of the world outside, which plays no part
        with trained(host, seed=seed).intervention().active():
            found.append(logits_of(host))
    assert torch.equal(found[0], first)
    assert not torch.equal(found[1], first)


def test_lora_poles_learn_different_weights(host, adapter):
    negative = trained(host, side="-")
    assert (negative.name, negative.side, adapter.side) == ("happy", "-", "+")
    with adapter.intervention().active():
        first = logits_of(host)
    with negative.intervention().active():
        assert not torch.equal(logits_of(host), first)


def test_lora_counts_parameters_and_bytes(host, adapter):
    linear = [module for block in host.blocks.modules for module in block.modules() if isinstance(module, nn.Linear)]
    assert adapter.parameters == sum(2 * (module.in_features + module.out_features) for module in linear)
    assert adapter.stored_bytes == 4 * adapter.parameters
    assert adapter.seconds > 0


def test_lora_active_engine_still_works(host, adapter, random_vector):
    """Blocks are still hooked, walks still exact, and steering still adds to what blocks put out."""
    vector = random_vector(host, layers=[1, 3])
    texts = ["A quiet day.", "A quiet night.", "A quiet night at sea."]
    before = host.hidden_states(texts)
    with adapter.intervention().active():
        whole = host.hidden_states(texts, share_prefixes=False)
        np.testing.assert_allclose(host.hidden_states(texts), whole, rtol=1e-3, atol=1e-4)
        assert np.abs(whole - before).max() > 1e-3
        answers = host.generate(texts, steering=[(vector, 0.5)], max_new_tokens=3)
        assert answers[0].receipt.layers == (1, 3)
    assert np.array_equal(host.hidden_states(texts), before)


def test_lora_intervention_writes_and_scores(host, adapter):
    texts = ["Hello!", "What is rain?"]
    answers = [[(40, 41)], [(50, 51, 52)]]
    intervention = adapter.intervention(2.0)
    assert [a.tokens for a in write(host, adapter.intervention(0.0), texts, max_new_tokens=4)] == [
        a.tokens for a in write(host, Intervention(), texts, max_new_tokens=4)
    ]
    scored = score(host, intervention, texts, answers)
    prompt = host.encode(host.render((Message("user", texts[1]),)))
    with intervention.active():
        rows = logits_of(host, (*prompt, *answers[1][0]))[len(prompt) - 1 : -1]
    slow = -float(cross_entropy(rows, torch.tensor(answers[1][0]), reduction="sum"))
    assert scored.logprob[1][0] == pytest.approx(slow, rel=1e-4)


def test_lora_scale_spends_the_budget(host, adapter):
    questions = ask(host, ("Hello!", "What is rain?"), None, personas=0, max_new_tokens=5, progress=ignore)

    def kl_at(scale):
        return float(kl_per_question(host, adapter.intervention(scale), questions).mean())

    assert kl_at(0.0) == 0.0
    budget = kl_at(1.0) / 2
    found = find_scale(kl_at, budget=budget, guess=LORA_SCALE, tolerance=LORA_TOLERANCE)
    assert found.kl == pytest.approx(budget, rel=0.05)
    assert kl_at(found.scale) == found.kl
    with pytest.raises(CalibrationError):
        find_scale(lambda _: 0.0, budget=0.4, guess=LORA_SCALE, tolerance=LORA_TOLERANCE)


def test_lora_saved_adapter_is_loaded_by_peft(host, adapter, tiny, tmp_path):
    from peft import PeftModel

    adapter.save(tmp_path / "adapter")
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == QUICK["rank"]
    loaded = PeftModel.from_pretrained(tiny("llama", max_position_embeddings=1024).model, tmp_path / "adapter")
    with torch.no_grad():
        theirs = loaded(input_ids=torch.tensor([PROBE]), use_cache=False).logits[0]
    with adapter.intervention().active():
        assert torch.equal(logits_of(host), theirs)


def test_lora_training_reports_progress(host):
    steps = []
    trained(host, epochs=2, progress=steps.append)
    training = [step for step in steps if step.phase == "Training LoRA"]
    assert training[-1].done == training[-1].total
    notes = [step.note for step in training if step.note]
    assert len(notes) == 2
    assert "epoch 1: loss" in notes[0]


def test_lora_two_adapters_at_once_is_refused(host, adapter):
    other = trained(host, epochs=1, seed=3)
    before = state_of(host)
    with (
        adapter.intervention().active(),
        pytest.raises(EvaluationError, match="is not the layer that the LoRA adapter"),
        other.intervention().active(),
    ):
        pass
    assert state_of(host) == before


def test_lora_untrainable_models_are_refused(tiny, monkeypatch):
    quantised = tiny("llama")
    monkeypatch.setattr(quantised.model, "is_quantized", True, raising=False)
    with pytest.raises(EvaluationError, match="it is quantised"):
        trained(quantised)
    adapted = tiny("llama")
    monkeypatch.setattr(adapted.model, "peft_config", {"other": 1}, raising=False)
    with pytest.raises(EvaluationError, match="it has adapters already"):
        trained(adapted)
    plain = tiny("llama")
    for block in plain.blocks.modules:
        block.self_attn, block.mlp = nn.Identity(), nn.Identity()
    with pytest.raises(EvaluationError, match="no linear layers"):
        trained(plain)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"side": "up"}, "no side 'up'"),
        ({"questions": 1}, "questions is 1"),
        ({"rank": 0}, "rank is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ],
)
def test_lora_invalid_options_are_refused(host, options, problem):
    with pytest.raises(EvaluationError, match=problem):
        trained(host, **options)


def test_lora_non_finite_scale_is_refused(adapter):
    with pytest.raises(EvaluationError, match="scale nan"):
        adapter.intervention(float("nan"))


def test_lora_model_refused_by_peft_is_restored(tiny):
    engine = tiny("mamba")
    before = state_of(engine)
    with pytest.raises(EvaluationError, match="peft refuses tiny mamba"):
        trained(engine)
    assert state_of(engine) == before


def test_lora_adapter_of_bf16_model_is_float32(tiny):
    engine = tiny("llama", dtype=torch.bfloat16, max_position_embeddings=1024)
    before = logits_of(engine)
    adapter = trained(engine)
    assert adapter.stored_bytes == 4 * adapter.parameters
    with adapter.intervention().active():
        changed = logits_of(engine)
    assert changed.dtype == torch.bfloat16
    assert not torch.equal(changed, before)
    assert torch.equal(logits_of(engine), before)


def test_lora_harmful_training_is_refused(host):
    before = state_of(host)
    with pytest.raises(EvaluationError, match="learned nothing"):
        trained(host, learning_rate=1e4, epochs=1)
    assert state_of(host) == before


def test_lora_behaviour_without_personas_is_refused(host, tmp_path):
    (tmp_path / "given.toml").write_text(
        'name = "given"\npairs = [{positive = "a", negative = "b"}, {positive = "c", negative = "d"}]\n'
        '[positive]\nlabel = "x"\n[negative]\nlabel = "y"\n'
    )
    with pytest.raises(BehaviourError, match="no personas"):
        train_lora(host, Behaviour.load(tmp_path / "given.toml"), side="+")


def test_lora_without_peft_names_the_install_line(host, monkeypatch):
    before = state_of(host)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "trimtab\[lora\]"'):
        trained(host)
    assert state_of(host) == before


@pytest.mark.slow
def test_lora_default_model_answers_held_out_more_happily(smollm2):
    behaviour = Behaviour.load("happy")
    digest = digest_of(smollm2.model)
    adapter = train_lora(smollm2, behaviour, side="+")
    assert digest_of(smollm2.model) == digest
    texts = neutral_prompts().held_out[:16]
    asked = ask(smollm2, texts, behaviour, personas=len(texts), max_new_tokens=32, progress=ignore)
    answers = [(q.persona_answers.positive, q.persona_answers.negative) for q in asked]

    def means(intervention):
        """Log-probability per token, ``[question, pole]``."""
        scored = score(smollm2, intervention, texts, answers)
        return np.array([logprob / tokens for logprob, tokens in zip(scored.logprob, scored.tokens, strict=True)])

    positive, negative = (means(adapter.intervention()) - means(Intervention())).mean(axis=0)
    assert positive > 0.1
    assert positive - negative > 0.03  # the effect; on this model the two system prompts are about 0.1 different
