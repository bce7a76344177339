"""``trimtab calibrate`` and ``show``: a vector that is already in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.options import (
    BehaviourArgument,
    BudgetOption,
    CheckOption,
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    OutputOption,
    ResumeOption,
    SeedOption,
    ThinkingOption,
    VectorArgument,
    check_writable,
    err,
    out,
    parse_layers,
    phase_progress,
    print_json,
    save_or_rescue,
    vector_json,
)
from trimtab.cli.session import Session
from trimtab.defaults import BUDGET, MAX_PAIRS, METHOD, REFINE_STEPS, STATES_MEMORY

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour
    from trimtab.engines.transformers import TransformersEngine

MIB = 1024**2


def train(
    behaviour: BehaviourArgument,
    output: OutputOption = None,
    method: Annotated[
        str,
        typer.Option(
            help="Estimator: mean_difference, pca_center, pca_diff, logistic or lda; or distilled, which learns from "
            "the personas by gradient."
        ),
    ] = METHOD,
    layers: Annotated[
        str, typer.Option(help="Layers to steer, such as 14-24 or 8,12,16; 'auto' chooses by measurement.")
    ] = "auto",
    budget: BudgetOption = BUDGET,
    source: Annotated[
        str, typer.Option(help="Texts to learn from: prompts (contrastive), or responses (answers in character).")
    ] = "prompts",
    temperature: Annotated[float, typer.Option(help="Sampling temperature of these answers; 0 is greedy.")] = 0.0,
    max_pairs: Annotated[int, typer.Option(help="Maximum number of contrastive pairs.")] = MAX_PAIRS,
    calibrate: Annotated[bool, typer.Option(help="Choice of layers and calibration of the strength.")] = True,
    check: CheckOption = True,
    refine: Annotated[
        int, typer.Option(min=0, help="Gradient steps that refine the direction, about a second each; 0 for none.")
    ] = REFINE_STEPS,
    seed: SeedOption = 0,
    memory: Annotated[int, typer.Option(min=1, help="Memory for hidden states, in MiB.")] = STATES_MEMORY // MIB,
    resume: ResumeOption = False,
    show_pairs: Annotated[
        int,
        typer.Option("--show-pairs", min=0, help="Number of pairs to print as the model sees them; trains nothing."),
    ] = 0,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Train a control vector for a behaviour, choose its layers, and calibrate its strength."""
    from trimtab.behaviours import Behaviour
    from trimtab.vectors import vector_path

    described = Behaviour.load(behaviour)
    chosen = parse_layers(layers)
    path = Path(output) if output else vector_path(described.name)
    session = Session(model, dtype=dtype, thinking=thinking, notice=not json)
    if show_pairs:
        _show_pairs(described, session.engine, show_pairs, max_pairs, as_json=json)
        return
    check_writable(path)
    with phase_progress() as phases:
        phases.begin("Loading the model")
        engine = session.engine
        from trimtab.training.train import train

        with resumable(path, resume=resume) as checkpoint:
            vector = train(
                engine,
                described,
                method=method,
                layers=chosen,
                calibrate=calibrate,
                budget=budget,
                source=source,
                temperature=temperature,
                max_pairs=max_pairs,
                seed=seed,
                check=check,
                refine=refine,
                memory=memory * MIB,
                checkpoint=checkpoint,
                progress=phases.on_progress,
            )
    save_or_rescue(vector, path)
    if json:
        print_json(vector_json(vector, path, phases))
        return
    from trimtab.cli.views import print_card

    print_card(vector)
    out.print(
        f"Saved to [bold]{path}[/bold]. Try: trimtab compare 'How was your day?' --steer {path}",
        soft_wrap=True,
    )


@contextmanager
def resumable(output: Path, *, resume: bool) -> Iterator[Path]:
    """Give the checkpoint of the work for ``output``, without old results unless resuming; say how to resume."""
    checkpoint = checkpoint_path(output)
    if not resume:
        checkpoint.unlink(missing_ok=True)
    elif not checkpoint.exists():
        err.print("There is nothing to resume; starting from the beginning.")
    try:
        yield checkpoint
    except KeyboardInterrupt:
        err.print("Stopped. The same command with --resume goes on from here.", soft_wrap=True)
        raise


def checkpoint_path(output: Path) -> Path:
    """Return the checkpoint of the work for ``output``: in the cache, not beside the file."""
    from trimtab.engines.transformers.model.source import cache_folder

    name = hashlib.sha256(str(output.absolute()).encode()).hexdigest()[:16]
    return cache_folder() / "checkpoints" / f"{name}.sqlite"


def _show_pairs(behaviour: Behaviour, engine: TransformersEngine, count: int, max_pairs: int, *, as_json: bool) -> None:
    from trimtab.behaviours.pairs import build_pairs

    pairs = build_pairs(behaviour, engine, max_pairs=max_pairs)
    count = min(count, len(pairs))
    shown = [pairs[n * len(pairs) // count] for n in range(count)]
    if as_json:
        print_json({"pairs": [{"positive": pair.positive, "negative": pair.negative} for pair in shown]})
        return
    for number, pair in enumerate(shown, start=1):
        for sign, text in (("+", pair.positive), ("-", pair.negative)):
            out.rule(f"pair {number} of {len(pairs)}, {sign}", align="left", style="dim")
            out.print(text, markup=False, soft_wrap=True)


def show(vector: VectorArgument, json: JsonOption = False) -> None:
    """Show a vector's card: its model, its layers, and what was measured of it."""
    from trimtab.vectors import find_vector

    shown = find_vector(vector)
    if json:
        print_json(shown.describe())
        return
    from trimtab.cli.views import print_card

    print_card(shown)


def calibrate(
    vector: VectorArgument,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Vector file to write; default: the vector's file.")
    ] = None,
    behaviour: Annotated[
        str | None, typer.Option("--behaviour", "-b", help="Behaviour to measure effects and rank layers by.")
    ] = None,
    operator: Annotated[str, typer.Option(help="Operator to calibrate: add, add_preserving_norm or rotate.")] = "add",
    budget: BudgetOption = BUDGET,
    layers: Annotated[
        str | None,
        typer.Option(help="Layers to steer, such as 14-24; 'auto' chooses by measurement; default: the vector's."),
    ] = None,
    check: CheckOption = True,
    seed: SeedOption = 0,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Find the scale at which strength ±1 spends the budget, for adding or another operator."""
    from trimtab.behaviours import Behaviour
    from trimtab.vectors import vector_path

    session = Session(model, dtype=dtype, thinking=thinking, notice=not json, force=force)
    given = session.stored(vector)
    described = Behaviour.load(behaviour) if behaviour is not None else None
    chosen = parse_layers(layers) if layers is not None else None
    path = Path(output) if output else vector_path(vector)
    check_writable(path)
    with phase_progress() as phases:
        phases.begin("Loading the model")
        engine = session.engine
        from trimtab.training.calibrate import calibrate

        calibrated = calibrate(
            engine,
            given,
            operator=operator,
            behaviour=described,
            layers=chosen,
            budget=budget,
            seed=seed,
            check=check,
            progress=phases.on_progress,
        )
    save_or_rescue(calibrated, path)
    if json:
        print_json(vector_json(calibrated, path, phases))
        return
    from trimtab.cli.views import print_card

    print_card(calibrated)
    out.print(f"Saved to [bold]{path}[/bold].", soft_wrap=True)
