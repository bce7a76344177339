"""``trimtab demo``: from a behaviour to a vector to three different answers, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from trimtab.cli.generate import comparison_table
from trimtab.cli.options import (
    BehaviourArgument,
    DtypeOption,
    JsonOption,
    ModelOption,
    check_writable,
    notice,
    out,
    print_json,
    print_saved,
    save_or_rescue,
    seconds_table,
)
from trimtab.cli.session import Session

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.vectors import ControlVector

PROMPTS = ("How was your day?", "Tell me about the weather where you live.", "What do you think of Mondays?")


def demo(
    behaviour: BehaviourArgument = "happy",
    fresh: Annotated[bool, typer.Option("--fresh", help="New training even if the vector exists.")] = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Train and calibrate a vector, then answer the same prompts unsteered and steered both ways."""
    from trimtab.behaviours import Behaviour
    from trimtab.engines import compare_answers
    from trimtab.vectors import vector_path

    described = Behaviour.load(behaviour)
    path = vector_path(described.name)
    check_writable(path)
    with Session(model, dtype=dtype, announce=not json).progress() as (engine, phases):
        if not json:
            _introduce(described, engine)
        vector = None if fresh else _existing_vector(path, described, engine)
        if vector is None:
            from trimtab.training.train import train

            vector = train(engine, described, check=False, progress=phases.on_progress)
            save_or_rescue(vector, path)
        phases.begin("Answering three ways")
        compared = compare_answers(engine, PROMPTS, vector)
    if json:
        print_json(
            {
                "vector": str(path),
                "layers": list(vector.layers),
                "scale": dict(vector.scale or {}),
                "seconds": seconds_table(phases.seconds),
                "answers": compared.to_json(),
            }
        )
        return
    _conclude(vector, described)
    out.print(
        comparison_table(compared, title=escape(f"+ is {described.positive.label}, − is {described.negative.label}"))
    )
    times = ", ".join(f"{phase.lower()} {seconds:.0f} s" for phase, seconds in phases.seconds.items())
    out.print(f"Time: {times}; {sum(phases.seconds.values()):.0f} s in all.", style="dim")
    print_saved(path, f"Next: trimtab chat --steer {described.name}")


def _introduce(behaviour: Behaviour, engine: TransformersEngine) -> None:
    from trimtab.behaviours.pairs import build_pairs

    pairs = build_pairs(behaviour, engine)
    pair = pairs[min(5, len(pairs) - 1)]
    out.print(f"[bold]{behaviour.name}[/bold]: {escape(behaviour.description)}")
    out.print(f"{len(pairs)} pairs of prompts that differ only in the pole, such as", style="dim")
    for sign, text in (("+", pair.positive), ("−", pair.negative)):
        out.print(f"  {sign} {escape(text.replace(chr(10), '⏎'))}", soft_wrap=True)


def _existing_vector(path: Path, behaviour: Behaviour, engine: TransformersEngine) -> ControlVector | None:
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
    notice(f"Using {path}, trained {vector.created}; --fresh trains it again.")
    return vector


def _conclude(vector: ControlVector, behaviour: Behaviour) -> None:
    from trimtab.vectors.records import layer_range

    calibration = vector.calibration
    assert calibration is not None
    out.print(
        f"Steering at layers [bold]{layer_range(vector.layers)}[/bold]; "
        f"strength 1 spends {calibration.budget:g} nats per token (measured: {calibration.kl['+']:.3f} towards "
        f"{behaviour.positive.label}, {calibration.kl['-']:.3f} towards {behaviour.negative.label})."
    )
    effect = calibration.effect
    if effect is not None and effect.prompt_equivalents is not None:
        out.print(
            f"From −1 to +1 the answers change {effect.prompt_equivalents:.1f} times as much as with system prompts."
        )
