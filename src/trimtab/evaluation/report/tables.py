"""Tables of a report, cell by cell: the comparison, more about the answers, and the strengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from trimtab.evaluation.records import Damage, InterventionReport, Report, Side
from trimtab.evaluation.report.wording import DASH, duration, figure, known, percent, points, size, spread
from trimtab.vectors import Interval

BASE = "base model"
TIMES_PROMPT = "×\u00a0prompt"


@dataclass(frozen=True)
class Column:
    """Header of a column.

    Attributes:
        head: Its name.
        meaning: Its meaning in plain words.
    """

    head: str
    meaning: str


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        head: Name of its column.
        text: The figure.
        beside: Its interval; may be empty.
        sure: Whether its interval excludes 0, for figures that are changes.
    """

    head: str
    text: str
    beside: str = ""
    sure: bool = False


@dataclass(frozen=True)
class SideRow:
    """Cells of one pole.

    Attributes:
        sign: ``"+"``, ``"-"``, or ``"0"`` for the base model.
        pole: Its label.
        cells: Cells under the columns of the sides.
    """

    sign: str
    pole: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Row:
    """One intervention.

    Attributes:
        name: Its name.
        about: Its description.
        swing: Swing that its bar shows.
        overall: Cells under the columns of both sides together.
        sides: Cells for each pole.
    """

    name: str
    about: str
    swing: Interval | None
    overall: tuple[Cell, ...]
    sides: tuple[SideRow, ...]


@dataclass(frozen=True)
class Table:
    """Rows under two groups of columns.

    Attributes:
        overall: Columns of both sides together.
        each: Columns of each side.
        rows: The vector first, the base model last.
    """

    overall: tuple[Column, ...]
    each: tuple[Column, ...]
    rows: tuple[Row, ...]


Cells = Callable[[Side], Cell]


def poles(report: Report) -> Mapping[str, str]:
    """Return the poles' labels by sign, the positive one first."""
    return {"+": report.subject.positive, "-": report.subject.negative}


SWING = Column(
    "swing",
    "How far the answers' character moves between asking for one pole and asking for the other, in nats per token. The "
    "thin line is the 95 % interval; the grey band is what directions without meaning do. A bar is "
    "coloured where its whole interval lies beyond the band: then chance does not explain it.",
)
OVERALL = (
    Column(TIMES_PROMPT, "The swing, divided by what system prompts for the two poles do: 1.0 is as good as asking."),
    Column("tokens", "Prompt tokens that it adds to every request: they cost time and context in every call."),
    Column("made in", "Time that it takes to make once."),
    Column("stored", "Size of what has to be stored."),
)


def _facts(side: Side) -> Cell:
    change = side.damage.accuracy_change
    if change is None or not known(change.value):
        return Cell("facts", DASH)
    return Cell("facts", points(change.value), spread(change, 0, scale=100, signed=True), _sure(change))


EACH: tuple[tuple[Column, Cells], ...] = (
    (
        Column(
            "effect",
            "How much likelier a token of an answer in the positive pole's character got, against one in the other's, "
            "in nats. Right when it is above 0 towards the positive pole and below 0 towards the negative one.",
        ),
        lambda side: _signed("effect", side.effect),
    ),
    (
        Column("KL", "Disturbance: how far the choice of the next token is from the unsteered model's, in nats."),
        lambda side: Cell("KL", figure(side.damage.kl)),
    ),
    (
        Column(
            "perplexity",
            "How surprising the unsteered model finds the answers, against its own: × 1 is as fluent as before.",
        ),
        lambda side: Cell("perplexity", _times(side.damage.perplexity_ratio)),
    ),
    (
        Column("repetition", "Share of the answers that are repetitive."),
        lambda side: Cell("repetition", percent(side.damage.repetition)),
    ),
    (
        Column("relevance", "How close the answers are to the question: 1 is the same subject, 0 another one."),
        lambda side: Cell("relevance", figure(side.damage.relevance)),
    ),
    (
        Column(
            "facts",
            "Change of the share of simple facts known, in percentage points; the base model's row has the share "
            "itself. Bold: the 95 % interval excludes 0.",
        ),
        _facts,
    ),
    (
        Column("refuses", "Share of harmless questions that are refused."),
        lambda side: Cell("refuses", percent(side.damage.refuses)),
    ),
)
HARMFUL = (
    Column(
        "refuses harm",
        "Share of harmful requests that are refused: less than the base's means that a safeguard is lost.",
    ),
    lambda side: Cell("refuses harm", percent(side.damage.refuses_harmful)),
)


def comparison(report: Report) -> Table:
    """Return the vector and the interventions it is compared with, without columns that have no figure."""
    each = [*EACH, HARMFUL]
    everyone = [report.base, *(side for intervention in report.interventions for side in intervention.sides.values())]
    each = [(column, cell) for column, cell in each if any(cell(side).text != DASH for side in everyone)]
    rows = tuple(_row(intervention, report, tuple(cell for _, cell in each)) for intervention in report.interventions)
    base = _base(report.base, tuple(cell for _, cell in each))
    return Table(OVERALL, tuple(column for column, _ in each), (*rows, base))


def _row(intervention: InterventionReport, report: Report, cells: tuple[Cells, ...]) -> Row:
    equivalents = intervention.prompt_equivalents
    overall = (
        Cell(TIMES_PROMPT, figure(equivalents, 1)),
        Cell("tokens", figure(intervention.prompt_tokens, 0)),
        Cell("made in", duration(report.run.making.get(intervention.name))),
        Cell("stored", size(intervention.stored_bytes)),
    )
    adjustable = "Its strength can be adjusted." if intervention.dial else ""
    return Row(
        intervention.name,
        " ".join(filter(None, (_sentence(intervention.about), adjustable))),
        intervention.swing,
        overall,
        _sides(intervention, report, cells),
    )


def _sides(intervention: InterventionReport, report: Report, cells: tuple[Cells, ...]) -> tuple[SideRow, ...]:
    return tuple(
        SideRow(sign, pole, tuple(cell(intervention.sides[sign]) for cell in cells))
        for sign, pole in poles(report).items()
        if sign in intervention.sides
    )


def _sentence(text: str) -> str:
    return text if not text or text[-1] in ".!?" else f"{text}."


def _base(base: Side, cells: tuple[Cells, ...]) -> Row:
    share = base.damage.accuracy
    shown = []
    for cell in (cell(base) for cell in cells):
        if cell.head == "facts" and share is not None:
            shown.append(Cell("facts", percent(share.value), spread(share, 0, scale=100)))
        elif cell.head in ("effect", "KL"):
            shown.append(Cell(cell.head, "0"))
        else:
            shown.append(cell)
    return Row(
        BASE,
        "The unsteered model.",
        None,
        tuple(Cell(c.head, DASH) for c in OVERALL),
        (SideRow("0", "", tuple(shown)),),
    )


def details(report: Report) -> Table:
    """Return the scorers first, then choice questions, and the form of the answers."""
    columns, cells = zip(*_detail_columns(report), strict=True)
    rows = [Row(each.name, "", None, (), _sides(each, report, cells)) for each in report.interventions]
    base = Row(BASE, "", None, (), (SideRow("0", "", tuple(cell(report.base) for cell in cells)),))
    return Table((), columns, (*rows, base))


def _detail_columns(report: Report) -> Iterator[tuple[Column, Cells]]:
    everyone = [report.base, *(side for intervention in report.interventions for side in intervention.sides.values())]
    for name, unit in report.setting.scorers.items():
        yield Column(name, f"Mean over the answers; {unit}."), _scorer(name)
    if any(side.choices is not None for side in everyone):
        meaning = (
            "Questions with given answers: how much likelier the one that matches the positive pole is than the "
            "others, in nats; above 0 it is the likeliest."
        )
        yield Column("choice", meaning), lambda side: _signed("choice", side.choices)
        meaning = f"How often the answer that matches “{report.subject.positive}” is taken there."
        yield Column("chosen", meaning), lambda side: Cell("chosen", percent(side.chosen))
    if any(side.damage.truthfulqa is not None for side in everyone):
        yield Column("TruthfulQA", "Share of TruthfulQA's questions that are answered truthfully."), _truthful
    yield (
        Column("length", "Length of the answers against the base model's."),
        lambda side: Cell("length", _times(side.damage.length_ratio)),
    )
    yield (
        Column("variety", "Pairs of neighbouring tokens that differ, of all such pairs: less means repetition."),
        lambda side: Cell("variety", figure(side.damage.distinct_2)),
    )


def _scorer(name: str) -> Cells:
    def cell(side: Side) -> Cell:
        score = side.scores.get(name)
        return Cell(name, DASH) if score is None else Cell(name, figure(score.value), spread(score))

    return cell


def _truthful(side: Side) -> Cell:
    share = side.damage.truthfulqa
    if share is None:
        return Cell("TruthfulQA", DASH)
    return Cell("TruthfulQA", percent(share.value), spread(share, 0, scale=100))


def _signed(head: str, interval: Interval | None) -> Cell:
    if interval is None or not known(interval.value):
        return Cell(head, DASH)
    return Cell(head, figure(interval.value, signed=True), spread(interval), _sure(interval))


def _sure(interval: Interval | None) -> bool:
    return interval is not None and (interval.low > 0 or interval.high < 0)


def _times(ratio: float | None) -> str:
    return DASH if ratio is None or not known(ratio) else f"× {figure(ratio, 2 if ratio < 99.5 else 0)}"


@dataclass(frozen=True)
class StrengthRow:
    """One strength.

    Attributes:
        strength: The strength.
        cells: Cells under ``STRENGTHS``.
        why: The limits that it exceeds; empty where ``usable``.
        usable: Whether the text stays intact.
    """

    strength: float
    cells: tuple[Cell, ...]
    why: str
    usable: bool


STRENGTHS = ("effect", "KL", "perplexity", "repetition", "relevance", "variety", "length")


def strengths(report: Report) -> tuple[StrengthRow, ...]:
    """Return the sweep, point by point."""
    return tuple(
        StrengthRow(
            point.strength,
            (_signed("effect", point.effect), Cell("KL", figure(point.kl)), *_damage(point.damage)),
            point.why,
            point.usable,
        )
        for point in report.sweep.points
    )


def _damage(damage: Damage) -> tuple[Cell, ...]:
    return (
        Cell("perplexity", _times(damage.perplexity_ratio)),
        Cell("repetition", percent(damage.repetition)),
        Cell("relevance", figure(damage.relevance)),
        Cell("variety", figure(damage.distinct_2)),
        Cell("length", _times(damage.length_ratio)),
    )


@dataclass(frozen=True)
class LayerRow:
    """One choice of layers.

    Attributes:
        layers: Its layers.
        swing: Its swing, in nats per token.
        shade: The swing as a share of the greatest, −1 to 1.
        chosen: Whether the vector steers these.
    """

    layers: tuple[int, ...]
    swing: float
    shade: float
    chosen: bool


def layer_rows(report: Report) -> tuple[LayerRow, ...]:
    """Return the choices of layers that were tried, best first."""
    tried = report.subject.candidates
    most = max((abs(placing.swing) for placing in tried if known(placing.swing)), default=0.0) or 1.0
    return tuple(
        LayerRow(
            placing.layers,
            placing.swing,
            placing.swing / most if known(placing.swing) else 0.0,
            placing.layers == report.subject.layers,
        )
        for placing in tried
    )
