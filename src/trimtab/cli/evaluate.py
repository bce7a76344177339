"""``trimtab evaluate``: does a vector work, what does it cost, and would a prompt do the same?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.options import (
    DtypeOption,
    ForceOption,
    JsonOption,
    LoraOption,
    ModelOption,
    ReportOption,
    SeedOption,
    ThinkingOption,
    TokensOption,
    check_writable,
    notice,
    phase_progress,
    print_json,
)
from trimtab.cli.session import Session
from trimtab.defaults import EVALUATION_ANSWER_TOKENS, EVALUATION_QUESTIONS
from trimtab.errors import EvaluationError

if TYPE_CHECKING:
    from trimtab.evaluation.metrics.scorers import Scorer


def evaluate(
    vector: Annotated[str, typer.Argument(help="Name or path of a vector; a behaviour of the zoo is trained first.")],
    behaviour: Annotated[
        str | None,
        typer.Option("--behaviour", "-b", help="Behaviour to measure; default: the zoo's of the same name."),
    ] = None,
    report: ReportOption = None,
    baselines: Annotated[
        list[str],
        typer.Option(help="Comparisons, with commas or repeated: equal, prompt, few-shot, both; or 'all' or 'none'."),
    ] = ["prompt"],  # noqa: B006
    lora: LoraOption = False,
    choices: Annotated[
        Path | None, typer.Option(help="File of choice questions, in CAA's format or that of the persona evaluations.")
    ] = None,
    truthfulqa: Annotated[Path | None, typer.Option(help="Folder with TruthfulQA's mc_task.json.")] = None,
    judge_url: Annotated[
        str | None, typer.Option("--judge-url", help="OpenAI-compatible URL of a judge model.")
    ] = None,
    judge_model: Annotated[
        str | None, typer.Option("--judge-model", help="Name of the judge model at that URL.")
    ] = None,
    questions: Annotated[int, typer.Option(min=4, max=48, help="Number of neutral questions.")] = EVALUATION_QUESTIONS,
    max_new_tokens: TokensOption = EVALUATION_ANSWER_TOKENS,
    seed: SeedOption = 0,
    card: Annotated[Path | None, typer.Option(help="Card to write (.json).")] = None,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a vector's effect and damage, compared with chance, prompting and fine-tuning."""
    from trimtab.behaviours import Behaviour
    from trimtab.evaluation.cards import card_json, card_of
    from trimtab.evaluation.evaluate import evaluate
    from trimtab.evaluation.measurement import Sizes
    from trimtab.evaluation.metrics.choices import load_choices
    from trimtab.evaluation.metrics.facts import truthfulqa_facts
    from trimtab.evaluation.metrics.judge import judge_of
    from trimtab.evaluation.report import report_html, report_json
    from trimtab.vectors import write_atomically

    chosen = _baselines(",".join(baselines))
    for path, ending in ((report, ".html"), (card, ".json")):
        if path is not None:
            check_writable(path, suffix=ending)
    if (judge_url is None) != (judge_model is None):
        raise EvaluationError("a judge needs a URL and a model", fix="give both --judge-url and --judge-model")
    described = None if behaviour is None else Behaviour.load(behaviour)
    questions_of_choice = () if choices is None else load_choices(choices)
    facts = () if truthfulqa is None else truthfulqa_facts(truthfulqa)
    session = Session(model, dtype=dtype, thinking=thinking, announce=not json, force=force)
    (loaded,) = session.vectors([vector])
    scorers: tuple[Scorer, ...] = ()
    if judge_url is not None and judge_model is not None:
        judged = described or Behaviour.load(loaded.behaviour.name)
        scorers = (judge_of(judged, url=judge_url, model=judge_model),)
    with phase_progress() as phases:
        measured = evaluate(
            session.engine,
            loaded,
            behaviour=described,
            baselines=chosen,
            lora=lora,
            scorers=scorers,
            choices=questions_of_choice,
            truthfulqa=facts,
            sizes=Sizes(questions=questions, written_tokens=max_new_tokens),
            seed=seed,
            progress=phases.on_progress,
        )
    if report is not None:
        write_atomically(report, report_html(measured).encode())
    if card is not None:
        write_atomically(card, card_json(card_of(measured)))
    for path in filter(None, (report, card)):
        notice(f"wrote {path}")
    if json:
        print_json(report_json(measured))
        return
    from trimtab.cli.views import print_report

    print_report(measured)


def _baselines(text: str) -> tuple[str, ...]:
    from trimtab.evaluation.interventions import BOTH, EQUAL, FEW_SHOT, SYSTEM

    names = {"equal": EQUAL, "prompt": SYSTEM, "few-shot": FEW_SHOT, "both": BOTH}
    if text in ("all", "none"):
        return tuple(names.values()) if text == "all" else ()
    given = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise EvaluationError(
            f"unknown baseline {unknown[0]!r}", fix=f"use 'all', 'none', or some of {', '.join(names)}"
        )
    return tuple(names[name] for name in given)
