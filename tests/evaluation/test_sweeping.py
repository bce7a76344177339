"""The dial: from where to where the text holds together, and what breaks beyond."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.evaluation.metrics.text_quality import TextQuality, Written
from trimtab.evaluation.strength import (
    MAX_KL,
    MAX_LOST_RELEVANCE,
    MAX_PERPLEXITY,
    MIN_DISTINCT,
    Turn,
    sweep_of,
)
from trimtab.vectors import Interval

WRITTEN = Written(("Fine.",) * 8, ((1, 2),) * 8)


def turn(strength: float, *, kl: float = 0.4, relevance: float | list[float] | None = 0.6, **looks: float) -> Turn:
    fine = {"perplexity_ratio": 1.2, "distinct_2": 0.8, "loops": 0.1, "length_ratio": 1.0, "refuses": 0.0}
    each = None if relevance is None else np.broadcast_to(relevance, 8)
    return Turn(strength, kl, Interval(strength, strength, strength), WRITTEN, TextQuality(**{**fine, **looks}), each)


def broken(strength: float) -> Turn:
    return turn(strength, perplexity_ratio=9.0)


BASE = turn(0.0, kl=0.0, perplexity_ratio=1.0)


def test_points_come_by_ascending_strength_with_what_was_measured():
    sweep = sweep_of([turn(1.0, kl=0.5, loops=0.2, refuses=0.1), BASE, turn(-1.0, relevance=None)])
    assert [point.strength for point in sweep.points] == [-1.0, 0.0, 1.0]
    plus = sweep.points[2]
    assert (plus.kl, plus.damage.kl, plus.damage.loops, plus.damage.refuses) == (0.5, 0.5, 0.2, 0.1)
    assert plus.effect == Interval(1.0, 1.0, 1.0)
    assert plus.answers == WRITTEN.texts
    assert sweep.points[0].damage.relevance is None


def test_where_nothing_breaks_the_whole_dial_is_usable():
    sweep = sweep_of([BASE, *(turn(strength) for strength in (-2.0, -1.0, 0.5, 3.0))])
    assert (sweep.low, sweep.high) == (-2.0, 3.0)
    assert all(point.usable and not point.why for point in sweep.points)


def test_what_comes_after_the_first_break_is_not_usable_even_if_it_holds_together():
    sweep = sweep_of([BASE, turn(0.5), broken(1.0), turn(1.5), broken(-0.5), turn(-1.0)])
    assert (sweep.low, sweep.high) == (0.0, 0.5)
    assert [point.strength for point in sweep.points if not point.usable] == [-0.5, 1.0]


@given(breaks=st.sets(st.sampled_from([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])))
def test_the_usable_range_is_everything_up_to_the_first_break_on_either_side(breaks):
    tried = [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0]
    sweep = sweep_of([BASE, *(broken(s) if s in breaks else turn(s) for s in tried)])
    for strength in tried:
        outwards = [s for s in tried if s * strength > 0 and abs(s) <= abs(strength)]
        assert (sweep.low <= strength <= sweep.high) == breaks.isdisjoint(outwards)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kl": MAX_KL + 0.01}, "it spends 1.11 nat per token"),
        ({"perplexity_ratio": MAX_PERPLEXITY + 0.1}, "perplexity is 3.1 times the base's"),
        ({"loops": 0.1 + 2 / 8}, "35% of the answers go round in circles"),
        ({"distinct_2": MIN_DISTINCT * 0.8 - 0.01}, "answers repeat themselves"),
        (
            {"relevance": 0.6 - MAX_LOST_RELEVANCE - 0.02},
            "answers drift from the question (relevance falls by 0.12)",
        ),
        ({"kl": 2.0, "perplexity_ratio": 5.0}, "it spends 2.00 nat per token; perplexity is 5.0 times the base's"),
    ],
)
def test_what_breaks_is_said(changes, why):
    (point,) = (point for point in sweep_of([BASE, turn(1.0, **changes)]).points if point.strength)
    assert point.why == why
    assert not point.usable


@pytest.mark.parametrize(
    "changes",
    [
        {"kl": MAX_KL},
        {"perplexity_ratio": MAX_PERPLEXITY},
        {"loops": 0.24},
        {"loops": 0.28},  # of eight answers, one more: that may be chance
        {"distinct_2": MIN_DISTINCT * 0.8},
        {"relevance": 0.51},
        {"relevance": None},
        {"relevance": [0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, -0.1]},  # it falls by 0.15, but may well not
        {"refuses": 1.0, "length_ratio": 4.0},
    ],
)
def test_at_the_bounds_nothing_is_broken_yet(changes):
    assert sweep_of([BASE, turn(1.0, **changes)]).high == 1.0


def test_the_base_is_never_broken():
    odd = turn(0.0, kl=0.0, loops=0.9, distinct_2=0.01, perplexity_ratio=9.0)
    sweep = sweep_of([odd, turn(1.0, loops=0.9, distinct_2=0.01)])
    assert all(point.usable for point in sweep.points)
