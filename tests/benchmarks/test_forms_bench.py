"""Benchmark of forms: its data, and JSON of a steered server over HTTP."""

from __future__ import annotations

import json

import pytest

from benchmarks.constraints import is_valid
from benchmarks.forms import STEERED, UNSTEERED, Plan, benchmark, load_forms, table
from trimtab.errors import BenchmarkError


def test_right_values_are_valid_and_in_their_texts():
    forms = load_forms()
    assert len(forms) == len({form.text for form in forms}) == 100
    assert {3, 4, 5} >= {len(form.fields) for form in forms}
    for form in forms:
        right = json.dumps(form.fields)
        assert is_valid(right, form.schema), form.text
        assert form.right(right) == len(form.fields)
        names = [value for name, value in form.fields.items() if form.schema["properties"][name].get("maxLength")]
        assert names
        assert all(name in form.text for name in names), form.text


def test_wrong_values_are_not_counted():
    form = load_forms()[0]
    name, *others = form.fields
    assert form.right(json.dumps({**form.fields, name: "Somebody"})) == len(others)
    assert form.right("{") == 0


def test_answers_are_counted_over_http(tiny_llama, random_vector):
    vectors = [random_vector(tiny_llama, size=1.0)]
    measured = benchmark(Plan(answers=5, forms=6), engine=tiny_llama, vectors=vectors)
    assert measured["answers"] == {"of": 5, "valid": dict.fromkeys(STEERED, 5)}
    settings = measured["forms"]["settings"]
    assert list(settings) == [UNSTEERED, *STEERED]
    assert settings["off inside JSON"] == settings[UNSTEERED]
    assert settings[UNSTEERED]["as_unsteered"] == 6
    assert settings["steer_constrained"]["as_unsteered"] < 6
    assert "5 of 5 JSON answers are valid" in table(measured)


def test_plan_without_answers_is_refused():
    with pytest.raises(BenchmarkError, match="at least 1"):
        Plan(answers=0)
