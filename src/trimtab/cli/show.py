"""``trimtab show``: a vector's card."""

from __future__ import annotations

from typing import Annotated

import typer

from trimtab.cli.card import print_card
from trimtab.cli.console import JsonOption, print_json

NAME = "show"
EXAMPLE = "trimtab show happy.safetensors"


def run(
    file: Annotated[str, typer.Argument(help="A vector file, or a name in the vectors folder.")],
    json: JsonOption = False,
) -> None:
    """Show what a vector is, which model it is for, where it steers, and what was measured."""
    from trimtab.vectors import find_vector

    vector = find_vector(file)
    if json:
        print_json(vector.describe())
        return
    print_card(vector)
