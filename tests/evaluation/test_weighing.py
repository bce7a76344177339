"""Which of a prompt's rules a model goes by."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tiny_models import vector_for
from trimtab.behaviours import Message
from trimtab.evaluation.probes import Probes, Student, mean_kl
from trimtab.evaluation.rules import Weighing, rules_of, weigh
from trimtab.training.distillation.examples import Teacher
from trimtab.training.progress import ignore

ASKED = ("How are you?", "Where is it?", "Say more.")
PROMPT = "Speak of the sea. Be brief!"
SIZES = Weighing(messages=3, questions=2, answer_tokens=6)


def asked(engine, prompt, texts=ASKED, tokens=6):
    return Probes.ask(engine, engine.gradients, Teacher.of(prompt), texts, answer_tokens=tokens, seed=1)


def under(prompt):
    return Student(opening=(Message("system", prompt),))


def weighed(engine, prompt, student, *, sizes=SIZES, probes=None):
    probes = probes or asked(engine, prompt)
    return weigh(probes, student, rules_of(prompt), sizes=sizes, progress=ignore)


def slow_evidence(engine, probes, rule, student):
    """Mean of log(whole / without) under what a student expects, over all of the vocabulary."""

    def logprobs(opening, number, additions=()):
        answer = probes.answered[number].answer
        read = engine.encode(engine.render([*opening, Message("user", probes.answered[number].text)]))
        with torch.no_grad(), engine.steered(list(additions)):
            logits = engine.model(torch.tensor([[*read, *answer[:-1]]]), use_cache=False).logits[0]
        return logits[len(read) - 1 :].double().log_softmax(-1)

    each = []
    for number in range(len(probes.answered)):
        whole, without = (logprobs([Message("system", prompt)], number) for prompt in (rule.prompt, rule.without))
        expected = logprobs(*student[:1], number, student[1])
        each.append(float((expected.exp() * (whole - without)).sum(-1).mean()))
    return float(np.mean(each))


def test_how_far_a_vector_goes_by_a_rule_is_that_of_a_slow_reference(llama):
    vector = vector_for(llama)
    probes = asked(llama, PROMPT)
    found = weighed(llama, PROMPT, Student.steered(vector, 0.5), probes=probes)
    assert [rule.text for rule in found] == ["Speak of the sea.", "Be brief!"]
    for rule, own in zip(rules_of(PROMPT), found, strict=True):
        students = {
            "whole": ([Message("system", rule.prompt)], ()),
            "without": ([Message("system", rule.without)], ()),
            "steered": ([], [(vector, 0.5)]),
            "plain": ([], ()),
        }
        means = {name: slow_evidence(llama, probes, rule, student) for name, student in students.items()}
        lowest = min(means["without"], means["plain"])
        assert own.weight == pytest.approx(means["whole"], rel=0.02)
        assert own.closed.value == pytest.approx((means["steered"] - lowest) / (means["whole"] - lowest), abs=0.03)
        assert own.closed.low <= own.closed.value <= own.closed.high


def test_a_vector_of_generated_tokens_is_added_there_alone(llama):
    vector = vector_for(llama)
    everywhere = Student(additions=vector.addition(0.5))
    generated = Student(additions=vector.addition(0.5), generated=True)
    found = [weighed(llama, PROMPT, student)[0].closed.value for student in (everywhere, generated)]
    assert abs(found[0] - found[1]) > 1e-3


def test_the_whole_prompt_goes_all_the_way_and_the_plain_model_or_the_rest_of_the_prompt_none(llama):
    rules = rules_of(PROMPT)
    for number, rule in enumerate(rules):
        assert weighed(llama, PROMPT, under(PROMPT))[number].closed.value == pytest.approx(1.0, abs=0.01)
        least = [weighed(llama, PROMPT, student)[number].closed for student in (under(rule.without), Student())]
        assert min(found.value for found in least) == pytest.approx(0.0, abs=0.01)


def test_a_small_rule_is_seen_beside_a_large_one_that_did_not_take(smollm2):
    """Held against all that the prompt changes, the small rule's share would drown."""
    small = "End every message with a question."
    prompt = f"Speak like a drunken pirate in every sentence, and swear by the sea. {small}"
    probes = asked(smollm2, prompt, ("How are you?", "What is rain?", "Tell me of a walk.", "Why do cats purr?"), 24)
    sizes = Weighing(messages=4, questions=0, answer_tokens=24)
    large, found = weighed(smollm2, prompt, under(small), sizes=sizes, probes=probes)
    assert large.weight > 5 * found.weight
    assert mean_kl(probes.measure(under(small))) > 5 * found.weight
    assert large.word == "did not take"
    assert found.word == "took"


def test_a_rule_that_changes_nothing_is_not_followed(llama, monkeypatch):
    monkeypatch.setattr("trimtab.evaluation.rules.MATTERS", 99.0)
    for rule in weighed(llama, PROMPT, Student()):
        assert (rule.word, rule.closed) == ("not followed", None)


FACTS = "Be brief. The harbour is at 17 Mallow Street! We do not swim. Sing often."


@pytest.fixture
def wanted(monkeypatch):
    """The rules that questions were to ask for."""
    rules = []

    def questions(model, rule, *, count, seed):
        rules.append(rule)
        return ("Where is the harbour?", "Which street?")

    monkeypatch.setattr("trimtab.evaluation.rules.questions_for", questions)
    return rules


def test_exact_rules_are_asked_for_and_statements_that_hardly_count(llama, wanted, monkeypatch):
    weighed(llama, FACTS, Student())
    assert wanted == ["The harbour is at 17 Mallow Street!"]
    wanted.clear()
    monkeypatch.setattr("trimtab.evaluation.rules.MATTERS", 99.0)
    assert {rule.word for rule in weighed(llama, FACTS, Student())} == {"not followed"}
    assert wanted == ["The harbour is at 17 Mallow Street!", "We do not swim."]


def test_a_rule_is_weighed_on_questions_that_ask_for_it_where_it_counts_so_much_more(llama, wanted, monkeypatch):
    prompt = "Be brief. Mention 17 Mallow Street!"  # no plain fact

    def exact(times):
        monkeypatch.setattr("trimtab.evaluation.rules.FAR_MORE", times)
        return weighed(llama, prompt, Student())[1]

    asked, general = exact(0.0), exact(99.0)
    assert asked.asked == ("Where is the harbour?", "Which street?")
    assert general.asked == ()
    ratio = asked.weight / general.weight
    assert exact(ratio * 0.99).asked
    assert not exact(ratio * 1.01).asked


def test_a_plain_fact_is_weighed_there_if_it_counts_more_at_all(llama, wanted, monkeypatch):
    monkeypatch.setattr("trimtab.evaluation.rules.FAR_MORE", 99.0)
    fact = weighed(llama, FACTS, Student())[1]
    monkeypatch.setattr("trimtab.evaluation.rules.questions_for", lambda *_, **__: ())
    general = weighed(llama, FACTS, Student())[1]
    assert fact.asked
    assert fact.weight > general.weight


def test_where_there_are_no_rules_none_are_weighed(llama):
    assert weigh(asked(llama, "Be brief."), Student(), (), sizes=SIZES, progress=ignore) == ()
