"""``trimtab new`` and ``lint``: write a behaviour file, and check one before training."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from trimtab.cli.options import (
    BehaviourArgument,
    DtypeOption,
    JsonOption,
    ModelOption,
    SeedOption,
    ThinkingOption,
    check_writable,
    out,
    print_json,
    right,
)
from trimtab.cli.session import Session
from trimtab.errors import BehaviourError, OutputError

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour
    from trimtab.behaviours.lint import Finding
    from trimtab.training.agreement import StateLint, Suggestions

SCHEMA = 1  # of lint's JSON; to be raised when a field changes its meaning or is removed
LINT_ERROR = 1  # exit code if there is an error
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan", "high": "green", "medium": "yellow", "low": "red"}


def new(
    name: Annotated[str, typer.Argument(help="Name of the behaviour: lower-case letters, digits, '-' and '_'.")],
    positive: Annotated[
        list[str],
        typer.Option(
            "--positive",
            help="Persona of the positive pole, as it fits after 'You are': 'a pirate', 'happy', 'someone who never "
            "lies'. Repeated options are all used as given; a single one is varied into four.",
        ),
    ],
    negative: Annotated[
        list[str], typer.Option("--negative", help="Persona of the negative pole; as many as --positive.")
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: NAME.toml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replacement of an existing file.")] = False,
    phrasings: Annotated[
        int, typer.Option("--phrasings", min=0, help="Number of further phrasings of each pole to ask the model for.")
    ] = 0,
    seed: SeedOption = 0,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Write a complete, commented behaviour file from a few words for each pole."""
    from trimtab.behaviours import Behaviour
    from trimtab.behaviours.draft import draft
    from trimtab.vectors import write_atomically

    text = draft(name, positive, negative)
    path = output or Path(f"{name}.toml")
    check_writable(path, suffix=".toml")
    overwritten = path.exists()
    if overwritten and not force:
        raise OutputError(
            f"{str(path)!r} exists already", fix="choose another file with -o, or replace it with --force"
        )
    write_atomically(path, text.encode())
    described = Behaviour.load(path)
    suggestions: Suggestions | None = None
    if phrasings:
        from trimtab.training.agreement import suggest_phrasings

        with Session(model, dtype=dtype, announce=not json).progress() as (engine, phases):
            suggestions = suggest_phrasings(engine, described, count=phrasings, seed=seed, progress=phases.on_progress)
    if json:
        print_json(
            {
                "path": str(path),
                "overwritten": overwritten,
                "name": described.name,
                "description": described.description,
                "positive": asdict(described.positive),
                "negative": asdict(described.negative),
                "templates": len(described.templates),
                "suffixes": len(described.suffixes),
                "suggestions": None if suggestions is None else asdict(suggestions),
            }
        )
    else:
        _print_new(described, path, suggestions)


def _print_new(behaviour: Behaviour, path: Path, suggestions: Suggestions | None) -> None:
    from trimtab.behaviours import zoo_names

    out.print(f"Wrote {path}.", markup=False, soft_wrap=True)
    for sign, pole in (("+", behaviour.positive), ("−", behaviour.negative)):
        out.print(f"  {sign} {pole.label}: {'; '.join(pole.personas)}", markup=False, soft_wrap=True)
    if suggestions is not None:
        _print_suggestions(behaviour, suggestions)
    if behaviour.name in zoo_names():
        out.print(
            f"The zoo has a behaviour named {behaviour.name!r} too: give this file's path where you mean this one, "
            "and train it with -o, because both vectors have the same name.",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )
    file = shlex.quote(str(path))
    out.print("Next, review the file and replace dull phrasings; then:")
    out.print(f"  trimtab lint {file}     # find problems before training", markup=False, soft_wrap=True)
    out.print(f"  trimtab train {file}    # train and calibrate the vector", markup=False, soft_wrap=True)


def lint(
    behaviour: BehaviourArgument,
    words_only: Annotated[
        bool, typer.Option("--words-only", help="Checks of the texts only, without a model.")
    ] = False,
    suggest: Annotated[
        int, typer.Option("--suggest", min=0, help="Number of further phrasings of each pole to ask the model for.")
    ] = 0,
    seed: SeedOption = 0,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Check a behaviour by its texts and by the model's hidden states, before training.

    The exit code is 1 if there is an error; warnings and notes do not count.
    """
    from trimtab.behaviours import Behaviour
    from trimtab.behaviours.lint import by_level, lint_words

    if words_only and suggest:
        raise BehaviourError("--words-only and --suggest exclude each other", fix="drop one: suggestions need a model")
    described = Behaviour.load(behaviour)
    findings = lint_words(described)
    states: StateLint | None = None
    suggestions: Suggestions | None = None
    if not words_only:
        from trimtab.training.agreement import lint_states, suggest_phrasings

        with Session(model, dtype=dtype, thinking=thinking, announce=not json).progress() as (engine, phases):
            states = lint_states(engine, described, progress=phases.on_progress)
            if suggest:
                suggestions = suggest_phrasings(
                    engine, described, count=suggest, seed=seed, progress=phases.on_progress
                )
        findings = by_level([*findings, *states.findings])
    broken = any(finding.level == "error" for finding in findings)
    if json:
        measured = None if states is None else asdict(states)
        if measured is not None:
            del measured["findings"]  # they are among those of the texts
        print_json(
            {
                "schema": SCHEMA,
                "name": described.name,
                "source": described.source,
                "ok": not broken,
                "findings": [asdict(finding) for finding in findings],
                "states": measured,
                "suggestions": None if suggestions is None else asdict(suggestions),
            }
        )
    else:
        _print_lint(described, findings, states, suggestions)
    if broken:
        raise typer.Exit(LINT_ERROR)


def _print_lint(
    behaviour: Behaviour, findings: Sequence[Finding], states: StateLint | None, suggestions: Suggestions | None
) -> None:
    out.print(f"[bold]{escape(behaviour.name)}[/bold]: {_counted(findings)}", soft_wrap=True)
    if findings:
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            colour = COLOURS[finding.level]
            table.add_row(
                f"[{colour}]{finding.level}[/{colour}]",
                escape(finding.where),
                f"{escape(finding.problem)}: [dim]{escape(finding.fix)}[/dim]",
            )
        out.print(table)
    if states is not None:
        _print_states(states)
    if suggestions is not None:
        _print_suggestions(behaviour, suggestions)


def _counted(findings: Sequence[Finding]) -> str:
    if not findings:
        return "no problems"
    counts = {level: sum(finding.level == level for finding in findings) for level in ("error", "warning", "note")}
    return ", ".join(f"{count} {level}{'s' * (count != 1)}" for level, count in counts.items() if count)


def _print_states(states: StateLint) -> None:
    colour = COLOURS[states.prediction]
    agreement = "" if states.agreement is None else f", agreement of personas {states.agreement:.2f}"
    out.print(
        f"\nPredicted reliability: [{colour}]{states.prediction}[/{colour}] "
        f"(pairwise cosine {states.pairwise_cosine:.2f}{agreement}, separation {states.separation:.0%}, "
        f"{states.pairs} pairs; a rule of thumb)",
        soft_wrap=True,
    )
    if not any(group.agreement is not None for group in states.by_persona):
        return
    table = Table(*right(""), "+", "−", *right("agreement"), title="Agreement with the rest", title_justify="left")
    for group in states.by_persona:
        agreement = "–" if group.agreement is None else f"{group.agreement:.2f}"
        table.add_row(str(group.index), escape(group.positive), escape(group.negative), agreement)
    out.print(table)


def _print_suggestions(behaviour: Behaviour, suggestions: Suggestions) -> None:
    poles = ((behaviour.positive.label, suggestions.positive), (behaviour.negative.label, suggestions.negative))
    for label, suggested in poles:
        usable = f"of {suggested.asked} answers {suggested.worded} were usable"
        title = f"[bold]{escape(label)}[/bold] ({usable}, and {suggested.agreed} pointed to the pole)"
        out.print(f"\nSuggested for {title}:", soft_wrap=True)
        for suggestion in suggested.kept:
            out.print(f"  {suggestion.agreement:.2f}  {suggestion.text}", markup=False, soft_wrap=True)
    out.print("\nReview them before you use any; none was added.", style="dim")
