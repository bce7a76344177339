"""``trimtab zoo``: the built-in behaviours, their cards, and their vectors."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.panel import Panel
from rich.table import Column, Table

from trimtab.cli.options import (
    DtypeOption,
    JsonOption,
    ModelOption,
    OnceCommand,
    QuickOption,
    SeedOption,
    ThoroughOption,
    check_writable,
    effort_of,
    err,
    facts_table,
    out,
    phase_progress,
    print_json,
)
from trimtab.cli.session import Session
from trimtab.errors import BehaviourError, EvaluationError, TrimtabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trimtab.behaviours import Behaviour
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.evaluation.cards import Card
    from trimtab.evaluation.measurement import Baseline

COLOURS = {"works": "green", "weak": "yellow", "one way only": "yellow", "does not work": "red"}

app = typer.Typer(help="List the built-in behaviours; show their cards; train their vectors.")


@app.callback(invoke_without_command=True, epilog="Example: trimtab zoo")
def listing(context: typer.Context, json: JsonOption = False) -> None:
    """List the built-in behaviours with their measured effects; show cards; train vectors."""
    if context.invoked_subcommand is not None:
        return
    from trimtab.behaviours import Behaviour, zoo_names
    from trimtab.evaluation.cards import zoo_cards

    behaviours, cards = [Behaviour.load(name) for name in zoo_names()], zoo_cards()
    if json:
        print_json([_entry(behaviour, cards.get(behaviour.name)) for behaviour in behaviours])
        return
    numbers = ("×", "× safe", "safe range", "want", "other", "ceil.", "facts", "rel.")
    columns = [Column(header, no_wrap=True) for header in ("+", "−", "")]
    columns += [Column(header, justify="right", no_wrap=True) for header in numbers]
    table = Table(*columns, title="Behaviours", title_justify="left", box=box.HORIZONTALS, padding=0, show_edge=False)
    for behaviour in behaviours:
        measured = _measured(cards.get(behaviour.name))
        table.add_row(f"[bold]{behaviour.name}[/bold]", escape(behaviour.negative.label), *measured)
    out.print(table)
    out.print(_caption(cards), style="dim")
    _print_shortfalls(cards)
    out.print("Steer by name, on any model: trimtab compare 'How was your day?' --steer happy", style="dim")


def _caption(cards: Mapping[str, Card]) -> str:
    if not cards:
        return "No behaviour was measured yet."
    from trimtab.evaluation.report.wording import MARKS

    models = ", ".join(sorted({card.model for card in cards.values()}))
    marks = ", ".join(f"{mark} {word}" for word, mark in MARKS.items())
    return (
        f"Measured on {models}: {marks}. ×: how far written answers move at the default turn, in times what system "
        "prompts do, if these have an effect; × safe: the same at the ends of the safe range, in which text holds "
        "together; want, other: change at ±1, in nats per token, for answers of the pole that is steered to and of the "
        "other one (mean of both signs); ceil.: share of the swing of logit arithmetic; facts, rel.: change in facts "
        "known and in relevance at the worse safe end. Details: trimtab zoo card NAME."
    )


def _print_shortfalls(cards: Mapping[str, Card]) -> None:
    from trimtab.evaluation.cards import shortfalls

    by_name = {name: weak for name, card in cards.items() if (weak := shortfalls(card))}
    if not by_name:
        return
    lines = Table.grid(Column(style="bold", no_wrap=True), Column(), padding=(0, 1))
    for name, weak in by_name.items():
        lines.add_row(name, escape("; ".join(weak)))
    out.print("\nShortfalls:")
    out.print(lines)
    out.print()


def _measured(card: Card | None) -> tuple[str, ...]:
    if card is None:
        return ("–",) * 9
    from trimtab.evaluation.report.wording import MARKS
    from trimtab.vectors.records import signed

    colour = COLOURS.get(card.word, "dim")
    costs = card.cost.values()
    changes = [cost.accuracy_change.value for cost in costs if cost.accuracy_change is not None]
    drifts = [cost.relevance_change for cost in costs if cost.relevance_change is not None]
    wanted, other = _wanted_and_other(card)
    return (
        f"[{colour}]{MARKS[card.word]}[/{colour}]",
        _number(card.times_prompt("default"), ".1f"),
        _number(card.times_prompt("safe"), ".1f"),
        "–" if card.safe is None else f"{signed(card.safe.low)}…{signed(card.safe.high)}",
        _number(wanted, "+.2f"),
        _number(other, "+.2f"),
        _number(None if card.ceiling is None else card.ceiling.share.value, ".0%"),
        _number(min(changes, default=None), "+.0%"),
        _number(min(drifts, default=None), "+.2f"),
    )


def _wanted_and_other(card: Card) -> tuple[float | None, float | None]:
    """Return the mean changes for answers of the pole that is steered to, and for those of the other pole."""
    if len(card.halves) < 2:
        return None, None
    plus, minus = card.halves["+"], card.halves["-"]
    return (
        (plus.positive.value + minus.negative.value) / 2,
        (plus.negative.value + minus.positive.value) / 2,
    )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _entry(behaviour: Behaviour, card: Card | None) -> dict[str, Any]:
    from trimtab.evaluation.cards import card_json_values
    from trimtab.vectors import packaged_path, vector_path

    own = vector_path(behaviour.name)
    path = own if own.is_file() else packaged_path(behaviour.name)  # as it is found by name
    return {
        "name": behaviour.name,
        "description": behaviour.description,
        "positive": behaviour.positive.label,
        "negative": behaviour.negative.label,
        "vector": None if path is None else str(path),
        "card": None if card is None else card_json_values(card),
    }


@app.command(cls=OnceCommand, epilog="Example: trimtab zoo card happy")
def card(
    name: Annotated[str, typer.Argument(help="Behaviour of the zoo.")],
    folder: Annotated[Path | None, typer.Option(help="Folder of cards; default: the built-in cards.")] = None,
    json: JsonOption = False,
) -> None:
    """Show the card of one behaviour: its measured effect and cost."""
    from trimtab.behaviours import Behaviour
    from trimtab.evaluation.cards import card_json_values, zoo_cards

    behaviour = Behaviour.load(name)
    measured = zoo_cards(folder).get(behaviour.name)
    if measured is None:
        raise EvaluationError(
            f"{name!r} has no card", fix=f"measure it: trimtab zoo train {name}, or trimtab evaluate {name}"
        )
    if json:
        print_json(card_json_values(measured))
        return
    _print_card(measured, behaviour.description)


def _print_card(card: Card, description: str) -> None:
    facts = facts_table(_facts(card))
    title = f"[bold]{card.name}[/bold]: {escape(card.positive)} against {escape(card.negative)}"
    out.print(Panel(facts, title=title, title_align="left", subtitle=escape(description), subtitle_align="left"))
    for sentence in card.sentences:
        out.print(f"• {sentence}", markup=False)
    for sample in card.samples:
        columns = [Column(header, ratio=1, overflow="fold") for header in ("−", "0", "+")]
        table = Table(*columns, title=escape(sample.question), title_justify="left", show_lines=True, expand=True)
        table.add_row(*(escape(text.strip()) for text in (sample.minus, sample.base, sample.plus)))
        out.print(table)


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    from trimtab.vectors.records import layer_range

    colour = COLOURS.get(card.word, "dim")
    yield "verdict", f"[{colour}]{card.word}[/{colour}] on {card.model}"
    place = f"layers {layer_range(card.layers)}, by {card.method}"
    yield "steers", f"{place}; strength 1 is {card.budget:g} nats per token"
    for name, label in (("default", "default turn"), ("safe", "safe ends")):
        if name in card.written:
            yield label, str(card.written[name])
    if card.chance is not None:
        yield "chance", f"random directions reach {card.chance.low:+.3f} to {card.chance.high:+.3f} nats per token"
    if card.safe is not None:
        yield "safe range", str(card.safe)
    if card.swing is not None:
        interval = f"({card.swing.low:.3f} to {card.swing.high:.3f})"
        yield "preference", f"swing {card.swing.value:.3f} nats per token {interval} from -1 to +1"
    for key, halves in card.halves.items():
        changes = f"{halves.positive.value:+.2f} for {card.positive} answers, {halves.negative.value:+.2f} for"
        yield f"at {key}1", f"{changes} {card.negative} ones"
    if card.ceiling is not None:
        share = card.ceiling.share
        yield "ceiling", f"{share.value:.0%} of logit arithmetic at the same KL ({share.low:.0%} to {share.high:.0%})"
    for key, cost in card.cost.items():
        parts = [f"perplexity × {cost.perplexity_ratio:.1f}", f"repetition {cost.loops:.0%}"]
        if cost.accuracy_change is not None:
            parts.append(f"facts {cost.accuracy_change.value:+.0%}")
        if cost.relevance_change is not None:
            parts.append(f"relevance {cost.relevance_change:+.2f}")
        yield f"safe end {key}", ", ".join(parts)


@app.command(cls=OnceCommand, epilog="Example: trimtab zoo train --all")
def train(
    names: Annotated[list[str] | None, typer.Argument(help="Behaviours of the zoo.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All behaviours of the zoo.")] = False,
    into: Annotated[Path | None, typer.Option(help="Folder for the vectors; default: by model.")] = None,
    cards: Annotated[Path | None, typer.Option(help="Folder for the cards; default: beside the vectors.")] = None,
    measure: Annotated[bool, typer.Option(help="Evaluation of each vector, for its card.")] = True,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="New training of vectors that exist already.")] = False,
    quick: QuickOption = False,
    thorough: ThoroughOption = False,
    seed: SeedOption = 0,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Train vectors and write cards; existing ones are kept, so an interrupted run continues where it stopped."""
    from trimtab.behaviours import Behaviour, zoo_names

    effort = effort_of(quick=quick, thorough=thorough)
    chosen = list(zoo_names()) if every else list(names or ())
    if not chosen:
        raise BehaviourError("no behaviour is named", fix="name some, or give --all")
    for name in chosen:
        Behaviour.load(name)  # refuse a wrong name before the work
    with Session(model, dtype=dtype, announce=not json).progress() as (engine, _):
        pass  # before the first behaviour, which has other progress bars
    results = _train_all(
        engine, chosen, effort=effort, into=into, cards=cards, measure=measure, rebuild=rebuild, seed=seed
    )
    if json:
        print_json(results)
        return
    for result in results:
        out.print(f"{result['name']}: {result['outcome']}", markup=False, soft_wrap=True)


def _train_all(
    engine: TransformersEngine,
    names: Sequence[str],
    *,
    effort: str,
    into: Path | None,
    cards: Path | None,
    measure: bool,
    rebuild: bool,
    seed: int,
) -> list[dict[str, Any]]:
    """Train each behaviour in turn; a failure is reported, and the others go on."""
    from trimtab.training.train import zoo_path

    baseline: Baseline | None = None
    results = []
    for number, name in enumerate(names, start=1):
        path = zoo_path(name, engine.info) if into is None else into / f"{name}.safetensors"
        target = (cards if cards is not None else path.parent / "cards") / f"{name}.json"
        check_writable(target)
        err.print(f"{name} ({number} of {len(names)})", style="bold", markup=False)
        try:
            outcome, baseline = _train_one(
                engine,
                name,
                path,
                target,
                baseline,
                effort=effort,
                into=into,
                measure=measure,
                rebuild=rebuild,
                seed=seed,
            )
        except TrimtabError as error:
            outcome = f"failed: {error}"
        results.append({"name": name, "vector": str(path), "card": str(target), "outcome": outcome})
    return results


def _train_one(
    engine: TransformersEngine,
    name: str,
    path: Path,
    target: Path,
    baseline: Baseline | None,
    *,
    effort: str,
    into: Path | None,
    measure: bool,
    rebuild: bool,
    seed: int,
) -> tuple[str, Baseline | None]:
    """Train one vector and write its card; return the outcome, and the base model's measurements for the next one."""
    from trimtab.behaviours import Behaviour
    from trimtab.evaluation.cards import card_json, card_of, read_card
    from trimtab.evaluation.evaluate import evaluate
    from trimtab.evaluation.measurement import THOROUGH, Baseline
    from trimtab.training.train import existing_zoo_vector, zoo_vector
    from trimtab.vectors import write_atomically

    behaviour = Behaviour.load(name)
    exists = not rebuild and existing_zoo_vector(name, engine.info, folder=into) is not None
    if target.is_file() and exists:
        with suppress(EvaluationError):  # a broken card is measured again
            kept = read_card(target.read_bytes(), where=str(target))
            if kept.digest == behaviour.digest and kept.model == engine.info.name:
                return f"kept: {kept.word}", baseline
    with phase_progress() as phases:
        vector = zoo_vector(
            engine, name, effort=effort, folder=into, rebuild=rebuild, seed=seed, progress=phases.on_progress
        )
        if not measure:
            return "kept" if exists else "trained", baseline
        if baseline is None and not behaviour.evaluation_prompts:
            phases.begin("Measuring the base model")
            baseline = Baseline(engine, sizes=THOROUGH)
        report = evaluate(
            engine,
            vector,
            behaviour=behaviour,
            baselines=(),
            sizes=THOROUGH,
            seed=seed,
            baseline=None if behaviour.evaluation_prompts else baseline,
            progress=phases.on_progress,
        )
    replace(vector, safe=report.safe).save(path)
    made = card_of(report)
    write_atomically(target, card_json(made))
    return made.word, baseline
