"""``trimtab zoo``: the built-in behaviours, their cards, and their vectors."""

from __future__ import annotations

from contextlib import suppress
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
    SeedOption,
    check_writable,
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
    numbers = ("swing", "×", "× kept", "ppl", "facts", "rel.", "cos")
    columns = [Column(header, no_wrap=True) for header in ("+", "−", "verdict")]
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
    models = ", ".join(sorted({card.model for card in cards.values()}))
    return (
        f"Measured on {models} at strength ±1. swing: nats per token from -1 to +1; ×: swing relative to system "
        "prompts, if these have an effect; × kept: the same within the strengths that lose at most 5 % of facts and "
        "0.10 of relevance; ppl: perplexity relative to the base; facts: change in accuracy; rel.: change in "
        "relevance (each of the worse pole); cos: agreement of the pairs. Details: trimtab zoo card NAME."
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
        return ("–",) * 8
    colour = COLOURS.get(card.word, "dim")
    costs = card.cost.values()
    changes = [cost.accuracy_change.value for cost in costs if cost.accuracy_change is not None]
    drifts = [cost.relevance_change for cost in costs if cost.relevance_change is not None]
    return (
        f"[{colour}]{card.word}[/{colour}]",
        _number(None if card.swing is None else card.swing.value, ".2f"),
        _number(card.prompt_equivalents, ".1f"),
        _number(card.tolerable.prompt_equivalents, ".1f"),
        f"{max(cost.perplexity_ratio for cost in costs):.1f}",
        _number(min(changes, default=None), "+.0%"),
        _number(min(drifts, default=None), "+.2f"),
        _number(card.pairwise_cosine, ".2f"),
    )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _entry(behaviour: Behaviour, card: Card | None) -> dict[str, Any]:
    from trimtab.evaluation.cards import card_json_values
    from trimtab.vectors import vector_path

    path = vector_path(behaviour.name)
    return {
        "name": behaviour.name,
        "description": behaviour.description,
        "positive": behaviour.positive.label,
        "negative": behaviour.negative.label,
        "vector": str(path) if path.is_file() else None,
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
        columns = [Column(header, ratio=1, overflow="fold") for header in ("−1", "0", "+1")]
        table = Table(*columns, title=escape(sample.question), title_justify="left", show_lines=True, expand=True)
        table.add_row(*(escape(text.strip()) for text in (sample.minus, sample.base, sample.plus)))
        out.print(table)


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    from trimtab.vectors.records import layer_range

    colour = COLOURS.get(card.word, "dim")
    yield "verdict", f"[{colour}]{card.word}[/{colour}] on {card.model}"
    place = f"layers {layer_range(card.layers)}, by {card.method}"
    yield "steers", f"{place}; strength 1 is {card.budget:g} nats per token"
    if card.swing is not None and card.effect:
        interval = f"({card.swing.low:.3f} to {card.swing.high:.3f})"
        yield "swing", f"{card.swing.value:.3f} nats per token {interval}"
    if card.prompt_swing is not None:
        times = "" if card.prompt_equivalents is None else f"; the vector by {card.prompt_equivalents:.1f} times that"
        yield "prompts", f"system prompts swing by {card.prompt_swing.value:.3f}{times}"
    if card.chance is not None:
        yield "chance", f"random directions reach {card.chance.low:+.3f} to {card.chance.high:+.3f}"
    for key, label in (("+", "at +1"), ("-", "at −1")):
        cost = card.cost[key]
        parts = [f"perplexity × {cost.perplexity_ratio:.1f}", f"repetition {cost.loops:.0%}"]
        if cost.accuracy_change is not None:
            parts.append(f"facts {cost.accuracy_change.value:+.0%}")
        if cost.relevance_change is not None:
            parts.append(f"relevance {cost.relevance_change:+.2f}")
        yield label, ", ".join(parts)
    usable = card.tolerable
    times = "" if usable.prompt_equivalents is None else f", {usable.prompt_equivalents:.1f} times the swing of prompts"
    yield "usable", f"from strength {usable.low:+g} to {usable.high:+g}{times}"
    yield "text intact", f"from strength {card.low:+g} to {card.high:+g} of those tried"


@app.command(cls=OnceCommand, epilog="Example: trimtab zoo train --all")
def train(
    names: Annotated[list[str] | None, typer.Argument(help="Behaviours of the zoo.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All behaviours of the zoo.")] = False,
    into: Annotated[Path | None, typer.Option(help="Folder for the vectors; default: by model.")] = None,
    cards: Annotated[Path | None, typer.Option(help="Folder for the cards; default: beside the vectors.")] = None,
    measure: Annotated[bool, typer.Option(help="Evaluation of each vector, for its card.")] = True,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="New training of vectors that exist already.")] = False,
    seed: SeedOption = 0,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Train vectors and write cards; existing ones are kept, so an interrupted run continues where it stopped."""
    from trimtab.behaviours import Behaviour, zoo_names

    chosen = list(zoo_names()) if every else list(names or ())
    if not chosen:
        raise BehaviourError("no behaviour is named", fix="name some, or give --all")
    for name in chosen:
        Behaviour.load(name)  # refuse a wrong name before the work
    with Session(model, dtype=dtype, announce=not json).progress() as (engine, _):
        pass  # before the first behaviour, which has other progress bars
    results = _train_all(engine, chosen, into=into, cards=cards, measure=measure, rebuild=rebuild, seed=seed)
    if json:
        print_json(results)
        return
    for result in results:
        out.print(f"{result['name']}: {result['outcome']}", markup=False, soft_wrap=True)


def _train_all(
    engine: TransformersEngine,
    names: Sequence[str],
    *,
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
                engine, name, target, baseline, into=into, measure=measure, rebuild=rebuild, seed=seed
            )
        except TrimtabError as error:
            outcome = f"failed: {error}"
        results.append({"name": name, "vector": str(path), "card": str(target), "outcome": outcome})
    return results


def _train_one(
    engine: TransformersEngine,
    name: str,
    target: Path,
    baseline: Baseline | None,
    *,
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
        vector = zoo_vector(engine, name, folder=into, rebuild=rebuild, seed=seed, progress=phases.on_progress)
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
    made = card_of(report)
    write_atomically(target, card_json(made))
    return made.word, baseline
