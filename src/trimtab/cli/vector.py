"""``trimtab calibrate`` and ``show``: a vector that is already in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli.console import check_writable, out, phase_progress, print_json, save_or_rescue, vector_json
from trimtab.cli.options import (
    BudgetOption,
    CheckOption,
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    SeedOption,
    ThinkingOption,
    VectorArgument,
    parse_layers,
)
from trimtab.cli.session import Session
from trimtab.defaults import BUDGET


def show(vector: VectorArgument, json: JsonOption = False) -> None:
    """Show a vector's card: its model, its layers, and what was measured of it."""
    from trimtab.vectors import find_vector

    shown = find_vector(vector)
    if json:
        print_json(shown.describe())
        return
    from trimtab.cli.card import print_card

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
    from trimtab.cli.card import print_card

    print_card(calibrated)
    out.print(f"Saved to [bold]{path}[/bold].", soft_wrap=True)
