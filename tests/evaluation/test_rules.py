"""Rules of a prompt: splitting, questions that ask for them, and their attribution."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiny_models import vector_for
from trimtab.behaviours import Message
from trimtab.evaluation.rules import (
    MAX_RULES,
    MIN_WEIGHT,
    PromptedAnswers,
    RuleEffect,
    Student,
    attribute_rules,
    first_sentence,
    mean_kl,
    questions_for,
    split_rules,
)
from trimtab.training.distillation.examples import Teacher
from trimtab.training.progress import ignore
from trimtab.vectors import Interval

LIST = "You sell boats.\n- Be brief.\n- Say 'ahoy' first. Always.\n3) Never name a price.\nThank them."


def test_split_rules_list_items_are_the_rules():
    found = split_rules(LIST)
    assert [rule.text for rule in found] == ["Be brief.", "Say 'ahoy' first. Always.", "Never name a price."]
    assert found[0].without == "You sell boats.\n- Say 'ahoy' first. Always.\n3) Never name a price.\nThank them."
    assert found[2].without == "You sell boats.\n- Be brief.\n- Say 'ahoy' first. Always.\nThank them."


def test_split_rules_without_list_takes_sentences():
    found = split_rules('You are kind. Say "yes!" to all. Who asks? You do')
    assert [rule.text for rule in found] == ["You are kind.", 'Say "yes!" to all.', "Who asks?", "You do"]
    assert found[1].without == "You are kind. Who asks? You do"
    assert found[3].without == 'You are kind. Say "yes!" to all. Who asks?'


@pytest.mark.parametrize("prompt", ["", "Be brief.", "- Be brief.", "one line without an end"])
def test_split_rules_single_instruction_is_empty(prompt):
    assert split_rules(prompt) == ()


def test_split_rules_numbers_in_sentences_begin_no_item():
    assert [rule.text for rule in split_rules("It costs 3.50 today. Tomorrow 4.")] == [
        "It costs 3.50 today.",
        "Tomorrow 4.",
    ]


def test_split_rules_many_are_limited():
    assert len(split_rules("\n".join(f"- Rule {n}." for n in range(40)))) == MAX_RULES


@given(st.lists(st.sampled_from(["Be brief.", "Say yes!", "Why not?", "Speak of boats."]), min_size=2, max_size=8))
def test_split_rules_without_keeps_all_others(sentences):
    found = split_rules(" ".join(sentences))
    assert [rule.text for rule in found] == sentences
    for number, rule in enumerate(found):
        assert rule.without == " ".join(sentences[:number] + sentences[number + 1 :])


@pytest.mark.parametrize(
    ("prompt", "first"), [(LIST, "You sell boats."), ("Be brief. Be kind.", "Be brief."), ("  no end ", "no end")]
)
def test_first_sentence_is_the_first(prompt, first):
    assert first_sentence(prompt) == first


# Questions -----------------------------------------------------------------------------------------------------------

RULE = "A loaf of rye bread costs 4.35 dollars."


def writing(*texts):
    """Return an engine that writes these texts."""
    return SimpleNamespace(generate=lambda chats, **_: [SimpleNamespace(text=text) for text in texts])


def test_questions_for_too_long_rule_is_empty(llama):
    assert questions_for(llama, RULE * 9, count=2, seed=0) == ()


def test_questions_for_keeps_distinct_questions_without_answer():
    model = writing(
        "What does rye bread cost?\nMore.", "It costs money.", '"How much is it?"', "How much is it?", "Eh?"
    )
    assert questions_for(model, RULE, count=3, seed=0) == ("What does rye bread cost?", "How much is it?")
    assert questions_for(model, RULE, count=1, seed=0) == ("What does rye bread cost?",)
    assert questions_for(writing("Does it cost 4.35 dollars?"), RULE, count=1, seed=0) == ()


def test_questions_for_words_of_the_rule_come_first():
    model = writing("What is a recipe?", "How much is a Loaf?", "Why is that?", "Is it rye bread?")
    found = ("How much is a Loaf?", "Is it rye bread?", "What is a recipe?", "Why is that?")
    assert questions_for(model, RULE, count=4, seed=0) == found
    assert questions_for(model, RULE, count=2, seed=0) == found[:2]


@pytest.mark.slow
def test_questions_for_price_on_default_model_ask_for_it(smollm2):
    found = questions_for(smollm2, RULE, count=4, seed=0)
    assert len(found) == 4
    assert all("loaf" in question for question in found)
    assert any("How much" in question or "price" in question for question in found)
    assert found == questions_for(smollm2, RULE, count=4, seed=0)


# Attribution ---------------------------------------------------------------------------------------------------------

ASKED = ("How are you?", "Where is it?", "Say more.")
MORE = ("How are you?", "What is rain?", "Tell me of a walk.")
PROMPT = "Speak of the sea. Be brief!"
SIZES = {"messages": 3, "questions": 0, "answer_tokens": 6}


def prompted(engine, prompt, texts=ASKED, tokens=6):
    return PromptedAnswers.ask(engine, engine.gradients, Teacher.of(prompt), texts, answer_tokens=tokens, seed=1)


def under(prompt):
    return Student(opening=(Message("system", prompt),))


def attributed(engine, prompt, student, *, sizes=SIZES, answers=None):
    answers = answers or prompted(engine, prompt)
    return attribute_rules(answers, student, split_rules(prompt), **sizes, progress=ignore)


def slow_evidence(engine, answers, rule, student):
    """Mean of log(whole / without) under what a student expects, over all of the vocabulary."""

    def logprobs(opening, number, additions=()):
        answer = answers.answered[number].answer
        read = engine.encode(engine.render([*opening, Message("user", answers.answered[number].text)]))
        with torch.no_grad(), engine.steered(list(additions)):
            logits = engine.model(torch.tensor([[*read, *answer[:-1]]]), use_cache=False).logits[0]
        return logits[len(read) - 1 :].double().log_softmax(-1)

    each = []
    for number in range(len(answers.answered)):
        whole, without = (logprobs([Message("system", prompt)], number) for prompt in (rule.prompt, rule.without))
        expected = logprobs(*student[:1], number, student[1])
        each.append(float((expected.exp() * (whole - without)).sum(-1).mean()))
    return float(np.mean(each))


def test_rule_share_equals_slow_reference(llama):
    vector = vector_for(llama)
    answers = prompted(llama, PROMPT)
    found = attributed(llama, PROMPT, Student.steered(vector, 0.5), answers=answers)
    assert [rule.text for rule in found] == ["Speak of the sea.", "Be brief!"]
    for rule, own in zip(split_rules(PROMPT), found, strict=True):
        students = {
            "whole": ([Message("system", rule.prompt)], ()),
            "without": ([Message("system", rule.without)], ()),
            "steered": ([], [(vector, 0.5)]),
            "plain": ([], ()),
        }
        means = {name: slow_evidence(llama, answers, rule, student) for name, student in students.items()}
        lowest = min(means["without"], means["plain"])
        general = own.general
        assert general.weight == pytest.approx(means["whole"], rel=0.02)
        assert general.share.value == pytest.approx((means["steered"] - lowest) / (means["whole"] - lowest), abs=0.03)
        assert general.share.low <= general.share.value <= general.share.high


def test_rule_share_of_generated_tokens_vector_differs(llama):
    vector = vector_for(llama)
    everywhere = Student(additions=vector.addition(0.5))
    generated = Student(additions=vector.addition(0.5), generated=True)
    found = [attributed(llama, PROMPT, student)[0].general.share.value for student in (everywhere, generated)]
    assert abs(found[0] - found[1]) > 1e-3


def test_rule_share_whole_prompt_is_one_and_plain_is_zero(llama):
    rules = split_rules(PROMPT)
    for number, rule in enumerate(rules):
        assert attributed(llama, PROMPT, under(PROMPT))[number].general.share.value == pytest.approx(1.0, abs=0.01)
        least = [attributed(llama, PROMPT, student)[number] for student in (under(rule.without), Student())]
        assert min(found.general.share.value for found in least) == pytest.approx(0.0, abs=0.01)


def test_small_rule_carried_beside_a_large_one_not_carried(smollm2):
    """Held against all that the prompt changes, the small rule's share would drown."""
    small = "End every message with a question."
    prompt = f"Speak like a drunken pirate in every sentence, and swear by the sea. {small}"
    answers = prompted(
        smollm2, prompt, ("How are you?", "What is rain?", "Tell me of a walk.", "Why do cats purr?"), 24
    )
    sizes = {"messages": 4, "questions": 0, "answer_tokens": 24}
    large, found = attributed(smollm2, prompt, under(small), sizes=sizes, answers=answers)
    assert large.general.weight > 5 * found.general.weight
    assert mean_kl(answers.measure(under(small))) > 5 * found.general.weight
    assert large.carried is False
    assert found.carried is True


def test_rule_without_weight_is_not_followed(llama, monkeypatch):
    monkeypatch.setattr("trimtab.evaluation.rules.MIN_WEIGHT", 99.0)
    for rule in attributed(llama, PROMPT, Student()):
        assert (rule.carried, rule.general.share) == (None, None)


QUESTIONS = ("Where is the harbour?", "Which street?")


@pytest.fixture
def questioned(monkeypatch):
    """Return the rules that questions were to ask for; each gets the same questions."""
    rules = []

    def questions(model, rule, *, count, seed):
        rules.append(rule)
        return QUESTIONS[:count]

    monkeypatch.setattr("trimtab.evaluation.rules.questions_for", questions)
    return rules


def test_rules_are_measured_on_general_and_asked_messages(llama, questioned):
    vector = vector_for(llama)
    found = attributed(llama, PROMPT, Student.steered(vector, 0.5), sizes=SIZES | {"questions": 2})
    assert questioned == ["Speak of the sea.", "Be brief!"]
    general = attributed(llama, PROMPT, Student.steered(vector, 0.5))
    on_questions = attributed(llama, PROMPT, Student.steered(vector, 0.5), answers=prompted(llama, PROMPT, QUESTIONS))
    for both, one, other in zip(found, general, on_questions, strict=True):
        assert (both.general, both.asked, both.questions) == (one.general, other.general, QUESTIONS)
        assert (one.asked, one.questions) == (None, ())


@pytest.mark.parametrize(
    ("general", "asked", "carried"),
    [
        ((0.6, 0.1), (0.6, 0.1), True),
        ((0.6, 0.1), (0.4, 0.1), False),
        ((0.4, 0.1), (0.6, 0.1), False),
        ((0.4, 0.001), (0.6, 0.1), True),
        ((0.6, 0.1), (0.4, 0.001), True),
        ((0.6, 0.1), None, True),
        ((0.6, 0.001), (0.6, 0.001), None),
    ],
)
def test_rule_carried_requires_both_where_it_counts(llama, questioned, monkeypatch, general, asked, carried):
    def effect(given):
        share, weight = given
        return RuleEffect(weight, Interval(share, 0.0, 1.0) if weight >= MIN_WEIGHT else None)

    effects = iter([effect(given) for given in (general, asked) if given])
    monkeypatch.setattr("trimtab.evaluation.rules._Reference.effect_of", lambda self, rule: next(effects))
    sizes = SIZES | {"questions": 2 if asked else 0}
    (found,) = attribute_rules(prompted(llama, PROMPT), Student(), split_rules(PROMPT)[:1], **sizes, progress=ignore)
    assert found.carried is carried


def test_attribute_rules_without_rules_is_empty(llama):
    assert attribute_rules(prompted(llama, "Be brief."), Student(), (), **SIZES, progress=ignore) == ()
