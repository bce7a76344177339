"""Share of its prompt that a distilled vector carries, beside other substitutes and rule by rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import trimtab
from benchmarks.distilling import system_prompts
from tiny_models import byte_tokenizer, small_t5, vector_for
from trimtab.behaviours import Message
from trimtab.errors import EvaluationError
from trimtab.evaluation.distilled import Sizes, evaluate_distilled
from trimtab.evaluation.rules import share_closed
from trimtab.training.distillation.distill import Effort, distill
from trimtab.training.distillation.fit import Schedule

LEARNED = ("Hello!", "What is rain?", "Tell me of a walk.", "Who is there?", "Why?", "Sing.")
ASKED = ("How are you?", "Where is it?", "Say more.")
PROMPT = "Speak of the sea. Be brief!"
SMALL = Sizes(prompts=3, learning=4, answer_tokens=6, rules=3, samples=2, sample_tokens=4, strengths=(0.5, 1.0))
EFFORT = Effort(
    held_out_every=3, answers=1, answer_tokens=6, schedule=Schedule(steps=30, batch=4, stride=0.05, check_every=5)
)


@pytest.fixture(scope="module")
def sea(llama):
    return distill(llama, PROMPT, prompts=LEARNED, effort=EFFORT, name="sea")


@pytest.fixture(scope="module")
def report(llama, sea):
    return evaluate_distilled(llama, sea, PROMPT, prompts=ASKED, sizes=SMALL)


def slow_gaps(engine, opening, *, steering=(), seed=1):
    """Mean KL from the prompted to another model along its sampled answers, text by text."""
    chats = [[Message("system", PROMPT), Message("user", text)] for text in ASKED]
    answers = engine.generate(chats, max_new_tokens=6, temperature=1.0, seed=seed)

    def logprobs(chat, answer):
        read = engine.encode(engine.render(chat))
        with torch.no_grad():
            logits = engine.model(torch.tensor([[*read, *answer[:-1]]]), use_cache=False).logits[0]
        return logits[len(read) - 1 :].double().log_softmax(-1)

    gaps = []
    for chat, completion in zip(chats, answers, strict=True):
        prompted = logprobs(chat, completion.tokens)
        with engine.steered(list(steering)):
            other = logprobs([*opening, chat[-1]], completion.tokens)
        gaps.append(float((prompted.exp() * (prompted - other)).sum(-1).mean()))
    return np.array(gaps)


def test_gap_and_share_closed_equal_slow_reference(llama, sea, report):
    base, steered = slow_gaps(llama, []), slow_gaps(llama, [], steering=[(sea, 1.0)])
    assert report.base_kl == pytest.approx(base.mean(), rel=0.02)
    assert report.vector.kl == pytest.approx(steered.mean(), rel=0.02)
    assert report.vector.closed.value == pytest.approx(1 - steered.mean() / base.mean(), abs=0.02)
    assert report.vector.closed.low <= report.vector.closed.value <= report.vector.closed.high
    assert report.prompts == 3


def test_dial_starts_at_plain_model_and_includes_vector(report):
    assert list(report.dial) == [0.0, 0.5, 1.0]
    assert report.dial[0.0] == pytest.approx(report.base_kl)
    assert report.dial[1.0] == pytest.approx(report.vector.kl)
    assert report.dial[1.0] < report.dial[0.5] < report.dial[0.0]


def test_substitutes_equal_slow_reference(llama, report):
    ways = {way.name: way for way in report.others}
    assert set(ways) == {"mean difference", "one sentence"}
    shortened = slow_gaps(llama, [Message("system", "Speak of the sea.")])
    assert ways["one sentence"].kl == pytest.approx(shortened.mean(), rel=0.02)
    assert ways["mean difference"].kl < report.base_kl * 1.05


def test_distilled_lora_is_measured_and_model_restored(llama, sea, report, monkeypatch):
    monkeypatch.setattr("trimtab.evaluation.lora.BATCH", 2)
    before = llama.generate(ASKED[0], max_new_tokens=4)
    tuned = evaluate_distilled(
        llama, sea, PROMPT, prompts=ASKED, sizes=replace(SMALL, tuning=(9, 8)), lora=True, progress=lambda _: None
    )
    ways = {way.name: way for way in tuned.others}
    assert set(ways) == {"mean difference", "one sentence", "LoRA"}
    assert "on 72 answers" in ways["LoRA"].about
    assert 0 < ways["LoRA"].kl != pytest.approx(report.base_kl, rel=1e-6)
    assert tuned.vector == report.vector
    assert llama.generate(ASKED[0], max_new_tokens=4) == before


def test_distilled_lora_failure_is_noted(llama, sea, report, monkeypatch):
    steps = []

    def fails(*_, **__):
        raise EvaluationError("LoRA learned nothing", fix="use more questions")

    monkeypatch.setattr("trimtab.evaluation.lora.fit_lora", fails)
    found = evaluate_distilled(llama, sea, PROMPT, prompts=ASKED, sizes=SMALL, lora=True, progress=steps.append)
    assert found.others == report.others
    assert any("left out: LoRA learned nothing" in step.note for step in steps)


def test_distilled_report_has_every_rule(report):
    assert [rule.text for rule in report.rules] == ["Speak of the sea.", "Be brief!"]
    for rule in report.rules:
        effects = [effect for effect in (rule.general, rule.asked) if effect is not None]
        assert (rule.carried is None) == all(effect.share is None for effect in effects)
    assert set(report.stays) <= {"Speak of the sea.", "Be brief!"}


def test_saving_counts_tokens_and_seconds(llama, report):
    chats = ([Message("system", PROMPT), Message("user", ASKED[0])], [Message("user", ASKED[0])])
    whole, plain = (len(llama.encode(llama.render(chat))) for chat in chats)
    assert report.saving.tokens == whole - plain
    assert report.saving.of_context == pytest.approx((whole - plain) / llama.context_window)
    assert min(report.saving.prefill_with, report.saving.prefill_without) > 0


def test_samples_have_prompted_steered_and_plain_answers(llama, sea, report):
    (first, _) = report.samples
    assert first.question == ASKED[0]
    assert first.steered == llama.generate(ASKED[0], steering=[(sea, 1.0)], max_new_tokens=4).text
    assert first.neither == llama.generate(ASKED[0], max_new_tokens=4).text


def test_idle_vector_closes_nothing(llama, sea):
    idle = replace(sea, scale={"+": 1e-4, "-": 1e-4})
    found = evaluate_distilled(llama, idle, PROMPT, prompts=ASKED, sizes=SMALL)
    assert found.vector.closed.value == pytest.approx(0.0, abs=5e-3)
    assert all(rule.carried is not True for rule in found.rules)
    assert found.stays


def test_evaluate_distilled_is_deterministic(llama, sea, report):
    again = evaluate_distilled(llama, sea, PROMPT, prompts=ASKED, sizes=SMALL)
    assert replace(again, saving=report.saving) == report


def test_single_instruction_has_no_rules_nor_first_sentence(llama, sea):
    found = evaluate_distilled(llama, sea, "Speak of the sea.", prompts=ASKED, sizes=SMALL)
    assert found.rules == ()
    assert [way.name for way in found.others] == ["mean difference"]


def test_prompt_without_effect_is_refused(llama, monkeypatch):
    monkeypatch.setattr("trimtab.evaluation.distilled.MIN_GAP", 99.0)
    with pytest.raises(EvaluationError, match="next to nothing"):
        evaluate_distilled(llama, vector_for(llama), PROMPT, prompts=ASKED, sizes=SMALL)


def test_model_without_gradients_is_refused():
    engine = trimtab.load(small_t5(), tokenizer=byte_tokenizer())
    with pytest.raises(EvaluationError, match="cannot be measured"):
        evaluate_distilled(engine, vector_for(engine), PROMPT, prompts=ASKED, sizes=SMALL)


def test_share_closed_is_of_means_with_an_interval():
    found = share_closed(np.array([0.1, 0.3, 0.2]), np.array([0.4, 0.6, 0.2]), seed=0)
    assert found.value == pytest.approx(0.5)
    assert 0.0 - 1e-9 <= found.low < 0.5 < found.high <= 0.75 + 1e-9


@pytest.mark.slow  # it learns on the default model
def test_facts_of_a_shop_prompt_stay_in_the_prompt(smollm2):
    prompt = system_prompts()["shop"].prompt
    quick = Effort(prompts=24, answers=1, schedule=Schedule(steps=30))
    vector = distill(smollm2, prompt, effort=quick)
    report = evaluate_distilled(smollm2, vector, prompt, sizes=Sizes(prompts=8, learning=4, samples=1))
    facts = {rule.text: rule for rule in report.rules if any(mark in rule.text for mark in ("4.35", "17", "Veck"))}
    assert len(facts) == 3
    assert sum(text in report.stays for text in facts) >= 2
    assert all(rule.carried is not True for rule in facts.values())
    assert any("bread" in question for rule in facts.values() for question in rule.questions)
