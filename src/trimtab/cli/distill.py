"""``trimtab distill``: from a system prompt to a vector that replaces it."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.options import (
    DtypeOption,
    JsonOption,
    LoraOption,
    ModelOption,
    OutputOption,
    ReportOption,
    ResumeOption,
    SeedOption,
    ThinkingOption,
    TokensOption,
    check_writable,
    notice,
    output_path,
    parse_layers,
    phase_progress,
    print_json,
    print_saved,
    save_or_rescue,
    steer_option,
    vector_json,
)
from trimtab.cli.session import Session
from trimtab.cli.vector import print_card, resumable
from trimtab.defaults import DISTILL_ANSWER_TOKENS, DISTILL_BATCH, DISTILL_STEPS
from trimtab.errors import DistillError, TrimtabError

if TYPE_CHECKING:
    from trimtab.training.distillation.examples import SystemPrompt, Tokened


def distill(
    system_prompt: Annotated[
        str,
        typer.Option(
            "--system-prompt", "-p", help="System prompt: the text, a text file, or a .json file of messages."
        ),
    ],
    output: OutputOption = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Text file of users' messages, one per line; default: built-in messages.")
    ] = None,
    invent: Annotated[
        int, typer.Option(min=0, help="Number of further messages, written by the model as the prompt's users would.")
    ] = 0,
    layers: Annotated[
        str, typer.Option(help="Layers to steer: 'all', 'band' (the middle ones), or layers such as 14-24.")
    ] = "all",
    tokens: Annotated[str, typer.Option(help="Tokens to steer: all, or generated.")] = "all",
    on_top_of: Annotated[
        list[str] | None,
        typer.Option("--on-top-of", help="Steering below the vector, such as happy:0.5; repeated options add up."),
    ] = None,
    answers: Annotated[
        int | None, typer.Option(min=1, help="Sampled answers per message; default: about 160 in all.")
    ] = None,
    max_new_tokens: TokensOption = DISTILL_ANSWER_TOKENS,
    steps: Annotated[int, typer.Option(min=1, help="Maximum gradient steps, about a second each.")] = DISTILL_STEPS,
    batch: Annotated[int, typer.Option(min=1, help="Answers per step.")] = DISTILL_BATCH,
    seed: SeedOption = 0,
    check: Annotated[
        bool, typer.Option(help="Measurement of what the vector carries of the prompt, on held-out messages.")
    ] = True,
    check_on: Annotated[
        Path | None, typer.Option(help="Text file of held-out messages, one per line; default: built-in messages.")
    ] = None,
    lora: LoraOption = False,
    report: ReportOption = None,
    resume: ResumeOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Compile a system prompt into a vector: at strength 1 the model answers as if it had the prompt."""
    from dataclasses import asdict, replace

    from trimtab.training.distillation.distill import Effort, distill
    from trimtab.training.distillation.examples import Teacher
    from trimtab.vectors import write_atomically

    given = read_prompt(system_prompt)
    Teacher.of(given)  # refuse a wrong prompt before the model is loaded
    texts = None if prompts is None else _lines(prompts)
    path = output_path(output, "prompt")
    if (report is not None or lora or check_on is not None) and (not check or on_top_of is not None):
        what = "--report, --lora and --check-on need the measurement, which --no-check and --on-top-of leave out"
        raise DistillError(what, fix="drop one or the other")
    if report is not None:
        check_writable(report, suffix=".html")
    others = None if check_on is None else _held_out(_lines(check_on), training=texts)
    usual = Effort()
    effort = replace(
        usual,
        answers=answers,
        answer_tokens=max_new_tokens,
        schedule=replace(usual.schedule, steps=steps, batch=batch),
    )
    session = Session(model, dtype=dtype, thinking=thinking, announce=not json)
    below = session.steering(*on_top_of or ())
    with session.progress() as (engine, phases), resumable(path, resume=resume) as checkpoint:
        vector = distill(
            engine,
            given,
            prompts=texts,
            invent=invent,
            name=path.stem,
            layers=parse_layers(layers, words=("all", "band")),
            tokens=_tokens(tokens),
            on_top_of=below,
            effort=effort,
            seed=seed,
            checkpoint=checkpoint,
            progress=phases.on_progress,
        )
    save_or_rescue(vector, path)
    measured = None
    if check and not below.terms:
        from trimtab.evaluation.distilled import evaluate_distilled

        try:
            with phase_progress() as checks:
                measured = evaluate_distilled(
                    engine, vector, given, prompts=others, lora=lora, progress=checks.on_progress
                )
        except (TrimtabError, KeyboardInterrupt):
            notice(f"The vector is in {path}; what it carries of the prompt was not measured.")
            raise
    if measured is not None and report is not None:
        from trimtab.evaluation.report import distilled_html

        write_atomically(report, distilled_html(measured).encode())
    if json:
        print_json({**vector_json(vector, path, phases), "report": None if measured is None else asdict(measured)})
        return
    print_card(vector)
    if measured is not None:
        from trimtab.cli.views import print_distilled

        print_distilled(measured)
    if report is not None:
        print_saved(report)
    print_saved(path, f"Next: trimtab chat {steer_option(path, tokens=tokens, model=model)}")


def _tokens(text: str) -> Tokened:
    if text not in ("all", "generated"):
        raise DistillError(f"unknown --tokens {text!r}", fix="use 'all' or 'generated'")
    return text  # type: ignore[return-value]


def read_prompt(text: str) -> SystemPrompt:
    """Return the text, or the contents of the file of that name."""
    path = Path(text)
    try:
        if not path.is_file():
            return text
    except (OSError, ValueError):  # no file can have such a name: it is too long, or has a null character
        return text
    written = _read(path)
    if path.suffix.lower() != ".json":
        return written
    try:
        messages = json_module.loads(written)
    except ValueError as error:
        raise DistillError(f"{text!r} is not JSON: {error}", fix="write a list of messages") from None
    if not isinstance(messages, list):
        raise DistillError(f"{text!r} has no list of messages", fix='write [{"role": …, "content": …}, …]')
    return messages


def _held_out(texts: Sequence[str], *, training: Sequence[str] | None) -> Sequence[str]:
    """Return messages to measure on; refuse training messages (None: the built-in ones)."""
    from trimtab.behaviours import neutral_prompts

    builtin = neutral_prompts()
    where = "among the built-in messages" if training is None else "in --prompts"
    read = (*builtin.calibration, *builtin.more) if training is None else training
    both = [text for text in texts if text in read]
    if both or not texts:
        what = f"{both[0]!r} is {where} too" if both else "there are no messages to measure on"
        raise DistillError(what, fix="give --check-on messages that are not among the training messages")
    return texts


def _lines(path: Path) -> Sequence[str]:
    return [line.strip() for line in _read(path).splitlines() if line.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DistillError(f"{str(path)!r} cannot be read: {error}", fix="give a text file") from None
