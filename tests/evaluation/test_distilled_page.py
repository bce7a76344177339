"""A distilled vector's report as a page."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from evaluation.sample_distilled import REPORT
from trimtab.evaluation.distilled import DistilledSample
from trimtab.evaluation.report import distilled_html
from trimtab.evaluation.report.charts import dial_chart


@pytest.fixture(scope="module")
def page():
    return distilled_html(REPORT)


def test_distilled_page_shows_all_measurements(page):
    assert "How much is rum?" in page
    for part in ("carries 78%", "mean difference", "29 %", "0.350", "✘ not carried", "– not followed", "62 tokens"):
        assert part in page
    assert "Leave in the prompt: Rum costs 4.35 dollars." in page
    assert "Ahoy [matey]!" in page


def test_distilled_page_is_self_contained_and_deterministic(page):
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page == distilled_html(REPORT)


def test_distilled_page_answers_are_escaped():
    sample = DistilledSample("<b>?</b>", "<script>alert(1)</script>", "\x07 " + "long " * 80, "")
    page = distilled_html(replace(REPORT, samples=(sample,)))
    assert "<script>alert" not in page
    assert "\x07" not in page
    assert "&lt;b&gt;?&lt;/b&gt;" in page
    assert "read on" in page
    assert "(no answer)" in page


def test_distilled_page_without_rules_has_no_section(page):
    assert "Rule by rule" in page
    assert "Rule by rule" not in distilled_html(replace(REPORT, rules=()))


def test_dial_chart_has_a_dot_for_each_strength():
    drawn = ElementTree.fromstring(dial_chart(REPORT.dial, width=700))
    dots = [circle for group in drawn.iter("g") for circle in group.iter("circle")]
    assert len(dots) == len(REPORT.dial)
    heights = [float(dot.attrib["cy"]) for dot in dots]
    assert sorted(range(len(heights)), key=lambda n: -heights[n]) == sorted(
        range(len(heights)), key=lambda n: list(REPORT.dial.values())[n]
    )
    assert [float(dot.attrib["cx"]) for dot in dots] == sorted(float(dot.attrib["cx"]) for dot in dots)
