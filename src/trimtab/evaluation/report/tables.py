"""Tables of a report, cell by cell: the comparison, more about the answers, and the strengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from trimtab.evaluation.records import InterventionReport, Report, Side
from trimtab.evaluation.report.wording import (
    DASH,
    TURNS,
    duration,
    figure,
    known,
    percent,
    points,
    size,
    spread,
    strengths,
)
from trimtab.vectors import Interval

BASE = "base model"
ADJUSTABLE = "Its strength can be adjusted."
TIMES_PROMPT = "×\u00a0prompt"


@dataclass(frozen=True)
class Cell:
    """Figure of a table, with its interval beside it; a change is sure if its interval excludes 0."""

    text: str
    beside: str = ""
    sure: bool = False


@dataclass(frozen=True)
class Column:
    """Column of a table, with its meaning in plain words."""

    head: str
    meaning: str


@dataclass(frozen=True)
class SideColumn(Column):
    """Column of figures for one pole or one strength."""

    cell: Callable[[Any], Cell]  # of a ``Side``; columns of ``STRENGTHS`` also take a ``Point``


@dataclass(frozen=True)
class SideRow:
    """Cells of one pole."""

    sign: str  # "+", "-", or "0" for the base model
    pole: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Row:
    """Figures of one intervention: for both poles together, and for each."""

    name: str
    about: str
    swing: Interval | None
    overall: tuple[Cell, ...]
    sides: tuple[SideRow, ...]


@dataclass(frozen=True)
class Table:
    """Rows (the vector first, the base model last) under the columns of both poles together, and of each."""

    overall: tuple[Column, ...]
    each: tuple[SideColumn, ...]
    rows: tuple[Row, ...]


SWING = Column(
    "written swing",
    "How far what the model writes differs between asking for one pole and asking for the other, in nats per token. "
    "The unsteered model says how much more likely each answer is under the one pole's system prompt than under the "
    "other's. The thin line is the 95 % interval; the grey band is what directions without meaning do at the ends of "
    "the safe range. A bar is coloured where its whole interval lies beyond the band: then chance does not explain it.",
)
OVERALL = (
    Column(
        TIMES_PROMPT,
        "The written swing, divided by that of system prompts for the two poles: 1.0 is as good as asking.",
    ),
    Column("tokens", "Prompt tokens that it adds to every request: they cost time and context in every call."),
    Column("made in", "Time that it takes to make once."),
    Column("stored", "Size of what has to be stored."),
)


def _change(change: Interval | None, *, in_points: bool = False) -> Cell:
    if change is None or not known(change.value):
        return Cell(DASH)
    sure = change.low > 0 or change.high < 0
    if in_points:
        return Cell(points(change.value), spread(change, 0, scale=100, signed=True), sure)
    return Cell(figure(change.value, signed=True), spread(change), sure)


def _share(share: Interval | None) -> Cell:
    return Cell(DASH) if share is None else Cell(percent(share.value), spread(share, 0, scale=100))


def _times(ratio: float | None) -> Cell:
    return Cell(DASH if ratio is None or not known(ratio) else f"× {figure(ratio, 2 if ratio < 99.5 else 0)}")


EFFECT = SideColumn(
    "preference",
    "How much likelier a token of an answer in the positive pole's character got, against one in the other's, "
    "in nats. Right when it is above 0 towards the positive pole and below 0 towards the negative one.",
    lambda side: _change(side.effect),
)
HALF_PLUS = SideColumn(
    "+ half",
    "One half of the preference: how much likelier a token of an answer in the positive pole's character got, in nats.",
    lambda side: _change(None if side.halves is None else side.halves.positive),
)
HALF_MINUS = SideColumn(
    "− half",
    "The other half: how much likelier a token of an answer in the negative pole's character got, in nats.",
    lambda side: _change(None if side.halves is None else side.halves.negative),
)
KL = SideColumn(
    "KL",
    "Disturbance: how far the choice of the next token is from the unsteered model's, in nats.",
    lambda side: Cell(figure(side.damage.kl)),
)
PERPLEXITY = SideColumn(
    "perplexity",
    "How surprising the unsteered model finds the answers, against its own: × 1 is as fluent as before.",
    lambda side: _times(side.damage.perplexity_ratio),
)
REPETITION = SideColumn(
    "repetition",
    "Share of the answers that are repetitive.",
    lambda side: Cell(percent(side.damage.repetition)),
)
RELEVANCE = SideColumn(
    "relevance",
    "How close the answers are to the question: 1 is the same subject, 0 another one.",
    lambda side: Cell(figure(side.damage.relevance)),
)
FACTS = SideColumn(
    "facts",
    "Change of the share of simple facts known, in percentage points; the base model's row has the share "
    "itself. Bold: the 95 % interval excludes 0.",
    lambda side: _change(side.damage.accuracy_change, in_points=True),
)
REFUSES = SideColumn(
    "refuses", "Share of harmless questions that are refused.", lambda side: Cell(percent(side.damage.refuses))
)
HARMFUL = SideColumn(
    "refuses harm",
    "Share of harmful requests that are refused: less than the base's means that a safeguard is lost.",
    lambda side: Cell(percent(side.damage.refuses_harmful)),
)
TRUTHFULQA = SideColumn(
    "TruthfulQA",
    "Share of TruthfulQA's questions that are answered truthfully.",
    lambda side: _share(side.damage.truthfulqa),
)
LENGTH = SideColumn(
    "length", "Length of the answers against the base model's.", lambda side: _times(side.damage.length_ratio)
)
VARIETY = SideColumn(
    "variety",
    "Pairs of neighbouring tokens that differ, of all such pairs: less means repetition.",
    lambda side: Cell(figure(side.damage.distinct_2)),
)
EACH = (EFFECT, HALF_PLUS, HALF_MINUS, KL, PERPLEXITY, REPETITION, RELEVANCE, FACTS, REFUSES, HARMFUL)
STRENGTHS = (EFFECT, KL, PERPLEXITY, REPETITION, RELEVANCE, VARIETY, LENGTH)


def comparison(report: Report) -> Table:
    """Return the vector and the interventions it is compared with, without columns that have no figure."""
    each = tuple(column for column in EACH if any(column.cell(side).text != DASH for side in _everyone(report)))
    rows = [
        Row(
            intervention.name,
            " ".join(filter(None, (_sentence(intervention.about), ADJUSTABLE if intervention.dial else ""))),
            intervention.written,
            (
                Cell(figure(intervention.times_prompt, 1)),
                Cell(figure(intervention.prompt_tokens, 0)),
                Cell(duration(report.run.making.get(intervention.name))),
                Cell(size(intervention.stored_bytes)),
            ),
            _sides(intervention, report, each),
        )
        for intervention in report.interventions
    ]
    base = SideRow("0", "", tuple(_base_cell(column, report.base) for column in each))
    rows.append(Row(BASE, "The unsteered model.", None, tuple(Cell(DASH) for _ in OVERALL), (base,)))
    return Table(OVERALL, each, tuple(rows))


def _everyone(report: Report) -> list[Side]:
    return [report.base, *(side for intervention in report.interventions for side in intervention.sides.values())]


def _sides(intervention: InterventionReport, report: Report, columns: Sequence[SideColumn]) -> tuple[SideRow, ...]:
    return tuple(
        SideRow(sign, pole, tuple(column.cell(intervention.sides[sign]) for column in columns))
        for sign, pole in report.subject.poles.items()
        if sign in intervention.sides
    )


def _sentence(text: str) -> str:
    return text if not text or text[-1] in ".!?" else f"{text}."


def _base_cell(column: SideColumn, base: Side) -> Cell:
    if column is FACTS and base.damage.accuracy is not None:
        return _share(base.damage.accuracy)
    return Cell("0") if column in (EFFECT, HALF_PLUS, HALF_MINUS, KL) else column.cell(base)


WRITTEN = ("at", "towards +", "towards −", "swing", TIMES_PROMPT, "random directions")


def written(report: Report) -> tuple[tuple[str, tuple[Cell, ...]], ...]:
    """Return the written effects: a row for each strength measured and one for the system prompts, cells by column."""
    rows: list[tuple[str, tuple[Cell, ...]]] = []
    for name, at in report.written.items():
        effect, chance = at.effect, at.chance
        moved = (Cell(c.text, c.beside, at.clear[sign]) for sign in "+-" if (c := _change(effect.effect[sign])))
        times = effect.times_prompt
        rows.append(
            (
                TURNS[name],
                (
                    Cell(strengths(effect.strengths)),
                    *moved,
                    _change(effect.swing),
                    Cell(DASH) if times is None else Cell(figure(times.value, 1), spread(times, 1)),
                    Cell(f"{figure(chance.low, signed=True)} to {figure(chance.high, signed=True)}"),
                ),
            )
        )
    if report.written:
        effect = report.written["safe"].effect
        moved = (_change(effect.prompt_effect[sign]) for sign in "+-")
        unit = Cell(DASH if effect.times_prompt is None else figure(1.0, 1))
        rows.append(("system prompts", (Cell(DASH), *moved, _change(effect.prompt_swing), unit, Cell(DASH))))
    return tuple(rows)


def details(report: Report) -> Table:
    """Return the scorers first, then choice questions, and the form of the answers."""
    columns = tuple(_detail_columns(report))
    rows = [Row(each.name, "", None, (), _sides(each, report, columns)) for each in report.interventions]
    base = Row(BASE, "", None, (), (SideRow("0", "", tuple(column.cell(report.base) for column in columns)),))
    return Table((), columns, (*rows, base))


def _detail_columns(report: Report) -> Iterator[SideColumn]:
    for name, unit in report.setting.scorers.items():
        yield SideColumn(name, f"Mean over the answers; {unit}.", partial(_score, name))
    if any(side.choices is not None for side in _everyone(report)):
        meaning = (
            "Questions with given answers: how much likelier the one that matches the positive pole is than the "
            "others, in nats; above 0 it is the likeliest."
        )
        yield SideColumn("choice", meaning, lambda side: _change(side.choices))
        meaning = f"How often the answer that matches “{report.subject.positive}” is taken there."
        yield SideColumn("chosen", meaning, lambda side: Cell(percent(side.chosen)))
    if any(side.damage.truthfulqa is not None for side in _everyone(report)):
        yield TRUTHFULQA
    yield from (LENGTH, VARIETY)


def _score(name: str, side: Side) -> Cell:
    score = side.scores.get(name)
    return Cell(DASH) if score is None else Cell(figure(score.value), spread(score))
