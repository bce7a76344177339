"""What a distilled vector carries of its prompt, as one page of HTML that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from trimtab.evaluation.distilled import DistilledReport
from trimtab.evaluation.report import charts, distilled_words
from trimtab.evaluation.report.environment import rendered

TEMPLATE = "distilled.html.jinja"
WIDE, NARROW = 700, 340  # px of the two drawings of the dial
MARKS = {"took": "✔", "did not take": "✘", "not followed": "–"}
MOST = 1.0  # of the way: all of it


def distilled_html(report: DistilledReport) -> str:
    """A report as a page: what is carried, beside other ways; the dial; rule by rule; samples.

    It is one file: no scripts, and nothing from the network. The same report gives the same bytes. To write it, encode
    it as UTF-8.

    Args:
        report: What to show.

    Example:
        >>> Path("pirate.html").write_text(distilled_html(report), encoding="utf-8")  # doctest: +SKIP
    """
    ways = (report.vector, *report.others)
    ends = [end for way in ways for end in (way.closed.low, way.closed.high)]
    scale = charts.Scale(min(-0.05, *ends), max(MOST, *ends), 1, charts.BAR_WIDTH - 1)
    view = {
        "report": report,
        "words": distilled_words,
        "marks": MARKS,
        "ways": ways,
        "bar": lambda closed: charts.swing_bar(closed, scale, None),
        "axis": charts.swing_axis(scale),
        "dial_wide": dial_chart(report.dial, width=WIDE),
        "dial_narrow": dial_chart(report.dial, width=NARROW),
    }
    return rendered(TEMPLATE, view)


def dial_chart(dial: Mapping[float, float], *, width: int) -> Markup:
    """The distance from the prompted model over strength; the distance of the plain one is drawn through."""
    return charts.line_chart(
        dial,
        title="nat per token from the prompted model",
        below="strength",
        mark=(dial[0.0], "without the vector") if 0.0 in dial else None,
        width=width,
    )
