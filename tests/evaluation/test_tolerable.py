"""How far the dial goes at little damage, against vectors that were made weaker themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest

import trimtab
from trimtab import Behaviour
from trimtab.evaluation.baseline import Baseline, Sizes
from trimtab.evaluation.evaluate import evaluate
from trimtab.evaluation.measure import write_at_length
from trimtab.evaluation.records import Report
from trimtab.evaluation.strength import is_usable
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
    """A vector that spends far more than it should."""
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), max_pairs=16, layers=[1, 2], check=False, refine=0)
    return turned(vector, 8.0)


@pytest.fixture(scope="module")
def grounds(tiny_llama) -> Baseline:
    return Baseline(tiny_llama, sizes=SMALL)


@pytest.fixture(scope="module")
def weaker(tiny_llama, strong, grounds) -> dict[float, Report]:
    return {s: report_of(tiny_llama, turned(strong, s), grounds) for s in (0.25, 0.5, 0.75)}


def turned(vector: ControlVector, strength: float) -> ControlVector:
    """The vector whose ±1 is ±strength of this one."""
    assert vector.scale is not None
    return replace(vector, scale={key: scale * strength for key, scale in vector.scale.items()})


def report_of(model, vector: ControlVector, grounds: Baseline) -> Report:
    return evaluate(model, vector, grounds=grounds, baselines=())


def kept_at_one(report: Report, key: str) -> bool:
    damage = report.methods[0].sides[key].damage
    return is_usable(damage.accuracy_change, damage.relevance_change)


@pytest.mark.parametrize(
    ("limit", "facts"), [(0.0, 1.0), (0.007, 1.0), (0.013, 1.0), (0.016, 1.0), (2.0, 0.05), (2.0, 0.1)]
)
def test_each_end_is_where_a_weaker_vector_costs_little_and_half_a_step_on_does_not(
    tiny_llama, strong, grounds, weaker, monkeypatch, limit, facts
):
    monkeypatch.setattr(LIMIT, limit)
    monkeypatch.setattr("trimtab.evaluation.strength.MAX_LOST_FACTS", facts)
    found = report_of(tiny_llama, strong, grounds)
    at = {**weaker, 1.0: found}
    ends = {"+": found.tolerable.high, "-": -found.tolerable.low}
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
        effects[key] = at[end].methods[0].sides[key].effect.value if end else 0.0
    assert found.tolerable.swing is not None
    assert found.tolerable.swing.value == pytest.approx(effects["+"] - effects["-"], abs=1e-5)


def test_limits_that_nothing_keeps_leave_no_dial(tiny_llama, strong, grounds, monkeypatch):
    monkeypatch.setattr(LIMIT, -2.0)
    found = report_of(tiny_llama, strong, grounds)
    assert (found.tolerable.low, found.tolerable.high) == (0.0, 0.0)
    assert found.tolerable.swing == Interval(0.0, 0.0, 0.0)
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
def test_answers_are_written_only_where_facts_are_kept(
    tiny_llama, strong, grounds, monkeypatch, keeps_up_to, lost_relevance, end, written
):
    found: list[int] = []

    def counting(case, arms, questions):
        found.append(len(arms))
        return write_at_length(case, arms, questions)

    def keeps(case, arm):
        return abs(arm.steering.terms[0].strength) <= keeps_up_to

    monkeypatch.setattr("trimtab.evaluation.tolerable.write_at_length", counting)
    monkeypatch.setattr("trimtab.evaluation.tolerable._keeps_facts", keeps)
    monkeypatch.setattr("trimtab.evaluation.strength.MAX_LOST_FACTS", -1.0)  # at 1 too much is lost of them
    monkeypatch.setattr(LIMIT, lost_relevance)
    report = report_of(tiny_llama, strong, grounds)
    assert (report.tolerable.low, report.tolerable.high) == (-end, end)
    assert found == written


def test_a_dial_that_costs_little_is_as_long_as_it_was(tiny_llama, strong, grounds, monkeypatch):
    monkeypatch.setattr(LIMIT, 2.0)
    monkeypatch.setattr("trimtab.evaluation.strength.MAX_LOST_FACTS", 1.0)
    found = report_of(tiny_llama, strong, grounds)
    assert (found.tolerable.low, found.tolerable.high) == (-1.0, 1.0)
    assert found.tolerable.swing == found.methods[0].swing
    assert found.tolerable.prompt_equivalents == found.methods[0].prompt_equivalents
    assert "Turning down what costs too much" not in found.run.seconds


def test_what_was_not_measured_is_not_held_against_a_side():
    assert is_usable(None, None)
    assert not is_usable(Interval(-0.051, -0.1, 0.0), None)
    assert not is_usable(None, Interval(-0.101, -0.2, 0.0))
    assert is_usable(Interval(-0.05, -0.1, 0.0), Interval(-0.1, -0.2, 0.0))
