"""``trimtab demo``: the main job before one's eyes, from a described behaviour to three different answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from trimtab.cli.compare import compare, comparison_json, comparison_table
from trimtab.cli.console import (
    DtypeOption,
    JsonOption,
    ModelOption,
    PhaseProgress,
    check_writable,
    err,
    load_model,
    out,
    phase_progress,
    print_json,
    save_with_care,
    seconds_table,
)
from trimtab.vectors.records import layer_range

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.vectors import ControlVector

NAME = "demo"
EXAMPLE = "trimtab demo"
PROMPTS = ("How was your day?", "Tell me about the weather where you live.", "What do you think of Mondays?")


def run(
    behaviour: Annotated[str, typer.Argument(help="A behaviour of the zoo, or a path to a .toml file.")] = "happy",
    fresh: Annotated[bool, typer.Option("--fresh", help="Train anew even if the vector is there already.")] = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Train, place and calibrate a vector before your eyes, then answer the same prompts three ways."""
    from trimtab.behaviours import Behaviour
    from trimtab.steering import Steering, Term
    from trimtab.vectors import vector_path

    described = Behaviour.load(behaviour)
    path = vector_path(described.name)
    check_writable(path)
    with phase_progress() as phases:
        phases.begin("Loading the model")
        engine = load_model(model, dtype=dtype, notice=not json)
        if not json:
            _introduce(described, engine)
        vector = None if fresh else _already_there(path, described, engine)
        if vector is None:
            vector = _train(described, engine, path, phases)
        phases.begin("Answering three ways")
        steering = Steering((Term(vector, 1.0),))
        columns = compare(engine, PROMPTS, steering, max_new_tokens=64)
    if json:
        print_json(
            {
                "vector": str(path),
                "layers": list(vector.layers),
                "scale": dict(vector.scale or {}),
                "seconds": seconds_table(phases.seconds),
                "answers": comparison_json(PROMPTS, columns),
            }
        )
        return
    _conclude(vector, described)
    out.print(
        comparison_table(PROMPTS, columns, title=f"+ is {described.positive.label}, − is {described.negative.label}")
    )
    times = ", ".join(f"{phase.lower()} {seconds:.0f} s" for phase, seconds in phases.seconds.items())
    out.print(f"Time: {times}; {sum(phases.seconds.values()):.0f} s in all.", style="dim")
    out.print(f"The vector is in {path}. Next: trimtab chat --steer {described.name}:0.8", soft_wrap=True)


def _introduce(behaviour: Behaviour, engine: TransformersEngine) -> None:
    from trimtab.behaviours.pairs import build_pairs

    pairs = build_pairs(behaviour, engine)
    pair = pairs[min(5, len(pairs) - 1)]
    out.print(f"[bold]{behaviour.name}[/bold]: {behaviour.description}")
    out.print(f"{len(pairs)} pairs of prompts that differ only in the pole, such as", style="dim")
    for sign, text in (("+", pair.positive), ("−", pair.negative)):
        out.print(f"  {sign} {escape(text.replace(chr(10), '⏎'))}", soft_wrap=True)


def _already_there(path: Path, behaviour: Behaviour, engine: TransformersEngine) -> ControlVector | None:
    from trimtab.errors import VectorError
    from trimtab.vectors import ControlVector

    if not path.is_file():
        return None
    try:
        vector = ControlVector.load(path, model=engine)
    except VectorError:
        return None
    if vector.behaviour.digest != behaviour.digest or vector.scale is None:
        return None
    err.print(f"Using {path}, trained {vector.created}; --fresh trains it anew.", style="dim", soft_wrap=True)
    return vector


def _train(behaviour: Behaviour, engine: TransformersEngine, path: Path, phases: PhaseProgress) -> ControlVector:
    from trimtab.training.train import train

    vector = train(engine, behaviour, check=False, progress=phases.on_progress)
    save_with_care(vector, path)
    return vector


def _conclude(vector: ControlVector, behaviour: Behaviour) -> None:
    calibration = vector.calibration
    assert calibration is not None
    out.print(
        f"Steering at layers [bold]{layer_range(vector.layers)}[/bold]; "
        f"strength 1 spends {calibration.budget:g} nat a token (measured: {calibration.kl['+']:.3f} towards "
        f"{behaviour.positive.label}, {calibration.kl['-']:.3f} towards {behaviour.negative.label})."
    )
    effect: Any = calibration.effect
    if effect is not None and effect.prompt_equivalents is not None:
        out.print(
            f"From −1 to +1 the answers swing as far as {effect.prompt_equivalents:.1f} system prompts would move them."
        )
