"""Strengths: the sweep, where text breaks, and the usable range against weaker vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trimtab
from trimtab import Behaviour
from trimtab.evaluation.evaluate import evaluate
from trimtab.evaluation.measurement import Baseline, Evaluator, Sizes
from trimtab.evaluation.records import Damage, Report
from trimtab.evaluation.strength import (
    MAX_KL,
    MAX_LOST_RELEVANCE,
    MAX_PERPLEXITY,
    MIN_DISTINCT,
    RANGE_PHASE,
    StrengthPoint,
    is_usable,
    sweep_of,
)
from trimtab.training.written import Written
from trimtab.vectors import ControlVector, Interval

SMALL = Sizes(
    questions=6,
    kl=2,
    controls_kl=2,
    sweep=2,
    randoms=2,
    pairs=8,
    facts=24,
    harmful=2,
    answer_tokens=4,
    written_tokens=8,
    strengths=(-1.0, 1.0),
)
LIMIT = "trimtab.evaluation.strength.MAX_LOST_RELEVANCE"


@pytest.fixture(scope="module")
def strong(tiny_llama) -> ControlVector:
    """Return a vector that spends far more than it should."""
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), max_pairs=16, layers=[1, 2], check=False, refine=0)
    return turned(vector, 8.0)


@pytest.fixture(scope="module")
def baseline(tiny_llama) -> Baseline:
    return Baseline(tiny_llama, sizes=SMALL)


@pytest.fixture(scope="module")
def weaker(tiny_llama, strong, baseline) -> dict[float, Report]:
    return {s: report_of(tiny_llama, turned(strong, s), baseline) for s in (0.25, 0.5, 0.75)}


def turned(vector: ControlVector, strength: float) -> ControlVector:
    """Return the vector whose ±1 is ±strength of this one."""
    assert vector.scale is not None
    return replace(vector, scale={key: scale * strength for key, scale in vector.scale.items()})


def report_of(model, vector: ControlVector, baseline: Baseline) -> Report:
    return evaluate(model, vector, baseline=baseline, baselines=())


def kept_at_one(report: Report, key: str) -> bool:
    damage = report.interventions[0].sides[key].damage
    return is_usable(damage.accuracy_change, damage.relevance_change)


@pytest.mark.parametrize(
    ("limit", "facts"), [(0.0, 1.0), (0.007, 1.0), (0.013, 1.0), (0.016, 1.0), (2.0, 0.05), (2.0, 0.1)]
)
def test_usable_range_equals_search_with_weaker_vectors(
    tiny_llama, strong, baseline, weaker, monkeypatch, limit, facts
):
    monkeypatch.setattr(LIMIT, limit)
    monkeypatch.setattr("trimtab.evaluation.strength.MAX_LOST_FACTS", facts)
    found = report_of(tiny_llama, strong, baseline)
    at = {**weaker, 1.0: found}
    ends = {"+": found.usable_range.high, "-": -found.usable_range.low}
    for key, end in ends.items():
        by_hand = 0.0
        if kept_at_one(found, key):
            by_hand = 1.0
        elif kept_at_one(weaker[0.5], key):
            by_hand = 0.75 if kept_at_one(weaker[0.75], key) else 0.5
        elif kept_at_one(weaker[0.25], key):
            by_hand = 0.25
        assert end == by_hand
    effects = {}
    for key, end in ends.items():
        effects[key] = at[end].interventions[0].sides[key].effect.value if end else 0.0
    assert found.usable_range.swing is not None
    assert found.usable_range.swing.value == pytest.approx(effects["+"] - effects["-"], abs=1e-5)


def test_usable_range_unreachable_limits_is_empty(tiny_llama, strong, baseline, monkeypatch):
    monkeypatch.setattr(LIMIT, -2.0)
    found = report_of(tiny_llama, strong, baseline)
    assert (found.usable_range.low, found.usable_range.high) == (0.0, 0.0)
    assert found.usable_range.swing == Interval(0.0, 0.0, 0.0)
    (sentence,) = [s for s in found.verdict.sentences if s.startswith("At no strength tried does it")]
    assert sentence.endswith("of relevance.")


@pytest.mark.parametrize(
    ("keeps_up_to", "lost_relevance", "end", "written"),
    [
        (0.8, 2.0, 0.75, [2]),
        (0.5, 2.0, 0.5, [2]),
        (0.3, 2.0, 0.25, [2]),
        (0.2, 2.0, 0.0, []),
        (0.8, -2.0, 0.0, [2, 2]),
        (0.3, -2.0, 0.0, [2]),
    ],
)
def test_usable_range_writes_only_where_facts_are_kept(
    tiny_llama, strong, baseline, monkeypatch, keeps_up_to, lost_relevance, end, written
):
    found: list[int] = []
    write = Evaluator.write

    def counting(evaluator, interventions, questions, **options):
        if evaluated:
            found.append(len(interventions))
        return write(evaluator, interventions, questions, **options)

    evaluated: list[bool] = []

    def keeps(evaluator, intervention):
        evaluated.append(True)
        return abs(intervention.steering.terms[0].strength) <= keeps_up_to

    monkeypatch.setattr(Evaluator, "write", counting)
    monkeypatch.setattr("trimtab.evaluation.strength.keeps_facts", keeps)
    monkeypatch.setattr("trimtab.evaluation.strength.MAX_LOST_FACTS", -1.0)  # at 1 too much is lost of them
    monkeypatch.setattr(LIMIT, lost_relevance)
    report = report_of(tiny_llama, strong, baseline)
    assert (report.usable_range.low, report.usable_range.high) == (-end, end)
    assert found == written


def test_usable_range_cheap_vector_is_full(tiny_llama, strong, baseline, monkeypatch):
    monkeypatch.setattr(LIMIT, 2.0)
    monkeypatch.setattr("trimtab.evaluation.strength.MAX_LOST_FACTS", 1.0)
    found = report_of(tiny_llama, strong, baseline)
    assert (found.usable_range.low, found.usable_range.high) == (-1.0, 1.0)
    assert found.usable_range.swing == found.interventions[0].swing
    assert found.usable_range.prompt_equivalents == found.interventions[0].prompt_equivalents
    assert RANGE_PHASE not in found.run.seconds


def test_is_usable_without_measurements_is_true():
    assert is_usable(None, None)
    assert not is_usable(Interval(-0.051, -0.1, 0.0), None)
    assert not is_usable(None, Interval(-0.101, -0.2, 0.0))
    assert is_usable(Interval(-0.05, -0.1, 0.0), Interval(-0.1, -0.2, 0.0))


# The sweep -----------------------------------------------------------------------------------------------------------

WRITTEN = Written(("Fine.",) * 8, ((1, 2),) * 8)


def measured(strength, *, kl=0.4, relevance=0.6, **quality):
    """Return a strength with the quality of its text."""
    fine = {"perplexity_ratio": 1.2, "distinct_2": 0.8, "repetition": 0.1, "length_ratio": 1.0, "refuses": 0.0}
    each = None if relevance is None else np.broadcast_to(relevance, 8)
    point = StrengthPoint(strength, kl, Interval(strength, strength, strength), WRITTEN, each)
    return point, Damage(kl=None, **{**fine, **quality})


def sweep_of_all(measurements):
    points, qualities = zip(*measurements, strict=True)
    return sweep_of(points, qualities)


def broken(strength: float):
    return measured(strength, perplexity_ratio=9.0)


BASE = measured(0.0, kl=0.0, perplexity_ratio=1.0)


def test_sweep_points_ascend_with_their_measurements():
    sweep = sweep_of_all([measured(1.0, kl=0.5, repetition=0.2, refuses=0.1), BASE, measured(-1.0, relevance=None)])
    assert [point.strength for point in sweep.points] == [-1.0, 0.0, 1.0]
    plus = sweep.points[2]
    assert (plus.kl, plus.damage.kl, plus.damage.repetition, plus.damage.refuses) == (0.5, 0.5, 0.2, 0.1)
    assert plus.effect == Interval(1.0, 1.0, 1.0)
    assert plus.answers == WRITTEN.texts
    assert sweep.points[0].damage.relevance is None


def test_sweep_without_breaks_is_usable_throughout():
    sweep = sweep_of_all([BASE, *(measured(strength) for strength in (-2.0, -1.0, 0.5, 3.0))])
    assert (sweep.low, sweep.high) == (-2.0, 3.0)
    assert all(point.usable and not point.why for point in sweep.points)


def test_sweep_beyond_first_break_is_not_usable():
    sweep = sweep_of_all([BASE, measured(0.5), broken(1.0), measured(1.5), broken(-0.5), measured(-1.0)])
    assert (sweep.low, sweep.high) == (0.0, 0.5)
    assert [point.strength for point in sweep.points if not point.usable] == [-0.5, 1.0]


@given(breaks=st.sets(st.sampled_from([-2.0, -1.0, -0.5, 0.5, 1.0, 2.0])))
def test_sweep_range_ends_at_first_break_on_each_side(breaks):
    tried = [-2.0, -1.0, -0.5, 0.5, 1.0, 2.0]
    sweep = sweep_of_all([BASE, *(broken(s) if s in breaks else measured(s) for s in tried)])
    for strength in tried:
        outwards = [s for s in tried if s * strength > 0 and abs(s) <= abs(strength)]
        assert (sweep.low <= strength <= sweep.high) == breaks.isdisjoint(outwards)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kl": MAX_KL + 0.01}, "it spends 1.11 nat per token"),
        ({"perplexity_ratio": MAX_PERPLEXITY + 0.1}, "perplexity is 3.1 times the base's"),
        ({"repetition": 0.1 + 2 / 8}, "35% of the answers are repetitive"),
        ({"distinct_2": MIN_DISTINCT * 0.8 - 0.01}, "answers repeat themselves"),
        (
            {"relevance": 0.6 - MAX_LOST_RELEVANCE - 0.02},
            "answers drift from the question (relevance falls by 0.12)",
        ),
        ({"kl": 2.0, "perplexity_ratio": 5.0}, "it spends 2.00 nat per token; perplexity is 5.0 times the base's"),
    ],
)
def test_sweep_exceeded_limit_is_named(changes, why):
    (point,) = (point for point in sweep_of_all([BASE, measured(1.0, **changes)]).points if point.strength)
    assert point.why == why
    assert not point.usable


@pytest.mark.parametrize(
    "changes",
    [
        {"kl": MAX_KL},
        {"perplexity_ratio": MAX_PERPLEXITY},
        {"repetition": 0.24},
        {"repetition": 0.28},  # of eight answers, one more: that may be chance
        {"distinct_2": MIN_DISTINCT * 0.8},
        {"relevance": 0.51},
        {"relevance": None},
        {"relevance": [0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, -0.1]},  # it falls by 0.15, but may well not
        {"refuses": 1.0, "length_ratio": 4.0},
    ],
)
def test_sweep_at_the_limits_is_usable(changes):
    assert sweep_of_all([BASE, measured(1.0, **changes)]).high == 1.0


def test_sweep_base_is_always_usable():
    odd = measured(0.0, kl=0.0, repetition=0.9, distinct_2=0.01, perplexity_ratio=9.0)
    sweep = sweep_of_all([odd, measured(1.0, repetition=0.9, distinct_2=0.01)])
    assert all(point.usable for point in sweep.points)
