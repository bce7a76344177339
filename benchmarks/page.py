"""The web page's columns: four answers at once against one, as the page asks for them over HTTP."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.measurement import Step, ignore_step, machine, package_versions
from benchmarks.models import check_counts, load_model
from benchmarks.ratios import ratio_of
from benchmarks.served import running_server, trimtab_command
from benchmarks.steering import random_vectors
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import BenchmarkError

NAME = "benchmark"
WANTED = 1.6  # times the seconds of one column, at most
QUESTION = "What did you do last weekend?"
COLUMNS: tuple[dict[str, str], ...] = (
    {"steering": "v0:0.5"},
    {"steering": "none"},
    {"steering": "v0:-0.5"},
    {"steering": "none", "system": "You are extremely happy."},
)


@dataclass(frozen=True)
class Plan:
    """Settings of the benchmark.

    Attributes:
        rounds: Number of turns of each side.
        tokens: Tokens of every answer; answers do not end earlier.
        threads: Number of threads of the model.
        model: Hub id, folder or file; the default model if not given.
    """

    rounds: int = 7
    tokens: int = 48
    threads: int = 1
    model: str | None = None

    def __post_init__(self) -> None:
        check_counts(rounds=self.rounds, tokens=self.tokens, threads=self.threads)


def benchmark(
    plan: Plan, *, engine: TransformersEngine | None = None, on_step: Callable[[Step], None] = ignore_step
) -> dict[str, Any]:
    """Measure the seconds until one column is answered, and until all four are.

    Returns:
        The result, for JSON.
    """
    model = load_model(engine, plan.model, on_step)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "vectors").mkdir()
        random_vectors(model, 1)[0].save(folder / "vectors" / "v0.safetensors")
        model.model.save_pretrained(folder / "model")
        model.tokenizer.save_pretrained(folder / "model")
        on_step(Step("Starting the server"))
        seconds: dict[str, list[float]] = {"one": [], "four": []}
        with running_server(trimtab_command(folder, NAME), folder, plan.threads) as server:
            for number in range(-1, plan.rounds):  # the first one warms up
                on_step(Step(f"Round {number + 1} of {plan.rounds}", max(number, 0), plan.rounds))
                for side, columns in (("one", COLUMNS[:1]), ("four", COLUMNS)):
                    spent = asyncio.run(_answer(server.address, [_body(each, number, plan) for each in columns]))
                    if number >= 0:
                        seconds[side].append(spent)
    return {
        "benchmark": "page",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {"trimtab": package_versions()},
        "threads": plan.threads,
        "tokens": plan.tokens,
        "model": model.info.name,
        "seconds": {side: [round(each, 3) for each in spent] for side, spent in seconds.items()},
        "four_against_one": ratio_of(seconds["four"], seconds["one"], WANTED),
    }


def _body(column: Mapping[str, str], number: int, plan: Plan) -> dict[str, Any]:
    """Return the request of a column; no turn shares what another one has read."""
    system = [{"role": "system", "content": column["system"]}] if "system" in column else []
    return {
        "model": NAME,
        "messages": [*system, {"role": "user", "content": QUESTION}],
        "steering": column["steering"],
        "kl": True,
        "logprobs": True,
        "top_logprobs": 5,
        "max_tokens": plan.tokens,
        "ignore_eos": True,
        "temperature": 0,
        "cache_salt": f"{number}",
        "stream": True,
    }


async def _answer(address: str, bodies: list[dict[str, Any]]) -> float:
    """Return the seconds until all streams have ended."""
    async with httpx2.AsyncClient(base_url=address, timeout=None) as client:

        async def stream(body: dict[str, Any]) -> None:
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                text = "".join([piece async for piece in answer.aiter_text()])
            if not text.endswith("data: [DONE]\n\n"):
                raise BenchmarkError(f"an answer broke off: {text[-200:]}")

        begun = time.perf_counter()
        await asyncio.gather(*map(stream, bodies))
        return time.perf_counter() - begun


def table(measured: Mapping[str, Any]) -> str:
    """Return the result as a line to print."""
    ratio = measured["four_against_one"]
    return (
        f"Four columns of {measured['tokens']} tokens take {ratio['ratio']:.2f} times as long as one "
        f"({ratio['low']:.2f} to {ratio['high']:.2f}; at most {ratio['wanted']} is wanted).\n"
    )
