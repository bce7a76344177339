"""A prompt taken apart into its rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.evaluation.rules import MAX_RULES, first_sentence, split_rules

LIST = "You sell boats.\n- Be brief.\n- Say 'ahoy' first. Always.\n3) Never name a price.\nThank them."


def test_items_of_a_list_are_the_rules_and_what_is_around_it_stays():
    found = split_rules(LIST)
    assert [rule.text for rule in found] == ["Be brief.", "Say 'ahoy' first. Always.", "Never name a price."]
    assert found[0].without == "You sell boats.\n- Say 'ahoy' first. Always.\n3) Never name a price.\nThank them."
    assert found[2].without == "You sell boats.\n- Be brief.\n- Say 'ahoy' first. Always.\nThank them."


def test_without_a_list_every_sentence_is_a_rule():
    found = split_rules('You are kind. Say "yes!" to all. Who asks? You do')
    assert [rule.text for rule in found] == ["You are kind.", 'Say "yes!" to all.', "Who asks?", "You do"]
    assert found[1].without == "You are kind. Who asks? You do"
    assert found[3].without == 'You are kind. Say "yes!" to all. Who asks?'


@pytest.mark.parametrize("prompt", ["", "Be brief.", "- Be brief.", "one line without an end"])
def test_a_single_instruction_has_no_rules_to_weigh(prompt):
    assert split_rules(prompt) == ()


def test_numbers_inside_sentences_begin_no_item():
    assert [rule.text for rule in split_rules("It costs 3.50 today. Tomorrow 4.")] == [
        "It costs 3.50 today.",
        "Tomorrow 4.",
    ]


def test_of_very_many_rules_the_first_are_weighed():
    assert len(split_rules("\n".join(f"- Rule {n}." for n in range(40)))) == MAX_RULES


@given(st.lists(st.sampled_from(["Be brief.", "Say yes!", "Why not?", "Speak of boats."]), min_size=2, max_size=8))
def test_what_is_left_has_every_other_rule(sentences):
    found = split_rules(" ".join(sentences))
    assert [rule.text for rule in found] == sentences
    for number, rule in enumerate(found):
        assert rule.without == " ".join(sentences[:number] + sentences[number + 1 :])


@pytest.mark.parametrize(
    ("prompt", "first"), [(LIST, "You sell boats."), ("Be brief. Be kind.", "Be brief."), ("  no end ", "no end")]
)
def test_a_prompt_is_cut_down_to_its_first_sentence(prompt, first):
    assert first_sentence(prompt) == first
