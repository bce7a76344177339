"""``trimtab chat``: talk to a steered model, and turn the dial as you go."""

from __future__ import annotations

import sys
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
from trimtab.errors import SteeringError, TrimtabError

if TYPE_CHECKING:
    from trimtab.engines.transformers import Chat

NAME = "chat"
EXAMPLE = "trimtab chat --steer happy:0.8"
HELP = "/steer happy:0.8 turns the dial, /steer alone lets go, /reset forgets the talk, /quit ends"


def run(
    steer: Annotated[str | None, typer.Option("--steer", "-s", help="Such as 'happy:0.8': names or paths.")] = None,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    cache: Annotated[
        str, typer.Option(help="Earlier turns: 'recompute' reads them under the steering of now, 'keep' as they were.")
    ] = "recompute",
    max_new_tokens: TokensOption = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Makes sampling reproducible.")] = None,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Chat; with --json each answer is one JSON document on a line of its own."""
    from trimtab.engines.transformers import Chat

    desk = Session(model, dtype=dtype, thinking=thinking, notice=not json, force=force)
    steering = desk.steering(steer)
    engine = desk.engine
    if cache not in ("recompute", "keep"):
        raise SteeringError(f"--cache {cache} is not known", fix="use recompute or keep")
    chat = Chat(engine, system=system, steering=steering, cache="keep" if cache == "keep" else "recompute")
    err.print(HELP, style="dim")
    while (line := _read_line()) is not None:
        if line in ("/quit", "/exit"):
            break
        if line == "/reset":
            chat.reset()
        elif line.split(maxsplit=1)[:1] == ["/steer"]:
            _steer(chat, line, desk)
        elif line.startswith("/"):
            err.print(HELP, style="dim")
        elif line:
            _answer(chat, line, max_new_tokens, temperature, seed, as_json=json)


def _read_line() -> str | None:
    if sys.stdin.isatty():
        err.print("> ", end="", style="bold")
    line = sys.stdin.readline()
    return line.strip() if line else None


def _steer(chat: Chat, line: str, desk: Session) -> None:
    _, _, expression = line.partition(" ")
    try:
        chat.steering = desk.steering(expression.strip() or None)
    except TrimtabError as error:
        err.print(str(error), style="red", markup=False)
        return
    err.print(f"steering: {chat.steering}", style="dim", markup=False)


def _answer(chat: Chat, line: str, max_new_tokens: int, temperature: float, seed: int | None, *, as_json: bool) -> None:
    """One answer, streamed; where a turn cannot be answered, the reason on standard error."""
    try:
        completion = chat.send(
            line,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            on_text=None if as_json else write_piece,
        )
    except TrimtabError as error:
        err.print(str(error), style="red", markup=False)
        return
    if as_json:
        print_json(completion_json(completion))
    else:
        sys.stdout.write("\n")
    sys.stdout.flush()
