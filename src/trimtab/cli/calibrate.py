"""``trimtab calibrate``: give a vector's strength its unit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli.card import print_card
from trimtab.cli.console import (
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    ThinkingOption,
    check_writable,
    load_model,
    out,
    parse_layers,
    phase_progress,
    print_json,
    save_with_care,
    seconds_table,
)

NAME = "calibrate"
EXAMPLE = "trimtab calibrate happy --operator rotate"


def run(
    vector: Annotated[str, typer.Argument(help="A vector file, or a name in the vectors folder.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The file to write; the vector's own if not given.")
    ] = None,
    behaviour: Annotated[
        str | None, typer.Option(help="A behaviour, by which effects are measured and layers can be ranked.")
    ] = None,
    operator: Annotated[str, typer.Option(help="add, add_preserving_norm or rotate.")] = "add",
    budget: Annotated[float, typer.Option(help="Nats per token that strength 1 spends: 0.3 gentle, 0.6 strong.")] = 0.4,
    layers: Annotated[
        str | None, typer.Option(help="'auto' sweeps; or layers such as 14-24; the vector's own if not given.")
    ] = None,
    check: Annotated[bool, typer.Option(help="Also measure on held-out prompts.")] = True,
    seed: Annotated[int, typer.Option(help="Of the random directions in the comparison.")] = 0,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Find the scale at which strength ±1 spends the budget, for adding or another operator; measure neutral text."""
    from trimtab.behaviours import Behaviour
    from trimtab.vectors import find_vector, vector_path

    given = find_vector(vector)
    given = given.for_any_model() if force else given
    described = Behaviour.load(behaviour) if behaviour is not None else None
    chosen = parse_layers(layers) if layers is not None else None
    path = Path(output) if output else vector_path(vector)
    check_writable(path)
    with phase_progress() as phases:
        phases.begin("Loading the model")
        engine = load_model(model, dtype=dtype, thinking=thinking, notice=not json)
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
    save_with_care(calibrated, path)
    if json:
        print_json({"path": str(path), "seconds": seconds_table(phases.seconds), **calibrated.describe()})
        return
    print_card(calibrated)
    out.print(f"Saved to [bold]{path}[/bold].", soft_wrap=True)
