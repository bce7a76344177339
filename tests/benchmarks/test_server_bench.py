"""Benchmark of the server: its sides over HTTP, and what it prints."""

from __future__ import annotations

import pytest

from benchmarks.server import Plan, benchmark, table
from trimtab.errors import BenchmarkError


def test_sides_are_measured_over_http(llama):
    steps = []
    measured = benchmark(Plan(rounds=1, tokens=3), engine=llama, on_step=steps.append)
    assert list(measured["sides"]) == ["one", "sixteen", "apart", "mixes"]
    for side in measured["sides"].values():
        assert side["tokens_per_cpu_second"] > 0
        assert 0 < side["first_token_seconds"]["p50"] <= side["first_token_seconds"]["p95"]
        assert side["beside_the_engine"] > 0  # of a tiny model HTTP takes about as much
    assert list(measured["ratios"]) == ["16 clients against 1", "16 mixes against 16 unsteered"]
    assert "tokens per CPU second" in table(measured)
    assert steps[-1].total == 4


def test_plan_is_checked_before_any_work():
    with pytest.raises(BenchmarkError, match="at least 1"):
        Plan(tokens=0)
    with pytest.raises(BenchmarkError, match="no interpreter"):
        Plan(saklas="nowhere/python")
