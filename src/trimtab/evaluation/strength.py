"""Strengths: the sweep, the strengths at which text stays intact, and the usable range at little damage."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import takewhile
from typing import TypeGuard

import numpy as np

from trimtab.arrays import F64
from trimtab.evaluation.comparison import Answered, in_prompts, swing_of
from trimtab.evaluation.interventions import Intervention
from trimtab.evaluation.measurement import Evaluator
from trimtab.evaluation.records import (
    Chance,
    Controls,
    Damage,
    InterventionReport,
    Point,
    Subject,
    Sweep,
    UsableRange,
    Verdict,
    Word,
)
from trimtab.stats import mean_interval
from trimtab.training.progress import Phases
from trimtab.training.search import SIGNS
from trimtab.training.written import Written
from trimtab.vectors import ControlVector, Interval

# Where text breaks. trimtab warns of mixes above MAX_KL; the other limits were chosen by reading answers.
MAX_KL = 1.1
MAX_PERPLEXITY = 3.0
MAX_MORE_REPETITION = 0.15
MIN_MORE_REPETITIVE = 2  # answers; a single one may be repetitive by chance
MIN_DISTINCT = 0.7
MAX_LOST_RELEVANCE = 0.10
MAX_LOST_FACTS = 0.05

RANGE_PHASE = "Searching the usable range"


@dataclass(frozen=True)
class StrengthPoint:
    """One measured strength; KL and effect are in nats per token.

    Attributes:
        effect: None where the behaviour has no personas.
        written: Answers to the first questions.
        relevance: Cosine of each question with its answer, ``[answer]``; None without the embedding model.
    """

    strength: float
    kl: float
    effect: Interval | None
    written: Written
    relevance: F64 | None


def clearly_drifts(change: Interval | None) -> TypeGuard[Interval]:
    """Return whether answers are clearly less relevant than the base's: of few, relevance can fall by chance."""
    return change is not None and change.value < -MAX_LOST_RELEVANCE and change.high < 0


def is_usable(facts: Interval | None, relevance: Interval | None) -> bool:
    """Return whether facts and relevance are kept, as far as they were measured; each is a change from the base model.

    Example:
        >>> is_usable(Interval(-0.05, -0.08, -0.02), Interval(-0.1, -0.2, 0.0)), is_usable(None, None)
        (True, True)
        >>> is_usable(Interval(-0.06, -0.08, -0.04), None)
        False
    """
    lost_facts = facts is not None and facts.value < -MAX_LOST_FACTS
    lost_relevance = relevance is not None and relevance.value < -MAX_LOST_RELEVANCE
    return not (lost_facts or lost_relevance)


def measure_strengths(
    evaluator: Evaluator, vector: ControlVector, steered: Answered, phases: Phases
) -> list[StrengthPoint]:
    """Measure every strength of the sweep, and the base model at 0; ±1 is taken from ``steered``."""
    sizes = evaluator.baseline.sizes
    new = {s: Intervention.of_vector(vector, s) for s in sizes.strengths if abs(s) != 1.0}
    points = []

    def add(strength: float, kl: float, effect: Interval | None, written: Written) -> None:
        points.append(StrengthPoint(strength, kl, effect, written, evaluator.relevance_each(written)))

    with phases("Measuring strengths", len(sizes.strengths) + len(new)) as step:
        answers = dict(zip(new, evaluator.write(list(new.values()), sizes.sweep, on_step=step), strict=True))
        for strength in sizes.strengths:
            if strength in new:
                effects, kl = evaluator.effect(new[strength]), evaluator.kl(new[strength])
                written = answers[strength]
            else:
                key = "+" if strength > 0 else "-"
                effects, kl, written = steered.effects[key], steered.kl[key], steered.written[key].first(sizes.sweep)
            add(strength, kl, evaluator.interval(effects), written)
            step()
    none = None if evaluator.effects is None else Interval(0.0, 0.0, 0.0)
    add(0.0, 0.0, none, evaluator.baseline.written.first(sizes.sweep))
    return points


def sweep_of(measured: Sequence[StrengthPoint], qualities: Sequence[Damage]) -> Sweep:
    """Return the sweep; text is intact from the base model outwards to the first strength that breaks it.

    ``measured`` includes strength 0; ``qualities`` are the text quality of the answers at each.
    """
    ordered = sorted(zip(measured, qualities, strict=True), key=lambda each: each[0].strength)
    base = next(each for each in ordered if each[0].strength == 0.0)
    points = tuple(_point(point, quality, *base) for point, quality in ordered)
    return Sweep(points, low=_last_usable(points, -1.0), high=_last_usable(points, 1.0))


def _last_usable(points: Sequence[Point], sign: float) -> float:
    outwards = sorted((point for point in points if point.strength * sign > 0), key=lambda point: abs(point.strength))
    intact = list(takewhile(lambda point: point.usable, outwards))
    return intact[-1].strength if intact else 0.0


def _point(point: StrengthPoint, quality: Damage, base: StrengthPoint, base_quality: Damage) -> Point:
    change = None
    if point is not base and point.relevance is not None and base.relevance is not None:
        change = mean_interval(point.relevance - base.relevance, seed=0)
    why = "" if point is base else "; ".join(_breaks(point, quality, base_quality, change))
    relevance = None if point.relevance is None else float(point.relevance.mean())
    damage = replace(quality, kl=point.kl, relevance=relevance, relevance_change=change)
    return Point(point.strength, point.kl, point.effect, damage, not why, why, point.written.texts)


def _breaks(point: StrengthPoint, quality: Damage, base: Damage, relevance: Interval | None) -> list[str]:
    reasons = []
    if point.kl > MAX_KL:
        reasons.append(f"it spends {point.kl:.2f} nat per token")
    if quality.perplexity_ratio > MAX_PERPLEXITY:
        reasons.append(f"perplexity is {quality.perplexity_ratio:.1f} times the base's")
    more = quality.repetition - base.repetition
    if more > MAX_MORE_REPETITION and round(more * len(point.written)) >= MIN_MORE_REPETITIVE:
        reasons.append(f"{quality.repetition:.0%} of the answers are repetitive")
    if quality.distinct_2 < MIN_DISTINCT * base.distinct_2:
        reasons.append("answers repeat themselves")
    if clearly_drifts(relevance):
        reasons.append(f"answers drift from the question (relevance falls by {-relevance.value:.2f})")
    return reasons


def usable_range(
    evaluator: Evaluator,
    vector: ControlVector,
    report: InterventionReport,
    effects: Mapping[str, F64 | None],
    *,
    prompt_swing: float | None,
    phases: Phases,
) -> UsableRange:
    """Search the strengths, from -1 to 1, at which facts and relevance are kept, and measure the swing over that range.

    ``report`` and ``effects`` (by sign, per question) are the vector's at ±1; ``prompt_swing`` is as in ``measure``.
    """
    costs = {key: report.sides[key].damage for key in SIGNS}
    costly = {k: cost for k, cost in costs.items() if not is_usable(cost.accuracy_change, cost.relevance_change)}
    ends = dict.fromkeys(SIGNS, 1.0) | _last_kept(evaluator, vector, costly, phases)

    def effect_at(key: str, end: float) -> F64 | None:
        if end == 1.0 or evaluator.effects is None:
            return effects[key]
        if end == 0.0:  # nothing is added, so there is nothing to run
            return np.zeros(len(evaluator.effects))
        return evaluator.effect(Intervention.of_vector(vector, SIGNS[key] * end))

    swing = evaluator.interval(swing_of({key: effect_at(key, end) for key, end in ends.items()}))
    return UsableRange(-ends["-"], ends["+"], swing, in_prompts(swing, prompt_swing))


def _last_kept(
    evaluator: Evaluator, vector: ControlVector, costly: Mapping[str, Damage], phases: Phases
) -> dict[str, float]:
    """Return, for each sign that costs too much at 1, the greatest strength tried at which it does not; 0 if none.

    Strengths are halved. Facts come first: they cost little, whereas relevance needs written answers. Where facts are
    lost at 1, answers are first written at the last strength that keeps facts.
    """
    if not costly:
        return {}
    sizes = evaluator.baseline.sizes
    steps = 2**sizes.halvings

    def at(key: str, step: int) -> Intervention:
        return Intervention.of_vector(vector, SIGNS[key] * step / steps)

    loses = cache(lambda key, step: not keeps_facts(evaluator, at(key, step)))
    kept, lost = dict.fromkeys(costly, 0), dict.fromkeys(costly, steps)
    first: dict[str, int] = {}
    with phases(RANGE_PHASE, sizes.halvings * len(costly)) as on_step:
        for key, cost in costly.items():
            if not is_usable(cost.accuracy_change, None):
                first[key] = bisect(range(1, steps), False, key=partial(loses, key))
                lost[key] = first[key] + 1
        while open_keys := [key for key in costly if lost[key] - kept[key] > 1]:
            tried = {key: first.pop(key, (kept[key] + lost[key]) // 2) for key in open_keys}
            knowing = {key: at(key, step) for key, step in tried.items() if not loses(key, step)}
            answers = evaluator.write(list(knowing.values()), sizes.written)
            relevant = {key: evaluator.relevance_change(each) for key, each in zip(knowing, answers, strict=True)}
            for key, step in tried.items():
                side = kept if key in knowing and is_usable(None, relevant[key]) else lost
                side[key] = step
                on_step()
    return {key: step / steps for key, step in kept.items()}


def keeps_facts(evaluator: Evaluator, intervention: Intervention) -> bool:
    """Return whether the simple facts are kept."""
    return is_usable(evaluator.facts(intervention).drop_from(evaluator.baseline.facts.base), None)


BETTER_BAND = 1.5  # times the swing, from which another choice of layers is called better


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
    plus, minus = (vector.sides[key].effect for key in SIGNS)
    if plus is None or minus is None or controls.chance is None or vector.swing is None:
        sentence = "No effect was measured: the behaviour has no personas to ask the model for."
        return Verdict("not measured", {}, None, (sentence, *_damage(vector, sweep, usable)))
    effects = {"+": plus, "-": minus}
    clear = {key: is_clear(effect, controls.chance, key) for key, effect in effects.items()}
    promptable = None if prompt_swing is None else not no_equivalents
    holds = {key: _holds_together(sweep, sign) for key, sign in SIGNS.items()}
    works = {key: clear[key] and holds[key] for key in clear}
    word = _word(works, vector.swing, vector.prompt_equivalents, controls)
    sentences = (
        _headline(word, subject, clear, holds, vector.prompt_equivalents),
        *_against_chance(subject, effects, controls.chance, clear),
        *_against_controls(vector.swing, controls),
        *_against_prompts(vector, prompt_swing, no_equivalents),
        *_damage(vector, sweep, usable),
    )
    return Verdict(word, clear, promptable, sentences)


def _holds_together(sweep: Sweep, sign: float) -> bool:
    """Return whether any strength of that sign leaves the text intact; True where none was tried."""
    tried = [point.usable for point in sweep.points if point.strength * sign > 0]
    return any(tried) or not tried


def _word(works: Mapping[str, bool], swing: Interval, equivalents: float | None, controls: Controls) -> Word:
    if not any(works.values()) or _shuffled_does_as_well(swing, controls):
        return "does not work"
    if not all(works.values()):
        return "one way only"
    weak = equivalents is not None and equivalents < 1.0
    return "weak" if weak or _misplaced(swing, controls) else "works"


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
        ways = subject.poles
        good, bad = ("+", "-") if clear["+"] and holds["+"] else ("-", "+")
        rest = "not back" if holds[bad] else f"towards {ways[bad]} the text is incoherent at every strength tried"
        return f"{name} works one way only: {price} it moves {subject.model} towards {ways[good]}, and {rest}."
    if any(clear.values()) and not any(holds[key] for key in clear if clear[key]):
        return f"{name} does not work: it moves {subject.model}, but the text is incoherent at every strength tried."
    return f"{name} does not work: {price} it moves {subject.model} no further than directions without meaning do."


def _against_chance(
    subject: Subject, effects: Mapping[str, Interval], chance: Chance, clear: Mapping[str, bool]
) -> Iterator[str]:
    for key, label in subject.poles.items():
        effect = effects[key]
        measured = f"{effect.value:+.3f} nat per token (95 % interval {effect.low:+.3f} to {effect.high:+.3f})"
        beside = f"random directions reach {chance.low:+.3f} to {chance.high:+.3f}"
        joint = "beyond chance" if clear[key] else "not beyond chance"
        yield f"Strength {key}1 ({label}): {measured}, {joint}: {beside}."


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
    for key, share in controls.anti_steerable.items():
        if share >= 0.25:
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
        facts, relevance = side.damage.accuracy_change, side.damage.relevance_change
        if facts is not None and facts.value < -MAX_LOST_FACTS:
            yield f"At strength {key}1 it knows {-facts.value:.0%} fewer of the simple facts."
        if clearly_drifts(relevance):
            yield f"At strength {key}1 answers drift from the question (relevance falls by {-relevance.value:.2f})."
    yield _kept(usable)
    if sweep.low == sweep.high:
        yield "At no strength tried does the text hold together."
    else:
        yield f"The text holds together from strength {sweep.low:+g} to {sweep.high:+g} of those tried."


def _kept(usable: UsableRange) -> str:
    price = f"{MAX_LOST_FACTS:.0%} of the simple facts and {MAX_LOST_RELEVANCE:.2f} of relevance"
    if usable.low == usable.high:
        return f"At no strength tried does it lose less than {price}."
    times, swing = usable.prompt_equivalents, usable.swing
    does = "" if swing is None else f", which is a swing of {swing.value:+.3f}"
    does += "" if times is None else f", {times:.1f} times what system prompts do"
    return f"From strength {usable.low:+g} to {usable.high:+g} it loses no more than {price}{does}."
