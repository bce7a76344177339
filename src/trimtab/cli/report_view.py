"""Terminal view of a report: the verdict first, then the comparison, the controls, the strengths, some answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trimtab.cli.console import out
from trimtab.evaluation.report.page import nearest
from trimtab.evaluation.report.wording import (
    COMPARISON_TITLE,
    CONTROLS_TITLE,
    DASH,
    MARKS,
    MISSING_TITLE,
    STRENGTHS_TITLE,
    clean,
    clipped,
    figure,
    findings,
    known,
    layer_range,
    percent,
    points,
    size,
    spread,
    strength,
    strength_meaning,
)

if TYPE_CHECKING:
    from rich.console import Console

    from trimtab.evaluation.records import InterventionReport, Report, Side, Sweep, Word
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
BAR = 8  # of the dial, to each side of its middle
ANSWER = 300  # characters
SAMPLES = 2
TITLE = "italic"


def print_report(report: Report, *, console: Console = out) -> None:
    """Print a report for people, in 100 columns or fewer.

    Args:
        report: What to print.
        console: Where.
    """
    width = min(console.width, WIDEST)

    def show(*parts: RenderableType) -> None:
        """Print the parts, and an empty line."""
        for part in (*parts, Text()):
            console.print(part, width=width)

    show(_verdict(report))
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


# The comparison ------------------------------------------------------------------------------------------------------


def _table(report: Report, *, roomy: bool) -> Table:
    """Draw one row an intervention; its cost is that of the worse side, because a line has no room for both."""
    table = Table(title=COMPARISON_TITLE, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("intervention", overflow="fold", min_width=9)
    heads = ["effect +", "effect −", "swing", "95 %", "×prompt", "KL", "perpl.", "facts"]
    heads += ["repet.", "tokens", "stored"] if roomy else ["tokens"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=head not in ("effect +", "effect −"))
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
    change = _worst(sides, lambda side: _value(side.damage.accuracy_change), min)
    tokens = figure(intervention.prompt_tokens, 0)
    return (
        *(
            figure(_value(intervention.sides[sign].effect) if sign in intervention.sides else None, signed=True)
            for sign in "+-"
        ),
        figure(_value(intervention.swing)),
        spread(intervention.swing).replace(" to ", "…"),
        figure(intervention.prompt_equivalents, 1),
        figure(_worst(sides, lambda side: side.damage.kl, max)),
        _times(_worst(sides, lambda side: side.damage.perplexity_ratio, max)),
        points(change),
        *(
            (percent(_worst(sides, lambda s: s.damage.repetition, max)), tokens, size(intervention.stored_bytes))
            if roomy
            else ()
        ),
        *(() if roomy else (tokens,)),
    )


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def _worst(
    sides: Iterable[Side], value: Callable[[Side], float | None], worse: Callable[[list[float]], float]
) -> float | None:
    found = [number for side in sides if (number := value(side)) is not None and known(number)]
    return worse(found) if found else None


def _times(ratio: float | None) -> str:
    return DASH if ratio is None or not known(ratio) else f"×{figure(ratio, 2 if ratio < 9.995 else 0)}"


def _notes(report: Report) -> Text:
    notes = "Effects and swings in nat per token; KL, perplexity and repetition of the worse pole; facts in points."
    if report.no_equivalents:
        notes += f" No ×prompt: {report.no_equivalents}."
    return Text(clean(notes), style="dim")


# Controls, strengths, answers -----------------------------------------------------------------------------------------


def _controls(report: Report) -> Group:
    """Show all controls in two or three lines, and a sentence for each that does not speak for the vector."""
    marks = {True: ("✔ ", "green"), False: ("✘ ", "red"), None: ("· ", "dim")}
    found = findings(report)
    short = [Text.assemble(marks[finding.good], f"{finding.name}: {finding.value}") for finding in found]
    doubts = [Text.assemble(marks[finding.good], clean(finding.sentence)) for finding in found if not finding.good]
    return Group(Text(CONTROLS_TITLE, style=TITLE), Columns(short, padding=(0, 3)), *doubts)


def _strengths(report: Report) -> Table:
    """Show the sweep, with a bar to the left or the right of the middle; strengths with intact text are marked."""
    sweep = report.sweep
    table = Table(title=STRENGTHS_TITLE, title_justify="left", box=None, padding=(0, 1, 0, 0))
    measured = any(point.effect is not None for point in sweep.points)
    table.add_column("strength", justify="right")
    table.add_column("", justify="center")
    if measured:
        table.add_column("effect", justify="right")
        table.add_column("")
    table.add_column("KL", justify="right")
    table.add_column("perpl.", justify="right")
    table.add_column("", overflow="fold")
    most = max((abs(p.effect.value) for p in sweep.points if p.effect and known(p.effect.value)), default=0.0) or 1.0
    for point in sweep.points:
        effect = _value(point.effect)
        broken = Text(clean(point.why or "falls apart"), style="red")
        table.add_row(
            strength(point.strength),
            _usable(sweep, point.strength, point.usable),
            *((figure(effect, signed=True), _bar(effect, most)) if measured else ()),
            figure(point.kl),
            _times(point.damage.perplexity_ratio),
            Text() if point.usable else broken,
        )
    return table


def _usable(sweep: Sweep, place: float, usable: bool) -> Text:
    if sweep.low <= place <= sweep.high:
        return Text("┃", style="green")
    return Text("·", style="dim") if usable else Text("✘", style="red")


def _bar(value: float | None, most: float) -> Text:
    long = 0 if value is None or not known(value) else round(BAR * min(abs(value) / most, 1.0))
    left, right = (long, 0) if value is not None and value < 0 else (0, long)
    return Text.assemble(
        " " * (BAR - left), ("█" * left, "red"), ("│", "dim"), ("█" * right, "green"), " " * (BAR - right)
    )


def _samples(report: Report) -> Iterable[Table]:
    places = [point for at in (-1.0, 0.0, 1.0) if (point := nearest(report.sweep, at)) is not None]
    count = min([SAMPLES, len(report.setting.questions), *(len(place.answers) for place in places)])
    for number in range(count if places else 0):
        table = Table(
            title=Text(clean(report.setting.questions[number]), style=TITLE),
            title_justify="left",
            box=None,
            padding=(0, 1, 0, 0),
            show_header=False,
        )
        table.add_column("strength", justify="right", style="bold")
        table.add_column("answer", overflow="fold")
        for place in places:
            text = clipped(" ".join(clean(place.answers[number]).split()), ANSWER)
            table.add_row(strength(place.strength), Text(text or "(no answer)"))
        yield table
