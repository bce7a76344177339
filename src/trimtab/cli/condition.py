"""``trimtab condition``: reading vectors and the thresholds of conditions."""

from __future__ import annotations

import json as jsonlib
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from trimtab.cli.options import (
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    OnceCommand,
    OutputOption,
    SeedOption,
    ThinkingOption,
    VectorArgument,
    model_option,
    out,
    output_path,
    print_json,
    print_saved,
    save_or_rescue,
    seconds_table,
    vector_json,
)
from trimtab.cli.session import Session
from trimtab.cli.vector import print_card
from trimtab.errors import PromptError, SteeringError

if TYPE_CHECKING:
    from trimtab.steering.conditions import At
    from trimtab.vectors import ControlVector

KEYS = ("text", "prompt", "instruction")
FILES = "One prompt per line; or .json or .jsonl with strings or objects that have text, prompt or instruction."

app = typer.Typer(help="Train reading vectors, and fit the thresholds of conditions.", no_args_is_help=True)


@app.command(
    cls=OnceCommand, epilog="Example: trimtab condition train harmful --positive harmful.txt --negative harmless.txt"
)
def train(
    name: Annotated[str, typer.Argument(help="Name of the vector.")],
    positive: Annotated[str, typer.Option(help=f"File of prompts with a high reading. {FILES}")],
    negative: Annotated[str, typer.Option(help="File of prompts with a low reading.")],
    valid_positive: Annotated[str | None, typer.Option(help="Positive prompts held out for validation.")] = None,
    valid_negative: Annotated[str | None, typer.Option(help="Negative prompts held out for validation.")] = None,
    output: OutputOption = None,
    seed: SeedOption = 0,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Train a reading vector from prompts of two kinds; cross-validation chooses its layers and pooling."""
    if (valid_positive is None) != (valid_negative is None):
        raise PromptError("validation prompts of one kind only", fix="give both --valid-positive and --valid-negative")
    high, low = read_prompts(positive), read_prompts(negative)
    held_out = [read_prompts(file) for file in (valid_positive, valid_negative) if file is not None]
    path = output_path(output, name)
    with Session(model, dtype=dtype, thinking=thinking, announce=not json).progress() as (engine, phases):
        from trimtab.reading import auroc
        from trimtab.training.readers import fit_reader

        vector = fit_reader(engine, high, low, name=name, seed=seed, progress=phases.on_progress)
        scores = [engine.scores(prompts, vector) for prompts in held_out]
    valid = auroc(*scores) if scores else None
    save_or_rescue(vector, path)
    if json:
        print_json({**vector_json(vector, path, phases), "valid_auroc": valid})
        return
    print_card(vector)
    if valid is not None:
        out.print(f"Validation: AUROC {valid:.3f} ({len(held_out[0])} and {len(held_out[1])} prompts)")
    shown = Path(vector.behaviour.name) if output is None else path
    fit = f"trimtab condition fit {shlex.quote(str(shown))} --negative FILE --rate 2%{model_option(model)}"
    print_saved(path, f"Next: {fit}")


@app.command(cls=OnceCommand, epilog="Example: trimtab condition fit harmful --negative everyday.txt --rate 2%")
def fit(
    vector: VectorArgument,
    negative: Annotated[str, typer.Option(help=f"File of prompts on which the condition should not hold. {FILES}")],
    positive: Annotated[str | None, typer.Option(help="File of prompts on which the condition should hold.")] = None,
    rate: Annotated[str, typer.Option(help="Rate of false positives, such as 2% or 0.02.")] = "2%",
    at: Annotated[str, typer.Option(help="Text that the condition reads: prompt, last-user-turn or token.")] = "prompt",
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Vector file to write; default: the vector's file.")
    ] = None,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Find the threshold for a rate of false positives on ordinary prompts, and keep their readings in the vector."""
    share = parse_rate(rate)
    session = Session(model, dtype=dtype, thinking=thinking, announce=not json, force=force)
    given = session.stored(vector)
    ordinary = read_prompts(negative)
    wanted = read_prompts(positive) if positive is not None else []
    if len(ordinary) * share < 1:
        raise PromptError(
            f"{negative!r} holds {len(ordinary)} prompts, too few for a rate of {rate}",
            fix=f"give {math.ceil(1 / share)} or more",
        )
    path = output_path(output, vector)
    with session.progress() as (engine, phases):
        from trimtab.training.readers import fit_threshold, readings

        where = cast("At", at)
        fitted = fit_threshold(engine, given, ordinary, at=where, progress=phases.on_progress)
        positives = readings(engine, fitted, wanted, at=where, progress=phases.on_progress) if wanted else []
    report = _report(fitted, share, at, positives)
    from trimtab.steering.syntax import name_text

    save_or_rescue(fitted, path)
    name = vector if output is None else str(path)
    steering = f"refusal:0.5 when {name_text(name)} > fpr {share * 100:g}% at {at}"
    use = f"--steer {shlex.quote(steering)}{model_option(model)}"
    if json:
        print_json({"path": str(path), "seconds": seconds_table(phases.seconds), "use": use, **report})
        return
    _print_report(report)
    print_saved(path, f"Use it: {use}")


def parse_rate(text: str) -> float:
    """Return a rate between 0 and 1, written as ``2%`` or ``0.02``."""
    try:
        rate = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        rate = -1.0
    if not 0 < rate < 1:
        raise SteeringError(f"{text!r} is not a rate of false positives", fix="write 2%, or 0.02")
    return rate


def read_prompts(file: str) -> list[str]:
    """Return the prompts in a file: one per line, or JSON."""
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise PromptError(f"the prompts in {file!r} cannot be read: {why}", fix="check the path") from None
    try:
        if path.suffix == ".json":
            entries = jsonlib.loads(text)
        elif path.suffix == ".jsonl":
            entries = [jsonlib.loads(line) for line in text.splitlines() if line.strip()]
        else:
            entries = [line for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise PromptError(
            f"{file!r} is not JSON: {error}", fix="correct it, or give a .txt file with one prompt per line"
        ) from None
    if not isinstance(entries, list) or not entries:
        raise PromptError(f"{file!r} has no prompts", fix="give a list of them")
    return [_prompt(entry, file, number) for number, entry in enumerate(entries, start=1)]


def _prompt(entry: Any, file: str, number: int) -> str:
    if isinstance(entry, dict):
        entry = next((entry[key] for key in KEYS if key in entry), None)
    if not isinstance(entry, str) or not entry.strip():
        raise PromptError(
            f"entry {number} of {file!r} is not a prompt", fix=f"write a text, or an object with {KEYS[0]}"
        )
    return entry.strip()


def _report(vector: ControlVector, rate: float, at: str, positive: Sequence[Any]) -> dict[str, Any]:
    """Return the rates at the threshold, on the texts it was fitted on and on those that should pass."""
    import numpy as np

    from trimtab.reading import auroc
    from trimtab.stats import proportion

    threshold = vector.fitted_threshold(rate, at=at)
    fitted = next(fit for fit in vector.fits if fit.at == at)
    passed = float(np.mean(np.array(fitted.readings) > threshold))
    bounds = proportion(round(passed * fitted.texts), fitted.texts)
    report: dict[str, Any] = {
        "at": at,
        "threshold": threshold,
        "rate": rate,
        "false_positive_rate": passed,
        "interval": (bounds.low, bounds.high),
        "negatives": fitted.texts,
    }
    if positive:
        scores = np.concatenate(positive)
        report |= {
            "positives": len(positive),
            "true_positive_rate": float(np.mean(scores > threshold)),
            "auroc": auroc(scores, list(fitted.readings)),
        }
    return report


def _print_report(report: dict[str, Any]) -> None:
    what = "words" if report["at"] == "token" else "prompts"
    low, high = report["interval"]
    out.print(
        f"Threshold at {report['at']}: [bold]{report['threshold']:+.2f}[/bold] (standard deviations of neutral text)"
    )
    out.print(
        f"False positives: {report['false_positive_rate']:.1%} of the {what} in {report['negatives']} texts "
        f"(95 % interval {low:.1%} to {high:.1%})",
        soft_wrap=True,
    )
    if "auroc" in report:
        out.print(
            f"Of the {what} in {report['positives']} positive texts {report['true_positive_rate']:.1%} pass; "
            f"AUROC {report['auroc']:.3f}",
            soft_wrap=True,
        )
