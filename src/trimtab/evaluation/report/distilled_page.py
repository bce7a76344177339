"""What a distilled vector carries of its prompt, as one page of HTML that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from trimtab.evaluation.distilled import DistilledReport, Saving
from trimtab.evaluation.report import charts
from trimtab.evaluation.report.page import rendered


def headline(report: DistilledReport) -> str:
    """The one sentence that matters."""
    closed = report.vector.closed
    return (
        f"{report.name!r} carries {closed.value:.0%} of the prompt ({closed.low:.0%} to {closed.high:.0%}, 95 %), on "
        f"{report.prompts} messages that it was not learned from."
    )


def advice(report: DistilledReport) -> str:
    """What must stay in the prompt."""
    if not report.stays:
        return "Nothing needs to stay in the prompt, of what the model follows at all."
    return "Leave in the prompt: " + " ".join(report.stays)


def spared(saving: Saving) -> str:
    """What a request costs less."""
    share = "" if saving.of_context is None else f", {saving.of_context:.1%} of the context window"
    seconds = saving.prefill_with - saving.prefill_without
    return (
        f"Each request is spared {saving.tokens} tokens{share}. Until the first token it takes "
        f"{1000 * saving.prefill_without:.0f} ms, not {1000 * saving.prefill_with:.0f} ms"
        + (f": {1000 * seconds:.0f} ms less." if seconds > 0 else ".")
    )


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
        "headline": headline(report),
        "advice": advice(report),
        "spared": spared(report.saving),
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
