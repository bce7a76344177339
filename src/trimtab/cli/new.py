"""``trimtab new``: a behaviour file to begin with."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.console import (
    DtypeOption,
    JsonOption,
    ModelOption,
    check_writable,
    load_model,
    out,
    phase_progress,
    print_json,
)
from trimtab.cli.lint import print_suggestions
from trimtab.errors import OutputError

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour, Pole
    from trimtab.training.agreement import Suggestions

NAME = "new"
EXAMPLE = 'trimtab new pirate --positive "a pirate" --negative "a lawyer"'


def run(
    name: Annotated[str, typer.Argument(help="Of the behaviour: lower-case letters, digits, '-' and '_'.")],
    positive: Annotated[
        list[str],
        typer.Option(
            "--positive",
            help="The pole that positive strength steers towards, as it fits after 'You are': 'a pirate', 'happy', "
            "'someone who never lies'. Several are taken as they are; from one, four are made.",
        ),
    ],
    negative: Annotated[list[str], typer.Option("--negative", help="The other pole, as often.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; NAME.toml if not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if there is one.")] = False,
    phrasings: Annotated[
        int, typer.Option("--phrasings", min=0, help="Also ask the model for so many further phrasings of each pole.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of these phrasings, which are sampled.")] = 0,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Write a behaviour file from a few words for each pole: complete, explained, and ready to train or to edit."""
    from trimtab.behaviours import Behaviour
    from trimtab.behaviours.draft import draft
    from trimtab.vectors import write_atomically

    text = draft(name, positive, negative)
    path = output or Path(f"{name}.toml")
    check_writable(path)
    overwritten = path.exists()
    if overwritten and not force:
        raise OutputError(
            f"{str(path)!r} exists already", fix="choose another file with -o, or overwrite it with --force"
        )
    write_atomically(path, text.encode())
    described = Behaviour.load(path)
    suggestions: Suggestions | None = None
    if phrasings:
        from trimtab.training.agreement import suggest_phrasings

        with phase_progress() as phases:
            phases.begin("Loading the model")
            engine = load_model(model, dtype=dtype, notice=not json)
            suggestions = suggest_phrasings(engine, described, count=phrasings, seed=seed, progress=phases.on_progress)
    if json:
        _print_json(described, path, suggestions, overwritten=overwritten)
    else:
        _print(described, path, suggestions)


def _print_json(behaviour: Behaviour, path: Path, suggestions: Suggestions | None, *, overwritten: bool) -> None:
    print_json(
        {
            "path": str(path),
            "overwritten": overwritten,
            "name": behaviour.name,
            "description": behaviour.description,
            "positive": asdict(behaviour.positive),
            "negative": asdict(behaviour.negative),
            "templates": len(behaviour.templates),
            "suffixes": len(behaviour.suffixes),
            "suggestions": None if suggestions is None else asdict(suggestions),
        }
    )


def _print(behaviour: Behaviour, path: Path, suggestions: Suggestions | None) -> None:
    from trimtab.behaviours import zoo_names

    out.print(f"Wrote {path}.", markup=False, soft_wrap=True)
    for sign, pole in (("+", behaviour.positive), ("−", behaviour.negative)):
        out.print(f"  {sign} {_shown(pole)}", markup=False, soft_wrap=True)
    if suggestions is not None:
        print_suggestions(behaviour, suggestions)
    if behaviour.name in zoo_names():
        out.print(
            f"The zoo has a behaviour named {behaviour.name!r} too: give this file's path where you mean this one, "
            "and train it with -o, as their vectors go by the same name.",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    file = shlex.quote(str(path))
    out.print("Next, look it over and put livelier phrasings in; then:")
    out.print(f"  trimtab lint {file}     # what would spoil the vector", markup=False, soft_wrap=True)
    out.print(f"  trimtab train {file}    # learn the vector, place it and calibrate it", markup=False, soft_wrap=True)


def _shown(pole: Pole) -> str:
    return f"{pole.label}: {'; '.join(pole.personas)}"
