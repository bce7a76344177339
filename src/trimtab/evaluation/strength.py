"""Turning the dial: what each strength does, and from where to where the text holds together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.evaluation.metrics.text_quality import TextQuality, Written
from trimtab.evaluation.records import Damage, Point, Sweep
from trimtab.stats import mean_interval
from trimtab.vectors import Interval

# Where text stops holding together. KL: trimtab warns of mixes above it; the others are set by eye.
MAX_KL = 1.1
MAX_PERPLEXITY = 3.0
MAX_MORE_LOOPS = 0.15
MIN_MORE_LOOPS = 2  # answers: one alone may go round by chance
MIN_DISTINCT = 0.7
MAX_LOST_RELEVANCE = 0.10
MAX_LOST_FACTS = 0.05


@dataclass(frozen=True)
class Turn:
    """One strength, measured.

    Attributes:
        strength: The dial.
        kl: In nats per token.
        effect: In nats per token; None where the behaviour has no personas.
        written: Answers to the first questions.
        looks: Of these answers.
        relevance: Cosine of each question with its answer, ``[answer]``; None without the embedding model.
    """

    strength: float
    kl: float
    effect: Interval | None
    written: Written
    looks: TextQuality
    relevance: NDArray[np.float64] | None


def drifts(change: Interval | None) -> bool:
    """Whether answers are clearly less about the question than the base's: of few, relevance can fall by chance."""
    return change is not None and change.value < -MAX_LOST_RELEVANCE and change.high < 0


def is_usable(facts: Interval | None, relevance: Interval | None) -> bool:
    """Whether both are kept, as far as they were measured; each is a change from the base model.

    Example:
        >>> is_tolerable(Interval(-0.05, -0.08, -0.02), Interval(-0.1, -0.2, 0.0)), is_tolerable(None, None)
        (True, True)
        >>> is_tolerable(Interval(-0.06, -0.08, -0.04), None)
        False
    """
    lost_facts = facts is not None and facts.value < -MAX_LOST_FACTS
    lost_thread = relevance is not None and relevance.value < -MAX_LOST_RELEVANCE
    return not (lost_facts or lost_thread)


def sweep_of(turns: Sequence[Turn]) -> Sweep:
    """The sweep, with its usable range: everything from the base model outwards to the first strength that breaks."""
    ordered = sorted(turns, key=lambda turn: turn.strength)
    base = next(turn for turn in ordered if turn.strength == 0.0)
    points = tuple(_point(turn, base) for turn in ordered)
    return Sweep(points, low=_last_usable(points, -1.0), high=_last_usable(points, 1.0))


def _last_usable(points: Sequence[Point], sign: float) -> float:
    last = 0.0
    for point in sorted((p for p in points if p.strength * sign > 0), key=lambda p: abs(p.strength)):
        if not point.usable:
            break
        last = point.strength
    return last


def _point(turn: Turn, base: Turn) -> Point:
    change = None
    if turn is not base and turn.relevance is not None and base.relevance is not None:
        change = mean_interval(turn.relevance - base.relevance, seed=0)
    why = "" if turn is base else "; ".join(_broken(turn, base, change))
    looks = turn.looks
    damage = Damage(
        kl=turn.kl,
        perplexity_ratio=looks.perplexity_ratio,
        distinct_2=looks.distinct_2,
        loops=looks.loops,
        length_ratio=looks.length_ratio,
        relevance=None if turn.relevance is None else float(turn.relevance.mean()),
        relevance_change=change,
        refuses=looks.refuses,
    )
    return Point(turn.strength, turn.kl, turn.effect, damage, not why, why, turn.written.texts)


def _broken(turn: Turn, base: Turn, relevance: Interval | None) -> list[str]:
    """What breaks at a strength, in words."""
    looks, own = turn.looks, base.looks
    found = []
    if turn.kl > MAX_KL:
        found.append(f"it spends {turn.kl:.2f} nat per token")
    if looks.perplexity_ratio > MAX_PERPLEXITY:
        found.append(f"perplexity is {looks.perplexity_ratio:.1f} times the base's")
    more = looks.loops - own.loops
    if more > MAX_MORE_LOOPS and round(more * len(turn.written)) >= MIN_MORE_LOOPS:
        found.append(f"{looks.loops:.0%} of the answers go round in circles")
    if looks.distinct_2 < MIN_DISTINCT * own.distinct_2:
        found.append("answers repeat themselves")
    if relevance is not None and drifts(relevance):
        found.append(f"answers drift from the question (relevance falls by {-relevance.value:.2f})")
    return found
