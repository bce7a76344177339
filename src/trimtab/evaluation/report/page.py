"""A report as one page of HTML that needs nothing from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from trimtab.evaluation.records import Report
from trimtab.evaluation.report import charts, meaning, tables, words
from trimtab.evaluation.report.choosing import QUESTIONS, shown_points
from trimtab.evaluation.report.environment import rendered

TEMPLATE = "report.html.jinja"
WIDE, NARROW = 860, 340  # px of the two drawings of the sweep


@dataclass(frozen=True)
class Sample:
    """One answer.

    Attributes:
        who: Whose it is: a strength, or a method.
        sign: ``"+"``, ``"-"`` or ``"0"``: which pole was asked for.
        towards: That pole's label; empty for the base model.
        text: The answer.
        usable: Whether the text holds together at that strength.
        why: What broke; empty where nothing did.
    """

    who: str
    sign: str
    towards: str
    text: str
    usable: bool = True
    why: str = ""


@dataclass(frozen=True)
class Asked:
    """A question with answers.

    Attributes:
        question: The question.
        rows: Answers side by side, row by row.
    """

    question: str
    rows: tuple[tuple[Sample, ...], ...]


def report_html(report: Report) -> str:
    """A report as a page: the answer first, then the comparison, the dial, samples, controls and the card.

    It is one file: no scripts, and nothing from the network. The same report gives the same bytes. To write it, encode
    it as UTF-8.

    Args:
        report: What to show.

    Example:
        >>> Path("report.html").write_text(report_html(report), encoding="utf-8")  # doctest: +SKIP
    """
    return rendered(TEMPLATE, _view(report))


def _view(report: Report) -> dict[str, Any]:
    chance = meaning.swing_chance(report.controls)
    scale = charts.swing_scale([method.swing for method in report.methods], chance)
    subject = report.subject
    sweep = partial(
        charts.sweep_chart,
        report.sweep,
        report.controls.chance,
        budget=subject.budget,
        positive=subject.positive,
        negative=subject.negative,
    )
    steered = [layer for placing in subject.candidates for layer in placing.layers]
    return {
        "report": report,
        "meaning": meaning,
        "mark": meaning.MARKS[report.verdict.word],
        "comparison": tables.comparison(report),
        "swing": tables.SWING,
        "bar": lambda row: charts.swing_bar(row.swing, scale, chance),
        "axis": charts.swing_axis(scale) if any(method.swing for method in report.methods) else "",
        "details": tables.details(report),
        "dial": tables.dial(report),
        "dial_moves": any(point.effect for point in report.sweep.points),
        "dial_heads": tables.DIAL,
        "sweep_wide": sweep(width=WIDE),
        "sweep_narrow": sweep(width=NARROW),
        "dialled": dialled(report),
        "compared": compared(report),
        "layer_rows": tables.layer_rows(report),
        "layer_span": range(min(steered), max(steered) + 1) if steered else range(0),
        "shade": shade,
    }


def shade(share: float) -> str:
    """A colour as strong as the share of the strongest, over whatever the background is."""
    name = "positive" if share > 0 else "negative"
    return f"color-mix(in srgb, var(--{name}) {min(abs(share), 1.0) * 90:.0f}%, transparent)"


def dialled(report: Report) -> tuple[Asked, ...]:
    """The first questions, with the answers at some places of the dial."""
    labels = {1: report.subject.positive, -1: report.subject.negative}
    points = shown_points(report.sweep)
    count = min([QUESTIONS, len(report.setting.questions), *(len(point.answers) for point in points)])
    return tuple(
        Asked(
            report.setting.questions[number],
            (
                tuple(
                    Sample(
                        words.strength(point.strength),
                        _sign(point.strength),
                        labels.get((point.strength > 0) - (point.strength < 0), ""),
                        point.answers[number],
                        point.usable,
                        point.why,
                    )
                    for point in points
                ),
            ),
        )
        for number in range(count if points else 0)
    )


def _sign(strength: float) -> str:
    return "+" if strength > 0 else "-" if strength < 0 else "0"


def compared(report: Report) -> tuple[Asked, ...]:
    """The same questions, with the answers of every method asked for each pole; the negative pole stands left."""
    asked = []
    for number, question in enumerate(report.setting.questions[:QUESTIONS]):
        rows = tuple(
            tuple(
                Sample(method.name, sign, pole, side.answers[number])
                for sign, pole in reversed(tuple(tables.poles(report).items()))
                if (side := method.sides.get(sign)) is not None and number < len(side.answers)
            )
            for method in report.methods
        )
        asked.append(Asked(question, tuple(row for row in rows if row)))
    return tuple(entry for entry in asked if entry.rows)
