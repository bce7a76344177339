"""The benchmark of distilled prompts put together."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tiny_models import vector_for
from trimtab.benches.composing import HEADS, Plan, added, benchmark, table
from trimtab.errors import BenchmarkError
from trimtab.training.distillation.distill import Effort
from trimtab.training.distillation.fit import Schedule

SMALL = Plan(
    first="tutor",
    second="shop",
    effort=Effort(prompts=6, apart=3, answers=1, answer_tokens=3, schedule=Schedule(steps=12, batch=3, stride=0.05)),
    prompts=3,
    answer_tokens=3,
    strengths=(0.5, 1.0),
)


@pytest.fixture(scope="module")
def found(tiny_llama):
    told = []
    return benchmark(SMALL, engine=tiny_llama, on_step=told.append)


def test_each_way_is_measured_under_each_circumstance(found):
    assert list(found["both"]["ways"]) == ["first", "second", "first + second", "first + second on top"]
    assert list(found["on top"]["ways"]) == ["first", "first + second", "first + second on top"]
    assert list(found["switched"]["ways"]) == ["first still", "second", "first + second"]
    for key in HEADS:
        gap = found[key]["gap"]
        for row in found[key]["ways"].values():
            assert row["closed"]["value"] == pytest.approx(1 - row["kl"] / gap, abs=1e-6)


def test_the_dial_is_of_both_vectors_together(found):
    assert list(found["dial"]) == ["0", "0.5", "1"]
    assert found["dial"]["0"] == found["both"]["gap"]
    assert found["dial"]["1"] == pytest.approx(found["both"]["ways"]["first + second"]["kl"], abs=1e-6)


def test_a_sample_shows_the_switch(found):
    assert [message["role"] for message in found["sample"]["chat"]] == ["user", "assistant", "user"]
    assert set(found["sample"]["answers"]) == {"first still", "second", "neither"}


def test_all_of_it_can_be_written_and_read(found):
    text = table(json.loads(json.dumps(found)))
    assert text.startswith("first: tutor, second: shop")
    assert all(head in text for head in HEADS.values())


def test_what_vectors_add_together_is_their_sum(tiny_llama):
    one, other = vector_for(tiny_llama, layers=[1, 2]), vector_for(tiny_llama, layers=[2])
    total = added(one, other, strength=0.5)
    assert sorted(total) == [1, 2]
    np.testing.assert_allclose(total[2], one.addition(0.5)[2] + other.addition(0.5)[2])


def test_prompts_that_cannot_be_put_together_are_refused():
    with pytest.raises(BenchmarkError, match="no prompt named 'poet'"):
        Plan(second="poet")
    with pytest.raises(BenchmarkError, match="with itself"):
        Plan(first="shop", second="shop")
