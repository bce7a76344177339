"""Terminal view of a distilled vector's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from trimtab.cli.console import out
from trimtab.evaluation.report.wording import (
    CARRIED,
    DASH,
    RULES_TITLE,
    STRENGTHS_TITLE,
    SUBSTITUTES_TITLE,
    advice,
    clean,
    clipped,
    distilled_headline,
    savings,
)

if TYPE_CHECKING:
    from rich.console import Console

    from trimtab.evaluation.distilled import DistilledReport, DistilledSample
    from trimtab.evaluation.prompted_answers import Substitute
    from trimtab.evaluation.rules import RuleEffect, RuleReport

WIDEST = 100
ANSWER = 300  # characters
SAMPLES = 2
BAR = 20
COLOURS = {True: "green", False: "red", None: "dim"}


def print_distilled(report: DistilledReport, *, console: Console = out) -> None:
    """Print a report for people, in 100 columns or fewer.

    Args:
        report: What to print.
        console: Where.
    """
    width = min(console.width, WIDEST)
    parts = [Text(clean(distilled_headline(report)), style="bold"), _substitutes(report), _dial(report)]
    if report.rules:
        parts.append(_rules(report.rules))
        parts.append(Text(clean(advice(report)), style="bold"))
    parts.append(Text(savings(report.saving)))
    parts += [_sample(sample) for sample in report.samples[:SAMPLES]]
    for part in parts:
        console.print(part, width=width)
        console.print()


def _substitutes(report: DistilledReport) -> Table:
    table = Table(title=SUBSTITUTES_TITLE, title_justify="left", title_style="italic")
    for head, justify in (
        ("substitute", "left"),
        ("nat per token", "right"),
        ("of the gap", "right"),
        ("95 %", "right"),
    ):
        table.add_column(head, justify=justify)  # type: ignore[arg-type]
    table.add_column("made", style="dim")
    table.add_row("plain model", f"{report.base_kl:.3f}", "0%", "", "")
    for each in (report.vector, *report.others):
        table.add_row(*_substitute(each))
    return table


def _substitute(each: Substitute) -> tuple[str, ...]:
    closed = each.closed
    return (
        each.name,
        f"{each.kl:.3f}",
        f"{closed.value:.0%}",
        f"{closed.low:.0%} to {closed.high:.0%}",
        clean(each.about),
    )


def _dial(report: DistilledReport) -> Table:
    table = Table(title=STRENGTHS_TITLE, title_justify="left", title_style="italic")
    table.add_column("strength", justify="right")
    table.add_column("nat per token", justify="right")
    table.add_column("")
    most = max(report.dial.values())
    for strength, kl in report.dial.items():
        table.add_row(f"{strength:g}", f"{kl:.3f}", "█" * max(1, round(BAR * kl / most)))
    return table


def _rules(rules: tuple[RuleReport, ...]) -> Table:
    table = Table(title=RULES_TITLE, title_justify="left", title_style="italic")
    table.add_column("rule")
    table.add_column("general", justify="right")
    table.add_column("asked", justify="right")
    table.add_column("")
    for rule in rules:
        verdict = Text(CARRIED[rule.carried], style=COLOURS[rule.carried])
        table.add_row(Text(clipped(clean(rule.text), 60)), _share(rule.general), _share(rule.asked), verdict)
    return table


def _share(effect: RuleEffect | None) -> str:
    return DASH if effect is None or effect.share is None else f"{effect.share.value:.0%}"


def _sample(sample: DistilledSample) -> Table:
    table = Table(title=clean(sample.question), title_justify="left", title_style="italic", show_lines=True)
    for head in ("prompted", "steered", "neither"):
        table.add_column(head, ratio=1)
    answers = (sample.prompted, sample.steered, sample.neither)
    table.add_row(*(Text(clipped(clean(answer), ANSWER)) for answer in answers))
    return table
