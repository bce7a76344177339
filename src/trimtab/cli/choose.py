"""``trimtab choose``: probabilities of given answers."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from trimtab.cli.options import (
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    RawOption,
    SteerOption,
    SystemOption,
    ThinkingOption,
    out,
    print_json,
    prompt_texts,
    with_system,
)
from trimtab.cli.session import Session


def choose(
    prompt: Annotated[str, typer.Argument(help="The question; '-' reads it from standard input.")],
    choices: Annotated[list[str], typer.Argument(help="The answers to choose from.")],
    steer: SteerOption = None,
    system: SystemOption = None,
    raw: RawOption = False,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Show how likely the model gives each of some answers, without generating any."""
    from trimtab.engines.constraints import Constraint

    Constraint.choice(choices)  # report errors before the model is loaded
    texts = prompt_texts([prompt], system=system, raw=raw)
    session = Session(model, dtype=dtype, thinking=thinking, announce=not (raw or json), force=force)
    steering = session.steering(*steer or ())
    (chosen,) = session.engine.choose(with_system(texts, system), choices, steering=steering, raw=raw)
    if json:
        print_json(chosen.to_json())
        return
    table = Table("choice", "probability", "log-probability")
    for row in sorted(zip(chosen.probabilities, chosen.logprobs, chosen.choices, strict=True), reverse=True):
        table.add_row(escape(row[2]), f"{row[0]:.1%}", f"{row[1]:.2f} nats")
    out.print(table)
