"""From a behaviour to contrastive pairs, through a format that needs no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.behaviours import Behaviour, ContrastiveText, Message, Pole, Template
from trimtab.behaviours.pairs import ContrastivePair, build_pairs, persona_instructions
from trimtab.defaults import MAX_PAIRS
from trimtab.errors import BehaviourError


@dataclass(frozen=True)
class WordFormat:
    """A chat template that shows everything, and tokens that are words."""

    roles: tuple[str, ...] = ("system", "user", "assistant")

    def render(self, messages: Sequence[Message], *, continuation: str = "") -> str:
        turns = [f"<{message.role}>{message.content}" for message in messages if message.role in self.roles]
        return "".join([*turns, f"<answer>{continuation}"])

    def cuts(self, text: str, *, limit: int) -> tuple[str, ...]:
        words = text.split(" ")
        return tuple(" ".join(words[: n + 1]) for n in range(min(limit, len(words))))


FORMAT = WordFormat()
TEMPLATES = (Template(user="Be {persona}."), Template(system="You are {persona}.", user="Speak."))


def behaviour_of(*, personas: int = 2, negatives: int | None = None, templates: int = 2, suffixes: Sequence[str]):
    return Behaviour(
        name="bold",
        description="",
        positive=Pole("bold", tuple(f"P{n}" for n in range(personas))),
        negative=Pole("shy", tuple(f"N{n}" for n in range(personas if negatives is None else negatives))),
        templates=tuple(Template(user=f"T{n} {{persona}}.") for n in range(templates)),
        suffixes=tuple(suffixes),
        source="bold.toml",
    )


def suffixes_of(count: int, words: int) -> list[str]:
    """Suffixes that share no word, so that no two cuts are the same."""
    return [" ".join(f"s{n}w{w}" for w in range(words)) for n in range(count)]


def parts(pair: ContrastivePair) -> tuple[str, str, str, str]:
    """Template, personas and continuation of a pair that ``behaviour_of`` led to."""
    chat, continuation = pair.positive.split("<answer>")
    template, plus = chat.removeprefix("<user>").removesuffix(".").split(" ")
    chat, same = pair.negative.split("<answer>")
    same_template, minus = chat.removeprefix("<user>").removesuffix(".").split(" ")
    assert (template, continuation) == (same_template, same)
    return template, plus, minus, continuation


shapes = st.fixed_dictionaries(
    {
        "personas": st.integers(1, 4),
        "negatives": st.integers(1, 4),
        "templates": st.integers(1, 3),
        "suffixes": st.builds(suffixes_of, st.integers(1, 12), st.integers(1, 4)),
    }
)
bounds = {"max_pairs": st.integers(2, 150), "max_cuts": st.integers(1, 5)}


def total(shape: dict, max_cuts: int) -> int:
    words = len(shape["suffixes"][0].split())
    voices = max(shape["personas"], shape["negatives"]) * shape["templates"]
    return voices * len(shape["suffixes"]) * min(words, max_cuts)


@given(shape=shapes, **bounds)
def test_build_pairs_count_is_possible_pairs_or_maximum(shape, max_pairs, max_cuts):
    expected = min(max_pairs, total(shape, max_cuts))
    if expected < 2:
        with pytest.raises(BehaviourError, match="only one distinct pair"):
            build_pairs(behaviour_of(**shape), FORMAT, max_pairs=max_pairs, max_cuts=max_cuts)
    else:
        pairs = build_pairs(behaviour_of(**shape), FORMAT, max_pairs=max_pairs, max_cuts=max_cuts)
        assert len(pairs) == len(set(pairs)) == expected


@given(shape=shapes.filter(lambda shape: total(shape, 1) >= 2), **bounds)
def test_build_pairs_sides_differ_only_in_persona(shape, max_pairs, max_cuts):
    for pair in build_pairs(behaviour_of(**shape), FORMAT, max_pairs=max_pairs, max_cuts=max_cuts):
        _, plus, minus, _ = parts(pair)
        assert (plus[0], minus[0]) == ("P", "N")
        assert pair.positive.replace(plus, minus) == pair.negative


@given(shape=shapes.filter(lambda shape: total(shape, 1) >= 2), **bounds)
def test_build_pairs_continuation_is_cut_of_suffix(shape, max_pairs, max_cuts):
    for pair in build_pairs(behaviour_of(**shape), FORMAT, max_pairs=max_pairs, max_cuts=max_cuts):
        words = parts(pair)[3].split(" ")
        assert 1 <= len(words) <= max_cuts
        assert any(suffix.split(" ")[: len(words)] == words for suffix in shape["suffixes"])


@given(shape=shapes.filter(lambda shape: total(shape, 1) >= 2), **bounds)
def test_build_pairs_covers_personas_and_templates_evenly(shape, max_pairs, max_cuts):
    pairs = build_pairs(behaviour_of(**shape), FORMAT, max_pairs=max_pairs, max_cuts=max_cuts)
    voices = Counter(parts(pair)[:3] for pair in pairs)
    count = max(shape["personas"], shape["negatives"]) * shape["templates"]
    assert len(voices) == min(count, len(pairs))
    assert max(voices.values()) - min(voices.values()) <= 1


@given(shape=shapes.filter(lambda shape: total(shape, 1) >= 2), **bounds)
@settings(max_examples=30)
def test_build_pairs_is_deterministic(shape, max_pairs, max_cuts):
    first, second = (
        build_pairs(behaviour_of(**shape), FORMAT, max_pairs=max_pairs, max_cuts=max_cuts) for _ in range(2)
    )
    assert first == second


def test_build_pairs_unlimited_has_all_combinations():
    behaviour = behaviour_of(personas=3, templates=2, suffixes=suffixes_of(5, 2))
    found = {parts(pair) for pair in build_pairs(behaviour, FORMAT)}
    assert found == {
        (f"T{t}", f"P{p}", f"N{p}", cut)
        for t in range(2)
        for p in range(3)
        for suffix in suffixes_of(5, 2)
        for cut in FORMAT.cuts(suffix, limit=8)
    }


def test_build_pairs_shorter_persona_list_repeats():
    behaviour = behaviour_of(personas=5, negatives=2, templates=1, suffixes=["I"])
    voices = sorted({parts(pair)[1:3] for pair in build_pairs(behaviour, FORMAT)})
    assert voices == [("P0", "N0"), ("P1", "N1"), ("P2", "N0"), ("P3", "N1"), ("P4", "N0")]


def test_build_pairs_spreads_suffixes_evenly():
    behaviour = behaviour_of(personas=2, templates=2, suffixes=suffixes_of(100, 8))
    pairs = build_pairs(behaviour, FORMAT, max_pairs=160, max_cuts=8)
    used = sorted({int(parts(pair)[3].split("w")[0][1:]) for pair in pairs})
    assert used == list(range(0, 100, 5))


def test_build_pairs_short_suffixes_use_more_of_them():
    behaviour = behaviour_of(personas=2, templates=2, suffixes=suffixes_of(100, 1))
    pairs = build_pairs(behaviour, FORMAT, max_pairs=80, max_cuts=8)
    assert len({parts(pair)[3] for pair in pairs}) == 80


def test_build_pairs_shared_suffix_beginning_gives_no_duplicates():
    behaviour = behaviour_of(personas=1, templates=1, suffixes=["I am", "I am here", "I was"])
    pairs = build_pairs(behaviour, FORMAT)
    assert sorted(parts(pair)[3] for pair in pairs) == ["I", "I am", "I am here", "I was"]


@pytest.mark.parametrize("name", ["happy", "formal"])
def test_build_pairs_of_zoo_reaches_default_evenly(name):
    behaviour = Behaviour.load(name)
    pairs = build_pairs(behaviour, FORMAT)
    assert len(pairs) == MAX_PAIRS
    said = Counter(persona for pair in pairs for persona in behaviour.positive.personas if persona in pair.positive)
    assert max(said.values()) - min(said.values()) <= len(behaviour.templates)
    assert len(said) == len(behaviour.positive.personas)


# Pairs given outright


def chat(text: str, *, role: str = "user") -> tuple[Message, ...]:
    return (Message(role, text),)


GIVEN = replace(
    behaviour_of(personas=0, suffixes=["I"]),
    pairs=tuple(ContrastiveText(chat(f"Arr {n}!"), chat(f"Objection {n}!")) for n in range(5)),
)


def test_given_pairs_end_with_answer_opening():
    pairs = build_pairs(GIVEN, FORMAT)
    assert pairs == tuple(ContrastivePair(f"<user>Arr {n}!<answer>", f"<user>Objection {n}!<answer>") for n in range(5))


def test_given_pairs_replace_personas():
    both = replace(GIVEN, positive=Pole("bold", ("a pirate",)), negative=Pole("shy", ("a lawyer",)))
    assert build_pairs(both, FORMAT) == build_pairs(GIVEN, FORMAT)


def test_given_pairs_are_limited_by_max_pairs():
    assert build_pairs(GIVEN, FORMAT, max_pairs=3) == build_pairs(GIVEN, FORMAT)[:3]


def test_given_pairs_duplicates_are_dropped():
    assert build_pairs(replace(GIVEN, pairs=GIVEN.pairs * 2), FORMAT) == build_pairs(GIVEN, FORMAT)


# What is refused


def test_given_pairs_single_distinct_is_refused():
    with pytest.raises(BehaviourError, match=r"bold\.toml: only one distinct pair"):
        build_pairs(replace(GIVEN, pairs=GIVEN.pairs[:1] * 2), FORMAT)


def test_build_pairs_hidden_persona_is_refused():
    hidden = replace(behaviour_of(suffixes=["I am"]), templates=(Template(system="You are {persona}.", user="Speak."),))
    assert build_pairs(hidden, FORMAT)
    with pytest.raises(
        BehaviourError, match=r"bold\.toml: a pair reads the same on both sides: '<user>Speak.<answer>I'"
    ):
        build_pairs(hidden, WordFormat(roles=("user",)))


@pytest.mark.parametrize("count", [1, 0, -5])
def test_build_pairs_max_pairs_below_two_is_refused(count):
    with pytest.raises(BehaviourError, match=f"max_pairs is {count}; ask for at least 2"):
        build_pairs(GIVEN, FORMAT, max_pairs=count)


@pytest.mark.parametrize("count", [0, -1])
def test_build_pairs_max_cuts_below_one_is_refused(count):
    with pytest.raises(BehaviourError, match=f"max_cuts is {count}; ask for at least 1"):
        build_pairs(behaviour_of(suffixes=["I am"]), FORMAT, max_cuts=count)


# Asking outright for the poles


def test_persona_instructions_cycle_through_personas():
    behaviour = replace(behaviour_of(personas=3, negatives=2, suffixes=["I"]), templates=TEMPLATES)
    asked = [persona_instructions(behaviour, n) for n in range(6)]
    assert [pair.positive for pair in asked] == [
        *("You are P0.", "You are P1.", "You are P2."),
        *("You are P1.", "You are P2.", "You are P0."),  # shifted, so that no phrasing keeps meeting one kind
    ]
    assert [pair.negative for pair in asked] == [
        *("You are N0.", "You are N1.", "You are N0."),
        *("You are N1.", "You are N0.", "You are N0."),
    ]


def test_persona_instructions_without_system_use_user_message():
    behaviour = replace(
        behaviour_of(personas=1, negatives=1, suffixes=["I"]), templates=(Template(user="Be {persona}."),)
    )
    assert persona_instructions(behaviour, 0) == ContrastivePair("Be P0.", "Be N0.")


def test_persona_instructions_without_personas_is_refused():
    with pytest.raises(BehaviourError, match=r"bold\.toml: no personas"):
        persona_instructions(GIVEN, 0)
