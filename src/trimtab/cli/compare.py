"""``trimtab compare``: the same prompt as itself, towards +, and towards -."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from trimtab.cli.console import (
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    ThinkingOption,
    TokensOption,
    completion_json,
    out,
    print_json,
)
from trimtab.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trimtab.engines import Completion
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.steering import Steering

NAME = "compare"
EXAMPLE = "trimtab compare 'How was your day?' --steer happy"
SIDES = ("baseline", "plus", "minus")


def run(
    prompts: Annotated[list[str], typer.Argument(help="One prompt or several.")],
    steer: Annotated[str, typer.Option("--steer", "-s", help="Such as 'happy:0.8': a name or a path.")],
    max_new_tokens: TokensOption = 64,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Answer side by side: unsteered, steered, and steered the other way."""
    desk = Session(model, dtype=dtype, thinking=thinking, notice=not json, force=force)
    steering = desk.steering(steer)
    engine = desk.engine
    columns = compare(engine, prompts, steering, max_new_tokens=max_new_tokens)
    if json:
        rows = comparison_json(prompts, columns)
        print_json(rows[0] if len(rows) == 1 else rows)
        return
    out.print(comparison_table(prompts, columns, title=str(steering)))


def compare(
    engine: TransformersEngine, prompts: Sequence[str], steering: Steering, *, max_new_tokens: int
) -> dict[str, list[Completion]]:
    """Greedy answers to every prompt under no steering, the steering, and its opposite."""
    from dataclasses import replace

    from trimtab.steering import Steering

    opposite = Steering(
        tuple(
            replace(
                term,
                strength=None if term.strength is None else -term.strength,
                coefficient=None if term.coefficient is None else -term.coefficient,
            )
            for term in steering.terms
        )
    )
    asked = list(prompts)
    return {
        side: engine.generate(asked, steering=chosen, max_new_tokens=max_new_tokens)
        for side, chosen in zip(SIDES, (None, steering, opposite), strict=True)
    }


def comparison_json(prompts: Sequence[str], columns: dict[str, list[Completion]]) -> list[dict[str, object]]:
    """One object for each prompt."""
    return [
        {"prompt": prompt, **{side: completion_json(columns[side][n]) for side in SIDES}}
        for n, prompt in enumerate(prompts)
    ]


def comparison_table(prompts: Sequence[str], columns: dict[str, list[Completion]], *, title: str) -> Table:
    """Three answers to each prompt, side by side."""
    table = Table(title=title, show_lines=True, expand=True, title_justify="left", title_style="bold")
    for header, style in (("baseline", ""), ("+", "green"), ("−", "magenta")):
        table.add_column(header, style=style, ratio=1, overflow="fold")
    from rich.markup import escape

    for n, prompt in enumerate(prompts):
        table.add_row(f"[bold]> {escape(prompt)}[/bold]", "", "")
        table.add_row(*(escape(columns[side][n].text.strip()) for side in SIDES))
    return table
