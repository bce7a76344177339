"""Strengths: the sweep, the strengths at which text stays intact, and the usable range at little damage."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from trimtab.arrays import F64
from trimtab.evaluation.comparison import Answered, in_prompts, swing_of
from trimtab.evaluation.interventions import Intervention
from trimtab.evaluation.measurement import Evaluator
from trimtab.evaluation.metrics.text_quality import TextQuality, Written
from trimtab.evaluation.records import Damage, InterventionReport, Point, Sweep, UsableRange
from trimtab.stats import mean_interval
from trimtab.training.progress import Phases
from trimtab.training.search import SIGNS
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
    """One measured strength.

    Attributes:
        strength: The strength.
        kl: In nats per token.
        effect: In nats per token; None where the behaviour has no personas.
        written: Answers to the first questions.
        relevance: Cosine of each question with its answer, ``[answer]``; None without the embedding model.
    """

    strength: float
    kl: float
    effect: Interval | None
    written: Written
    relevance: F64 | None


def clearly_drifts(change: Interval | None) -> bool:
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


# The sweep -----------------------------------------------------------------------------------------------------------


def measure_strengths(
    evaluator: Evaluator, vector: ControlVector, own: Answered, phases: Phases
) -> list[StrengthPoint]:
    """Measure every strength of the sweep, and the base model at 0; ±1 is taken from ``own``."""
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
                effects, kl, written = own.effects[key], own.kl[key], own.written[key].first(sizes.sweep)
            add(strength, kl, None if effects is None else mean_interval(effects, seed=evaluator.seed), written)
            step()
    none = None if evaluator.effects is None else Interval(0.0, 0.0, 0.0)
    add(0.0, 0.0, none, evaluator.baseline.written.first(sizes.sweep))
    return points


def sweep_of(measured: Sequence[StrengthPoint], qualities: Sequence[TextQuality]) -> Sweep:
    """Return the sweep; text is intact from the base model outwards to the first strength that breaks it.

    Args:
        measured: The strengths, 0 among them.
        qualities: Text quality of the answers at each.
    """
    ordered = sorted(zip(measured, qualities, strict=True), key=lambda each: each[0].strength)
    base = next(each for each in ordered if each[0].strength == 0.0)
    points = tuple(_point(point, quality, *base) for point, quality in ordered)
    return Sweep(points, low=_last_usable(points, -1.0), high=_last_usable(points, 1.0))


def _last_usable(points: Sequence[Point], sign: float) -> float:
    last = 0.0
    for point in sorted((p for p in points if p.strength * sign > 0), key=lambda p: abs(p.strength)):
        if not point.usable:
            break
        last = point.strength
    return last


def _point(point: StrengthPoint, quality: TextQuality, base: StrengthPoint, base_quality: TextQuality) -> Point:
    change = None
    if point is not base and point.relevance is not None and base.relevance is not None:
        change = mean_interval(point.relevance - base.relevance, seed=0)
    why = "" if point is base else "; ".join(_breaks(point, quality, base_quality, change))
    damage = Damage(
        kl=point.kl,
        perplexity_ratio=quality.perplexity_ratio,
        distinct_2=quality.distinct_2,
        repetition=quality.repetition,
        length_ratio=quality.length_ratio,
        relevance=None if point.relevance is None else float(point.relevance.mean()),
        relevance_change=change,
        refuses=quality.refuses,
    )
    return Point(point.strength, point.kl, point.effect, damage, not why, why, point.written.texts)


def _breaks(point: StrengthPoint, quality: TextQuality, base: TextQuality, relevance: Interval | None) -> list[str]:
    """Say which limits a strength exceeds."""
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
    if relevance is not None and clearly_drifts(relevance):
        reasons.append(f"answers drift from the question (relevance falls by {-relevance.value:.2f})")
    return reasons


# The usable range ----------------------------------------------------------------------------------------------------


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

    Args:
        evaluator: The evaluator.
        vector: The vector.
        report: Its measurements at ±1.
        effects: Its effects there, by sign, per question.
        prompt_swing: Mean swing of the system prompts, in nats per token; None where it is no unit.
        phases: Called for each strength that is tried.
    """
    costs = {key: report.sides[key].damage for key in SIGNS}
    costly = {k: cost for k, cost in costs.items() if not is_usable(cost.accuracy_change, cost.relevance_change)}
    ends = dict.fromkeys(SIGNS, 1.0) | _last_kept(evaluator, vector, costly, phases)
    at_ends = {
        key: effects[key] if end == 1.0 else _effect(evaluator, vector, SIGNS[key] * end) for key, end in ends.items()
    }
    per_question = swing_of(at_ends)
    swing = None if per_question is None else mean_interval(per_question, seed=evaluator.seed)
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


def _effect(evaluator: Evaluator, vector: ControlVector, strength: float) -> F64 | None:
    """Measure the effect per question; 0 without a run where nothing is added."""
    if evaluator.effects is None or strength != 0.0:
        return evaluator.effect(Intervention.of_vector(vector, strength))
    return np.zeros(len(evaluator.effects))
