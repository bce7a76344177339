"""HTML renderer: a report as one page without external parts, and as a short card for notebooks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from functools import partial, reduce
from operator import getitem
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import TypeAdapter, ValidationError

from trimtab.errors import EvaluationError
from trimtab.evaluation.comparison import swing_chance
from trimtab.evaluation.distilled import DistilledReport
from trimtab.evaluation.records import InterventionReport, Point, Report
from trimtab.evaluation.report import charts, tables, wording
from trimtab.palette import palette_css

MAX_SHOWN = 3  # mistakes that an error names


def report_json(report: Report, *, run: bool = True) -> dict[str, Any]:
    """Return a report as plain JSON values; a number that is not finite becomes None.

    Without ``run``, the timing metadata, two evaluations with the same seed are equal byte for byte.

    Example:
        >>> json.dumps(report_json(report), allow_nan=False)  # doctest: +SKIP
    """
    plain: dict[str, Any] = _plain(report)
    if not run:
        del plain["run"]
    return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def report_of_json(data: Any) -> Report:
    """Return the report from values of ``report_json``.

    None in place of a required number becomes NaN again. Without ``"run"`` the timing metadata are empty.

    Raises:
        EvaluationError: The values are not those of a report.

    Example:
        >>> report_of_json(json.loads(Path("report.json").read_text()))  # doctest: +SKIP
    """
    if isinstance(data, Mapping):
        data = {"run": {"created": "", "seconds": {}, "making": {}}, **data}
    adapter = TypeAdapter(Report)
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        lost = [entry["loc"] for entry in error.errors() if entry["type"] == "float_type" and entry["input"] is None]
        if len(lost) < error.error_count():
            raise _unreadable(error) from None
    filled = deepcopy(data)
    for place in lost:
        reduce(getitem, place[:-1], filled)[place[-1]] = math.nan
    try:
        return adapter.validate_python(filled)
    except ValidationError as error:
        raise _unreadable(error) from None


def _unreadable(error: ValidationError) -> EvaluationError:
    mistakes = [f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors(include_url=False)]
    more = f" and {len(mistakes) - MAX_SHOWN} more" if len(mistakes) > MAX_SHOWN else ""
    return EvaluationError(
        f"this is no report of an evaluation: {'; '.join(mistakes[:MAX_SHOWN])}{more}",
        fix="give the JSON that trimtab evaluate wrote",
    )


QUESTIONS = 5
WIDE, DIAL_WIDE, NARROW = 860, 700, 340  # px of the charts on wide and on narrow screens
LONG = 230  # characters of an answer that are shown at once


def rendered(template: str, view: dict[str, Any]) -> str:
    """Render a template; the same view gives the same bytes."""
    environment = Environment(
        loader=PackageLoader("trimtab.evaluation.report", package_path=""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        finalize=_safe,
    )
    environment.filters |= {
        "number": wording.figure,
        "percent": wording.percent,
        "strength": wording.strength,
        "layers": wording.layer_range,
        "size": wording.size,
        "duration": wording.duration,
        "clipped": partial(wording.clipped, most=LONG),
    }
    return environment.get_template(template).render({**view, "long": LONG, "palette": Markup(palette_css())})


def _safe(value: Any) -> Any:
    """Clean texts: a model may write characters that HTML cannot contain."""
    return wording.clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def shown_points(report: Report) -> tuple[Point, ...]:
    """Return up to five points: the base, both ends of the safe range, and the next strength tried beyond each."""
    shown = {0.0, report.safe.low, report.safe.high}
    tried = [point.strength for point in report.sweep]
    shown |= {min(beyond) for beyond in [[s for s in tried if s > report.safe.high]] if beyond}
    shown |= {max(beyond) for beyond in [[s for s in tried if s < report.safe.low]] if beyond}
    return tuple(point for point in report.sweep if point.strength in shown)


@dataclass(frozen=True)
class Sample:
    """One answer; ``why`` says what is wrong at its strength, where that is outside the safe range."""

    who: str  # the strength or the intervention
    sign: str  # "+", "-", or "0" for the base model
    towards: str  # the pole's label; empty for the base model
    text: str
    why: str = ""


def report_html(report: Report) -> str:
    """Render a report as a page: the verdict first, then the comparison, strengths, samples, controls and settings.

    It is one file without scripts that needs nothing from the network. The same report gives the same bytes. To write
    it, encode it as UTF-8.

    Example:
        >>> Path("report.html").write_text(report_html(report), encoding="utf-8")  # doctest: +SKIP
    """
    return rendered("report.html.jinja", _view(report))


def _view(report: Report) -> dict[str, Any]:
    chance = swing_chance(report.written["safe"].random) if report.written else None
    scale = charts.swing_scale([intervention.written for intervention in report.interventions], chance)
    subject = report.subject
    swings = [abs(placing.swing) for placing in subject.candidates if wording.known(placing.swing)]
    steered = [layer for placing in subject.candidates for layer in placing.layers]
    return {
        "report": report,
        "wording": wording,
        "mark": wording.MARKS[report.verdict.word],
        "written": tables.written(report),
        "written_columns": tables.WRITTEN,
        "comparison": tables.comparison(report),
        "swing": tables.SWING,
        "bar": lambda row: charts.swing_bar(row.swing, scale, chance),
        "axis": charts.swing_axis(scale) if any(intervention.written for intervention in report.interventions) else "",
        "details": tables.details(report),
        "has_effects": any(point.effect for point in report.sweep),
        "strength_columns": tables.STRENGTHS,
        "sweep_wide": charts.sweep_chart(report, width=WIDE),
        "sweep_narrow": charts.sweep_chart(report, width=NARROW),
        "strength_samples": strength_samples(report),
        "comparison_samples": comparison_samples(report),
        "layer_span": range(min(steered), max(steered) + 1) if steered else range(0),
        "shade": partial(shade, most=max(swings, default=0.0) or 1.0),
    }


def shade(swing: float, *, most: float) -> str:
    """Return a colour for a swing, the stronger the nearer it is to ``most``, over any background."""
    share = swing / most if wording.known(swing) else 0.0
    name = "plus" if share > 0 else "minus"
    return f"color-mix(in srgb, var(--{name}) {min(abs(share), 1.0) * 90:.0f}%, transparent)"


def strength_samples(report: Report) -> list[tuple[str, list[Sample]]]:
    """Return the first questions, each with its answers at some strengths."""
    points, poles, questions = shown_points(report), report.subject.poles, report.setting.questions

    def sample(point: Point, number: int) -> Sample:
        sign = "+" if point.strength > 0 else "-" if point.strength < 0 else "0"
        who, towards = wording.strength(point.strength), poles.get(sign, "")
        return Sample(who, sign, towards, point.answers[number], wording.outside(report, point))

    count = min([QUESTIONS, len(questions), *(len(point.answers) for point in points)]) if points else 0
    return [(questions[number], [sample(point, number) for point in points]) for number in range(count)]


def comparison_samples(report: Report) -> list[tuple[str, list[list[Sample]]]]:
    """Return the same questions, each with a row of answers per intervention; the negative pole is on the left."""
    poles = tuple(report.subject.poles.items())[::-1]

    def row(each: InterventionReport, number: int) -> list[Sample]:
        sides = [(sign, pole, each.sides[sign].answers) for sign, pole in poles if sign in each.sides]
        return [Sample(each.name, sign, pole, texts[number]) for sign, pole, texts in sides if number < len(texts)]

    asked = [
        (question, [samples for each in report.interventions if (samples := row(each, number))])
        for number, question in enumerate(report.setting.questions[:QUESTIONS])
    ]
    return [(question, rows) for question, rows in asked if rows]


def distilled_html(report: DistilledReport) -> str:
    """Render a distilled vector's report as a page: substitutes for the prompt, strengths, rules and samples.

    Like ``report_html``, it is one file without scripts, and the same report gives the same bytes.

    Example:
        >>> Path("pirate.html").write_text(distilled_html(report), encoding="utf-8")  # doctest: +SKIP
    """
    substitutes = (report.vector, *report.others)
    ends = [end for each in substitutes for end in (each.closed.low, each.closed.high)]
    scale = charts.Scale(min(-0.05, *ends), max(1.0, *ends), 1, charts.BAR_WIDTH - 1)
    view = {
        "report": report,
        "wording": wording,
        "substitutes": substitutes,
        "bar": lambda closed: charts.swing_bar(closed, scale, None),
        "axis": charts.swing_axis(scale),
        "dial_wide": charts.dial_chart(report.dial, width=DIAL_WIDE),
        "dial_narrow": charts.dial_chart(report.dial, width=NARROW),
    }
    return rendered("distilled.html.jinja", view)
