"""Throughput of a server over HTTP: one streaming client, sixteen, sixteen mixes, and saklas' server beside it."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from benchmarks.measurement import Step, ignore_step, machine, package_versions
from benchmarks.models import check_counts, load_model
from benchmarks.processes import check_interpreter
from benchmarks.ratios import ratio_of
from benchmarks.served import Server, running_server, trimtab_command
from benchmarks.steering import POOL, mix_of, random_vectors
from trimtab.behaviours import neutral_prompts
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import BenchmarkError

CLIENTS = 16
NAME = "benchmark"
# saklas 5.3.0 answers one request at a time, and ends streams beside it with an error 409: it is asked in sequence.
RATIOS = (  # name, side, compared side, least ratio
    ("16 clients against 1", "sixteen", "one", 7.0),
    ("16 mixes against 16 unsteered", "mixes", "apart", 0.95),
    ("16 clients against saklas", "sixteen", "saklas", 4.0),
)
HTTP_SHARE = 0.05  # of the CPU at most, for HTTP and server-sent events
WATCH_SECONDS = 0.02


@dataclass(frozen=True)
class Plan:
    """Settings of the benchmark.

    Attributes:
        rounds: Number of turns of each side.
        tokens: Tokens of every answer; answers do not end earlier.
        threads: Number of threads of the model.
        model: Hub id, folder or file; the default model if not given.
        saklas: Python interpreter that has saklas; it is left out if not given.
    """

    rounds: int = 5
    tokens: int = 48
    threads: int = 1
    model: str | None = None
    saklas: str | None = None

    def __post_init__(self) -> None:
        check_counts(rounds=self.rounds, tokens=self.tokens, threads=self.threads)
        if self.saklas is not None:
            check_interpreter(self.saklas)


@dataclass(frozen=True)
class Answer:
    """What a client has got.

    Attributes:
        tokens: Tokens of the answer, as the server counts them.
        first: Seconds until the first text.
    """

    tokens: int
    first: float


@dataclass(frozen=True)
class Turn:
    """One turn of a side.

    Attributes:
        answers: What its clients have got.
        wall: Seconds.
        cpu: CPU seconds of the server's process.
        beside: CPU seconds of its threads without the one that has used most, which runs the model.
    """

    answers: Sequence[Answer]
    wall: float
    cpu: float
    beside: float

    @property
    def rate(self) -> float:
        """Return the tokens per CPU second."""
        return sum(answer.tokens for answer in self.answers) / self.cpu


def benchmark(
    plan: Plan, *, engine: TransformersEngine | None = None, on_step: Callable[[Step], None] = ignore_step
) -> dict[str, Any]:
    """Measure tokens per CPU second of the server's process, and the time to the first token, of each side in turn.

    Returns:
        The result, for JSON.
    """
    model = load_model(engine, plan.model, on_step)
    with ExitStack() as servers, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "vectors").mkdir()
        pool = random_vectors(model, POOL)
        for number, vector in enumerate(pool):
            vector.save(folder / "vectors" / f"v{number}.safetensors")
        names = {id(vector): f"v{number}" for number, vector in enumerate(pool)}
        mixes = [{names[id(term.vector)]: term.strength for term in mix_of(pool, row).terms} for row in range(CLIENTS)]
        model.model.save_pretrained(folder / "model")
        model.tokenizer.save_pretrained(folder / "model")
        on_step(Step("Starting the servers"))
        ours = servers.enter_context(running_server(trimtab_command(folder, NAME), folder, plan.threads))
        sides = _sides(ours, mixes, plan)
        if plan.saklas is not None:
            theirs = servers.enter_context(running_server(_saklas_command(plan.saklas, folder), folder, plan.threads))
            sides["saklas"] = (theirs, [_body(str(folder / "model"), n, plan) for n in range(CLIENTS)])
        turns: dict[str, list[Turn]] = {name: [] for name in sides}
        for number in range(-1, plan.rounds):  # the first one warms up
            for at, (name, (server, bodies)) in enumerate(sides.items()):
                done = max(number, 0) * len(sides) + at
                on_step(Step(f"Round {number + 1} of {plan.rounds}: {name}", done, plan.rounds * len(sides)))
                if number < 0:
                    bodies = bodies[:1]
                turn = asyncio.run(
                    _ask_all(
                        server,
                        [{**body, **_salt(body, number)} for body in bodies],
                        at_once=1 if name == "saklas" else CLIENTS,
                    )
                )
                if number >= 0:
                    turns[name].append(turn)
    return {
        "benchmark": "server",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {"trimtab": package_versions()},
        "threads": plan.threads,
        "rounds": plan.rounds,
        "tokens": plan.tokens,
        "model": model.info.name,
        "sides": {name: _summary(each) for name, each in turns.items()},
        "ratios": {
            name: ratio_of([turn.rate for turn in turns[side]], [turn.rate for turn in turns[other]], least)
            for name, side, other, least in RATIOS
            if other in turns
        },
        "http_share_wanted": HTTP_SHARE,
    }


def _sides(
    server: Server, mixes: Sequence[Mapping[str, float | None]], plan: Plan
) -> dict[str, tuple[Server, list[dict[str, Any]]]]:
    """Return the requests of each side.

    Mixes share nothing that has been read, so the unsteered requests that they are compared with share nothing, either.
    """
    plain = [{**_body(NAME, number, plan), "ignore_eos": True} for number in range(CLIENTS)]
    apart = [{**body, "cache_salt": str(number)} for number, body in enumerate(plain)]
    return {
        "one": (server, [{**plain[0], "cache_salt": ""}]),
        "sixteen": (server, [{**body, "cache_salt": ""} for body in plain]),
        "apart": (server, apart),
        "mixes": (server, [{**body, "steering": mix} for body, mix in zip(apart, mixes, strict=True)]),
    }


def _body(model: str, number: int, plan: Plan) -> dict[str, Any]:
    prompts = neutral_prompts().calibration + neutral_prompts().more
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompts[number]}],
        "max_tokens": plan.tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _salt(body: Mapping[str, Any], turn: int) -> dict[str, str]:
    """Return the salt of a turn: turns share nothing that has been read."""
    return {"cache_salt": f"{turn} {body['cache_salt']}"} if "cache_salt" in body else {}


async def _ask_all(server: Server, bodies: Sequence[Mapping[str, Any]], *, at_once: int) -> Turn:
    free = asyncio.Semaphore(at_once)

    async def ask(client: httpx2.AsyncClient, body: Mapping[str, Any]) -> Answer:
        async with free:
            return await _ask(client, server.address, body)

    async with httpx2.AsyncClient(timeout=600, limits=httpx2.Limits(max_connections=CLIENTS)) as client:
        await client.get(f"{server.address}/v1/models")
        before = _thread_seconds(server.pid)
        used: dict[str, float] = {}
        watching = asyncio.create_task(_watch(server.pid, before, used))
        cpu, wall = _process_seconds(server.pid), time.perf_counter()
        answers = await asyncio.gather(*(ask(client, body) for body in bodies))
        seconds = time.perf_counter() - wall
        total = _process_seconds(server.pid) - cpu
        watching.cancel()
        used |= _since(before, server.pid)
    return Turn(answers, seconds, total, sum(used.values()) - max(used.values()))


async def _watch(pid: int, before: Mapping[str, float], used: dict[str, float]) -> None:
    """Keep the CPU seconds of each thread, also of those that end: the engine's has no work once all is answered."""
    while True:
        used |= _since(before, pid)
        await asyncio.sleep(WATCH_SECONDS)


async def _ask(client: httpx2.AsyncClient, address: str, body: Mapping[str, Any]) -> Answer:
    begun, first, tokens = time.perf_counter(), None, None
    async with client.stream("POST", f"{address}/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            raise BenchmarkError(f"the server answers {answer.status_code}: {(await answer.aread()).decode()[:200]}")
        async for line in answer.aiter_lines():
            if first is not None and '"usage":{' not in line and '"usage": {' not in line:
                continue  # reading JSON of every token would take the CPU that is measured
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                raise BenchmarkError(f"an answer has failed: {json.dumps(chunk['error'])[:200]}")
            if first is None and any(choice["delta"].get("content") for choice in chunk["choices"]):
                first = time.perf_counter() - begun
            tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    if first is None or tokens is None:
        raise BenchmarkError("an answer has no text or no usage")
    return Answer(tokens, first)


def _since(before: Mapping[str, float], pid: int) -> dict[str, float]:
    return {thread: seconds - before.get(thread, 0.0) for thread, seconds in _thread_seconds(pid).items()}


def _process_seconds(pid: int) -> float:
    """Return the CPU seconds of all threads of a process, with those that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _thread_seconds(pid: int) -> dict[str, float]:
    """Return the CPU seconds of each thread of a process."""
    seconds = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # it has just ended
            seconds[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return seconds


def _saklas_command(interpreter: str, folder: Path) -> list[str]:
    serve = [interpreter, "-m", "saklas", "serve", str(folder / "model")]
    return [*serve, *("--device", "cpu", "--probes", "none", "--no-web", "--host", "127.0.0.1", "--port")]


def _summary(turns: Sequence[Turn]) -> dict[str, Any]:
    first = [answer.first for turn in turns for answer in turn.answers]
    shares = [turn.beside / turn.cpu for turn in turns]
    return {
        "tokens_per_cpu_second": round(float(np.median([turn.rate for turn in turns])), 2),
        "tokens_per_second": round(
            float(np.median([sum(each.tokens for each in turn.answers) / turn.wall for turn in turns])), 2
        ),
        "first_token_seconds": {f"p{p}": round(float(np.percentile(first, p)), 3) for p in (50, 95)},
        "beside_the_engine": round(float(np.median(shares)), 4),
    }


def table(measured: Mapping[str, Any]) -> str:
    """Return the result as lines of text."""
    lines = [
        f"{name:<10}{side['tokens_per_cpu_second']:>8.1f} tokens per CPU second,{side['tokens_per_second']:>7.1f} per "
        f"second; first token after {side['first_token_seconds']['p50']:.2f} s (p50), "
        f"{side['first_token_seconds']['p95']:.2f} s (p95); {side['beside_the_engine']:.1%} of the CPU beside the model"
        for name, side in measured["sides"].items()
    ]
    for name, ratio in measured["ratios"].items():
        lines.append(
            f"{name:<32}{ratio['ratio']:>7.2f} ({ratio['low']:.2f} to {ratio['high']:.2f}), wanted {ratio['wanted']:g}"
        )
    return "\n".join(lines)
