"""The verdict in words: whether a vector works, which way, at what cost, and beside prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from trimtab.evaluation.records import Chance, Controls, InterventionReport, Subject, Sweep, UsableRange, Verdict, Word
from trimtab.evaluation.strength import MAX_LOST_FACTS, MAX_LOST_RELEVANCE, clearly_drifts
from trimtab.vectors import Interval

BETTER_BAND = 1.5  # times the swing, from which another choice of layers is called better

Sign = Literal["+", "-"]


def is_clear(effect: Interval, chance: Chance, sign: str) -> bool:
    """Return whether an effect's whole interval lies beyond random directions, on the right side."""
    return effect.low > chance.high if sign == "+" else effect.high < chance.low


def judge(
    subject: Subject,
    vector: InterventionReport,
    sweep: Sweep,
    usable: UsableRange,
    controls: Controls,
    *,
    prompt_swing: Interval | None,
    no_equivalents: str,
) -> Verdict:
    """Judge a vector by its measurements.

    A vector works if at each sign its effect lies beyond that of every random direction and the text holds together at
    some strength, its swing is at least that of the system prompts (where that is known), and neither shuffled labels
    nor other layers do as well.
    """
    effects = {key: side.effect for key, side in vector.sides.items()}
    plus, minus = effects["+"], effects["-"]
    if plus is None or minus is None or controls.chance is None or vector.swing is None:
        sentence = "No effect was measured: the behaviour has no personas to ask the model for."
        return Verdict("not measured", {}, None, (sentence, *_damage(vector, sweep, usable)))
    clear = {"+": is_clear(plus, controls.chance, "+"), "-": is_clear(minus, controls.chance, "-")}
    promptable = None if prompt_swing is None else not no_equivalents
    holds = {"+": _holds_together(sweep, 1.0), "-": _holds_together(sweep, -1.0)}
    word = _word({key: clear[key] and holds[key] for key in clear}, vector, controls)
    sentences = (
        _headline(word, subject, clear, holds, vector.prompt_equivalents),
        *_against_chance(subject, {"+": plus, "-": minus}, controls.chance, clear),
        *_against_controls(vector.swing, controls),
        *_against_prompts(vector, prompt_swing, no_equivalents),
        *_damage(vector, sweep, usable),
    )
    return Verdict(word, clear, promptable, sentences)


def _holds_together(sweep: Sweep, sign: float) -> bool:
    """Return whether any strength of that sign leaves the text intact; True where none was tried."""
    tried = [point for point in sweep.points if point.strength * sign > 0]
    return not tried or any(point.usable for point in tried)


def _word(works: Mapping[str, bool], vector: InterventionReport, controls: Controls) -> Word:
    assert vector.swing is not None
    if not any(works.values()) or _shuffled_does_as_well(vector.swing, controls):
        return "does not work"
    if not all(works.values()):
        return "one way only"
    weak = vector.prompt_equivalents is not None and vector.prompt_equivalents < 1.0
    return "weak" if weak or _misplaced(vector.swing, controls) else "works"


def _shuffled_does_as_well(swing: Interval, controls: Controls) -> bool:
    return controls.shuffled is not None and abs(controls.shuffled.swing.value) >= swing.value


def _misplaced(swing: Interval, controls: Controls) -> bool:
    return controls.band is not None and controls.band.swing.low > max(BETTER_BAND * swing.value, 0.0)


def _headline(
    word: Word,
    subject: Subject,
    clear: Mapping[str, bool],
    holds: Mapping[str, bool],
    equivalents: float | None,
) -> str:
    name = (
        f"{subject.vector!r}" if subject.vector == subject.behaviour else f"{subject.vector!r} as {subject.behaviour!r}"
    )
    price = f"at {subject.budget:g} nat per token"
    if word == "works":
        times = "" if equivalents is None else f", {equivalents:.1f} times what system prompts for the two poles do"
        return f"{name} works: {price} its dial moves {subject.model} both ways{times}."
    if word == "weak":
        return f"{name} is weak: {price} its dial moves {subject.model} both ways, but less than it should."
    if word == "one way only":
        ways = {"+": subject.positive, "-": subject.negative}
        good, bad = ("+", "-") if clear["+"] and holds["+"] else ("-", "+")
        rest = "not back" if holds[bad] else f"towards {ways[bad]} the text falls apart at every strength tried"
        return f"{name} works one way only: {price} it moves {subject.model} towards {ways[good]}, and {rest}."
    if any(clear.values()) and not any(holds[key] for key in clear if clear[key]):
        return f"{name} does not work: it moves {subject.model}, but the text falls apart at every strength tried."
    return f"{name} does not work: {price} it moves {subject.model} no further than directions without meaning do."


def _against_chance(
    subject: Subject, effects: Mapping[str, Interval], chance: Chance, clear: Mapping[str, bool]
) -> Iterator[str]:
    for key, label in (("+", subject.positive), ("-", subject.negative)):
        effect = effects[key]
        found = f"{effect.value:+.3f} nat per token (95 % interval {effect.low:+.3f} to {effect.high:+.3f})"
        beside = f"random directions reach {chance.low:+.3f} to {chance.high:+.3f}"
        joint = "beyond chance" if clear[key] else "not beyond chance"
        yield f"Strength {key}1 ({label}): {found}, {joint}: {beside}."


def _against_controls(swing: Interval, controls: Controls) -> Iterator[str]:
    if _shuffled_does_as_well(swing, controls):
        assert controls.shuffled is not None
        yield (
            f"The same pairs with shuffled labels swing by {controls.shuffled.swing.value:+.3f}, no less than this "
            f"vector's {swing.value:+.3f}: what it has learned is not the behaviour."
        )
    if controls.band is not None and _misplaced(swing, controls):
        yield (
            f"It steers the wrong layers: its own directions on the usual band swing by "
            f"{controls.band.swing.value:+.3f}, not {swing.value:+.3f}."
        )
    wrong = {key: share for key, share in controls.anti_steerable.items() if share >= 0.25}
    for key, share in wrong.items():
        yield f"At strength {key}1 {share:.0%} of the questions move the wrong way."


def _against_prompts(vector: InterventionReport, prompt_swing: Interval | None, no_equivalents: str) -> Iterator[str]:
    if no_equivalents:
        yield f"It cannot be compared with prompts: {no_equivalents}."
    elif vector.prompt_equivalents is not None and prompt_swing is not None and vector.prompt_equivalents < 1.0:
        yield (
            f"System prompts do more: they swing by {prompt_swing.value:+.3f}, "
            f"the vector by {vector.prompt_equivalents:.1f} of that."
        )


def _damage(vector: InterventionReport, sweep: Sweep, usable: UsableRange) -> Iterator[str]:
    for key, side in vector.sides.items():
        change = side.damage.accuracy_change
        if change is not None and change.value < -MAX_LOST_FACTS:
            yield f"At strength {key}1 it knows {-change.value:.0%} fewer of the simple facts."
        adrift = side.damage.relevance_change
        if adrift is not None and clearly_drifts(adrift):
            yield f"At strength {key}1 answers drift from the question (relevance falls by {-adrift.value:.2f})."
    yield _kept(usable)
    if sweep.low == sweep.high:
        yield "At no strength tried does the text hold together."
    else:
        yield f"The text holds together from strength {sweep.low:+g} to {sweep.high:+g} of those tried."


def _kept(usable: UsableRange) -> str:
    """Say which strengths are usable, and the swing over them."""
    price = f"{MAX_LOST_FACTS:.0%} of the simple facts and {MAX_LOST_RELEVANCE:.2f} of relevance"
    if usable.low == usable.high:
        return f"At no strength tried does it lose less than {price}."
    times, swing = usable.prompt_equivalents, usable.swing
    does = "" if swing is None else f", which is a swing of {swing.value:+.3f}"
    does += "" if times is None else f", {times:.1f} times what system prompts do"
    return f"From strength {usable.low:+g} to {usable.high:+g} it loses no more than {price}{does}."
