"""The answer in words: which word, and that the sentences say why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.sample_report import around, control, controls, damage, subject, sweep, usable, vector_method
from trimtab.evaluation.records import Chance, Verdict
from trimtab.evaluation.strength import is_clear, judge
from trimtab.vectors import Interval


def verdict(plus: float | None = 0.34, minus: float | None = -0.28, **changes: Any) -> Verdict:
    """Return the verdict on a vector that works; arguments change its measurements."""
    given: dict[str, Any] = {
        "equivalents": 1.5,
        "controls": controls(band=None),
        "prompt_swing": around(0.42, 0.06),
        "no_equivalents": "",
        "subject": subject(),
        "sweep": sweep(),
        "cost": {},
        "usable": usable(),
        **changes,
    }
    vector = replace(vector_method(plus, minus), prompt_equivalents=given["equivalents"])
    sides = {
        key: replace(side, damage=damage(**({"facts": -0.02} | given["cost"]))) for key, side in vector.sides.items()
    }
    return judge(
        given["subject"],
        replace(vector, sides=sides),
        given["sweep"],
        given["usable"],
        given["controls"],
        prompt_swing=given["prompt_swing"],
        no_equivalents=given["no_equivalents"],
    )


def said(found: Verdict, beginning: str) -> list[str]:
    return [sentence for sentence in found.sentences if sentence.startswith(beginning)]


def test_verdict_both_ways_beyond_chance_works():
    found = verdict()
    assert found.word == "works"
    assert found.clear == {"+": True, "-": True}
    assert found.promptable is True
    assert found.sentences == (
        "'glad' works: at 0.4 nat per token its dial moves Small-135M-Instruct both ways, 1.5 times what system "
        "prompts for the two poles do.",
        "Strength +1 (glad): +0.340 nat per token (95 % interval +0.290 to +0.390), beyond chance: random directions "
        "reach -0.060 to +0.050.",
        "Strength -1 (gloomy): -0.280 nat per token (95 % interval -0.330 to -0.230), beyond chance: random "
        "directions reach -0.060 to +0.050.",
        "From strength -1 to +0.75 it loses no more than 5% of the simple facts and 0.10 of relevance, which is a "
        "swing of +0.550, 1.3 times what system prompts do.",
        "The text holds together from strength -1.5 to +2 of those tried.",
    )


def test_verdict_other_behaviour_is_named():
    assert verdict(subject=subject(vector="mix")).sentences[0].startswith("'mix' as 'glad' works: ")


def _incoherent(*signs: float) -> Any:
    """Return a sweep in which no strength of these signs leaves the text whole."""
    found = sweep()
    points = [replace(p, usable=p.usable and not any(p.strength * sign > 0 for sign in signs)) for p in found.points]
    low, high = (0.0 if sign in signs else end for sign, end in ((-1.0, found.low), (1.0, found.high)))
    return replace(found, points=tuple(points), low=low, high=high)


def test_verdict_text_broken_everywhere_does_not_work():
    found = verdict(sweep=_incoherent(1.0, -1.0))
    assert found.word == "does not work"
    assert found.clear == {"+": True, "-": True}
    assert found.sentences[0] == (
        "'glad' does not work: it moves Small-135M-Instruct, but the text is incoherent at every strength tried."
    )
    assert found.sentences[-1] == "At no strength tried does the text hold together."


def test_verdict_text_broken_on_one_side_is_one_way():
    found = verdict(sweep=_incoherent(1.0))
    assert found.word == "one way only"
    assert found.sentences[0].endswith(
        "towards gloomy, and towards glad the text is incoherent at every strength tried."
    )
    one_sided = verdict(plus=-0.01, sweep=_incoherent(-1.0))
    assert one_sided.word == "does not work"
    assert "is incoherent" in one_sided.sentences[0]


def test_verdict_untried_side_counts_as_intact():
    points = tuple(point for point in sweep().points if point.strength <= 0)
    assert verdict(sweep=replace(sweep(), points=points, high=0.0)).word == "works"


def test_verdict_within_chance_does_not_work():
    found = verdict(0.06, -0.07, controls=controls(band=None, shuffled=None))
    assert found.word == "does not work"
    assert found.clear == {"+": False, "-": False}
    assert "moves Small-135M-Instruct no further than directions without meaning do" in found.sentences[0]
    assert "not beyond chance: random directions reach -0.060 to +0.050" in found.sentences[1]
    assert "not beyond chance" in found.sentences[2]


@pytest.mark.parametrize(("plus", "minus", "way"), [(0.34, -0.01, "glad"), (0.01, -0.4, "gloomy"), (0.5, 0.3, "glad")])
def test_verdict_beyond_chance_on_one_side_is_one_way(plus, minus, way):
    found = verdict(plus, minus)
    assert found.word == "one way only"
    assert f"it moves Small-135M-Instruct towards {way}, and not back" in found.sentences[0]


def test_verdict_reversed_vector_does_not_work():
    assert verdict(-0.34, 0.28).word == "does not work"


@pytest.mark.parametrize("shuffled", [control(0.4, -0.3), control(-0.4, 0.3)])
def test_verdict_shuffled_as_good_does_not_work(shuffled):
    found = verdict(controls=controls(band=None, shuffled=shuffled))
    assert found.word == "does not work"
    (sentence,) = said(found, "The same pairs with shuffled labels")
    assert f"swing by {shuffled.swing.value:+.3f}, no less than this vector's +0.620" in sentence
    assert sentence.endswith("what it has learned is not the behaviour.")


def test_verdict_prompts_do_more_is_weak():
    found = verdict(equivalents=0.62, prompt_swing=around(1.0))
    assert found.word == "weak"
    assert "both ways, but less than it should" in found.sentences[0]
    (sentence,) = said(found, "System prompts do more")
    assert sentence == "System prompts do more: they swing by +1.000, the vector by 0.6 of that."


def test_verdict_default_layers_better_is_weak():
    found = verdict(controls=controls(band=control(0.8, -0.6)))
    assert found.word == "weak"
    (sentence,) = said(found, "It steers the wrong layers")
    assert sentence.endswith("its own directions on the usual band swing by +1.400, not +0.620.")


def test_verdict_default_layers_slightly_better_works():
    found = verdict(controls=controls(band=control(0.4, -0.35)))
    assert found.word == "works"
    assert not said(found, "It steers the wrong layers")


def test_verdict_wrong_layers_are_named_for_idle_vector():
    found = verdict(0.02, -0.01, controls=controls(band=control(0.4, -0.35), shuffled=None))
    assert found.word == "does not work"
    assert said(found, "It steers the wrong layers")


@pytest.mark.parametrize(("share", "named"), [(0.24, False), (0.25, True), (0.6, True)])
def test_verdict_wrong_way_is_named_from_a_quarter(share, named):
    found = verdict(controls=controls(band=None, anti_steerable={"+": 0.0, "-": share}))
    sentences = said(found, "At strength -1")
    assert sentences == ([f"At strength -1 {share:.0%} of the questions move the wrong way."] if named else [])
    assert not said(found, "At strength +1")


def test_verdict_no_equivalents_says_why():
    found = verdict(equivalents=None, no_equivalents="the model hardly follows them", prompt_swing=around(0.01))
    assert found.word == "works"
    assert found.promptable is False
    assert found.sentences[0].endswith("both ways.")
    assert said(found, "It cannot") == ["It cannot be compared with prompts: the model hardly follows them."]


def test_verdict_without_prompts_omits_them():
    found = verdict(equivalents=None, prompt_swing=None, usable=usable(times=None))
    assert found.promptable is None
    assert not any("prompts" in sentence for sentence in found.sentences)


def without_range(found: Verdict) -> list[str]:
    """Return all sentences but the one on the usable range, which names facts in any case."""
    return [sentence for sentence in found.sentences if not sentence.startswith("From strength")]


def test_verdict_lost_facts_are_named_beyond_limit():
    assert not any("facts" in sentence for sentence in without_range(verdict(cost={"facts": -0.05})))
    found = verdict(cost={"facts": -0.12})
    assert [s for s in without_range(found) if "facts" in s] == [
        "At strength +1 it knows 12% fewer of the simple facts.",
        "At strength -1 it knows 12% fewer of the simple facts.",
    ]
    assert found.word == "works"


def test_verdict_lost_relevance_is_named_if_measured():
    lost = verdict(cost={"relevance_change": around(-0.15, 0.1)})
    assert said(lost, "At strength +1") == ["At strength +1 answers drift from the question (relevance falls by 0.15)."]
    for found in (
        verdict(cost={"relevance_change": around(-0.09, 0.01)}),
        verdict(cost={"relevance_change": around(-0.15, 0.2)}),
        verdict(cost={"relevance_change": None}),
    ):
        assert not said(found, "At strength")


@pytest.mark.parametrize("missing", ["effects", "chance"])
def test_verdict_without_effects_is_not_measured(missing):
    found = (
        verdict(None, None, cost={"facts": -0.2})
        if missing == "effects"
        else verdict(controls=controls(chance=None), cost={"facts": -0.2})
    )
    assert found.word == "not measured"
    assert found.clear == {}
    assert found.promptable is None
    assert found.sentences[0] == "No effect was measured: the behaviour has no personas to ask the model for."
    assert said(found, "At strength -1 it knows 20% fewer")
    assert found.sentences[-1].startswith("The text holds together")


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
    equivalents=st.none() | st.floats(-2.0, 4.0),
    shuffled=st.none() | numbers,
    band=st.none() | numbers,
)
def test_verdict_word_follows_from_measurements(plus, minus, equivalents, shuffled, band):
    held = controls(
        shuffled=None if shuffled is None else control(shuffled, -shuffled),
        band=None if band is None else control(band, -band),
    )
    found = verdict(plus, minus, equivalents=equivalents, controls=held)
    learned = shuffled is None or abs(held.shuffled.swing.value) < plus - minus
    if found.word in ("works", "weak"):
        assert learned
        assert all(found.clear.values())
        assert found.word == "works" or (equivalents is not None and equivalents < 1.0) or band is not None
    elif found.word == "one way only":
        assert learned
        assert sum(found.clear.values()) == 1
    else:
        assert found.word == "does not work"
        assert not learned or not any(found.clear.values())
    assert found.sentences[0].startswith(f"'glad' {'is weak' if found.word == 'weak' else found.word}") or (
        found.word == "one way only" and "works one way only" in found.sentences[0]
    )
