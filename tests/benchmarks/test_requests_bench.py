"""Benchmark of requests: sides, ratios and the newcomer."""

from __future__ import annotations

import pytest

from benchmarks.requests import RATIOS, Plan, benchmark, table
from trimtab.errors import BenchmarkError


def test_sides_have_ratios_and_the_newcomer_its_passes(llama):
    steps = []
    measured = benchmark(Plan(rounds=2, tokens=4), engine=llama, on_step=steps.append)
    assert list(measured["tokens_per_cpu_second"]) == ["transformers", "one", "sixteen", "apart", "mixes"]
    assert list(measured["ratios"]) == [name for name, *_ in RATIOS]
    for ratio in measured["ratios"].values():
        assert 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"]
        assert len(ratio["rounds"]) == 2
    newcomer = measured["newcomer"]
    assert 1 <= newcomer["passes"] <= newcomer["of_its_prompt"] + 2
    assert "tokens per CPU second" in table(measured)
    assert [step.total for step in steps[1:]] == [10] * 10


def test_plan_without_rounds_is_refused():
    with pytest.raises(BenchmarkError, match="at least 1"):
        Plan(rounds=0)
