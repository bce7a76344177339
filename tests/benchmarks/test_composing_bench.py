"""Benchmark of combined distilled prompts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.composing import HEADINGS, Plan, benchmark, table, total_addition
from tiny_models import vector_for
from trimtab.errors import BenchmarkError
from trimtab.training.distillation.distill import Effort
from trimtab.training.distillation.fit import Schedule

SMALL = Plan(
    first="tutor",
    second="shop",
    effort=Effort(
        prompts=6, held_out_every=3, answers=1, answer_tokens=3, schedule=Schedule(steps=12, batch=3, stride=0.05)
    ),
    prompts=3,
    answer_tokens=3,
    strengths=(0.5, 1.0),
)


@pytest.fixture(scope="module")
def measured(tiny_llama):
    return benchmark(SMALL, engine=tiny_llama)


def test_combinations_are_measured_in_all_parts(measured):
    assert list(measured["both"]["vectors"]) == ["first", "second", "first + second", "first + second on top"]
    assert list(measured["on top"]["vectors"]) == ["first", "first + second", "first + second on top"]
    assert list(measured["switched"]["vectors"]) == ["first still", "second", "first + second"]
    for key in HEADINGS:
        gap = measured[key]["gap"]
        for row in measured[key]["vectors"].values():
            assert row["closed"]["value"] == pytest.approx(1 - row["kl"] / gap, abs=1e-6)


def test_strength_points_are_of_the_sum_of_both_vectors(measured):
    assert list(measured["dial"]) == ["0", "0.5", "1"]
    assert measured["dial"]["0"] == measured["both"]["gap"]
    assert measured["dial"]["1"] == pytest.approx(measured["both"]["vectors"]["first + second"]["kl"], abs=1e-6)


def test_sample_shows_the_switch(measured):
    assert [message["role"] for message in measured["sample"]["chat"]] == ["user", "assistant", "user"]
    assert set(measured["sample"]["answers"]) == {"first still", "second", "neither"}


def test_result_survives_json_and_has_a_table(measured):
    text = table(json.loads(json.dumps(measured)))
    assert text.startswith("first: tutor, second: shop")
    assert all(heading in text for heading in HEADINGS.values())


def test_total_addition_equals_sum_of_additions(tiny_llama):
    one, other = vector_for(tiny_llama, layers=[1, 2]), vector_for(tiny_llama, layers=[2])
    total = total_addition(one, other, strength=0.5)
    assert sorted(total) == [1, 2]
    np.testing.assert_allclose(total[2], one.addition(0.5)[2] + other.addition(0.5)[2])


def test_plan_with_unknown_or_equal_prompts_is_refused():
    with pytest.raises(BenchmarkError, match="no prompt named 'poet'"):
        Plan(second="poet")
    with pytest.raises(BenchmarkError, match="with itself"):
        Plan(first="shop", second="shop")
