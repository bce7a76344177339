"""Sentences and number formats of a report, shared by the page, the notebook card and the terminal."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeGuard

from trimtab.evaluation.comparison import swing_chance
from trimtab.evaluation.records import Point, Report, Subject, Word, WrittenAt
from trimtab.evaluation.strength import held_together
from trimtab.vectors import Interval
from trimtab.vectors import records as ranges

if TYPE_CHECKING:
    from trimtab.evaluation.distilled import DistilledReport, Saving

DASH = "–"
MINUS = "−"
BYTES = ("bytes", "kB", "MB", "GB", "TB")

layer_range = partial(ranges.layer_range, dash=DASH)


def known(value: float | None) -> TypeGuard[float]:
    """Return whether there is a finite number."""
    return value is not None and math.isfinite(value)


def figure(value: float | None, places: int = 2, *, signed: bool = False) -> str:
    """Format a number with ``places`` decimals and a real minus; zero never has a sign.

    Example:
        >>> figure(-0.126), figure(0.4, signed=True), figure(-0.001), figure(None)
        ('−0.13', '+0.40', '0.00', '–')
    """
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{abs(value):.{places}f}"
    if float(text) == 0.0:
        return text
    return f"{MINUS if value < 0 else '+' if signed else ''}{text}"


def percent(value: float | None, places: int = 0, *, signed: bool = False) -> str:
    """Format a share of 1 in percent.

    Example:
        >>> percent(0.125), percent(None)
        ('12 %', '–')
    """
    return f"{figure(100 * value, places, signed=signed)} %" if known(value) else DASH


def points(value: float | None) -> str:
    """Format a change of a share in percentage points.

    Example:
        >>> points(-0.04)
        '−4'
    """
    return figure(100 * value, 0, signed=True) if known(value) else DASH


def spread(interval: Interval | None, places: int = 2, *, scale: float = 1.0, signed: bool = False) -> str:
    """Format the ends of an interval.

    Example:
        >>> spread(Interval(0.4, 0.31, 0.49))
        '0.31 to 0.49'
    """
    if interval is None or not (known(interval.low) and known(interval.high)):
        return ""
    low, high = (figure(scale * end, places, signed=signed) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def strength(value: float) -> str:
    """Format a strength.

    Example:
        >>> strength(-1.0), strength(0.5), strength(0.0)
        ('−1', '+0.5', '0')
    """
    text = f"{abs(value):g}"
    return "0" if text == "0" else f"{MINUS if value < 0 else '+'}{text}"


def size(count: int | None) -> str:
    """Format a number of bytes.

    Example:
        >>> size(2_340_000), size(812), size(0)
        ('2.3 MB', '812 bytes', '0 bytes')
    """
    if count is None:
        return DASH
    amount, unit = float(count), 0
    while amount >= 999.5 and unit < len(BYTES) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{count} bytes" if unit == 0 else f"{amount:.{0 if amount >= 99.95 else 1}f} {BYTES[unit]}"


def duration(seconds: float | None) -> str:
    """Format a duration.

    Example:
        >>> duration(4.21), duration(75), duration(7300)
        ('4.2 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds is None or not known(seconds):
        return DASH
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def clean(text: str) -> str:
    """Remove characters that a terminal would obey or a page cannot contain.

    Control characters become spaces, except line breaks and tabs; lone surrogates become question marks.
    """
    seen = (c if c.isprintable() or c in "\n\t" or ord(c) > 0x9F else " " for c in text)
    return "".join(seen).encode("utf-8", errors="replace").decode("utf-8")


def clipped(text: str, most: int) -> str:
    """Cut a text between words, with an ellipsis if anything was cut."""
    if len(text) <= most:
        return text
    cut = text[: most - 1]
    at = cut.rfind(" ")
    return f"{cut[: at if at > most * 2 // 3 else len(cut)].rstrip(' .,;:')}…"


FEW, MANY = 0.1, 0.25  # shares of questions that move the wrong way
SLANTED = 0.2  # cosine above which two directions are no longer nearly orthogonal
WITHOUT = "not measured"

MARKS: Mapping[Word, str] = {
    "works": "✔",
    "weak": "~",
    "one way only": "◐",
    "does not work": "✘",
    "not measured": "?",
}

WRITTEN_TITLE = "What it writes"
TURNS = {"default": "default turn", "safe": "ends of the safe range"}
COMPARISON_TITLE = "Comparison with other interventions"
STRENGTHS_TITLE = "Strengths"
CONTROLS_TITLE = "Could it be chance?"
MISSING_TITLE = "Left out"
SUBSTITUTES_TITLE = "Substitutes for the prompt"
RULES_TITLE = "Rule by rule"


@dataclass(frozen=True)
class Finding:
    """One figure with its meaning in this report."""

    name: str
    value: str
    sentence: str
    good: bool | None = None  # whether it speaks for the vector; None where it is neutral


def question(subject: Subject) -> str:
    """Return the question that the report answers."""
    held = "" if subject.vector == subject.behaviour else f" as “{subject.behaviour}”"
    return f"Does the control vector “{subject.vector}” work{held}?"


def factor(nats: float) -> str:
    """Format nats per token as the factor by which a token gets likelier.

    Example:
        >>> factor(0.4)
        '1.5'
    """
    times = math.exp(min(nats, 50.0))
    return f"{times:.2f}" if times < 1.095 else f"{times:.1f}" if times < 100 else f"{times:.0f}"


def strength_meaning(subject: Subject) -> str:
    """Explain strength 1."""
    return (
        f"Strength 1 = {subject.budget:g} nat of disturbance per token: on average, each word that the unsteered model "
        f"would have said gets {factor(subject.budget)} times less likely. +1 steers towards {subject.positive}, −1 "
        f"just as hard towards {subject.negative}."
    )


def nats_meaning(report: Report) -> str:
    """Explain a nat by the figure of this report."""
    swing = report.interventions[0].swing
    general = (
        "A nat says how many times likelier something got, as a power of e = 2.72: 0.1 nat is about 10 % likelier, "
        "0.7 nat twice as likely, 2.3 nat ten times. A token is a word or a piece of one."
    )
    if swing is None or not math.isfinite(swing.value):
        return general
    subject = report.subject
    if swing.value <= 0:
        return f"{general} Here {figure(swing.value)} nat means that nothing was gained towards {subject.positive}."
    return (
        f"{general} The preference swing of {figure(swing.value)} nat here means: between −1 and +1, each token of a "
        f"{subject.positive} answer gains a factor of {factor(swing.value)} on one of a {subject.negative} answer."
    )


def findings(report: Report) -> tuple[Finding, ...]:
    """Return the controls, each with its meaning."""
    return (_random(report), _shuffled(report), *_band(report), *_anti_steerable(report), _refusal(report))


def _random(report: Report) -> Finding:
    name = "Random directions"
    limit, swing = swing_chance(report.controls.random), report.interventions[0].swing
    if limit is None:
        return Finding(name, WITHOUT, "The effect of directions without meaning is not known here.")
    count = len(report.controls.random)
    random = f"{count} random {'direction' if count == 1 else 'directions'} at the same KL swing the model by up to"
    value = f"±{figure(limit)}"
    if swing is None:
        return Finding(name, value, f"{random} {figure(limit)} nat.")
    if swing.low > limit:
        means = "the vector goes well beyond that, so its effect is not that of any perturbation."
    else:
        means = "the vector is not clearly different from that: any perturbation might do as much."
    return Finding(name, value, f"{random} {figure(limit)} nat: {means}", swing.low > limit)


def _shuffled(report: Report) -> Finding:
    name = "Shuffled labels"
    shuffled, swing = report.controls.shuffled, report.interventions[0].swing
    if shuffled is None or swing is None:
        return Finding(name, WITHOUT, "No direction was made from the same pairs with half of their labels swapped.")
    direction = "The direction learned from the same pairs with half of their labels swapped"
    value = figure(shuffled.swing.value, signed=True)
    if abs(shuffled.swing.value) >= swing.value:
        means, good = "does no less: what the vector has learned is not the behaviour.", False
    elif abs(shuffled.swing.value) < swing.low / 2:
        means, good = "does little: the vector's effect comes from what the pairs mean.", True
    else:
        means, good = "does less, but not by far: part of the effect may come from the texts.", None
    return Finding(name, value, f"{direction} {means}", good)


def _band(report: Report) -> Iterator[Finding]:
    band, swing = report.controls.band, report.interventions[0].swing
    if band is None or swing is None:
        return
    directions = "The vector's own directions on the default layers"
    if band.swing.high < swing.low:
        means, good = "do less: choosing the layers was worth it.", True
    elif band.swing.low > swing.high:
        means, good = "do more: this vector steers the wrong layers.", False
    else:
        means, good = "do about as much: the choice of layers hardly matters.", None
    yield Finding("Default layers", figure(band.swing.value, signed=True), f"{directions} {means}", good)


def _anti_steerable(report: Report) -> Iterator[Finding]:
    shares = report.controls.anti_steerable
    if not shares:
        return
    value = ", ".join(f"{percent(share)} at {strength(float(f'{sign}1'))}" for sign, share in shares.items())
    worst = max(shares, key=lambda sign: shares[sign])
    if shares[worst] <= FEW:
        means, good = "Hardly any question moves the wrong way: the mean does not hide opposite effects.", True
    elif shares[worst] < MANY:
        means, good = f"Some questions move the wrong way when asked for {report.subject.poles[worst]}.", None
    else:
        means = f"Many questions move the wrong way when asked for {report.subject.poles[worst]}: the mean hides them."
        good = False
    yield Finding("Wrong way", value, means, good)


def _refusal(report: Report) -> Finding:
    name, cosine = "Similarity to refusal", report.controls.refusal_cosine
    if not math.isfinite(cosine):
        return Finding(name, WITHOUT, "The cosine with the direction of refusal is not known.")
    value = f"cosine {figure(cosine, signed=True)}"
    if abs(cosine) < SLANTED:
        return Finding(name, value, "Nearly orthogonal: the vector does not act on refusals directly.", True)
    pole = report.subject.positive if cosine > 0 else report.subject.negative
    means = f"Steering towards {pole} also steers towards refusal: check the refusals."
    return Finding(name, value, means)


def key_figures(report: Report) -> tuple[Finding, ...]:
    """Return the key figures."""
    written = [_times_prompt(TURNS[name], at) for name, at in report.written.items()]
    if not written:
        written = [Finding("written effect", WITHOUT, "The behaviour has no personas to measure it by.")]
    safe = report.safe
    ends = "none" if safe.low == safe.high else f"{strength(safe.low)} to {strength(safe.high)}"
    return (*written, Finding("safe range", ends, held_together(safe)), *_share(report), _facts_lost(report))


def strengths(given: Mapping[str, float]) -> str:
    """Format the strengths of both signs.

    Example:
        >>> strengths({"+": 0.5, "-": -0.5}), strengths({"+": 1.0, "-": -0.25})
        ('±0.5', '−0.25 and +1')
    """
    if given["+"] == -given["-"]:
        return f"±{given['+']:g}"
    return f"{strength(given['-'])} and {strength(given['+'])}"


def _times_prompt(name: str, at: WrittenAt) -> Finding:
    effect = at.effect
    if effect.times_prompt is None:
        swing = f"at {strengths(effect.strengths)}; no multiple of the prompts, because {effect.reason}"
        return Finding(name, f"{figure(effect.swing.value)} nat", swing)
    means = f"what system prompts do to the answers, at {strengths(effect.strengths)}"
    interval = f"(95 % interval {spread(effect.times_prompt, 1)})"
    return Finding(name, f"{figure(effect.times_prompt.value, 1)} ×", f"{means} {interval}")


def _share(report: Report) -> Iterator[Finding]:
    if report.ceiling is not None:
        share = report.ceiling.share
        interval = f"(95 % interval {spread(share, 0, scale=100)})"
        means = f"of the preference swing of logit arithmetic at the same KL {interval}"
        yield Finding("share of the ceiling", percent(share.value), means)


def outside(report: Report, point: Point) -> str:
    """Say what is wrong with the text outside the safe range; empty inside it."""
    beyond = report.safe.beyond(point.strength)
    if beyond is None:
        return ""
    return ranges.BROKEN[point.limit or beyond.limit]


def _facts_lost(report: Report) -> Finding:
    name, ends = "facts known", {"+": report.safe.high, "-": report.safe.low}
    points_at = {label: report.point(ends[sign]) for sign, label in report.subject.poles.items()}
    changes = {
        label: change
        for label, point in points_at.items()
        if point is not None and (change := point.damage.accuracy_change) is not None and known(change.value)
    }
    if not changes:
        return Finding(name, DASH, WITHOUT)
    worst = min(changes, key=lambda label: changes[label].value)
    interval = spread(changes[worst], 0, scale=100, signed=True)
    means = f"at the worse end of the safe range, towards {worst} (95 % interval {interval})"
    return Finding(name, f"{points(changes[worst].value)} points", means)


def command_line(report: Report) -> str:
    """Return the command that repeats the evaluation."""
    subject, setting = report.subject, report.setting
    words = ["trimtab", "evaluate", subject.vector, "--model", subject.model]
    if subject.behaviour != subject.vector:
        words += ["--behaviour", subject.behaviour]
    words += ["--questions", str(len(setting.questions))]
    words += ["--max-new-tokens", str(setting.written_tokens), "--seed", str(setting.seed)]
    return shlex.join(words)


CARRIED: Mapping[bool | None, str] = {True: "carried", False: "not carried", None: "not followed"}


def distilled_headline(report: DistilledReport) -> str:
    """Say how much of the prompt a vector carries."""
    closed = report.vector.closed
    return (
        f"{report.name!r} carries {closed.value:.0%} of the prompt ({closed.low:.0%} to {closed.high:.0%}, 95 %), on "
        f"{report.prompts} messages that it was not learned from."
    )


def advice(report: DistilledReport) -> str:
    """Say which rules must stay in the prompt."""
    if not report.stays:
        return "Nothing needs to stay in the prompt, of what the model follows at all."
    return "Leave in the prompt: " + " ".join(report.stays)


def savings(saving: Saving) -> str:
    """Say what a request costs less without the prompt."""
    share = "" if saving.of_context is None else f", {saving.of_context:.1%} of the context window"
    seconds = saving.prefill_with - saving.prefill_without
    return (
        f"Each request is spared {saving.tokens} tokens{share}. Until the first token it takes "
        f"{1000 * saving.prefill_without:.0f} ms, not {1000 * saving.prefill_with:.0f} ms"
        + (f": {1000 * seconds:.0f} ms less." if seconds > 0 else ".")
    )
