"""Questions that ask for what a rule says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trimtab.evaluation.rules import questions_for

RULE = "A loaf of rye bread costs 4.35 dollars."


def writing(*texts):
    """An engine that writes these texts."""
    return SimpleNamespace(generate=lambda chats, **_: [SimpleNamespace(text=text) for text in texts])


def test_where_the_rule_does_not_fit_into_the_window_nothing_is_asked(llama):
    assert questions_for(llama, RULE * 9, count=2, seed=0) == ()


def test_only_questions_count_each_once_and_none_that_gives_it_away():
    model = writing(
        "What does rye bread cost?\nMore.", "It costs money.", '"How much is it?"', "How much is it?", "Eh?"
    )
    assert questions_for(model, RULE, count=3, seed=0) == ("What does rye bread cost?", "How much is it?")
    assert questions_for(model, RULE, count=1, seed=0) == ("What does rye bread cost?",)
    assert questions_for(writing("Does it cost 4.35 dollars?"), RULE, count=1, seed=0) == ()


def test_questions_with_a_word_of_the_rule_come_first():
    model = writing("What is a recipe?", "How much is a Loaf?", "Why is that?", "Is it rye bread?")
    found = ("How much is a Loaf?", "Is it rye bread?", "What is a recipe?", "Why is that?")
    assert questions_for(model, RULE, count=4, seed=0) == found
    assert questions_for(model, RULE, count=2, seed=0) == found[:2]


@pytest.mark.slow
def test_the_default_model_asks_for_a_price(smollm2):
    found = questions_for(smollm2, RULE, count=4, seed=0)
    assert len(found) == 4
    assert all("loaf" in question for question in found)
    assert any("How much" in question or "price" in question for question in found)
    assert found == questions_for(smollm2, RULE, count=4, seed=0)
