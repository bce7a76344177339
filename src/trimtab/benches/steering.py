"""What steering costs at each decoding step: steered turns between turns of the same engine that steers nothing."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from trimtab.behaviours import neutral_prompts
from trimtab.benches.extraction import Step
from trimtab.benches.peer_repeng import versions
from trimtab.benches.report import count, cpu_name
from trimtab.engines.transformers import TransformersEngine, load
from trimtab.errors import BenchmarkError
from trimtab.stats import bootstrap
from trimtab.steering import Steering, Term
from trimtab.steering.conditions import Comparison
from trimtab.steering.operators import Ablate, Bound, Cap, Rotate
from trimtab.steering.scopes import Scope
from trimtab.vectors import PERCENTS, BehaviourRef, ControlVector, Neutral, Spread

PROMPT = "Once upon a time, in a small village by the sea,"
BATCH = 16
POOL = 8  # vectors that mixes are made of
SHARE = 0.02  # of a state's norm, what strength 1 adds at each layer: random directions hardly change the text
TARGETS = {"vector": 1.02, "mixes": 1.04, "monitor": 1.05}
SCOPES = ("generated", "generated, from 4", "generated, half-life 32", "generated, decay 64")
OPERATORS = (Rotate(1.0), Cap(Bound(0.5, "z")), Ablate())
LEAST_TOKENS = 3  # the first is chosen from the prompt, and the last step has no end that can be seen
NEUTRAL_TEXTS = 16
RESAMPLES = 4000
SEED = 0

Clock: TypeAlias = Literal["wall", "cpu"]
CLOCKS: tuple[Clock, ...] = ("wall", "cpu")


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        rounds: How often each side takes its turn.
        tokens: Generated in a turn; its answers do not end before.
        threads: Of the model.
        model: Hub id, folder or file; the default model if not given.
    """

    rounds: int = 12
    tokens: int = 16
    threads: int = 1
    model: str | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.threads < 1:
            raise BenchmarkError("rounds and threads must be at least 1", fix="ask for more")
        if self.tokens < LEAST_TOKENS:
            raise BenchmarkError(f"{count(self.tokens, 'token')} show no step", fix=f"ask for {LEAST_TOKENS} at least")


@dataclass(frozen=True, eq=False)
class Side:
    """One way of answering.

    Attributes:
        name: Its name among those of as many rows.
        rows: How many rows it answers at once.
        target: What a step may take, as a multiple of an unsteered one; None if nothing is asked of it.
        steering: Of each row.
        read: What a monitor reads.
    """

    name: str
    rows: int
    target: float | None = None
    steering: tuple[Steering, ...] = ()
    read: tuple[ControlVector, ...] = ()


@dataclass(frozen=True)
class Spent:
    """What one turn took, in seconds.

    Attributes:
        wall: A decoding step, from the beginning of a pass to that of the next one: the median of the turn.
        cpu: The same in processor time of all threads.
        before: Wall time until the first decoding step: checks, conditions, the prompts.
        after: Wall time after the last one: receipts, texts.
    """

    wall: float
    cpu: float
    before: float
    after: float


@dataclass(frozen=True)
class Pair:
    """A side's turn, and the mean of the unsteered turns right before and after it."""

    rows: int
    side: str
    plain: Spent
    own: Spent


@dataclass(frozen=True)
class Record:
    """Everything measured so far.

    Attributes:
        plan: What was to be measured.
        model: The model's name.
        targets: By rows and side.
        pairs: In the order in which they were measured.
        load: Load averages of the last minute, at the beginning and at the end.
        complete: Whether that is all.
    """

    plan: Plan
    model: str
    targets: dict[tuple[int, str], float | None] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()
    load: tuple[float, ...] = ()
    complete: bool = False


def benchmark(
    plan: Plan, *, engine: TransformersEngine | None = None, on_step: Callable[[Step], None] = lambda _: None
) -> Generator[Record, None, None]:
    """Measure; gives all that has been measured so far, again and again, the last time when complete.

    Args:
        plan: What to measure.
        engine: The model, if it is loaded already.
        on_step: Called before each turn.

    Raises:
        BenchmarkError: The model ends an answer before it should.
    """
    with threadpool_limits(plan.threads):
        on_step(Step("Loading the model"))
        model = load(plan.model) if engine is None else engine
        sides = make_sides(random_vectors(model, POOL + 1))
        load_then = _load()
        record = Record(plan, model.info.name, {(side.rows, side.name): side.target for side in sides}, load=load_then)
        with _endless(model), _stamps(model) as stamps:
            for pair in _pairs(model, sides, plan, stamps, on_step=on_step):
                record = replace(record, pairs=(*record.pairs, pair), load=load_then + _load())
                yield record
    yield replace(record, complete=True)


# Sides ---------------------------------------------------------------------------------------------------------------


def make_sides(vectors: Sequence[ControlVector]) -> tuple[Side, ...]:
    """All sides that steer or read; the last vector is what monitors and conditions read."""
    *pool, watched = vectors
    one = Steering((Term(pool[0], 1.0),))
    always = Comparison(watched, "above", -1e6)
    sides = []
    for rows in (1, BATCH):
        alike = (one,) * rows
        sides += [
            Side("one vector", rows, TARGETS["vector"], alike),
            Side("monitor", rows, TARGETS["monitor"], read=(watched,)),
            Side("vector, monitor", rows, TARGETS["monitor"], alike, (watched,)),
        ]
    varied = {
        "operators": [Term(pool[0], operator=OPERATORS[row % len(OPERATORS)]) for row in range(BATCH)],
        "scopes, schedules": [Term(pool[0], 1.0, tokens=Scope.of(SCOPES[row % len(SCOPES)])) for row in range(BATCH)],
        "prompt condition": [Term(pool[0], 1.0, condition=always)] * BATCH,
        "token condition": [Term(pool[0], 1.0, condition=replace(always, at="token"))] * BATCH,
    }
    sides.append(Side("mixes", BATCH, TARGETS["mixes"], tuple(_mix(pool, row) for row in range(BATCH))))
    sides += [Side(name, BATCH, steering=tuple(Steering((term,)) for term in terms)) for name, terms in varied.items()]
    return tuple(sides)


def _mix(pool: Sequence[ControlVector], row: int) -> Steering:
    """Two terms; no two rows have the same strengths."""
    first, second = pool[row % len(pool)], pool[(row + 1 + row // len(pool)) % len(pool)]
    return Steering((Term(first, 0.5 + row / 20), Term(second, row / 20 - 0.9)))


def random_vectors(engine: TransformersEngine, number: int) -> tuple[ControlVector, ...]:
    """Random unit directions in the middle of the model, with a strength unit and neutral statistics."""
    depth = engine.info.layers
    layers = range(round(depth * 8 / 30), min(round(depth * 24 / 30), depth - 1) + 1)
    texts = engine.hidden_states(neutral_prompts().calibration[:NEUTRAL_TEXTS], layers=layers, position="all")
    states = np.concatenate([text[1:] for text in texts]).astype(np.float64)  # without attention sinks
    norms = np.linalg.norm(states, axis=-1).mean(axis=0)
    noise = np.random.default_rng(SEED)
    drawn = noise.standard_normal((number, len(layers), engine.info.hidden_size))
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    return tuple(
        ControlVector(
            model=engine.info,
            directions={layer: own[n].astype(np.float32) for n, layer in enumerate(layers)},
            norms={layer: float(norms[n]) for n, layer in enumerate(layers)},
            weights=dict.fromkeys(layers, 1.0),
            scale={"+": SHARE, "-": SHARE},
            method="random",
            behaviour=BehaviourRef(f"random {which}", ""),
            neutral=_neutral(np.einsum("tlh,lh->tl", states, own), layers, texts=len(texts)),
        )
        for which, own in enumerate(drawn)
    )


def _neutral(projected: NDArray[np.float64], layers: Sequence[int], *, texts: int) -> Neutral:
    """Statistics of ``projected`` (``[token, layer]``)."""
    spread = Spread(
        mean=dict(zip(layers, projected.mean(axis=0).tolist(), strict=True)),
        deviation=dict(zip(layers, projected.std(axis=0, ddof=1).tolist(), strict=True)),
    )
    percentiles = np.percentile(projected, PERCENTS, axis=0)
    by_layer = {layer: tuple(percentiles[:, n].tolist()) for n, layer in enumerate(layers)}
    return Neutral(spread, spread, spread, by_layer, prompts=texts, tokens=len(projected))


# Turns ---------------------------------------------------------------------------------------------------------------


def _pairs(
    engine: TransformersEngine,
    sides: Sequence[Side],
    plan: Plan,
    stamps: list[tuple[float, float]],
    *,
    on_step: Callable[[Step], None],
) -> Iterator[Pair]:
    """Every round, each side between two unsteered turns, in one order and then in the other; drift cancels."""
    plain = {rows: Side("unsteered", rows) for rows in dict.fromkeys(side.rows for side in sides)}
    for side in (*plain.values(), *sides):
        on_step(Step(f"Warming up: {_called(side)}"))
        _turn(engine, side, stamps, tokens=LEAST_TOKENS)
    total = plan.rounds * len(sides)
    for turn in range(plan.rounds):
        for rows, unsteered in plain.items():
            own = [side for side in sides if side.rows == rows]
            before = _turn(engine, unsteered, stamps, tokens=plan.tokens)
            for n, side in enumerate(own if turn % 2 == 0 else own[::-1]):
                done = turn * len(sides) + n + (0 if rows == 1 else len(sides) - len(own))
                on_step(Step(f"Round {turn + 1} of {plan.rounds}: {_called(side)}", done, total))
                spent = _turn(engine, side, stamps, tokens=plan.tokens)
                after = _turn(engine, unsteered, stamps, tokens=plan.tokens)
                yield Pair(rows, side.name, _mean(before, after), spent)
                before = after


def _called(side: Side) -> str:
    return f"{count(side.rows, 'row')}, {side.name}"


def _turn(engine: TransformersEngine, side: Side, stamps: list[tuple[float, float]], *, tokens: int) -> Spent:
    """Answer once; ``stamps`` collects when passes begin."""
    stamps.clear()
    started = time.perf_counter()
    engine.generate(
        [PROMPT] * side.rows, steering=list(side.steering) or None, read=side.read, max_new_tokens=tokens, raw=True
    )
    ended = time.perf_counter()
    if len(stamps) < tokens:
        raise BenchmarkError(f"{_called(side)}: {len(stamps)} passes for {count(tokens, 'token')}")
    passes = np.array(stamps[-tokens:])  # what came before are passes over prompts
    wall, cpu = np.median(np.diff(passes[1:], axis=0), axis=0).tolist()
    return Spent(wall, cpu, before=float(passes[1, 0]) - started, after=ended - float(passes[-1, 0]) - wall)


def _mean(left: Spent, right: Spent) -> Spent:
    a, b = asdict(left), asdict(right)
    return Spent(**{name: (a[name] + b[name]) / 2 for name in a})


@contextmanager
def _stamps(engine: TransformersEngine) -> Iterator[list[tuple[float, float]]]:
    """Inside, wall and CPU seconds at which passes of the model's body begin, before any other hook of theirs."""
    stamps: list[tuple[float, float]] = []

    def note(*_: object) -> None:
        stamps.append((time.perf_counter(), time.process_time()))

    handle = engine.blocks.body.register_forward_pre_hook(note)
    try:
        yield stamps
    finally:
        handle.remove()


@contextmanager
def _endless(engine: TransformersEngine) -> Iterator[None]:
    """Inside, no token ends an answer, so that all sides take as many steps."""
    own = engine.model.generation_config
    before, own.eos_token_id = own.eos_token_id, []
    try:
        yield
    finally:
        own.eos_token_id = before


def _load() -> tuple[float, ...]:
    """The load average of the last minute, where the system tells."""
    return (round(os.getloadavg()[0], 2),) if hasattr(os, "getloadavg") else ()


# Report --------------------------------------------------------------------------------------------------------------


def report(record: Record) -> dict[str, Any]:
    """The record as one JSON object; ratios are of a step, with 95 % bootstrap intervals of their medians."""
    plan = record.plan
    sides = [key for key in record.targets if any((pair.rows, pair.side) == key for pair in record.pairs)]
    return {
        "benchmark": "steering",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": record.complete,
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "platform": platform.platform(),
            "load": list(record.load),
        },
        "threads": plan.threads,
        "rounds": plan.rounds,
        "tokens": plan.tokens,
        "model": record.model,
        "versions": {"trimtab": versions(("trimtab", "torch", "transformers", "numpy"))},
        "rows": {
            str(rows): {name: _side(record, rows, name) for own, name in sides if own == rows}
            for rows in dict.fromkeys(rows for rows, _ in sides)
        },
    }


def _side(record: Record, rows: int, name: str) -> dict[str, Any]:
    pairs = [pair for pair in record.pairs if (pair.rows, pair.side) == (rows, name)]
    target = record.targets[rows, name]
    return {
        "target": target,
        "step": {clock: _ratio(pairs, clock, target) for clock in CLOCKS},
        "milliseconds": _milliseconds([pair.own for pair in pairs]),
        "unsteered_milliseconds": _milliseconds([pair.plain for pair in pairs]),
    }


def _ratio(pairs: Sequence[Pair], clock: Clock, target: float | None) -> dict[str, Any]:
    """The median over rounds, its interval, and every round's own."""
    ratios = np.array([getattr(pair.own, clock) / getattr(pair.plain, clock) for pair in pairs])
    median = bootstrap(lambda drawn: np.median(drawn, axis=-1), ratios, seed=SEED, resamples=RESAMPLES)
    return {
        "ratio": round(median.value, 4),
        "low": round(median.low, 4),
        "high": round(median.high, 4),
        "met": None if target is None else median.value <= target,
        "rounds": [round(ratio, 4) for ratio in ratios.tolist()],
    }


def _milliseconds(turns: Sequence[Spent]) -> dict[str, float]:
    """Medians: of a step in wall and CPU time, and of what comes before and after all steps."""
    named = {name: [asdict(turn)[name] for turn in turns] for name in ("wall", "cpu", "before", "after")}
    return {name: round(1000 * float(np.median(values)), 3) for name, values in named.items()}
