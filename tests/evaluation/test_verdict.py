"""The answer in words: which word, and that the sentences say why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.sample_report import (
    around,
    control,
    controls,
    safe_range,
    subject,
    vector_method,
    written,
    written_at,
)
from trimtab.evaluation.records import Chance, Halves, Verdict
from trimtab.evaluation.strength import held_together, is_clear, judge
from trimtab.vectors import Interval, SafeRange


def verdict(plus: float = 0.5, minus: float = -0.4, *, prompts: float = 0.42, **changes: Any) -> Verdict:
    """Return the verdict on a vector that works; arguments change its measurements."""
    vector = vector_method(0.34, -0.28)
    if halves := changes.get("halves"):
        vector = replace(vector, sides={key: replace(side, halves=halves) for key, side in vector.sides.items()})
    return judge(
        changes.get("subject", subject()),
        vector,
        changes.get("written", written(plus, minus, prompts=prompts)),
        changes.get("safe", safe_range()),
        changes.get("controls", controls(band=None)),
    )


def said(found: Verdict, beginning: str) -> list[str]:
    return [sentence for sentence in found.sentences if sentence.startswith(beginning)]


def test_verdict_both_ways_beyond_chance_works():
    found = verdict(halves=Halves(around(0.1), around(0.1)))
    assert found.word == "works"
    assert found.clear == {"+": True, "-": True}
    assert found.promptable is True
    assert found.sentences == (
        "'glad' works: at the default turn (±0.5) it does 1.3 times what system prompts for the two poles do, at the "
        "ends of its safe range (-0.75 and +1) 2.1 times.",
        "Written effect at +1 (glad): +0.500 nat per token (95 % interval +0.450 to +0.550), beyond chance: random "
        "directions reach -0.060 to +0.050.",
        "Written effect at -0.75 (gloomy): -0.400 nat per token (95 % interval -0.450 to -0.350), beyond chance: "
        "random directions reach -0.060 to +0.050.",
        "Text holds together from -0.75 to +1; below, answers repeat themselves.",
    )


def test_verdict_same_strengths_are_named_once():
    at = written_at(0.5, -0.4)
    found = verdict(written={"default": at, "safe": at}, safe=safe_range(-0.5, 0.5))
    assert found.sentences[0] == (
        "'glad' works: at the default turn (±0.5) it does 2.1 times what system prompts for the two poles do."
    )


def test_verdict_other_behaviour_is_named():
    assert verdict(subject=subject(vector="mix")).sentences[0].startswith("'mix' as 'glad' works: ")


@pytest.mark.parametrize(
    ("low", "high", "below", "above", "sentence"),
    [
        (-1.0, 1.0, "budget", "budget", "Text holds together from -1 to +1, all that is ever tried."),
        (-1.0, 0.5, "budget", "facts", "Text holds together from -1 to +0.5; above, facts are lost."),
        (
            -0.25,
            0.5,
            "relevance",
            "repetition",
            "Text holds together from -0.25 to +0.5; below, answers leave the question, and above, answers repeat "
            "themselves.",
        ),
        (
            0.0,
            0.0,
            "repetition",
            "repetition",
            "At no strength tried does the text hold together: answers repeat themselves.",
        ),
        (
            0.0,
            0.0,
            "facts",
            "repetition",
            "At no strength tried does the text hold together: facts are lost and answers repeat themselves.",
        ),
    ],
)
def test_held_together_names_ends_and_reasons(low, high, below, above, sentence):
    assert held_together(SafeRange(low, high, {"-": below, "+": above}, 24)) == sentence


def test_verdict_text_broken_everywhere_does_not_work():
    found = verdict(0.0, 0.0, safe=safe_range(0.0, 0.0))
    assert found.word == "does not work"
    assert found.sentences[0] == (
        "'glad' does not work: the text of Small-135M-Instruct is incoherent at every strength tried."
    )
    assert said(found, "At no strength tried does the text hold together")


def test_verdict_text_broken_on_one_side_is_one_way():
    at = written_at(0.5, 0.0, low=0.0, high=1.0)
    found = verdict(written={"default": at, "safe": at}, safe=safe_range(0.0, 1.0))
    assert found.word == "one way only"
    assert found.sentences[0].endswith(
        "towards glad, and towards gloomy the text is incoherent at every strength tried."
    )
    assert len(said(found, "Written effect")) == 1  # nothing is steered on the other side


def test_verdict_within_chance_does_not_work():
    found = verdict(0.06, -0.07, controls=controls(band=None, shuffled=None))
    assert found.word == "does not work"
    assert found.clear == {"+": False, "-": False}
    assert "no further than directions without meaning do" in found.sentences[0]
    assert "not beyond chance: random directions reach -0.060 to +0.050" in found.sentences[1]
    assert "not beyond chance" in found.sentences[2]


@pytest.mark.parametrize(("plus", "minus", "way"), [(0.34, -0.01, "glad"), (0.01, -0.4, "gloomy"), (0.5, 0.3, "glad")])
def test_verdict_beyond_chance_on_one_side_is_one_way(plus, minus, way):
    found = verdict(plus, minus)
    assert found.word == "one way only"
    assert f"the answers of Small-135M-Instruct towards {way}, and not back" in found.sentences[0]


def test_verdict_reversed_vector_does_not_work():
    assert verdict(-0.34, 0.28).word == "does not work"


@pytest.mark.parametrize("shuffled", [control(0.4, -0.3), control(-0.4, 0.3)])
def test_verdict_shuffled_as_good_does_not_work(shuffled):
    found = verdict(controls=controls(band=None, shuffled=shuffled))
    assert found.word == "does not work"
    (sentence,) = said(found, "The same pairs with shuffled labels")
    assert f"swing of {shuffled.swing.value:+.3f}, no less than this vector's +0.620" in sentence
    assert sentence.endswith("what it has learned is not the behaviour.")


def test_verdict_prompts_do_more_is_weak():
    found = verdict(prompts=1.5)
    assert found.word == "weak"
    assert "both ways, but less than it should; at the default turn (±0.5) it does 0.4 times" in found.sentences[0]
    assert said(found, "System prompts do more") == [
        "System prompts do more: answers under them differ by +1.500 nat per token, those at the ends of the safe "
        "range by +0.900."
    ]
    assert not said(verdict(), "System prompts do more")


def test_verdict_default_layers_better_is_weak():
    found = verdict(controls=controls(band=control(0.8, -0.6)))
    assert found.word == "weak"
    (sentence,) = said(found, "It steers the wrong layers")
    assert sentence.endswith("its own directions have a preference swing of +1.400, not +0.620.")


def test_verdict_default_layers_slightly_better_works():
    found = verdict(controls=controls(band=control(0.4, -0.35)))
    assert found.word == "works"
    assert not said(found, "It steers the wrong layers")


def test_verdict_wrong_layers_are_named_for_idle_vector():
    found = verdict(0.02, -0.01, controls=controls(band=control(0.9, -0.85), shuffled=None))
    assert found.word == "does not work"
    assert said(found, "It steers the wrong layers")


def test_verdict_without_ratio_says_why():
    found = verdict(prompts=0.0)
    assert found.word == "works"
    assert found.promptable is False
    assert found.sentences[0] == "'glad' works: it moves the answers of Small-135M-Instruct both ways."
    assert said(found, "It cannot") == [
        "It cannot be compared with prompts: answers under the system prompts differ by chance."
    ]


def test_verdict_wanted_answers_less_likely_is_named():
    found = verdict(halves=Halves(around(-0.32), around(-0.61)))
    assert said(found, "At") == [
        "At +1 answers that are glad become less likely too (-0.32 nat per token; those of the other pole -0.61).",
        "At -1 answers that are gloomy become less likely too (-0.61 nat per token; those of the other pole -0.32).",
    ]
    assert not said(verdict(halves=Halves(around(-0.04), around(0.0))), "At")  # their intervals reach 0


def test_verdict_without_effects_is_not_measured():
    found = verdict(written={})
    assert found.word == "not measured"
    assert found.clear == {}
    assert found.promptable is None
    assert found.sentences == (
        "No effect was measured: the behaviour has no personas to ask the model for.",
        "Text holds together from -0.75 to +1; below, answers repeat themselves.",
    )


numbers = st.floats(-1.0, 1.0)


@given(value=numbers, reach=st.floats(0.0, 0.5), low=numbers, width=st.floats(0.0, 0.5))
def test_is_clear_mirrored_is_the_same(value, reach, low, width):
    effect, chance = Interval(value, value - reach, value + reach), Chance(low, low + width)
    mirrored = Interval(-value, -effect.high, -effect.low), Chance(-chance.high, -chance.low)
    assert is_clear(effect, chance, "+") == is_clear(*mirrored, "-")
    if is_clear(effect, chance, "+"):
        assert value > chance.high
        assert not is_clear(effect, chance, "-")


@given(
    plus=numbers,
    minus=numbers,
    prompts=st.sampled_from([0.0, 0.2, 1.5]),
    shuffled=st.none() | numbers,
    band=st.none() | numbers,
)
def test_verdict_word_follows_from_measurements(plus, minus, prompts, shuffled, band):
    held = controls(
        shuffled=None if shuffled is None else control(shuffled, -shuffled),
        band=None if band is None else control(band, -band),
    )
    found = verdict(plus, minus, prompts=prompts, controls=held)
    learned = shuffled is None or abs(held.shuffled.swing.value) < 0.62
    if found.word in ("works", "weak"):
        assert learned
        assert all(found.clear.values())
        assert found.word == "works" or (prompts and plus - minus < prompts) or band is not None
    elif found.word == "one way only":
        assert learned
        assert sum(found.clear.values()) == 1
    else:
        assert found.word == "does not work"
        assert not learned or not any(found.clear.values())
    assert found.sentences[0].startswith(f"'glad' {'is weak' if found.word == 'weak' else found.word}") or (
        found.word == "one way only" and "works one way only" in found.sentences[0]
    )
