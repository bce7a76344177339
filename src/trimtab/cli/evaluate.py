"""``trimtab evaluate``: does a vector work, what does it cost, and would a prompt have done?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.console import (
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    ThinkingOption,
    check_writable,
    err,
    phase_progress,
    print_json,
)
from trimtab.cli.session import Session
from trimtab.errors import EvaluationError, OutputError

if TYPE_CHECKING:
    from trimtab.behaviours import Behaviour
    from trimtab.evaluation.metrics.scorers import Scorer
    from trimtab.evaluation.records import Report
    from trimtab.vectors import ControlVector

NAME = "evaluate"
EXAMPLE = "trimtab evaluate happy --report happy.html"


def run(
    vector: Annotated[str, typer.Argument(help="A vector by name or path; a behaviour of the zoo is trained first.")],
    behaviour: Annotated[
        str | None,
        typer.Option("--behaviour", "-b", help="What it is held against; the zoo's of its name if not given."),
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", "-r", help="Also write a page: .html.")] = None,
    baselines: Annotated[
        str, typer.Option(help="'all', 'none', or some of: equal, prompt, few-shot, both; with commas.")
    ] = "equal,prompt",
    lora: Annotated[
        bool, typer.Option("--lora", help="Also fine-tune an adapter for each pole; takes minutes.")
    ] = False,
    choices: Annotated[
        Path | None, typer.Option(help="Choice questions, in CAA's format or that of the persona evaluations.")
    ] = None,
    truthfulqa: Annotated[Path | None, typer.Option(help="A folder with TruthfulQA's mc_task.json.")] = None,
    judge_url: Annotated[
        str | None, typer.Option("--judge-url", help="Let a model judge too: any OpenAI-compatible URL.")
    ] = None,
    judge_model: Annotated[str | None, typer.Option("--judge-model", help="The judge's name there.")] = None,
    questions: Annotated[int, typer.Option(min=4, max=48, help="How many neutral questions are asked.")] = 16,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "-n", min=4, help="Of an answer that is looked at.")
    ] = 40,
    seed: Annotated[int, typer.Option(help="Of random directions, shuffles and resamples.")] = 0,
    card: Annotated[Path | None, typer.Option(help="Also write the card: .json.")] = None,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a vector's effect and damage beside chance, prompting and fine-tuning."""
    from trimtab.behaviours import Behaviour
    from trimtab.evaluation.evaluate import evaluate
    from trimtab.evaluation.measurement import Sizes
    from trimtab.evaluation.metrics.choices import load_choices
    from trimtab.evaluation.metrics.facts import truthfulqa_facts

    wanted = _baselines(baselines)
    for path, ending in ((report, ".html"), (card, ".json")):
        if path is not None:
            _check_output(path, ending)
    if (judge_url is None) != (judge_model is None):
        raise EvaluationError("a judge needs a URL and a model", fix="give both --judge-url and --judge-model")
    described = None if behaviour is None else Behaviour.load(behaviour)
    asked = () if choices is None else load_choices(choices)
    facts = () if truthfulqa is None else truthfulqa_facts(truthfulqa)
    desk = Session(model, dtype=dtype, thinking=thinking, notice=not json, force=force)
    (found,) = desk.vectors([vector])
    scorers = _judge(described, found, url=judge_url, model=judge_model)
    with phase_progress() as phases:
        measured = evaluate(
            desk.engine,
            found,
            behaviour=described,
            baselines=wanted,
            lora=lora,
            scorers=scorers,
            choices=asked,
            truthfulqa=facts,
            sizes=Sizes(questions=questions, written_tokens=max_new_tokens),
            seed=seed,
            progress=phases.on_progress,
        )
    _write(measured, report=report, card=card)
    if json:
        from trimtab.evaluation.report import report_json

        print_json(report_json(measured))
        return
    from trimtab.cli.report_view import print_report

    print_report(measured)


def _baselines(text: str) -> tuple[str, ...]:
    """The comparisons that the user wants.

    Raises:
        EvaluationError: One is not known.
    """
    from trimtab.evaluation.interventions import BOTH, EQUAL, FEW_SHOT, SYSTEM

    names = {"equal": EQUAL, "prompt": SYSTEM, "few-shot": FEW_SHOT, "both": BOTH}
    if text in ("all", "none"):
        return tuple(names.values()) if text == "all" else ()
    given = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise EvaluationError(
            f"no baseline named {unknown[0]!r}", fix=f"use 'all', 'none', or some of {', '.join(names)}"
        )
    return tuple(names[name] for name in given)


def _check_output(path: Path, ending: str) -> None:
    if path.suffix.lower() != ending:
        raise OutputError(f"{str(path)!r} does not end with {ending}", fix=f"name a file that ends with {ending}")
    check_writable(path)


def _judge(
    described: Behaviour | None, vector: ControlVector, *, url: str | None, model: str | None
) -> tuple[Scorer, ...]:
    if url is None or model is None:
        return ()
    from trimtab.behaviours import Behaviour
    from trimtab.evaluation.metrics.judge import judge_of

    return (judge_of(described or Behaviour.load(vector.behaviour.name), url=url, model=model),)


def _write(measured: Report, *, report: Path | None, card: Path | None) -> None:
    from trimtab.evaluation.cards import card_json, card_of
    from trimtab.evaluation.report import report_html
    from trimtab.vectors import write_atomically

    written: list[Path] = []
    if report is not None:
        write_atomically(report, report_html(measured).encode())
        written.append(report)
    if card is not None:
        write_atomically(card, card_json(card_of(measured)))
        written.append(card)
    for path in written:
        err.print(f"wrote {path}", style="dim", markup=False, soft_wrap=True)
