"""Terminal views of the report of an evaluation, and of that of a distilled prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Column, Table
from rich.text import Text

from trimtab.cli.options import out, right
from trimtab.evaluation.report.tables import WRITTEN, written
from trimtab.evaluation.report.wording import (
    CARRIED,
    COMPARISON_TITLE,
    CONTROLS_TITLE,
    DASH,
    MARKS,
    MISSING_TITLE,
    RULES_TITLE,
    STRENGTHS_TITLE,
    SUBSTITUTES_TITLE,
    WRITTEN_TITLE,
    advice,
    clean,
    clipped,
    distilled_headline,
    figure,
    findings,
    known,
    layer_range,
    outside,
    percent,
    points,
    savings,
    size,
    spread,
    strength,
    strength_meaning,
)
from trimtab.evaluation.strength import safe_strengths
from trimtab.palette import colours

if TYPE_CHECKING:
    from rich.console import Console

    from trimtab.evaluation.distilled import DistilledReport, DistilledSample
    from trimtab.evaluation.records import InterventionReport, Report, Side, Word
    from trimtab.evaluation.rules import RuleEffect, RuleReport
    from trimtab.vectors import Interval

COLOURS: Mapping[Word, str] = {
    "works": "green",
    "weak": "yellow",
    "one way only": "yellow",
    "does not work": "red",
    "not measured": "dim",
}
WIDEST = 100
ROOMY = 94  # columns from which the table has everything
DIAL_BAR = 8  # of the dial, to each side of its middle
ANSWER = 300  # characters
SAMPLES = 2
TITLE = "italic"
PLAIN: Mapping[str, Any] = {"title_justify": "left", "box": None, "padding": (0, 1, 0, 0)}
SHARE_BAR = 20
RULE_COLOURS = {True: "green", False: "red", None: "dim"}


def print_report(report: Report, *, console: Console = out) -> None:
    """Print a report for people, in 100 columns or fewer."""
    width = min(console.width, WIDEST)

    def show(*parts: RenderableType) -> None:
        """Print the parts, and an empty line."""
        for part in (*parts, Text()):
            console.print(part, width=width)

    show(_verdict(report))
    if report.written:
        show(_written(report))
    show(_table(report, roomy=width >= ROOMY), _notes(report))
    show(_controls(report))
    show(_strengths(report))
    for sample in _samples(report):
        show(sample)
    if report.setting.missing:
        show(Text(f"{MISSING_TITLE}: {clean('; '.join(report.setting.missing))}", style="dim"))


def _verdict(report: Report) -> Panel:
    subject, verdict = report.subject, report.verdict
    colour = COLOURS[verdict.word]
    headline, *reasons = verdict.sentences
    lines = [Text(clean(headline), style=f"bold {colour}"), Text()]
    lines += [Text(clean(sentence)) for sentence in reasons]
    about = (
        f"{subject.negative} − … + {subject.positive}; {subject.model}, layers {layer_range(subject.layers)}, "
        f"{subject.method}. {strength_meaning(subject)}"
    )
    lines += [Text(), Text(clean(about), style="dim")]
    title = Text(f"{MARKS[verdict.word]} {clean(subject.vector)}: {verdict.word}", style=f"bold {colour}")
    return Panel(Group(*lines), title=title, title_align="left", border_style=colour)


def _written(report: Report) -> Table:
    """Draw a row for each strength at which written effects were measured; bold is beyond chance."""
    heads = [Column(head, justify="right", overflow="fold") for head in WRITTEN]
    table = Table(Column(overflow="fold"), *heads, title=WRITTEN_TITLE, **PLAIN)
    for name, cells in written(report):
        texts = (" ".join(filter(None, (cell.text, cell.beside.replace(" to ", "…")))) for cell in cells)
        table.add_row(
            name, *(Text(text, style="bold" if cell.sure else "") for text, cell in zip(texts, cells, strict=True))
        )
    return table


def _table(report: Report, *, roomy: bool) -> Table:
    """Draw one row an intervention; its cost is that of the worse side, because a line has no room for both."""
    heads = ["pref. +", "pref. −", "swing", "95 %", "×prompt", "KL", "perpl.", "facts"]
    heads += ["repet.", "tokens", "stored"] if roomy else ["tokens"]
    table = Table(
        Column("intervention", overflow="fold", min_width=9),
        *(Column(head, justify="right", no_wrap=not head.startswith("pref")) for head in heads),
        title=COMPARISON_TITLE,
        **PLAIN,
    )
    for number, intervention in enumerate(report.interventions):
        table.add_row(
            Text(clean(intervention.name)), *_row(intervention, roomy=roomy), style="bold" if number == 0 else "none"
        )
    base = report.base.damage
    facts = DASH if base.accuracy is None else percent(base.accuracy.value)
    row = ["base", DASH, DASH, DASH, "", DASH, "0", _times(base.perplexity_ratio), facts]
    table.add_row(*row, *([percent(base.repetition), DASH, DASH] if roomy else [DASH]), style="dim")
    return table


def _row(intervention: InterventionReport, *, roomy: bool) -> tuple[str, ...]:
    sides = list(intervention.sides.values())
    return (
        *(
            figure(_value(intervention.sides[sign].effect) if sign in intervention.sides else None, signed=True)
            for sign in "+-"
        ),
        figure(_value(intervention.written)),
        spread(intervention.written).replace(" to ", "…"),
        figure(intervention.times_prompt, 1),
        figure(_worst(sides, lambda side: side.damage.kl, max)),
        _times(_worst(sides, lambda side: side.damage.perplexity_ratio, max)),
        points(_worst(sides, lambda side: _value(side.damage.accuracy_change), min)),
        *((percent(_worst(sides, lambda side: side.damage.repetition, max)),) if roomy else ()),
        figure(intervention.prompt_tokens, 0),
        *((size(intervention.stored_bytes),) if roomy else ()),
    )


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def _worst(
    sides: Iterable[Side], value: Callable[[Side], float | None], worse: Callable[[list[float]], float]
) -> float | None:
    numbers = [number for side in sides if (number := value(side)) is not None and known(number)]
    return worse(numbers) if numbers else None


def _times(ratio: float | None) -> str:
    return DASH if ratio is None or not known(ratio) else f"×{figure(ratio, 2 if ratio < 9.995 else 0)}"


def _notes(report: Report) -> Text:
    notes = (
        "The vector at ±1. Preference and written swing in nat per token; KL, perplexity and repetition of the worse "
        "pole; facts in points."
    )
    if report.written and (reason := report.written["safe"].effect.reason):
        notes += f" No ×prompt: {reason}."
    return Text(clean(notes), style="dim")


def _controls(report: Report) -> Group:
    """Show all controls in two or three lines, and a sentence for each that does not speak for the vector."""
    marks = {True: ("✔ ", "green"), False: ("✘ ", "red"), None: ("· ", "dim")}
    controls = findings(report)
    short = [Text.assemble(marks[finding.good], f"{finding.name}: {finding.value}") for finding in controls]
    doubts = [Text.assemble(marks[finding.good], clean(finding.sentence)) for finding in controls if not finding.good]
    return Group(Text(CONTROLS_TITLE, style=TITLE), Columns(short, padding=(0, 3)), *doubts)


def _strengths(report: Report) -> Table:
    """Show the strengths tried, each with a bar to the left or the right; those of the safe range are marked."""
    sweep = report.sweep
    measured = any(point.effect is not None for point in sweep)
    table = Table(
        *right("strength"),
        Column("", justify="center"),
        *((*right("pref."), Column()) if measured else ()),
        *right("KL", "perpl."),
        Column("", overflow="fold"),
        title=STRENGTHS_TITLE,
        **PLAIN,
    )
    most = max((abs(p.effect.value) for p in sweep if p.effect and known(p.effect.value)), default=0.0) or 1.0
    for point in sweep:
        effect, why = _value(point.effect), outside(report, point)
        table.add_row(
            strength(point.strength),
            Text("✘", style="red") if why else Text("┃", style="green"),
            *((figure(effect, signed=True), _bar(effect, most)) if measured else ()),
            figure(point.kl),
            _times(point.damage.perplexity_ratio),
            Text(clean(why), style="red"),
        )
    return table


def _bar(value: float | None, most: float) -> Text:
    long = 0 if value is None or not known(value) else round(DIAL_BAR * min(abs(value) / most, 1.0))
    left, right = (long, 0) if value is not None and value < 0 else (0, long)
    return Text.assemble(
        " " * (DIAL_BAR - left),
        ("█" * left, colours()["minus"]),
        ("│", "dim"),
        ("█" * right, colours()["plus"]),
        " " * (DIAL_BAR - right),
    )


def _samples(report: Report) -> Iterable[Table]:
    turn = safe_strengths(report.safe)["default"]
    strengths = dict.fromkeys((turn["-"], 0.0, turn["+"]))
    places = [point for at in strengths if (point := report.point(at)) is not None]
    count = min([SAMPLES, len(report.setting.questions), *(len(place.answers) for place in places)])
    for number in range(count if places else 0):
        table = Table(
            Column(justify="right", style="bold"),
            Column(overflow="fold"),
            title=Text(clean(report.setting.questions[number]), style=TITLE),
            show_header=False,
            **PLAIN,
        )
        for place in places:
            text = clipped(" ".join(clean(place.answers[number]).split()), ANSWER)
            table.add_row(strength(place.strength), Text(text or "(no answer)"))
        yield table


def print_distilled(report: DistilledReport, *, console: Console = out) -> None:
    """Print a report for people, in 100 columns or fewer."""
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
    columns = (Column("substitute"), *right("nat per token", "of the gap", "95 %"), Column("made", style="dim"))
    table = Table(*columns, title=SUBSTITUTES_TITLE, title_justify="left")
    table.add_row("plain model", f"{report.base_kl:.3f}", "0%", "", "")
    for each in (report.vector, *report.others):
        closed = each.closed
        interval = f"{closed.low:.0%} to {closed.high:.0%}"
        table.add_row(each.name, f"{each.kl:.3f}", f"{closed.value:.0%}", interval, clean(each.about))
    return table


def _dial(report: DistilledReport) -> Table:
    table = Table(*right("strength", "nat per token"), "", title=STRENGTHS_TITLE, title_justify="left")
    most = max(report.dial.values())
    for point, kl in report.dial.items():
        table.add_row(f"{point:g}", f"{kl:.3f}", "█" * max(1, round(SHARE_BAR * kl / most)))
    return table


def _rules(rules: tuple[RuleReport, ...]) -> Table:
    table = Table("rule", *right("general", "asked"), "", title=RULES_TITLE, title_justify="left")
    for rule in rules:
        verdict = Text(CARRIED[rule.carried], style=RULE_COLOURS[rule.carried])
        table.add_row(Text(clipped(clean(rule.text), 60)), _share(rule.general), _share(rule.asked), verdict)
    return table


def _share(effect: RuleEffect | None) -> str:
    return DASH if effect is None or effect.share is None else f"{effect.share.value:.0%}"


def _sample(sample: DistilledSample) -> Table:
    columns = [Column(head, ratio=1) for head in ("prompted", "steered", "neither")]
    table = Table(*columns, title=clean(sample.question), title_justify="left", show_lines=True)
    answers = (sample.prompted, sample.steered, sample.neither)
    table.add_row(*(Text(clipped(clean(answer), ANSWER)) for answer in answers))
    return table
