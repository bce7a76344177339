"""``trimtab demo``: steered answers at once; then a behaviour is described, trained and measured, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from trimtab.cli.generate import comparison_table
from trimtab.cli.options import (
    DtypeOption,
    JsonOption,
    ModelOption,
    check_writable,
    model_option,
    notice,
    out,
    phase_progress,
    print_json,
    print_saved,
    save_or_rescue,
    seconds_table,
)
from trimtab.cli.session import Session
from trimtab.defaults import CHECKED_TOKENS

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour
    from trimtab.engines import AnswerComparison
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.vectors import ControlVector

FIRST = "happy"  # shown first where its vector exists, so that answers need no training
SAILOR = Path(__file__).with_name("sailor.toml")
PROMPTS = ("How was your day?", "Tell me about the weather where you live.")


def demo(
    behaviour: Annotated[
        str | None, typer.Argument(help="Behaviour to train, of the zoo or a .toml file; default: a sailor.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="New training even if the vector exists.")] = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Show steered answers; then describe a behaviour, train its vector, measure it, and answer with it."""
    from trimtab.behaviours import Behaviour
    from trimtab.training.train import existing_zoo_vector
    from trimtab.vectors import vector_path

    described = Behaviour.load(SAILOR if behaviour is None else behaviour)
    path = vector_path(described.name)
    check_writable(path)
    with Session(model, dtype=dtype, announce=not json).progress() as (engine, phases):
        first_vector = existing_zoo_vector(FIRST, engine.info)
        first = None
        if first_vector is not None and "+" in first_vector.default_strengths:
            phases.begin("Answering three ways")
            first = _compare(engine, first_vector, PROMPTS[:1])
    seconds = phases.seconds
    if not json:
        if first is not None:
            out.print(comparison_table(first, title=f"The vector {FIRST}, which is ready to use"))
            out.print(_times(seconds), style="dim")
            out.print()
        _introduce(described, engine)
    vector = None if fresh else _existing_vector(path, described, engine)
    with phase_progress() as phases:
        if vector is None:
            from trimtab.training.train import train

            vector = train(engine, described, progress=phases.on_progress)
            save_or_rescue(vector, path)
        compared = None
        if "+" in vector.default_strengths:
            phases.begin("Answering three ways")
            compared = _compare(engine, vector, PROMPTS)
    if json:
        seconds = {
            phase: seconds.get(phase, 0.0) + phases.seconds.get(phase, 0.0) for phase in seconds | phases.seconds
        }
        print_json(
            {
                "first": None if first is None else first.to_json(),
                "vector": str(path),
                "seconds": seconds_table(seconds),
                **{key: value for key, value in vector.describe().items() if key in ("scale", "safe")},
                "layers": list(vector.layers),
                "measured": list(_measured(vector)),
                "answers": None if compared is None else compared.to_json(),
            }
        )
        return
    out.print(_times(phases.seconds), style="dim")
    for sentence in _measured(vector):
        out.print(f"• {sentence}", markup=False)
    if compared is not None:
        poles = f"+ is {described.positive.label}, − is {described.negative.label}"
        out.print(comparison_table(compared, title=escape(poles)))
    print_saved(path)
    options = model_option(model)
    out.print("What to type next:")
    for command, purpose in (
        (f"trimtab play{options}", "turn it by a dial, in the browser"),
        (f"trimtab chat --steer {described.name}{options}", "talk with it"),
        (f'trimtab compare "What is rain?" --steer {FIRST}{options}', "the same for a behaviour of the zoo"),
        ('trimtab new pirate --positive "a pirate" --negative "a lawyer"', "describe your own"),
        (f"trimtab show {described.name}", "everything that was measured"),
    ):
        out.print(f"  {command}  # {purpose}", markup=False, soft_wrap=True)


def _compare(engine: TransformersEngine, vector: ControlVector, prompts: tuple[str, ...]) -> AnswerComparison:
    from trimtab.engines import compare_answers

    return compare_answers(engine, prompts, vector, max_new_tokens=CHECKED_TOKENS)


def _times(seconds: dict[str, float]) -> str:
    times = ", ".join(f"{phase.lower()} {spent:.0f} s" for phase, spent in seconds.items())
    return f"Time: {times}; {sum(seconds.values()):.0f} s in all."


def _introduce(behaviour: Behaviour, engine: TransformersEngine) -> None:
    from trimtab.behaviours.pairs import build_pairs

    pairs = build_pairs(behaviour, engine)
    pair = pairs[min(5, len(pairs) - 1)]
    out.print(f"Now a new vector, [bold]{behaviour.name}[/bold]. {escape(behaviour.description)}")
    out.print(f"The model reads {len(pairs)} pairs of prompts that differ only in the pole, such as")
    for sign, text in (("+", pair.positive), ("−", pair.negative)):
        out.print(f"  {sign} {escape(text.replace(chr(10), '⏎'))}", soft_wrap=True, style="dim")
    out.print(
        "The mean difference of its hidden states is a direction in each layer. The directions are refined, so that "
        "what the steered model would write next is likelier for one pole than for the other, and the strength is "
        "scaled to a fixed change of its predictions. Then the steered model answers questions that the vector was not "
        "made from."
    )


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


def _measured(vector: ControlVector) -> Iterator[str]:
    """Yield sentences on what was measured; figures of effects are of held-out questions alone."""
    from trimtab.vectors.records import layer_range, signed

    calibration = vector.calibration
    assert calibration is not None
    yield (
        f"It steers layers {layer_range(vector.layers)}. Strength 1 changes the predictions of the next token by "
        f"{calibration.budget:g} nat (measured: {calibration.kl['+']:.3f} at +1, {calibration.kl['-']:.3f} at -1)."
    )
    for written in calibration.held_out.written if calibration.held_out is not None else ():
        at = f"From {signed(written.strengths['-'])} to {signed(written.strengths['+'])}"
        if (times := written.times_prompt) is not None:
            yield (
                f"{at} it does {times.value:.1f} times what its system prompts do (95 % interval {times.low:.1f} to "
                f"{times.high:.1f}), on {written.questions} questions it never saw."
            )
        else:
            yield f"{at} it is not compared with its system prompts: {written.reason}."
    if (safe := vector.safe) is not None:
        yield f"Its text holds together from {safe}."
    if "+" not in vector.default_strengths:
        yield "So it has no strength to answer with. Describe the poles in other words, and train again."
