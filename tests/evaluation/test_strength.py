"""Strengths: the safe range against one-by-one checks, written effects, and negative controls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import trimtab
from evaluation.writing import write
from trimtab import Behaviour, Steering
from trimtab.behaviours import neutral_prompts
from trimtab.evaluation.comparison import random_seeds, shuffled_directions, swing_chance
from trimtab.evaluation.evaluate import evaluate
from trimtab.evaluation.interventions import Intervention, system_prompt_pair
from trimtab.evaluation.measurement import Baseline, Evaluator, Sizes
from trimtab.evaluation.records import Report
from trimtab.evaluation.strength import (
    find_safe_range,
    is_clear,
    lost_limit,
    random_vectors,
    safe_strengths,
)
from trimtab.stats import bootstrap, mean_interval
from trimtab.steering import Term
from trimtab.training.controls import try_randoms
from trimtab.training.progress import Phases, ignore
from trimtab.training.search import Steerable
from trimtab.training.written import (
    MIN_DISTINCT,
    TextChecks,
    Written,
    answers_at,
    check_texts,
    distinct_share,
    persona_scores,
    write_steered,
)
from trimtab.vectors import ControlVector, Interval, SafeRange

SMALL = Sizes(
    questions=6,
    kl=2,
    controls_kl=2,
    randoms=2,
    pairs=8,
    facts=24,
    harmful=2,
    written=4,
    answer_tokens=4,
    written_tokens=8,
    halvings=2,
)
HAPPY = Behaviour.load("happy")


@pytest.fixture(scope="module")
def vector(tiny_llama) -> ControlVector:
    return trimtab.train(tiny_llama, HAPPY, max_pairs=16, layers=[1, 2], check=False, refine=0)


@pytest.fixture(scope="module")
def baseline(tiny_llama) -> Baseline:
    return Baseline(tiny_llama, sizes=SMALL)


@pytest.fixture(scope="module")
def report(tiny_llama, vector, baseline) -> Report:
    return evaluate(tiny_llama, vector, baseline=baseline)


@pytest.fixture
def texts_hold(monkeypatch) -> None:
    """Let no text exceed a limit, so that facts and relevance decide."""
    monkeypatch.setattr(TextChecks, "limit", lambda *_: None)


def searched(vector, baseline) -> tuple[SafeRange, dict]:
    return find_safe_range(Evaluator.of(baseline, HAPPY), vector, Phases(ignore))


# The safe range


@pytest.mark.parametrize("keeps_up_to", [0.2, 0.3, 0.5, 0.8, 1.0])
def test_safe_range_ends_where_facts_are_lost(vector, baseline, texts_hold, monkeypatch, keeps_up_to):
    def drop(evaluator, intervention):
        lost = abs(intervention.steering.terms[0].strength) > keeps_up_to
        return FakeAccuracy(Interval(-0.2, -0.3, -0.1) if lost else Interval(-0.05, -0.1, 0.0))

    monkeypatch.setattr(Evaluator, "facts", drop)
    monkeypatch.setattr(Evaluator, "relevance_change", lambda *_: None)
    safe, tried = searched(vector, baseline)
    end = np.floor(4 * keeps_up_to) / 4
    assert (safe.low, safe.high) == (-end, end)
    assert set(safe.reasons.values()) == {"budget" if end == 1 else "facts"}
    assert safe.questions == 4
    assert {-1.0, -0.5, 0.5, 1.0} <= set(tried)
    for strength, each in tried.items():
        assert (each.limit == "facts") == (abs(strength) > keeps_up_to)


class FakeAccuracy:
    def __init__(self, drop: Interval) -> None:
        self.drop = drop

    def drop_from(self, _) -> Interval:
        return self.drop


def test_safe_range_lost_relevance_ends_it(vector, baseline, texts_hold, monkeypatch):
    monkeypatch.setattr("trimtab.evaluation.strength.MAX_LOST_FACTS", 1.0)
    monkeypatch.setattr(Evaluator, "relevance_change", lambda *_: Interval(-0.2, -0.3, -0.1))
    safe, _ = searched(vector, baseline)
    assert (safe.low, safe.high) == (0.0, 0.0)
    assert set(safe.reasons.values()) == {"relevance"}


def test_safe_range_equals_checks_of_each_strength(tiny_llama, vector, baseline, report):
    evaluator, questions = Evaluator.of(baseline, HAPPY), baseline.questions[:4]
    first = [0.0, -1.0, -0.5, 0.5, 1.0]
    found = answers_at(tiny_llama, vector, questions, first, max_new_tokens=8, seed=0)
    for strength in first[1:]:
        point, answers = report.point(strength), found[strength]
        limit = answers.checks.limit(found[0.0].checks)
        if limit is None:
            facts = evaluator.facts(Intervention.of_vector(vector, strength)).drop_from(baseline.facts.base)
            limit = lost_limit(facts, evaluator.relevance_change(answers.greedy))
            assert point.damage.accuracy_change == facts
        else:
            assert point.damage.accuracy_change is None
        assert point.limit == limit
        assert point.answers == answers.greedy.texts
    inside = [point for point in report.sweep if report.safe.contains(point.strength)]
    assert all(point.limit is None for point in inside)
    assert -1.0 <= report.safe.low <= 0.0 <= report.safe.high <= 1.0


def test_lost_limit_is_by_value_where_measured():
    assert lost_limit(None, None) is None
    assert lost_limit(Interval(-0.05, -0.1, 0.0), Interval(-0.1, -0.2, 0.0)) is None
    assert lost_limit(Interval(-0.051, -0.1, 0.0), Interval(-0.2, -0.3, -0.1)) == "facts"
    assert lost_limit(None, Interval(-0.101, -0.3, 0.1)) == "relevance"


@pytest.mark.parametrize(
    ("low", "high", "near"), [(-1.0, 1.0, (-0.5, 0.5)), (-0.25, 0.75, (-0.25, 0.5)), (0.0, 0.0, (0.0, 0.0))]
)
def test_safe_strengths_default_is_half_or_the_end(low, high, near):
    turns = safe_strengths(SafeRange(low, high, {"+": "budget", "-": "facts"}, 8))
    assert (turns["default"]["-"], turns["default"]["+"]) == near
    assert turns["safe"] == {"+": high, "-": low}


# The written effect


def test_written_effect_equals_scores_by_hand(tiny_llama, vector, baseline, report):
    texts = baseline.texts[:4]
    pair = system_prompt_pair(HAPPY, questions=6)
    prompted = [Written.of(write(tiny_llama, pair[key], texts, max_new_tokens=8)) for key in "+-"]
    for at in report.written.values():
        strengths = [at.effect.strengths["+"], at.effect.strengths["-"], 0.0]
        steerings = [Steering((Term(vector, strength),)) if strength else Steering() for strength in strengths]
        sets = write_steered(tiny_llama, texts, steerings, max_new_tokens=8)
        assert [each.texts for each in sets] == [report.point(strength).answers for strength in strengths]
        plus, minus, plain, by_plus, by_minus = persona_scores(tiny_llama, HAPPY, texts, [*sets, *prompted])
        close = {"rel": 1e-4, "abs": 1e-5}
        assert at.effect.effect["+"].value == pytest.approx((plus - plain).mean(), **close)
        assert at.effect.effect["-"].low == pytest.approx(mean_interval(minus - plain).low, **close)
        assert at.effect.swing.value == pytest.approx((plus - minus).mean(), **close)
        assert at.effect.prompt_swing.value == pytest.approx((by_plus - by_minus).mean(), **close)
        if at.effect.times_prompt is not None:
            ratio = bootstrap(lambda a, b: a.mean(-1) / b.mean(-1), plus - minus, by_plus - by_minus)
            assert at.effect.times_prompt.value == pytest.approx(ratio.value, rel=1e-3)
        assert at.clear == {key: is_clear(at.effect.effect[key], at.chance, key) for key in "+-"}
    assert report.intervention("system prompt").written == report.written["safe"].effect.prompt_swing


def test_random_vectors_spend_the_budget(vector, baseline):
    steerable, budget = Steerable.of(vector, vector.layers), 0.2
    trials = try_randoms(
        baseline.kl,
        [Evaluator.of(baseline, HAPPY).effects],
        steerable,
        vector.layers,
        budget=budget,
        guess=vector.scale["+"],
        seeds=random_seeds(2, seed=3),
    )
    for random in random_vectors(vector, trials, seed=3):
        assert random.safe is None
        for sign in (1.0, -1.0):
            assert baseline.kl.measure(random.addition(sign)) == pytest.approx(budget, rel=0.1)


# Negative controls

HAPPY_LOOP = "I am so happy! " * 12


def test_happy_loop_exceeds_the_limits(tiny_llama):
    """A text that only repeats a happy phrase is outside any safe range."""
    texts = ("What is in a kitchen?", "How do boats float?")
    prompts = [tiny_llama.encode(tiny_llama.render(Intervention().chat(0, text))) for text in texts]
    good = ("A stove, pots, and a window over the sink.", "They push water aside, and it pushes back.")
    written = [Written(each, tuple(tiny_llama.encode(text) for text in each)) for each in (good, (HAPPY_LOOP,) * 2)]
    plain, loop = check_texts(tiny_llama, prompts, written, written)
    assert distinct_share(HAPPY_LOOP) < MIN_DISTINCT
    assert loop.limit(plain) == "repetition"
    assert plain.repetitive == 0.0


def test_random_directions_stay_within_their_chance(report):
    for at in report.written.values():
        for control in at.random:
            for effect in control.effect.values():
                assert at.chance.low <= effect.value <= at.chance.high
            assert abs(control.swing.value) <= swing_chance(at.random)


@pytest.mark.slow
def test_happy_loop_scores_below_a_good_vector(smollm2, happy):
    questions = neutral_prompts().held_out[:8]
    steered, plain = (
        Written.of(smollm2.generate(list(questions), steering=[steering] * 8, max_new_tokens=40))
        for steering in (Steering((Term(happy, 0.5),)), Steering())
    )
    loop = Written((HAPPY_LOOP,) * 8, (smollm2.encode(HAPPY_LOOP)[:40],) * 8)
    scores = persona_scores(smollm2, HAPPY, questions, [plain, steered, loop])
    base, good, bad = scores.mean(axis=1)
    assert good > base
    assert bad < good, scores


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "shuffled labels"])
def test_meaningless_directions_write_within_chance(smollm2, happy, kind):
    """Other random directions than those that state the chance, and shuffled labels, stay inside it."""
    layers = happy.layers
    if kind == "random":
        noise = np.random.default_rng(77)
        drawn = {layer: noise.standard_normal(smollm2.info.hidden_size) for layer in layers}
        directions = {layer: (each / np.linalg.norm(each)).astype(np.float32) for layer, each in drawn.items()}
    else:
        directions = shuffled_directions(smollm2, HAPPY, layers, pairs=96, seed=7)
    pretender = replace(happy, directions={**happy.directions, **directions}, scale=None, calibration=None, safe=None)
    sizes = Sizes(questions=12, kl=6, controls_kl=6, written=12, randoms=4, facts=24, harmful=2, pairs=24)
    report = evaluate(smollm2, pretender, baselines=(), sizes=sizes)
    assert report.verdict.word == "does not work", report.verdict.sentences
    assert not all(report.written["default"].clear.values())
