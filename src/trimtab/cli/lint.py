"""``trimtab lint``: what is likely to spoil a behaviour's vector, before it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from trimtab.cli.console import (
    DtypeOption,
    JsonOption,
    ModelOption,
    ThinkingOption,
    load_model,
    out,
    phase_progress,
    print_json,
)
from trimtab.errors import BehaviourError

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour
    from trimtab.behaviours.lint import Finding
    from trimtab.training.agreement import PoleSuggestions, StateLint, Suggestions

NAME = "lint"
EXAMPLE = "trimtab lint pirate.toml"

SCHEMA = 1  # raise it when a field of the JSON changes its meaning or goes away
BROKEN = 1  # the exit code where there is an error
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan", "high": "green", "medium": "yellow", "low": "red"}


def run(
    behaviour: Annotated[str, typer.Argument(help="A behaviour of the zoo, or a path to a .toml file.")],
    words_only: Annotated[bool, typer.Option("--words-only", help="Look at the words alone; load no model.")] = False,
    suggest: Annotated[
        int, typer.Option("--suggest", min=0, help="Ask the model for so many further phrasings of each pole.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the suggestions, which are sampled.")] = 0,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Check a behaviour, by its words and by the model's hidden states, and say what to mend.

    The exit code is 1 where there is an error, and 0 where there are warnings and notes alone.
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

        with phase_progress() as phases:
            phases.begin("Loading the model")
            engine = load_model(model, dtype=dtype, thinking=thinking, notice=not json)
            states = lint_states(engine, described, progress=phases.on_progress)
            if suggest:
                suggestions = suggest_phrasings(
                    engine, described, count=suggest, seed=seed, progress=phases.on_progress
                )
        findings = by_level([*findings, *states.findings])
    broken = any(finding.level == "error" for finding in findings)
    if json:
        print_json(_as_json(described, findings, states, suggestions, broken=broken))
    else:
        _print(described, findings, states, suggestions)
    if broken:
        raise typer.Exit(BROKEN)


def _as_json(
    behaviour: Behaviour,
    findings: Sequence[Finding],
    states: StateLint | None,
    suggestions: Suggestions | None,
    *,
    broken: bool,
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "name": behaviour.name,
        "source": behaviour.source,
        "ok": not broken,
        "findings": [asdict(finding) for finding in findings],
        "states": None
        if states is None
        else {key: value for key, value in asdict(states).items() if key != "findings"},
        "suggestions": None if suggestions is None else asdict(suggestions),
    }


# For people --------------------------------------------------------------------------------------------------------


def _print(
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
        print_suggestions(behaviour, suggestions)


def _counted(findings: Sequence[Finding]) -> str:
    if not findings:
        return "nothing to mend"
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
    table = Table(title="Agreement with the rest", title_justify="left")
    table.add_column("", justify="right")
    for header in ("+", "−"):
        table.add_column(header)
    table.add_column("agreement", justify="right")
    for group in states.by_persona:
        told = "–" if group.agreement is None else f"{group.agreement:.2f}"
        table.add_row(str(group.index), escape(group.positive), escape(group.negative), told)
    out.print(table)


def print_suggestions(behaviour: Behaviour, suggestions: Suggestions) -> None:
    """Print phrasings that the model suggests, and how many were thrown away."""
    poles = ((behaviour.positive.label, suggestions.positive), (behaviour.negative.label, suggestions.negative))
    for label, told in poles:
        out.print(f"\nSuggested for [bold]{escape(label)}[/bold] ({_survival(told)}):", soft_wrap=True)
        for suggestion in told.kept:
            out.print(f"  {suggestion.agreement:.2f}  {suggestion.text}", markup=False, soft_wrap=True)
    out.print("\nLook at them before you use any; none was added.", style="dim")


def _survival(told: PoleSuggestions) -> str:
    return f"of {told.asked} answers {told.worded} were usable phrases and {told.agreed} lay towards the pole"
