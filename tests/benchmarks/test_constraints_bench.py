"""Benchmark of constraints: valid answers, and the rates of forced tokens."""

from __future__ import annotations

import pytest

from benchmarks.constraints import SCHEMAS, Plan, _part, benchmark, is_valid, table
from trimtab.engines.transformers.decode import row
from trimtab.errors import BenchmarkError


def test_steered_answers_are_valid_and_counted(tiny_llama, random_vector):
    most = row.FORCED
    measured = benchmark(Plan(answers=10, rounds=1), engine=tiny_llama, vectors=[random_vector(tiny_llama)])
    assert measured["answers"] == {"valid": 10, "of": 10}
    assert measured["parts"]["answers"] == 2
    assert list(measured["tokens_per_cpu_second"]) == ["greedy, 1", "greedy, 16", "sampled, 1", "sampled, 16"]
    for rates in measured["tokens_per_cpu_second"].values():
        assert min(rates["at once"], rates["one by one"]) > 0
    assert "10 of 10 JSON answers are valid" in table(measured)
    assert most == row.FORCED


def test_invalid_answers_are_seen(llama):
    assert is_valid('{"date":"2026-01-31","mood":null}', SCHEMAS[2])
    assert not is_valid('{"date":"2026-01-32","mood":null}', SCHEMAS[2])
    assert not is_valid('{"date":"2026-01-31"', SCHEMAS[2])
    answer = llama.generate("Hi", max_new_tokens=3)
    for text, valid in (('A.{"date":"2026-01-31","mood":"bad"} b', True), ("None", None), ("A.{", None)):
        object.__setattr__(answer, "text", text)
        assert _part(answer, SCHEMAS[2]) is valid


def test_plan_without_answers_is_refused():
    with pytest.raises(BenchmarkError, match="at least 1"):
        Plan(answers=0)
