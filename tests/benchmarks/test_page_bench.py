"""Benchmark of the web page's columns."""

from __future__ import annotations

import pytest

from benchmarks.page import Plan, benchmark, table
from trimtab.errors import BenchmarkError


def test_one_and_four_columns_are_measured(llama):
    steps = []
    measured = benchmark(Plan(rounds=1, tokens=3), engine=llama, on_step=steps.append)
    assert {side: len(spent) for side, spent in measured["seconds"].items()} == {"one": 1, "four": 1}
    assert measured["four_against_one"]["ratio"] > 0
    assert "3 tokens" in table(measured)
    assert steps[-1].total == 1


def test_page_plan_is_checked_before_any_work():
    with pytest.raises(BenchmarkError, match="at least 1"):
        Plan(rounds=0)
