"""``trimtab distill``: from a system prompt to a vector that stands in for it."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.card import print_card
from trimtab.cli.console import (
    DtypeOption,
    JsonOption,
    ModelOption,
    ThinkingOption,
    check_writable,
    err,
    out,
    parse_layers,
    phase_progress,
    print_json,
    save_with_care,
    seconds_table,
)
from trimtab.cli.session import Session
from trimtab.cli.train import begin_checkpoint, checkpoint_path
from trimtab.errors import DistillError, TrimtabError

if TYPE_CHECKING:
    from trimtab.training.distillation.examples import SystemPrompt, Tokened

NAME = "distill"
EXAMPLE = 'trimtab distill --system-prompt "You are a pirate. Speak like one." -o pirate.safetensors'


def run(
    system_prompt: Annotated[
        str,
        typer.Option("--system-prompt", "-p", help="The prompt; or a text file with it, or messages in a .json file."),
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="The file to write; the vectors folder if not given.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="A text file of users' messages, one a line; built-in ones if not given.")
    ] = None,
    invent: Annotated[
        int, typer.Option(min=0, help="So many more that the model itself writes, such as the prompt's users would.")
    ] = 0,
    layers: Annotated[str, typer.Option(help="'all', 'band' for the middle ones, or layers such as 14-24.")] = "all",
    tokens: Annotated[str, typer.Option(help="Where it is added as it learns: all, or generated.")] = "all",
    on_top_of: Annotated[
        str | None, typer.Option("--on-top-of", help="What is active besides, such as happy:0.8.")
    ] = None,
    answers: Annotated[
        int | None, typer.Option(min=1, help="Sampled answers to each message; some 160 in all if not given.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", min=4, help="Of an answer.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Steps at most, about a second each.")] = 85,
    batch: Annotated[int, typer.Option(min=1, help="Answers of a step.")] = 6,
    seed: Annotated[int, typer.Option(help="Of the sampled answers and of the order they are learned in.")] = 0,
    check: Annotated[
        bool, typer.Option(help="Also measure what it carries of the prompt, on messages it was not learned from.")
    ] = True,
    check_on: Annotated[
        Path | None, typer.Option(help="Users' messages to measure on, one a line; built-in ones if not given.")
    ] = None,
    lora: Annotated[
        bool, typer.Option("--lora", help="Measure fine-tuning beside it, which takes some minutes more.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", "-r", help="Also write what was measured as a page: .html.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where interrupted work stopped.")] = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Compile a system prompt into a vector: at strength 1 the model answers as if the prompt stood there."""
    from dataclasses import asdict, replace

    from trimtab.training.distillation.distill import Effort, distill
    from trimtab.training.distillation.examples import Teacher
    from trimtab.vectors import vector_path, write_atomically

    given = _prompt(system_prompt)
    Teacher.of(given)  # refuses what is no prompt before the model is loaded
    texts = None if prompts is None else _lines(prompts)
    path = Path(output) if output else vector_path("prompt")
    check_writable(path)
    _check_report(report, measured=check and on_top_of is None, asked=lora or check_on is not None)
    others = None if check_on is None else _apart(_lines(check_on), learned=texts)
    usual = Effort()
    effort = replace(
        usual,
        answers=answers,
        answer_tokens=max_new_tokens,
        schedule=replace(usual.schedule, steps=steps, batch=batch),
    )
    desk = Session(model, dtype=dtype, thinking=thinking, notice=not json)
    below = desk.steering(on_top_of)
    checkpoint = checkpoint_path(path)
    begin_checkpoint(checkpoint, resume=resume)
    with phase_progress() as phases:
        phases.begin("Loading the model")
        engine = desk.engine
        try:
            vector = distill(
                engine,
                given,
                prompts=texts,
                invent=invent,
                name=path.stem,
                layers=layers if layers in ("all", "band") else parse_layers(layers),
                tokens=_tokens(tokens),
                on_top_of=below,
                effort=effort,
                seed=seed,
                checkpoint=checkpoint,
                progress=phases.on_progress,
            )
        except KeyboardInterrupt:
            err.print("Stopped. The same command with --resume goes on from here.", soft_wrap=True)
            raise
    save_with_care(vector, path)
    measured = None
    if check and not below.terms:
        from trimtab.evaluation.distilled import evaluate_distilled

        try:
            with phase_progress() as checks:
                measured = evaluate_distilled(
                    engine, vector, given, prompts=others, lora=lora, progress=checks.on_progress
                )
        except (TrimtabError, KeyboardInterrupt):
            err.print(f"The vector is in {path}; what it carries of the prompt is not known.", soft_wrap=True)
            raise
    if measured is not None and report is not None:
        from trimtab.evaluation.report import distilled_html

        write_atomically(report, distilled_html(measured).encode())
    if json:
        found = None if measured is None else asdict(measured)
        print_json({"path": str(path), "seconds": seconds_table(phases.seconds), **vector.describe(), "report": found})
        return
    print_card(vector)
    if measured is not None:
        from trimtab.cli.distilled_view import print_distilled

        print_distilled(measured)
    if report is not None:
        out.print(f"The page is [bold]{report}[/bold].", soft_wrap=True)
    where = "" if tokens == "all" else f"@{tokens}"
    out.print(f"Saved to [bold]{path}[/bold]. Try: trimtab chat --steer '{path}{where}'", soft_wrap=True)


def _check_report(path: Path | None, *, measured: bool, asked: bool) -> None:
    """A page, and whatever else is ``asked`` of the check, only of what is measured."""
    if (path is not None or asked) and not measured:
        what = "--report, --lora and --check-on are of what is measured"
        raise DistillError(what, fix="leave --no-check and --on-top-of out, or these")
    if path is not None:
        if path.suffix != ".html":
            raise DistillError(f"{str(path)!r} is no page", fix="give a name that ends with .html")
        check_writable(path)


def _tokens(text: str) -> Tokened:
    if text not in ("all", "generated"):
        raise DistillError(f"no tokens named {text!r}", fix="use 'all' or 'generated'")
    return text  # type: ignore[return-value]


def _prompt(text: str) -> SystemPrompt:
    """The text itself, or what is in the file of that name.

    Raises:
        DistillError: The file cannot be read, or holds no messages.
    """
    path = Path(text)
    try:
        if len(text) > 1000 or not path.is_file():
            return text
        written = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DistillError(f"{text!r} cannot be read: {error}", fix="give a text file, or the prompt itself") from None
    except ValueError:  # no file can have such a name
        return text
    if path.suffix.lower() != ".json":
        return written
    try:
        messages = json_module.loads(written)
    except ValueError as error:
        raise DistillError(f"{text!r} is not JSON: {error}", fix="write a list of messages") from None
    if not isinstance(messages, list):
        raise DistillError(f"{text!r} holds no list of messages", fix='write [{"role": …, "content": …}, …]')
    return messages


def _apart(texts: Sequence[str], *, learned: Sequence[str] | None) -> Sequence[str]:
    """Messages to measure on, none of which is learned from: of ``learned``, or of the built-in ones.

    Raises:
        DistillError: One is, or there are none.
    """
    from trimtab.behaviours import neutral_prompts

    builtin = neutral_prompts()
    where = "among the built-in messages" if learned is None else "in --prompts"
    read = (*builtin.calibration, *builtin.more) if learned is None else learned
    both = [text for text in texts if text in read]
    if both or not texts:
        what = f"{both[0]!r} is {where} too" if both else "there are no messages to measure on"
        raise DistillError(what, fix="give --check-on messages that nothing is learned from")
    return texts


def _lines(path: Path) -> Sequence[str]:
    try:
        written = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DistillError(f"{str(path)!r} cannot be read: {error}", fix="give a text file") from None
    return [line.strip() for line in written.splitlines() if line.strip()]
