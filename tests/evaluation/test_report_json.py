"""A report as JSON: plain, without NaN, the same after reading it back, and without the clock if so wished."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from evaluation.sample_report import around, every_report, side, working
from trimtab.errors import EvaluationError
from trimtab.evaluation.records import Run
from trimtab.evaluation.report import report_json, report_of_json


@pytest.mark.parametrize("name", every_report())
def test_report_json_round_trip_is_equal(name):
    report = every_report()[name]
    text = json.dumps(report_json(report), allow_nan=False)
    assert report_of_json(json.loads(text)) == report


def test_report_json_without_run_is_equal():
    early = working()
    late = replace(early, run=Run("2031-01-01T00:00:00+00:00", {"Comparing": 1.0}, {"vector": 2.0}))
    assert report_json(early) != report_json(late)
    texts = [json.dumps(report_json(report, run=False)) for report in (early, late)]
    assert texts[0] == texts[1]
    assert "run" not in json.loads(texts[0])


def test_report_of_json_without_run_is_read():
    report = report_of_json(report_json(working(), run=False))
    assert report == working(run=Run("", {}, {}))


def test_report_json_non_finite_becomes_null_and_nan():
    odd = replace(working().base, damage=replace(working().base.damage, perplexity_ratio=math.inf))
    report = working(base=odd, prompt_swing=replace(around(0.4), low=math.nan))
    plain = report_json(report)
    assert plain["base"]["damage"]["perplexity_ratio"] is None
    assert plain["prompt_swing"] == {"value": 0.4, "low": None, "high": pytest.approx(0.45)}
    read = report_of_json(json.loads(json.dumps(plain, allow_nan=False)))
    assert math.isnan(read.base.damage.perplexity_ratio)
    assert read.prompt_swing is not None
    assert math.isnan(read.prompt_swing.low)
    assert report_json(read) == plain
    assert plain["base"]["damage"]["perplexity_ratio"] is None  # what was read is left as it was


def test_report_json_numpy_numbers_become_plain():
    report = working(base=replace(side("0", 0.0), chosen=np.float64(0.5)))
    assert type(report_json(report)["base"]["chosen"]) is float


@pytest.mark.parametrize("data", [{}, [], "a report", None, {"subject": {"vector": 3}}])
def test_report_of_json_other_data_is_refused(data):
    with pytest.raises(EvaluationError, match="this is no report of an evaluation") as caught:
        report_of_json(data)
    assert caught.value.fix


def test_report_of_json_error_names_the_place():
    data = report_json(working())
    data["verdict"]["word"] = "wonderful"
    with pytest.raises(EvaluationError, match=r"verdict\.word"):
        report_of_json(data)


def test_report_of_json_missing_number_and_mistake_is_refused():
    data = report_json(working())
    data["safe"]["low"] = None
    data["safe"]["high"] = "high"
    with pytest.raises(EvaluationError, match=r"safe\.low.*safe\.high"):
        report_of_json(data)
