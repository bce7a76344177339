"""Scopes and schedules as values."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import SteeringError
from trimtab.steering import Part, Schedule, Scope

CONTRADICTIONS = {
    "prompt, generated": "prompt and generated",
    "first 8, prompt": "prompt and first",
    "from 8, prompt": "prompt and from",
    "thinking, prompt": "prompt and thinking",
    "system, generated": "system and generated",
    "user, answer": "user and answer",
    "system, user": "system and user",
    "assistant, user": "user and assistant",
    "thinking, answer": "thinking and answer",
    "first 8, from 8": "the first 8 and from 8",
    "first 8, first 3, from 1, from 5": "the first 3 and from 5",
    "before:x, after:x": "before and after 'x'",
    "prompt, half-life 16": "a half-life over generated tokens and prompt",
    "before:x, system, decay 16": "a decay over generated tokens and system",
    "user, decay 16": "a decay over generated tokens and user",
}


@pytest.mark.parametrize(("text", "what"), CONTRADICTIONS.items(), ids=CONTRADICTIONS)
def test_scope_contradiction_is_refused(text, what):
    with pytest.raises(SteeringError, match=r"no token can be in .*drop one of the two") as caught:
        Scope.of(text)
    assert sorted(what.split(" and ")) == sorted(str(caught.value).split(" be in ")[1].split(";")[0].split(" and "))


@pytest.mark.parametrize(
    "text",
    [
        "generated, first 8",
        "first 8, from 7",
        "from 0",
        "assistant, prompt",
        "assistant, generated",
        "prompt, user",
        "assistant, thinking",
        'before:"x", after:"y"',
        'prompt, after:"x"',
        "assistant, half-life 0.5",
        "decay 1e+300",
    ],
)
def test_scope_satisfiable_is_accepted(text):
    assert str(Scope.of(text)) == text


@pytest.mark.parametrize(
    ("kind", "more", "why"),
    [
        ("after", {}, 'after: of what?; write the text, such as after:"Answer"'),
        ("before", {"text": ""}, "before: of what?"),
        ("first", {}, "first 0 is not a number of tokens; give at least 1"),
        ("from", {"count": -1}, "from -1 is not a number of tokens; give at least 0"),
        ("promt", {}, "there is no scope 'promt'; did you mean 'prompt'?"),
    ],
)
def test_part_without_meaning_is_refused(kind, more, why):
    with pytest.raises(SteeringError) as caught:
        Part(kind, **more)
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize("tokens", [0, -1, math.nan, math.inf])
def test_schedule_without_positive_tokens_is_refused(tokens):
    with pytest.raises(SteeringError, match="give a number above 0"):
        Schedule("decay", tokens)


def test_schedule_unknown_kind_is_refused():
    with pytest.raises(SteeringError, match="there is no schedule 'halflife'; did you mean 'half-life'"):
        Schedule("halflife", 8)


def test_decay_is_linear_to_zero():
    assert [Schedule("decay", 4).coefficient(n) for n in (0, 1, 2, 4, 9)] == [1.0, 0.75, 0.5, 0.0, 0.0]


def test_half_life_halves():
    assert [Schedule("half-life", 4).coefficient(n) for n in (0, 4, 8)] == [1.0, 0.5, 0.25]


@given(st.sampled_from(["decay", "half-life"]), st.floats(0.01, 1e6), st.integers(0, 10_000))
def test_schedule_starts_at_one_and_never_grows(kind, tokens, n):
    schedule = Schedule(kind, tokens)
    assert schedule.coefficient(0) == 1.0
    assert 0.0 <= schedule.coefficient(n + 1) <= schedule.coefficient(n)


def test_scope_is_all_only_if_empty():
    assert Scope().is_all
    assert not Scope.of("half-life 16").is_all
    assert not Scope.of("generated").is_all
    assert str(Scope()) == "all"
