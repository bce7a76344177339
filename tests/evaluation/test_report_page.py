"""The page of a report: nothing from the network, nothing that a model wrote taken for HTML, and figures in words."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from markupsafe import escape

from evaluation.sample_report import (
    around,
    control,
    controls,
    every_report,
    method,
    not_working,
    safe_range,
    setting,
    side,
    subject,
    sweep,
    unmeasured,
    vector_method,
    with_lora,
    working,
)
from trimtab.evaluation.comparison import swing_chance
from trimtab.evaluation.records import Placing, Verdict
from trimtab.evaluation.report import report_html
from trimtab.evaluation.report.charts import Scale, swing_bar, swing_scale, ticks
from trimtab.evaluation.report.page import shown_points
from trimtab.evaluation.report.wording import (
    MARKS,
    clean,
    clipped,
    command_line,
    duration,
    figure,
    findings,
    layer_range,
    percent,
    size,
    strength_meaning,
)
from trimtab.vectors import Interval, SafeRange

HOSTILE = '<script>alert(1)</script> <img src="https://example.org/x.png" onerror=alert(2)> {{ 7 * 7 }} & "quotes"'
VOID = {"meta", "img", "br", "link", "input"}


class Tags(HTMLParser):
    """Every tag with its attributes, and whether tags are closed in the order in which they were opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data + " "


def rendered(report) -> str:
    """Return the page's text with single spaces, as it is read."""
    return " ".join(Tags(report_html(report)).text.split())


@pytest.mark.parametrize("name", every_report())
def test_page_is_well_formed_and_self_contained(name):
    page = report_html(every_report()[name])
    tags = Tags(page)
    assert tags.open == []
    assert {tag for tag, _ in tags.seen}.isdisjoint({"script", "link", "img", "iframe", "object", "base"})
    assert not any(
        name in attributes for _, attributes in tags.seen for name in ("src", "href", "xlink:href", "srcset")
    )
    assert not re.search(r"https?://|@import|url\(", page)


@pytest.mark.parametrize("name", every_report())
def test_page_is_deterministic_without_python_values(name):
    report = every_report()[name]
    assert report_html(report) == report_html(report)
    assert not re.search(r"\b(None|nan|inf|True|False|Interval\()\b", rendered(report))


def test_page_hostile_texts_are_escaped():
    answers = (HOSTILE,) * 6
    dial = sweep()
    points = tuple(replace(point, answers=answers) for point in dial)
    base = working()
    vector = base.interventions[0]
    sides = {sign: replace(one, answers=answers) for sign, one in vector.sides.items()}
    report = working(
        subject=subject(vector=HOSTILE, behaviour=HOSTILE, description=HOSTILE, positive=HOSTILE, model=HOSTILE),
        interventions=(replace(vector, sides=sides, name=HOSTILE, about=HOSTILE),),
        sweep=points,
        verdict=Verdict("works", {"+": True, "-": True}, True, (HOSTILE,)),
        setting=setting(
            questions=(HOSTILE,) * 6, missing=(HOSTILE,), scorers={HOSTILE: HOSTILE}, versions={"trimtab": HOSTILE}
        ),
    )
    tags = Tags(report_html(report))
    assert tags.open == []
    assert not {"script", "img"} & {tag for tag, _ in tags.seen}
    assert not any("onerror" in attributes for _, attributes in tags.seen)
    assert HOSTILE in tags.text


def test_page_invalid_characters_are_replaced():
    vector = vector_method(0.3, -0.3)
    odd = replace(vector.sides["+"], answers=("a\x1b[31mb\x00c\ud800d\ne",) * 6)
    page = report_html(working(interventions=(replace(vector, sides={**vector.sides, "+": odd}),)))
    assert "a [31mb c?d\ne" in page
    page.encode("utf-8")


@pytest.mark.parametrize("name", every_report())
def test_page_headline_is_first_sentence_of_verdict(name):
    report = every_report()[name]
    page = report_html(report)
    first, *reasons = report.verdict.sentences
    assert f"<h1>{escape(first)}</h1>" in page
    assert [page.count(f"<li>{escape(reason)}</li>") for reason in reasons] == [1] * len(reasons)
    assert f"{MARKS[report.verdict.word]} {report.verdict.word}" in rendered(report)


def test_strength_meaning_explains_the_budget():
    meant = strength_meaning(subject(budget=0.4))
    assert "0.4 nat of disturbance per token" in meant
    assert "1.5 times less likely" in meant  # e to the power of 0.4 is 1.49


def test_page_unmeasured_is_a_dash_or_left_out():
    text = rendered(unmeasured())
    heads = Tags(report_html(working())).text
    assert "vector" in text
    assert "–" in text
    assert "relevance" in heads
    assert '<th title="How close' not in report_html(unmeasured())
    assert "Which layers" not in text
    assert "Which layers" in rendered(working())
    assert "Agreement of its pairs not known" in text


def test_page_formats_bytes_seconds_and_tokens():
    text = rendered(with_lora())
    for part in ("2.3 MB", "25.3 kB", "5 min 1 s", "212"):
        assert part in text


def test_page_samples_span_the_breaks():
    assert [point.strength for point in shown_points(working())] == [-1.0, -0.75, 0.0, 1.0]
    text = rendered(working())
    assert "✘ outside the safe range: answers repeat themselves" in text
    assert "0 unsteered" in text


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (-1.0, 1.0, [-1.0, 0.0, 1.0]),
        (-0.5, 0.5, [-0.75, -0.5, 0.0, 0.5, 0.75]),
        (0.0, 0.0, [-0.5, 0.0, 0.5]),
    ],
)
def test_shown_points_are_safe_ends_and_the_next_beyond(low, high, shown):
    safe = safe_range(low, high)
    report = working(safe=safe, sweep=sweep(safe=safe))
    assert [point.strength for point in shown_points(report)] == shown


def test_page_long_answers_are_clipped_and_expandable():
    page = report_html(working())
    long = working().sweep[1].answers[1]
    assert f'<div class="text">{long}</div>' in page
    assert f'<span class="start text">{clipped(long, 230)}</span>' in page


def test_command_line_is_quoted_for_a_shell():
    report = working(subject=subject(vector="my vector", behaviour="a b", model="x/y; rm"))
    assert command_line(report) == (
        "trimtab evaluate 'my vector' --model 'x/y; rm' --behaviour 'a b' "
        f"--questions {len(report.setting.questions)} --max-new-tokens 48 --seed 0"
    )


def test_findings_explain_the_controls():
    good = {finding.name: finding for finding in findings(working())}
    bad = {finding.name: finding for finding in findings(not_working())}
    assert [good[name].good for name in ("Random directions", "Shuffled labels", "Default layers", "Wrong way")] == [
        True
    ] * 4
    assert [bad[name].good for name in ("Random directions", "Shuffled labels", "Wrong way")] == [False] * 3
    assert "Default layers" not in bad
    assert "towards glad also steers towards refusal" in bad["Similarity to refusal"].sentence
    assert findings(unmeasured())[0].value == "not measured"


def test_findings_better_default_layers_count_against():
    misplaced = working(controls=controls(band=control(0.7, -0.7)))
    assert "steers the wrong layers" in next(f for f in findings(misplaced) if f.name == "Default layers").sentence


def test_swing_chance_reaches_at_least_two_deviations():
    trials = tuple(control(swing, 0.0) for swing in (0.1, -0.1, 0.1))
    assert swing_chance(trials) == pytest.approx(0.2)
    lone = tuple(control(swing, 0.0) for swing in (0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    assert swing_chance(lone) == pytest.approx(0.5)
    assert swing_chance(()) is None


def test_swing_bar_within_chance_is_grey():
    scale = swing_scale([around(0.5)], 0.1)
    assert 'class="bar positive"' in swing_bar(around(0.5), scale, 0.1)
    assert 'class="bar unsure"' in swing_bar(around(0.12), scale, 0.1)
    assert 'class="bar negative"' in swing_bar(around(-0.5), scale, 0.1)
    assert 'class="bar' not in swing_bar(None, scale, 0.1)


def test_scale_beyond_its_ends_is_clamped():
    scale = Scale(-1.0, 1.0, 0.0, 100.0)
    assert [scale.at(value) for value in (-5.0, 0.0, 0.5, 7.0)] == [0.0, 50.0, 75.0, 100.0]


@pytest.mark.parametrize(("low", "high"), [(-0.07, 0.66), (0.0, 1.0), (-3.0, 12.5), (1e-4, 3e-4)])
def test_ticks_are_even_and_inside(low, high):
    found = ticks(low, high)
    steps = {round(b - a, 9) for a, b in pairwise(found)}
    assert 2 <= len(found) <= 6
    assert len(steps) == 1
    assert low <= found[0]
    assert found[-1] <= high


def test_page_layers_tried_have_coloured_cells():
    report = working(subject=subject(candidates=(Placing((3, 4, 7), 0.5), Placing((5,), -0.25)), layers=(3, 4, 7)))
    cells = re.findall(r'class="cell" style="background: ([^"]+)" title="layers ([^:]+)', report_html(report))
    assert [layers for _, layers in cells] == ["3–4, 7"] * 3 + ["5"]
    assert "var(--plus) 90%" in cells[0][0]
    assert "var(--minus) 45%" in cells[3][0]


def test_page_without_safe_strength_is_rendered():
    safe = SafeRange(0.0, 0.0, {"+": "likelihood", "-": "repetition"}, 24)
    text = rendered(working(safe=safe, sweep=sweep(safe=safe)))
    assert "At no strength tried does the text hold together: " in text


def test_page_shows_written_effects_and_halves():
    text = rendered(working())
    assert "What it writes default turn" not in text  # a sentence is between
    for part in ("default turn ±0.5", "ends of the safe range −0.75 and +1", "system prompts", "+ half", "75 %"):
        assert part in text
    assert "There is no “× prompt”: answers under the system prompts differ by chance." in rendered(not_working())
    assert "What it writes" not in rendered(unmeasured())


def test_page_non_finite_numbers_are_dashes():
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    bare = side("+", None, perplexity=float("inf"))
    lost = method("lost", 0.1, -0.1, swing=nothing, sides={"+": bare, "-": bare}, times_prompt=float("nan"))
    text = rendered(working(interventions=(vector_method(0.3, -0.3), lost)))
    assert not re.search(r"\b(nan|inf)\b", text)


def test_formats_read_naturally():
    assert [figure(-0.001), figure(-0.5, 1), figure(0.25, signed=True), figure(None)] == ["0.00", "−0.5", "+0.25", "–"]
    assert [size(0), size(999), size(1000), size(123_456_789)] == ["0 bytes", "999 bytes", "1.0 kB", "123 MB"]
    assert [duration(0.04), duration(59.99), duration(3661), duration(None)] == ["0.0 s", "1 min 0 s", "1 h 1 min", "–"]
    assert [percent(0.5), layer_range([2, 1, 5]), layer_range([])] == ["50 %", "1–2, 5", "none"]
    assert clean("tab\tkept\u200dtoo") == "tab\tkept\u200dtoo"


# The card for notebooks


@pytest.mark.parametrize("name", every_report())
def test_short_card_has_verdict_figures_and_a_table(name):
    report = every_report()[name]
    tags = Tags(report._repr_html_())
    text = " ".join(tags.text.split())
    assert tags.open == []
    assert report.verdict.word in text
    for sentence in report.verdict.sentences:
        assert " ".join(sentence.split()) in text
    rows = sum(tag == "tr" for tag, _ in tags.seen)
    assert rows == len(report.interventions) + 1  # the header
    assert not re.search(r"\b(None|nan|inf)\b", text)


def test_short_card_escapes_names():
    vector = replace(working().interventions[0], name=HOSTILE)
    tags = Tags(working(subject=subject(vector=HOSTILE), interventions=(vector,))._repr_html_())
    assert not {"script", "img"} & {tag for tag, _ in tags.seen}
    assert HOSTILE in tags.text


@pytest.mark.parametrize("name", every_report())
def test_report_pickled_or_copied_is_equal(name):
    report = every_report()[name]
    assert pickle.loads(pickle.dumps(report)) == report
    assert copy.deepcopy(report) == report
