"""Checking the words of a behaviour: each kind of finding, what triggers it, and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trimtab.behaviours import (
    Behaviour,
    ContrastiveText,
    Message,
    Pole,
    Template,
    builtin_suffixes,
    zoo_names,
)
from trimtab.behaviours.lint import content_words, lint_words, words_of

CLEAN = Behaviour(
    name="clean",
    description="",
    positive=Pole("pirate", ("a salty pirate", "a buccaneer of the sea", "the captain of a raiding ship")),
    negative=Pole("lawyer", ("a careful lawyer", "an attorney of the court", "the head of a legal office")),
    templates=(Template(user="Act as {persona}."),),
    suffixes=(
        "The kettle began to",
        "In the garden there is",
        "My uncle bought a",
        "Half of the bread was",
        "When it rains, the",
        "Two trains left before",
        "A window was open and",
        "Her bicycle needs a",
    ),
)


def with_personas(positive, negative, **changes) -> Behaviour:
    return replace(CLEAN, positive=Pole("pirate", tuple(positive)), negative=Pole("lawyer", tuple(negative)), **changes)


def with_persona(positive, negative) -> Behaviour:
    """The clean behaviour with one more persona, the fourth."""
    return with_personas((*CLEAN.positive.personas, positive), (*CLEAN.negative.personas, negative))


def with_pairs(*pairs, filled=True) -> Behaviour:
    """Pairs given outright, after eight clean ones if ``filled``."""
    clean = [(f"I sail ship {n} at sea", f"I file case {n} in court") for n in range(8)] if filled else []
    chats = [
        tuple((Message("user", side),) if isinstance(side, str) else side for side in pair) for pair in (*clean, *pairs)
    ]
    return replace(CLEAN, pairs=tuple(ContrastiveText(plus, minus) for plus, minus in chats))


def test_lint_clean_behaviour_has_no_findings():
    assert lint_words(CLEAN) == ()
    assert lint_words(with_pairs()) == ()
    assert lint_words(replace(CLEAN, suffixes=builtin_suffixes())) == ()


FINDINGS = [
    (replace(CLEAN, negative=replace(CLEAN.negative, label="Pirate!")), "error", "negative.label", "both poles"),
    (with_personas(["a pirate"], ["a lawyer"]), "warning", "positive.personas", "only 1"),
    (with_personas(["a pirate", "a rover"], ["a lawyer", "a clerk"]), "note", "negative.personas", "only 2"),
    (
        replace(CLEAN, negative=Pole("lawyer", CLEAN.negative.personas[:2])),
        "warning",
        "negative.personas",
        "2 against 3 of the other pole",
    ),
    (with_persona("A salty pirate!", "a tidy clerk"), "warning", "positive.personas[3]", "personas[0] again"),
    (
        with_personas(
            ["sad and lonely", "lonely and sad", "a rover"], ["neat and orderly", "proper and precise", "a clerk"]
        ),
        "note",
        "positive.personas[1]",
        "personas[0] again, in another order",
    ),
    (with_persona("the lawyer, careful", "a clerk"), "error", "negative.personas[0]", "in the positive pole too"),
    (with_persona("a careful lawyer.", "a clerk"), "error", "negative.personas[0]", "in the positive pole too"),
    (
        with_persona("a rover", "a clerk who sits at a desk all day"),
        "warning",
        "personas[3]",
        "2 words against 9",
    ),
    (
        with_personas(
            ["a pirate of seas", "a rover of seas", "a captain of seas"],
            ["a lawyer of high courts", "a clerk of high courts", "a judge of high courts"],
        ),
        "warning",
        "negative.personas",
        "5.0 words on average against 4.0",
    ),
    (with_persona("a rover", "not a buccaneer"), "warning", "negative.personas[3]", "denies 'buccaneer'"),
    (with_persona("a rover who can't wait", "a clerk who waits"), "warning", "positive.personas[3]", "denies 'wait'"),
    (with_persona("a rover without fear", "a clerk of patience"), "note", "positive.personas[3]", "a negation that"),
    (with_persona("a rover and lawyer", "a clerk and notary"), "warning", "positive.personas[3]", "has 'lawyer'"),
    (replace(CLEAN, suffixes=CLEAN.suffixes[:7]), "note", "suffixes", "only 7"),
    (replace(CLEAN, suffixes=CLEAN.suffixes[:2]), "warning", "suffixes", "only 2"),
    (
        replace(CLEAN, suffixes=(*CLEAN.suffixes, "the kettle began to...")),
        "warning",
        "suffixes",
        "given more than once",
    ),
    (replace(CLEAN, suffixes=(*CLEAN.suffixes, "Two pirates came to")), "warning", "suffixes[8]", "words of a label"),
    (replace(CLEAN, suffixes=(*CLEAN.suffixes, "The court is on")), "note", "suffixes[8]", "one pole's personas"),
    (replace(CLEAN, evaluation_prompts=("Are you a lawyer?",)), "warning", "evaluation.prompts[0]", "of a label"),
    (replace(CLEAN, evaluation_prompts=("How?", "Do ships float?")), "note", "evaluation.prompts[1]", "one pole's"),
    (with_pairs(("a", "b"), ("c", "d"), filled=False), "warning", "pairs", "only 2"),
    (with_pairs(("The same words", "the same words.")), "error", "pairs[8]", "same words"),
    (with_pairs(("?", "!")), "error", "pairs[8]", "without words"),
    (with_pairs(("I sail ship 3 at sea", "I file case 3 in court")), "warning", "pairs[8]", "pairs[3] again"),
    (
        with_pairs(("I sail", (Message("system", "I file"),))),
        "warning",
        "pairs[8]",
        "not the same kind of chat",
    ),
    (
        with_pairs(("I sail", "I file papers from the morning to the evening")),
        "warning",
        "pairs[8]",
        "one side much longer",
    ),
    (
        with_pairs(*[(f"I sail ship {n} at sea", f"I file {n} long cases in court") for n in range(10, 90)]),
        "warning",
        "pairs",
        "the negative sides are longer",
    ),
]


@pytest.mark.parametrize(("behaviour", "level", "where", "problem"), FINDINGS, ids=[row[3] for row in FINDINGS])
def test_lint_finding_has_level_place_and_fix(behaviour, level, where, problem):
    found = [finding for finding in lint_words(behaviour) if problem in finding.problem]
    assert (level, where) in {(finding.level, finding.where) for finding in found}
    assert all(finding.fix for finding in found)


def test_lint_shared_negation_is_ignored():
    assert lint_words(with_persona("a rover who never sleeps", "a clerk who never rests")) == ()


def test_lint_word_of_both_poles_is_no_leak():
    assert lint_words(replace(CLEAN, evaluation_prompts=("What do you like most about the weather?",))) == ()
    shared = with_persona("a rover of the harbour", "a clerk of the harbour")
    assert lint_words(replace(shared, evaluation_prompts=("Where is the harbour?",))) == ()


def test_lint_pairs_given_ignores_suffixes():
    assert lint_words(replace(with_pairs(), suffixes=("A pirate",))) == ()


def test_lint_pairs_given_needs_no_personas():
    assert lint_words(replace(with_pairs(), positive=Pole("pirate", ()), negative=Pole("lawyer", ()))) == ()


def test_lint_common_words_of_builtin_suffixes_are_no_leak():
    at_home = with_persona("a rover in the kitchen with a window", "a clerk in the office with a list")
    assert any("one pole's" in f.problem for f in lint_words(replace(at_home, suffixes=("The kitchen is",) * 9)))
    assert lint_words(replace(at_home, suffixes=builtin_suffixes())) == ()


def test_lint_findings_are_sorted_by_level():
    behaviour = replace(with_persona("a careful lawyer.", "not a buccaneer"), evaluation_prompts=("Do ships float?",))
    levels = [finding.level for finding in lint_words(behaviour)]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert set(levels) == {"error", "warning", "note"}


@pytest.mark.parametrize("name", zoo_names())
def test_lint_zoo_has_no_errors(name):
    assert [finding for finding in lint_words(Behaviour.load(name)) if finding.level == "error"] == []


def test_words_without_punctuation_and_function_words():
    assert words_of("Left-wing -- isn't it? Über_all") == ("left-wing", "isn't", "it", "über", "all")
    assert content_words("the ships of a captain", "is he rude?") == {"ship", "captain", "rude"}
