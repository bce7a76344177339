"""``trimtab chat``: talk to a steered model, and turn the dial as you go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from trimtab.cli.console import (
    DtypeOption,
    ForceOption,
    JsonOption,
    LicenseOption,
    ModelOption,
    ThinkingOption,
    TokensOption,
    completion_json,
    err,
    load_model,
    print_json,
    read_steering,
    write_piece,
)
from trimtab.errors import TrimtabError

if TYPE_CHECKING:
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.steering import Steering

NAME = "chat"
EXAMPLE = "trimtab chat --steer happy:0.8"
HELP = "/steer happy:0.8 turns the dial, /steer alone lets go, /reset forgets the talk, /quit ends"


def run(
    steer: Annotated[str | None, typer.Option("--steer", "-s", help="Such as 'happy:0.8': names or paths.")] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    max_new_tokens: TokensOption = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampling reproducible.")] = None,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    accept_license: LicenseOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Chat; with --json each answer is one JSON document on a line of its own."""
    steering = read_steering(steer, force=force)
    engine = load_model(model, dtype=dtype, accept_license=accept_license, thinking=thinking, notice=not json)
    steering.additions(engine.info)  # a vector for another model is refused before the first word
    start: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    messages = list(start)
    err.print(HELP, style="dim")
    while (line := _read_line()) is not None:
        if line in ("/quit", "/exit"):
            break
        if line == "/reset":
            messages = list(start)
        elif line.split(maxsplit=1)[:1] == ["/steer"]:
            steering = _new_steering(line, steering, engine, force=force)
        elif line.startswith("/"):
            err.print(HELP, style="dim")
        elif line:
            messages.append({"role": "user", "content": line})
            answer = _answer(engine, messages, steering, max_new_tokens, temperature, seed, as_json=json)
            if answer is None:
                messages.pop()
            else:
                messages.append({"role": "assistant", "content": answer})


def _read_line() -> str | None:
    if sys.stdin.isatty():
        err.print("> ", end="", style="bold")
    line = sys.stdin.readline()
    return line.strip() if line else None


def _new_steering(line: str, current: Steering, engine: TransformersEngine, *, force: bool) -> Steering:
    _, _, expression = line.partition(" ")
    try:
        wanted = read_steering(expression.strip() or None, force=force)
        wanted.additions(engine.info)
    except TrimtabError as error:
        err.print(str(error), style="red", markup=False)
        return current
    err.print(f"steering: {wanted}", style="dim")
    return wanted


def _answer(
    engine: TransformersEngine,
    messages: list[dict[str, str]],
    steering: Steering,
    max_new_tokens: int,
    temperature: float,
    seed: int | None,
    *,
    as_json: bool,
) -> str | None:
    """One answer, streamed; None if this turn cannot be answered, with the reason on standard error."""
    try:
        completion = engine.generate(
            [messages],
            steering=steering,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            on_text=None if as_json else write_piece,
        )[0]
    except TrimtabError as error:
        err.print(str(error), style="red", markup=False)
        return None
    if as_json:
        print_json(completion_json(completion))
    else:
        sys.stdout.write("\n")
    sys.stdout.flush()
    return completion.text
