"""``trimtab generate``, ``compare`` and ``chat``: answers of a steered model."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from trimtab.cli.options import (
    MINUS,
    PLUS,
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    RawOption,
    SteerOption,
    SystemOption,
    ThinkingOption,
    TokensOption,
    err,
    notice,
    out,
    print_json,
    prompt_texts,
    with_sampling,
    with_system,
    write_piece,
)
from trimtab.cli.session import Session
from trimtab.defaults import ANSWER_TOKENS, CHAT_ANSWER_TOKENS, CHECKED_TOKENS
from trimtab.errors import ConstraintError, SteeringError, TrimtabError

if TYPE_CHECKING:
    from trimtab.engines import AnswerComparison
    from trimtab.engines.constraints import Constraint
    from trimtab.engines.protocol import TermReceipt
    from trimtab.engines.sampling import Sampling

CHAT_HELP = "/steer happy:0.5 changes the steering, /steer removes it, /reset starts a new chat, /quit ends"


def _constraint_option(help_text: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel="Constraint")


@with_sampling
def generate(
    prompts: Annotated[list[str], typer.Argument(help="One prompt or several; '-' reads one from standard input.")],
    steer: SteerOption = None,
    system: SystemOption = None,
    max_new_tokens: TokensOption = ANSWER_TOKENS,
    *,
    sampling: dict[str, Any],
    answers: Annotated[int, typer.Option(min=1, help="Number of answers to each prompt.")] = 1,
    choice: Annotated[
        list[str] | None, _constraint_option("A text that may be the answer; to be repeated.", "--choice")
    ] = None,
    regex: Annotated[str | None, _constraint_option("Regular expression that the whole answer matches.")] = None,
    json_schema: Annotated[Path | None, _constraint_option("File with the JSON schema of the answer.")] = None,
    grammar: Annotated[Path | None, _constraint_option("File with the answer's grammar in Lark's syntax.")] = None,
    tags: Annotated[
        Path | None, _constraint_option("File with the tags, in JSON, of constrained parts of a free answer.")
    ] = None,
    steer_constrained: Annotated[
        bool, _constraint_option("Steering of constrained answers too.", "--steer-constrained")
    ] = False,
    raw: RawOption = False,
    kl: Annotated[bool, typer.Option("--kl", help="KL that the steering spends on each answer, measured.")] = False,
    normalize: Annotated[
        float | None, typer.Option(help="Predicted KL to which the steering is rescaled, in nats per token.")
    ] = None,
    read: Annotated[
        list[str] | None, typer.Option("--read", help="Vector to read at every generated token; may be repeated.")
    ] = None,
    receipt: Annotated[bool, typer.Option("--receipt", help="Tokens and layers steered by each term.")] = False,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Answer one prompt or several, with or without steering."""
    options = _checked(sampling, max_new_tokens=max_new_tokens)
    constraint = _constraint(choice, regex, json_schema, grammar, tags, steer=steer_constrained)
    session = Session(model, dtype=dtype, thinking=thinking, announce=not (raw or json), force=force)
    steering = session.steering(*steer or (), normalize=normalize)
    if steering.terms and constraint is not None and constraint.unsteers:
        notice("The answer is constrained, so it is not steered; --steer-constrained steers it too.")
    texts = prompt_texts(prompts, system=system, raw=raw)
    streams = len(texts) * answers == 1 and not json
    completions = session.engine.generate(
        with_system(texts, system),
        n=answers,
        steering=steering,
        sampling=options,
        constraint=constraint,
        raw=raw,
        measure_kl=kl,
        read=session.vectors(read or []),
        on_text=write_piece if streams else None,
    )
    if json:
        values = [completion.to_json() for completion in completions]
        print_json(values[0] if len(values) == 1 else values)
        return
    for number, completion in enumerate(completions):
        sys.stdout.write("\n" if streams else f"> {texts[number // answers]}\n{completion.text}\n\n")
        if constraint is not None and constraint.kind != "tags" and completion.finish_reason == "length":
            notice(f"The answer is incomplete: its {len(completion.tokens)} tokens were too few; see -n.")
        for token in completion.logprobs or ():
            others = ", ".join(f"{other.text!r} {other.logprob:.3f}" for other in token.alternatives)
            notice(f"{token.logprob:9.3f} {token.text!r}" + (f"  of {others}" if others else ""))
        if completion.receipt.kl is not None:
            notice(f"spent {completion.receipt.kl:.3f} nats per token")
        for name, scores in completion.readings.items():
            notice(f"reads {fmean(scores):+.2f} on {name} (z-score, mean over the answer)")
        for term in completion.receipt.terms if receipt else ():
            notice(_describe(term))


def _checked(given: dict[str, Any], *, max_new_tokens: int) -> Sampling:
    """Return the sampling that was asked for; what is wrong with it is reported before a model is loaded."""
    from trimtab.engines.sampling import Sampling

    return Sampling(max_new_tokens=max_new_tokens, **given)


def _constraint(
    choices: list[str] | None,
    regex: str | None,
    json_schema: Path | None,
    grammar: Path | None,
    tags: Path | None,
    *,
    steer: bool,
) -> Constraint | None:
    """Return the constraint that was asked for; what is wrong with it is reported before a model is loaded."""
    from trimtab.engines.constraints import Constraint, parse_json

    given = [each for each in (choices, regex, json_schema, grammar, tags) if each]
    if len(given) > 1 or (steer and not given):
        raise ConstraintError(
            "an answer has one constraint", fix="give one of --choice, --regex, --json-schema, --grammar and --tags"
        )
    if choices:
        return Constraint.choice(choices, steer=steer)
    if json_schema is not None:
        return Constraint.json_schema(_text_of(json_schema), steer=steer)
    if grammar is not None:
        return Constraint.grammar(_text_of(grammar), steer=steer)
    if tags is not None:
        parsed = parse_json(_text_of(tags))
        given_tags = Constraint.of(parsed) if isinstance(parsed, dict) else Constraint.tags(parsed)
        if given_tags.kind != "tags":
            raise ConstraintError(f"{str(tags)!r} has no tags", fix='write [{"begin": "<n>", "regex": "[0-9]+"}]')
        return replace(given_tags, steer=steer or given_tags.steer)
    return None if regex is None else Constraint.regex(regex, steer=steer)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ConstraintError(f"{str(path)!r} is not UTF-8 text", fix="save it as UTF-8") from None


def _describe(term: TermReceipt) -> str:
    """Return a line on what one term of the steering did."""
    parts = [f"{term.term}: {term.tokens} tokens"]
    if term.layers:
        parts.append(f"layers {term.layers[0]}-{term.layers[-1]}")
    if term.shift is not None:
        parts.append(f"hidden states moved by {term.shift:.1%} of their length")
    if term.constrained:
        parts.append(f"{term.constrained} constrained tokens left out")
    if term.fired is not None:
        parts.append("condition held" if term.fired else "condition did not hold")
    parts += [f"{name} {value:+.2f}" for name, value in term.readings.items()]
    if term.beyond_safe is not None:
        parts.append(str(term.beyond_safe))
    return ", ".join(parts)


def compare(
    prompts: Annotated[list[str], typer.Argument(help="One prompt or several.")],
    steer: Annotated[
        list[str], typer.Option("--steer", "-s", help="Steering, such as happy or happy:0.25; repeated options add up.")
    ],
    max_new_tokens: TokensOption = CHECKED_TOKENS,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Show answers side by side: unsteered, steered, and steered in the opposite direction."""
    from trimtab.engines import compare_answers, opposite_steering

    session = Session(model, dtype=dtype, thinking=thinking, announce=not json, force=force)
    steering = session.steering(*steer)
    session.warn_beyond_safe(opposite_steering(steering))
    compared = compare_answers(session.engine, prompts, steering, max_new_tokens=max_new_tokens)
    if json:
        values = compared.to_json()
        print_json(values[0] if len(values) == 1 else values)
    else:
        out.print(comparison_table(compared))


def comparison_table(compared: AnswerComparison, *, title: str | None = None) -> Table:
    """Return three answers to each prompt, side by side."""
    table = Table(title=title, show_lines=True, expand=True, title_justify="left", title_style="bold")
    columns = (("baseline", ""), (f"+ {compared.steering}", PLUS), (f"− {compared.opposite}", MINUS))
    for header, style in columns:
        table.add_column(escape(header), style=style, ratio=1, overflow="fold")
    for prompt, answers in compared.rows():
        table.add_row(f"[bold]> {escape(prompt)}[/bold]", "", "")
        table.add_row(*(escape(answer.text.strip()) for answer in answers))
    return table


@with_sampling
def chat(
    *,
    sampling: dict[str, Any],
    steer: SteerOption = None,
    system: SystemOption = None,
    cache: Annotated[
        str,
        typer.Option(
            help="Earlier turns after a change of steering: 'recompute' with the new one, or 'keep' as they were."
        ),
    ] = "recompute",
    max_new_tokens: TokensOption = CHAT_ANSWER_TOKENS,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Chat with a steered model; with --json each answer is one line of JSON."""
    from trimtab.engines.transformers import Chat

    options = _checked(sampling, max_new_tokens=max_new_tokens)
    session = Session(model, dtype=dtype, thinking=thinking, announce=not json, force=force)
    steering = session.steering(*steer or ())
    if cache not in ("recompute", "keep"):
        raise SteeringError(f"unknown --cache {cache!r}", fix="use recompute or keep")
    talk = Chat(session.engine, system=system, steering=steering, cache="keep" if cache == "keep" else "recompute")
    notice(CHAT_HELP)
    while (line := _read_line()) is not None:
        if line in ("/quit", "/exit"):
            break
        try:
            if line == "/reset":
                talk.reset()
            elif line.split(maxsplit=1)[:1] == ["/steer"]:
                talk.steering = session.steering(*line.split(maxsplit=1)[1:])
                notice(f"steering: {talk.steering}")
            elif line.startswith("/"):
                notice(CHAT_HELP)
            elif line:
                completion = talk.send(
                    line,
                    sampling=options,
                    on_text=None if json else write_piece,
                )
                if json:
                    print_json(completion.to_json())
                else:
                    write_piece("\n")
        except TrimtabError as error:
            err.print(str(error), style="red", markup=False)


def _read_line() -> str | None:
    if sys.stdin.isatty():
        err.print("> ", end="", style="bold")
    line = sys.stdin.readline()
    return line.strip() if line else None
