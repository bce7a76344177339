"""``trimtab zoo``: the behaviours that come with trimtab."""

from __future__ import annotations

from rich.table import Table

from trimtab.cli.console import JsonOption, out, print_json

NAME = "zoo"
EXAMPLE = "trimtab zoo"


def run(json: JsonOption = False) -> None:
    """List the behaviours that can be trained by name, and which of them have a vector already."""
    from trimtab.behaviours import Behaviour, zoo_names
    from trimtab.vectors import vector_path

    behaviours = [Behaviour.load(name) for name in zoo_names()]
    if json:
        print_json(
            [
                {
                    "name": behaviour.name,
                    "description": behaviour.description,
                    "positive": behaviour.positive.label,
                    "negative": behaviour.negative.label,
                    "vector": str(path) if (path := vector_path(behaviour.name)).is_file() else None,
                }
                for behaviour in behaviours
            ]
        )
        return
    table = Table(title="Behaviours", title_justify="left")
    for header in ("name", "+", "−", "what changes", "vector"):
        table.add_column(header)
    for behaviour in behaviours:
        trained = "trained" if vector_path(behaviour.name).is_file() else "–"
        table.add_row(
            f"[bold]{behaviour.name}[/bold]",
            behaviour.positive.label,
            behaviour.negative.label,
            behaviour.description,
            trained,
        )
    out.print(table)
    out.print("Train one: trimtab train happy", style="dim")
