"""Terminal views: the card of a vector, the report of an evaluation, and that of a distilled prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trimtab.cli.options import out
from trimtab.evaluation.report.page import nearest
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
    advice,
    clean,
    clipped,
    distilled_headline,
    figure,
    findings,
    known,
    layer_range,
    percent,
    points,
    savings,
    size,
    spread,
    strength,
    strength_meaning,
)

if TYPE_CHECKING:
    from rich.console import Console

    from trimtab.evaluation.distilled import DistilledReport, DistilledSample
    from trimtab.evaluation.records import InterventionReport, Report, Side, Sweep, Word
    from trimtab.evaluation.rules import RuleEffect, RuleReport, Substitute
    from trimtab.vectors import Calibration, ControlVector, Effect, Interval

BAR = 24


def print_card(vector: ControlVector) -> None:
    """Print everything that a vector's file knows, for people."""
    out.print(Panel(_facts(vector), title=f"[bold]{vector.behaviour.name}[/bold]", title_align="left"))
    if vector.calibration is not None:
        _print_calibration(vector.calibration)
    _print_reading(vector)
    out.print(_layer_chart(vector))


def _facts(vector: ControlVector) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    model = vector.model
    table.add_row("model", f"{model.name} ({model.architecture}, {model.layers} layers of {model.hidden_size})")
    table.add_row("method", vector.method)
    table.add_row("steers", f"layers {layer_range(vector.layers)}")
    if vector.scale:
        table.add_row(
            "scale", f"+{vector.scale['+']:.4f}  -{vector.scale['-']:.4f} of each layer's norm at strength ±1"
        )
    else:
        table.add_row("scale", "never calibrated: steer by coefficient")
    for name, scale in vector.operator_scales.items():
        unit = "radians" if name == "rotate" else "of each layer's norm"
        table.add_row(name, f"+{scale['+']:.4f}  -{scale['-']:.4f} {unit} at strength ±1")
    if vector.reliability:
        r = vector.reliability
        table.add_row(
            "reliability",
            f"{r.pairs} pairs agree with cosine {r.pairwise_cosine:.2f}; {r.separation:.0%} lie the right way round",
        )
    if vector.distillation:
        d = vector.distillation
        table.add_row(
            "distilled",
            f"a prompt of {d.prompt_tokens} tokens: {d.kl_before:.3f} nat apart without it, {d.kl_after:.3f} steered, "
            f"{1 - d.kl_after / d.kl_before:.0%} of the way",
        )
        table.add_row("learned", f"from {d.lessons} answers in {d.steps} steps, told on {d.others} others")
    if vector.collection:
        c = vector.collection
        table.add_row(
            "collected", f"{c.prompts:,} prompts, {c.tokens:,} tokens, {c.computed:,} of them computed ({c.reason})"
        )
    table.add_row("made", f"{vector.created or 'unknown'} by trimtab {vector.trimtab_version or 'unknown'}")
    return table


def _print_reading(vector: ControlVector) -> None:
    """Return rows on the vector's reader and its neutral statistics, where it has them."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    if (reader := vector.reader) is not None:
        how = "over a text's words" if reader.pool == "mean" else "at its last token"
        table.add_row("read", f"layers {layer_range(reader.layers)}, {how}")
        if reader.auroc is not None:
            made = f" ({reader.positives} texts against {reader.negatives})" if reader.positives else ""
            table.add_row("AUROC", f"{reader.auroc:.3f} on texts left out{made}")
        if reader.auroc_by_layer:
            best = sorted(reader.auroc_by_layer.items(), key=lambda entry: -entry[1])[:3]
            table.add_row("best layers", "  ".join(f"{layer}: {area:.3f}" for layer, area in best))
    if (neutral := vector.neutral) is not None:
        table.add_row("neutral", f"measured on {neutral.prompts} chats, {neutral.tokens:,} tokens")
    for fit in vector.fits:
        low, high = fit.readings[0], fit.readings[-1]
        table.add_row("fitted", f"at {fit.at} on {fit.texts} texts, which read {low:+.2f} to {high:+.2f}")
    if table.row_count:
        out.print(Panel(table, title="Reading", title_align="left"))


def _print_calibration(calibration: Calibration) -> None:
    table = Table(title=f"At strength ±1 (budget {calibration.budget:g} nat per token)", title_justify="left")
    for header in (
        "prompts",
        "KL +",
        "KL −",
        "effect +",
        "effect −",
        "swing (95 % interval)",
        "prompt-equivalents",
    ):
        table.add_column(header, justify="right" if header != "prompts" else "left")
    table.add_row(f"calibration ({calibration.prompts})", *_kl(calibration.kl), *_effect(calibration.effect))
    held_out = calibration.held_out
    if held_out:
        table.add_row(f"held-out ({held_out.prompts})", *_kl(held_out.kl), *_effect(held_out.effect))
    out.print(table)
    for effect in (calibration.effect, held_out.effect if held_out else None):
        if effect and effect.reason:
            out.print(f"No prompt-equivalents: {effect.reason}.", style="yellow")
            break
    if calibration.effect and calibration.effect.random_swings:
        swings = "  ".join(f"{swing:+.3f}" for swing in calibration.effect.random_swings)
        out.print(f"Random directions at the same KL swing by {swings}", style="dim")
    if held_out:
        for name, label in (("+", "+1"), ("-", "−1"), ("random", "random, equal norm")):
            quality, base = held_out.quality[name], held_out.quality["base"]
            out.print(
                f"Answers at {label}: perplexity × {quality.perplexity_ratio:.2f}, distinct bigrams "
                f"{quality.distinct_2:.2f} (base {base.distinct_2:.2f})",
                style="dim",
            )
    if calibration.candidates:
        out.print(_candidates(calibration))


def _kl(kl: Mapping[str, float]) -> tuple[str, str]:
    return f"{kl['+']:.3f}", f"{kl['-']:.3f}"


def _effect(effect: Effect | None) -> tuple[str, ...]:
    if effect is None:
        return ("–", "–", "–", "–")
    ratio = "–" if effect.prompt_equivalents is None else f"{effect.prompt_equivalents:.1f}"
    swing = f"{effect.swing.value:.3f} ({effect.swing.low:.3f} to {effect.swing.high:.3f})"
    return f"{effect.effect['+']:+.3f}", f"{effect.effect['-']:+.3f}", swing, ratio


def _candidates(calibration: Calibration) -> Table:
    table = Table(title="Layers tried at equal KL", title_justify="left")
    table.add_column("layers")
    table.add_column("")
    for header in ("swing", "95 % interval", "prompts"):
        table.add_column(header, justify="right")
    best = max(max(candidate.swing.value for candidate in calibration.candidates), 1e-9)
    for candidate in calibration.candidates:
        bar = "█" * round(BAR * max(candidate.swing.value, 0.0) / best)
        table.add_row(
            layer_range(candidate.layers),
            f"[green]{bar}[/green]",
            f"{candidate.swing.value:.3f}",
            f"{candidate.swing.low:.3f} to {candidate.swing.high:.3f}",
            str(candidate.prompts),
        )
    return table


def _layer_chart(vector: ControlVector) -> Table:
    """One line a layer: what is added at strength 1 relative to the norm, and how well the pairs agree there."""
    table = Table(title="Layers", title_justify="left", box=None, padding=(0, 1))
    table.add_column("layer", justify="right", style="dim")
    table.add_column("weight")
    table.add_column("agreement of pairs")
    heaviest = max(vector.weights.values(), default=0.0) or 1.0
    cosines = vector.reliability.cosine_by_layer if vector.reliability else {}
    for layer in sorted(vector.weights):
        weight = "█" * round(BAR / 2 * vector.weights[layer] / heaviest)
        cosine = cosines.get(layer)
        agreement = "" if cosine is None else "▒" * round(BAR * max(cosine, 0.0)) + f" {cosine:.2f}"
        table.add_row(str(layer), f"[green]{weight}[/green]", agreement)
    return table


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
    long = 0 if value is None or not known(value) else round(DIAL_BAR * min(abs(value) / most, 1.0))
    left, right = (long, 0) if value is not None and value < 0 else (0, long)
    return Text.assemble(
        " " * (DIAL_BAR - left), ("█" * left, "red"), ("│", "dim"), ("█" * right, "green"), " " * (DIAL_BAR - right)
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


SHARE_BAR = 20
RULE_COLOURS = {True: "green", False: "red", None: "dim"}


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
    for point, kl in report.dial.items():
        table.add_row(f"{point:g}", f"{kl:.3f}", "█" * max(1, round(SHARE_BAR * kl / most)))
    return table


def _rules(rules: tuple[RuleReport, ...]) -> Table:
    table = Table(title=RULES_TITLE, title_justify="left", title_style="italic")
    table.add_column("rule")
    table.add_column("general", justify="right")
    table.add_column("asked", justify="right")
    table.add_column("")
    for rule in rules:
        verdict = Text(CARRIED[rule.carried], style=RULE_COLOURS[rule.carried])
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
