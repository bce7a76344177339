"""Simple facts: the built-in ones, reading TruthfulQA, and choosing answers beside an obvious loop."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from trimtab.behaviours import Message
from trimtab.errors import EvaluationError
from trimtab.evaluation.interventions import Intervention
from trimtab.evaluation.metrics.facts import (
    Accuracy,
    Fact,
    _answer_tokens,
    answer_facts,
    builtin_facts,
    truthfulqa_facts,
)
from trimtab.steering import Steering

TRUTHFULQA = Path(__file__).parents[3] / "shared" / "data" / "truthfulqa"
SYSTEM = (Message("system", "Be brief."),)
SHOWN = (Message("user", "Two?"), Message("assistant", "Answer: 2"))

# The built-in facts


def test_builtin_facts_are_240_without_duplicates():
    facts = builtin_facts()
    assert len(facts) == 240
    assert len({" ".join(re.findall(r"\w+", fact.question.lower())) for fact in facts}) == 240


def test_builtin_facts_have_four_short_choices():
    for fact in builtin_facts():
        assert len({choice.lower() for choice in fact.choices}) == len(fact.choices) == 4, fact
        for choice in fact.choices:
            assert re.fullmatch(r"[A-Za-z]+([ -][A-Za-z]+)?", choice), fact


def test_builtin_facts_questions_do_not_give_answers_away():
    for fact in builtin_facts():
        assert len(fact.question.split()) < 12, fact
        assert fact.question == fact.question.strip()
        assert fact.question[-1] in "?."
        words = re.findall(r"\w+", fact.question.lower())
        assert fact.choices[0].lower() not in words, fact


def test_builtin_facts_choices_are_lower_case_except_names():
    for fact in builtin_facts():
        capital = [choice[0].isupper() for choice in fact.choices]
        assert all(capital) or not any(capital), fact


def test_builtin_facts_length_does_not_reveal_the_answer():
    longest = [len(fact.choices[0]) > max(map(len, fact.choices[1:])) for fact in builtin_facts()]
    shortest = [len(fact.choices[0]) < min(map(len, fact.choices[1:])) for fact in builtin_facts()]
    assert np.mean(longest) < 0.35
    assert np.mean(shortest) < 0.35


# TruthfulQA


def entry(question: str, **truth: int) -> dict[str, object]:
    return {"question": question, "mc1_targets": truth, "mc2_targets": {}}


def test_truthfulqa_right_answer_comes_first(tmp_path):
    entries = [entry("Why? ", No=0, Because=1, Never=0), entry("Who?", Me=1, You=0)]
    (tmp_path / "mc_task.json").write_text(json.dumps(entries))
    facts = truthfulqa_facts(tmp_path)
    assert [(fact.asked, fact.choices) for fact in facts] == [
        ("Why?", ("Because", "No", "Never")),
        ("Who?", ("Me", "You")),
    ]


def test_truthfulqa_missing_file_names_the_folder(tmp_path):
    with pytest.raises(EvaluationError, match=r"no mc_task\.json that can be read in .*; give a folder"):
        truthfulqa_facts(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "7",
        '{"question": "Why?"}',
        "[1]",
        '[{"question": "Why?"}]',
        '[{"question": "Why?", "mc1_targets": ["yes"]}]',
        json.dumps([entry("Why?", No=0)]),
        json.dumps([entry("Why?", Yes=1)]),
        json.dumps([entry("Why?", Yes=1, Surely=1, No=0)]),
        json.dumps([entry("Why?", Yes=1, No=2)]),
        json.dumps([{"question": 7, "mc1_targets": {"Yes": 1, "No": 0}}]),
    ],
)
def test_truthfulqa_malformed_file_is_refused(tmp_path, text):
    (tmp_path / "mc_task.json").write_text(text)
    with pytest.raises(EvaluationError, match="is not TruthfulQA's multiple choice"):
        truthfulqa_facts(tmp_path)


def test_truthfulqa_real_file_is_read():
    if not (TRUTHFULQA / "mc_task.json").is_file():
        pytest.skip("the folder of public data sets, which has TruthfulQA, is not there")
    facts = truthfulqa_facts(TRUTHFULQA)
    assert len(facts) == 817
    assert facts[0].choices[0] == "The watermelon seeds pass through your digestive system."
    assert min(len(fact.choices) for fact in facts) >= 2


# Choosing


def slow_means(engine, intervention, facts):
    """One sequence at a time: mean log-probability of what is after the prompt, ``[fact][choice]``."""
    found = []
    for number, fact in enumerate(facts):
        chat = intervention.chat(number, fact.asked)
        start = len(engine.encode(engine.render(chat)))
        means = []
        for choice in fact.choices:
            tokens = engine.encode(engine.render(chat, continuation="Answer: " + choice))
            with torch.inference_mode(), engine.steered(intervention.steering):
                logprobs = engine.model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
            means.append(np.mean([float(logprobs[n - 1, tokens[n]]) for n in range(start, len(tokens))]))
        found.append(means)
    return found


@pytest.fixture(scope="module")
def some_facts() -> tuple[Fact, ...]:
    return (*builtin_facts()[::12], Fact("Is it?", ("Yes, it really is.", "No."), hint=""))


@pytest.mark.parametrize("name", ["base", "steered", "opened"])
def test_answer_facts_equals_loop_over_sequences(tiny_llama, random_vector, some_facts, name):
    intervention = {
        "base": Intervention(),
        "steered": Intervention(steering=Steering.of([(random_vector(tiny_llama), 2.0)])),
        "opened": Intervention(openings=(SYSTEM, SHOWN)),
    }[name]
    means = slow_means(tiny_llama, intervention, some_facts)
    expected = [int(np.argmax(row)) == 0 for row in means]
    assert 0 < sum(expected) < len(expected)
    assert answer_facts(tiny_llama, intervention, some_facts).right.tolist() == expected


def test_answer_facts_tied_choices_are_not_known(tiny):
    even = tiny("llama", seed=3, max_position_embeddings=1024)
    torch.nn.init.zeros_(even.model.lm_head.weight)
    assert not answer_facts(even, Intervention(), builtin_facts()[:3]).right.any()


def test_answer_tokens_merged_token_begins_the_answer(tiny_llama, monkeypatch):
    encode, merged = tiny_llama.encode, 7
    pair = encode("]A")[1:]

    def merging(text):
        tokens = encode(text)
        starts = [n for n in range(len(tokens) - 1) if tokens[n : n + 2] == pair]
        kept = [merged if n in starts else token for n, token in enumerate(tokens) if n - 1 not in starts]
        return tuple(kept)

    monkeypatch.setattr(tiny_llama, "encode", merging)
    found = _answer_tokens(tiny_llama, builtin_facts()[:1])
    assert found["honey"] == (merged, *encode("nswer: honey")[1:])


def test_answer_facts_without_facts_is_refused(llama):
    with pytest.raises(EvaluationError, match="no facts to ask; give at least one"):
        answer_facts(llama, Intervention(), [])


def test_answer_facts_default_model_knows_most(smollm2):
    assert answer_facts(smollm2, Intervention(), builtin_facts()[::6]).interval.value > 0.6


# Accuracy


def test_drop_from_is_paired_by_fact():
    before = np.arange(200) % 4 != 0
    after = before & (np.arange(200) % 10 != 1)
    drop = Accuracy(after).drop_from(Accuracy(before))
    assert drop.value == pytest.approx(after.mean() - before.mean())
    assert drop.low < drop.value < drop.high < 0
    # Unpaired, facts that both know or do not know would widen the interval.
    unpaired = Accuracy(after).interval.high - Accuracy(after).interval.low
    assert drop.high - drop.low < unpaired


def test_drop_from_same_answers_is_zero():
    same = Accuracy(np.arange(20) % 3 == 0)
    drop = same.drop_from(same)
    assert (drop.value, drop.low, drop.high) == (0.0, 0.0, 0.0)


def test_drop_from_other_facts_is_refused():
    with pytest.raises(EvaluationError, match="3 facts cannot be compared with 4; ask both the same facts"):
        Accuracy(np.ones(3, np.bool_)).drop_from(Accuracy(np.ones(4, np.bool_)))


def test_accuracy_has_an_interval():
    known = Accuracy(np.arange(100) < 70).interval
    assert known.value == pytest.approx(0.7)
    assert 0.58 < known.low < 0.65
    assert 0.75 < known.high < 0.82
