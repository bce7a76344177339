"""``trimtab generate``: answer prompts under a steering."""

from __future__ import annotations

import sys
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.console import (
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    ThinkingOption,
    TokensOption,
    completion_json,
    err,
    print_json,
    write_piece,
)
from trimtab.cli.session import Session

if TYPE_CHECKING:
    from trimtab.engines.protocol import TermReceipt

NAME = "generate"
EXAMPLE = "trimtab generate 'How was your day?' --steer happy:0.8"


def run(
    prompts: Annotated[list[str], typer.Argument(help="One prompt or several; '-' reads one from standard input.")],
    steer: Annotated[
        str | None,
        typer.Option("--steer", "-s", help="Such as 'happy:0.8 + formal:-0.3@generated'; see docs/steering.md."),
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    max_new_tokens: TokensOption = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest tokens with this much probability.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampling reproducible.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Bare text: no chat template.")] = False,
    kl: Annotated[bool, typer.Option("--kl", help="Measure what the steering spent on each answer.")] = False,
    normalize: Annotated[
        float | None, typer.Option(help="Rescale the mix so that it is predicted to spend so many nats per token.")
    ] = None,
    read: Annotated[
        list[str] | None, typer.Option("--read", help="A vector to read at every generated token; may be repeated.")
    ] = None,
    receipt: Annotated[bool, typer.Option("--receipt", help="Say what each term did.")] = False,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Answer one prompt or several, steered or not."""
    from trimtab.errors import PromptError

    desk = Session(
        model,
        dtype=dtype,
        thinking=thinking,
        notice=not (raw or json),
        force=force,
    )
    steering = desk.steering(steer)
    texts = [sys.stdin.read() if prompt == "-" else prompt for prompt in prompts]
    if system and raw:
        raise PromptError("--system and --raw exclude each other", fix="drop one")
    for text in texts:
        if not text.strip():
            raise PromptError("the prompt is empty", fix="write something to answer")
    chats = (
        [[{"role": "system", "content": system}, {"role": "user", "content": t}] for t in texts] if system else texts
    )
    engine = desk.engine
    streams = len(texts) == 1 and not json
    completions = engine.generate(
        chats,
        steering=steering,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        raw=raw,
        measure_kl=kl,
        read=desk.vectors(read or []),
        normalize=normalize,
        on_text=write_piece if streams else None,
    )
    if json:
        printed = [completion_json(completion) for completion in completions]
        print_json(printed[0] if len(printed) == 1 else printed)
        return
    for text, completion in zip(texts, completions, strict=True):
        if streams:
            sys.stdout.write("\n")
        else:
            sys.stdout.write(f"> {text}\n{completion.text}\n\n")
        if completion.receipt.kl is not None:
            err.print(f"spent {completion.receipt.kl:.3f} nat per token", style="dim")
        for name, scores in completion.readings.items():
            err.print(
                f"reads {fmean(scores):+.2f} on {name} (z-score, mean over the answer)", style="dim", markup=False
            )
        for term in completion.receipt.terms if receipt else ():
            err.print(_told(term), style="dim", markup=False, soft_wrap=True)


def _told(term: TermReceipt) -> str:
    """What one term did, in a line."""
    parts = [f"{term.term}: {term.tokens} tokens"]
    if term.layers:
        parts.append(f"layers {term.layers[0]}-{term.layers[-1]}")
    if term.shift is not None:
        parts.append(f"moved by {term.shift:.1%} of their length")
    if term.fired is not None:
        parts.append("fired" if term.fired else "did not fire")
    parts += [f"{what} {value:+.2f}" for what, value in term.readings.items()]
    return ", ".join(parts)
