"""Steering benchmark: sides, turns and report."""

from __future__ import annotations

import pytest

from benchmarks import steering
from benchmarks.steering import (
    CLOCKS,
    PROMPT,
    SHARE,
    Pair,
    Plan,
    Record,
    TurnTimes,
    benchmark,
    make_sides,
    random_vectors,
    report,
)
from trimtab.errors import BenchmarkError


@pytest.fixture(scope="module")
def vectors(smollm2):
    return random_vectors(smollm2, steering.POOL + 1)


def pair(steered, unsteered, *, side="one vector", rows=1):
    return Pair(rows, side, TurnTimes(unsteered, unsteered, 1.0, 0.0), TurnTimes(steered, 2 * steered, 2.0, 0.5))


def test_steering_sides_take_equal_steps_and_have_ratios(llama):
    steps = []
    before = llama.model.generation_config.eos_token_id
    *_, record = benchmark(Plan(rounds=2, tokens=4), engine=llama, on_step=steps.append)
    measured = report(record)
    assert measured["complete"] is True
    assert list(measured["rows"]) == ["1", "16"]
    assert list(measured["rows"]["1"]) == ["one vector", "monitor", "vector, monitor"]
    assert {"mixes", "operators", "scopes, schedules", "prompt condition"} < set(measured["rows"]["16"])
    for sides in measured["rows"].values():
        for side in sides.values():
            for clock in CLOCKS:
                ratio = side["step"][clock]
                assert 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"]
                assert len(ratio["rounds"]) == 2
                assert (ratio["met"] is None) == (side["target"] is None)
            assert side["milliseconds"]["wall"] > 0
    assert steps[-1].done == steps[-1].total - 1
    assert llama.model.generation_config.eos_token_id == before
    assert not llama.blocks.body._forward_pre_hooks


def test_sides_take_turns_in_alternating_order(llama):
    *_, record = benchmark(Plan(rounds=2, tokens=3), engine=llama)
    sides = [pair.side for pair in record.pairs if pair.rows == 1]
    assert sides == [*sides[:3], *sides[2::-1]]


def test_random_vectors_add_a_share_of_the_norm_mid_depth(smollm2, vectors):
    vector = vectors[0]
    assert vector.layers == tuple(range(8, 25))
    added = vector.addition(1.0)
    assert all(abs(float((added[n] ** 2).sum() ** 0.5) / vector.norms[n] - SHARE) < 1e-4 for n in vector.layers)
    reading = smollm2.generate(PROMPT, raw=True, max_new_tokens=2, read=[vector]).readings
    assert abs(reading["random 0"][0]) < 10


def test_mixes_are_16_different_steerings_of_two_vectors(vectors):
    (mixes,) = (side for side in make_sides(vectors) if side.name == "mixes")
    assert len({str(row) for row in mixes.steering}) == 16
    assert all(len({id(term.vector) for term in row.terms}) == 2 for row in mixes.steering)


def test_ratio_is_the_median_of_pairs_against_its_target():
    targets = {(1, "one vector"): 1.02, (16, "operators"): None}
    pairs = (pair(1.01, 1.0), pair(9.0, 1.0), pair(2.02, 2.0), pair(1.5, 1.0, side="operators", rows=16))
    measured = report(Record(Plan(), "toy", targets, pairs))
    step = measured["rows"]["1"]["one vector"]["step"]
    assert step["wall"]["ratio"] == pytest.approx(1.01)
    assert (step["wall"]["met"], step["cpu"]["met"]) == (True, False)
    assert measured["rows"]["16"]["operators"]["step"]["wall"]["met"] is None
    assert measured["rows"]["1"]["one vector"]["milliseconds"]["after"] == 500.0
    assert report(Record(Plan(), "toy", targets))["rows"] == {}


@pytest.mark.parametrize(
    ("changes", "says"), [({"rounds": 0}, "at least 1"), ({"threads": 0}, "at least 1"), ({"tokens": 2}, "no step")]
)
def test_invalid_plan_is_refused(changes, says):
    with pytest.raises(BenchmarkError, match=says):
        Plan(**changes)
