"""Cost of steering per decoding step: steered turns between unsteered turns of the same engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.measurement import Step, ignore_step, machine, package_versions, plural
from benchmarks.models import check_counts, load_model, torch_threads
from trimtab.behaviours import neutral_prompts
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import BenchmarkError
from trimtab.stats import bootstrap
from trimtab.steering import Steering, Term
from trimtab.steering.conditions import Comparison
from trimtab.steering.operators import Ablate, Bound, Cap, Rotate
from trimtab.steering.scopes import Scope
from trimtab.vectors import PERCENTS, BehaviourRef, ControlVector, Neutral, Spread

PROMPT = "Once upon a time, in a small village by the sea,"
BATCH = 16
POOL = 8  # vectors that the mixes are drawn from
SHARE = 0.02  # what strength 1 adds at each layer, as a share of the hidden state's norm; hardly changes the text
TARGETS = {"vector": 1.02, "mixes": 1.04, "monitor": 1.05}
SCOPES = ("generated", "generated, from 4", "generated, half-life 32", "generated, decay 64")
OPERATORS = (Rotate(1.0), Cap(Bound(0.5, "z")), Ablate())
LEAST_TOKENS = 3  # the first token comes from the prompt's pass, and the end of the last step is not visible
NEUTRAL_TEXTS = 16
RESAMPLES = 4000
SEED = 0

Clock: TypeAlias = Literal["wall", "cpu"]
CLOCKS: tuple[Clock, ...] = ("wall", "cpu")


@dataclass(frozen=True)
class Plan:
    """Settings of the steering benchmark.

    Attributes:
        rounds: Number of turns of each side.
        tokens: Number of tokens generated in a turn; answers do not end earlier.
        threads: Number of threads of the model.
        model: Hub id, folder or file; the default model if not given.
    """

    rounds: int = 12
    tokens: int = 16
    threads: int = 1
    model: str | None = None

    def __post_init__(self) -> None:
        check_counts(rounds=self.rounds, threads=self.threads)
        if self.tokens < LEAST_TOKENS:
            raise BenchmarkError(f"{plural(self.tokens, 'token')} show no step", fix=f"use at least {LEAST_TOKENS}")


@dataclass(frozen=True, eq=False)
class Side:
    """Way of answering that is compared with unsteered answering.

    Attributes:
        name: Name, unique among sides with the same number of rows.
        rows: Number of rows answered at once.
        target: Upper bound on the time of a step, as a multiple of an unsteered one; None if there is no target.
        steering: Steering of each row.
        read: Vectors that a monitor reads.
    """

    name: str
    rows: int
    target: float | None = None
    steering: tuple[Steering, ...] = ()
    read: tuple[ControlVector, ...] = ()


@dataclass(frozen=True)
class TurnTimes:
    """Times of one turn, in seconds.

    Attributes:
        wall: Median decoding step of the turn, from the start of a pass to the start of the next one.
        cpu: The same in processor time of all threads.
        before: Wall time until the first decoding step: checks, conditions, the prompts.
        after: Wall time after the last decoding step: receipts, texts.
    """

    wall: float
    cpu: float
    before: float
    after: float


@dataclass(frozen=True)
class Pair:
    """Times of a side's turn, and the mean of the unsteered turns right before and after it."""

    rows: int
    side: str
    unsteered: TurnTimes
    steered: TurnTimes


@dataclass(frozen=True)
class Record:
    """Everything measured so far.

    Attributes:
        plan: Settings of the benchmark.
        model: Name of the model.
        targets: Targets by rows and side.
        pairs: Pairs of turns in the order of measurement.
        load: One-minute load averages at the beginning and at the end.
        complete: Whether the benchmark is finished.
    """

    plan: Plan
    model: str
    targets: dict[tuple[int, str], float | None] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()
    load: tuple[float, ...] = ()
    complete: bool = False


def benchmark(
    plan: Plan, *, engine: TransformersEngine | None = None, on_step: Callable[[Step], None] = ignore_step
) -> Generator[Record, None, None]:
    """Measure, and yield the record after each turn; the last one is complete.

    Args:
        plan: Settings.
        engine: The model; loaded if not given.
        on_step: Called before each turn.

    Raises:
        BenchmarkError: The model ends an answer too early.
    """
    with torch_threads(plan.threads):
        model = load_model(engine, plan.model, on_step)
        sides = make_sides(random_vectors(model, POOL + 1))
        load_at_start = _load_average()
        record = Record(
            plan, model.info.name, {(side.rows, side.name): side.target for side in sides}, load=load_at_start
        )
        with _no_end_token(model), _pass_times(model) as stamps:
            for pair in _pairs(model, sides, plan, stamps, on_step=on_step):
                record = replace(record, pairs=(*record.pairs, pair), load=load_at_start + _load_average())
                yield record
    yield replace(record, complete=True)


# Sides ---------------------------------------------------------------------------------------------------------------


def make_sides(vectors: Sequence[ControlVector]) -> tuple[Side, ...]:
    """Make all sides that steer or read; monitors and conditions read the last vector."""
    *pool, probe = vectors
    one = Steering((Term(pool[0], 1.0),))
    always = Comparison(probe, "above", -1e6)
    sides = []
    for rows in (1, BATCH):
        same = (one,) * rows
        sides += [
            Side("one vector", rows, TARGETS["vector"], same),
            Side("monitor", rows, TARGETS["monitor"], read=(probe,)),
            Side("vector, monitor", rows, TARGETS["monitor"], same, (probe,)),
        ]
    term_kinds = {
        "operators": [Term(pool[0], operator=OPERATORS[row % len(OPERATORS)]) for row in range(BATCH)],
        "scopes, schedules": [Term(pool[0], 1.0, tokens=Scope.of(SCOPES[row % len(SCOPES)])) for row in range(BATCH)],
        "prompt condition": [Term(pool[0], 1.0, condition=always)] * BATCH,
        "token condition": [Term(pool[0], 1.0, condition=replace(always, at="token"))] * BATCH,
    }
    sides.append(Side("mixes", BATCH, TARGETS["mixes"], tuple(mix_of(pool, row) for row in range(BATCH))))
    sides += [
        Side(name, BATCH, steering=tuple(Steering((term,)) for term in terms)) for name, terms in term_kinds.items()
    ]
    return tuple(sides)


def mix_of(pool: Sequence[ControlVector], row: int) -> Steering:
    """Combine two terms; no two rows have the same strengths."""
    first, second = pool[row % len(pool)], pool[(row + 1 + row // len(pool)) % len(pool)]
    return Steering((Term(first, 0.5 + row / 20), Term(second, row / 20 - 0.9)))


def random_vectors(engine: TransformersEngine, number: int) -> tuple[ControlVector, ...]:
    """Make vectors of random unit directions in the median layers, with a strength unit and neutral statistics."""
    depth = engine.info.layers
    layers = range(round(depth * 8 / 30), min(round(depth * 24 / 30), depth - 1) + 1)
    texts = engine.hidden_states(neutral_prompts().calibration[:NEUTRAL_TEXTS], layers=layers, position="all")
    hidden = np.concatenate([text[1:] for text in texts]).astype(np.float64)  # without attention sinks
    norms = np.linalg.norm(hidden, axis=-1).mean(axis=0)
    noise = np.random.default_rng(SEED)
    drawn = noise.standard_normal((number, len(layers), engine.info.hidden_size))
    drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
    return tuple(
        ControlVector(
            model=engine.info,
            directions={layer: directions[n].astype(np.float32) for n, layer in enumerate(layers)},
            norms={layer: float(norms[n]) for n, layer in enumerate(layers)},
            weights=dict.fromkeys(layers, 1.0),
            scale={"+": SHARE, "-": SHARE},
            method="random",
            behaviour=BehaviourRef(f"random {which}", ""),
            neutral=_neutral(np.einsum("tlh,lh->tl", hidden, directions), layers, texts=len(texts)),
        )
        for which, directions in enumerate(drawn)
    )


def _neutral(projections: NDArray[np.float64], layers: Sequence[int], *, texts: int) -> Neutral:
    """Return statistics of the projections (``[token, layer]``)."""
    spread = Spread(
        mean=dict(zip(layers, projections.mean(axis=0).tolist(), strict=True)),
        deviation=dict(zip(layers, projections.std(axis=0, ddof=1).tolist(), strict=True)),
    )
    percentiles = np.percentile(projections, PERCENTS, axis=0)
    by_layer = {layer: tuple(percentiles[:, n].tolist()) for n, layer in enumerate(layers)}
    return Neutral(spread, spread, spread, by_layer, prompts=texts, tokens=len(projections))


# Turns ---------------------------------------------------------------------------------------------------------------


def _pairs(
    engine: TransformersEngine,
    sides: Sequence[Side],
    plan: Plan,
    stamps: list[tuple[float, float]],
    *,
    on_step: Callable[[Step], None],
) -> Iterator[Pair]:
    """Measure each side between two unsteered turns, in alternating order, so that drift cancels."""
    unsteered = {rows: Side("unsteered", rows) for rows in dict.fromkeys(side.rows for side in sides)}
    for side in (*unsteered.values(), *sides):
        on_step(Step(f"Warming up: {_label(side)}"))
        _turn(engine, side, stamps, tokens=LEAST_TOKENS)
    total = plan.rounds * len(sides)
    for turn in range(plan.rounds):
        for rows, baseline in unsteered.items():
            group = [side for side in sides if side.rows == rows]
            before = _turn(engine, baseline, stamps, tokens=plan.tokens)
            for n, side in enumerate(group if turn % 2 == 0 else group[::-1]):
                done = turn * len(sides) + n + (0 if rows == 1 else len(sides) - len(group))
                on_step(Step(f"Round {turn + 1} of {plan.rounds}: {_label(side)}", done, total))
                steered = _turn(engine, side, stamps, tokens=plan.tokens)
                after = _turn(engine, baseline, stamps, tokens=plan.tokens)
                yield Pair(rows, side.name, _mean(before, after), steered)
                before = after


def _label(side: Side) -> str:
    return f"{plural(side.rows, 'row')}, {side.name}"


def _turn(engine: TransformersEngine, side: Side, stamps: list[tuple[float, float]], *, tokens: int) -> TurnTimes:
    """Answer once, and time the steps; ``stamps`` collects the start times of passes."""
    stamps.clear()
    started = time.perf_counter()
    engine.generate(
        [PROMPT] * side.rows, steering=list(side.steering) or None, read=side.read, max_new_tokens=tokens, raw=True
    )
    ended = time.perf_counter()
    if len(stamps) < tokens:
        raise BenchmarkError(f"{_label(side)}: {len(stamps)} passes for {plural(tokens, 'token')}")
    passes = np.array(stamps[-tokens:])  # earlier passes are over prompts
    wall, cpu = np.median(np.diff(passes[1:], axis=0), axis=0).tolist()
    return TurnTimes(wall, cpu, before=float(passes[1, 0]) - started, after=ended - float(passes[-1, 0]) - wall)


def _mean(left: TurnTimes, right: TurnTimes) -> TurnTimes:
    a, b = asdict(left), asdict(right)
    return TurnTimes(**{name: (a[name] + b[name]) / 2 for name in a})


@contextmanager
def _pass_times(engine: TransformersEngine) -> Iterator[list[tuple[float, float]]]:
    """Collect wall and CPU seconds at the start of each pass, before any other hook runs."""
    stamps: list[tuple[float, float]] = []

    def record_start(*_: object) -> None:
        stamps.append((time.perf_counter(), time.process_time()))

    handle = engine.blocks.body.register_forward_pre_hook(record_start)
    try:
        yield stamps
    finally:
        handle.remove()


@contextmanager
def _no_end_token(engine: TransformersEngine) -> Iterator[None]:
    """Let no token end an answer, so that all sides take the same number of steps."""
    config = engine.model.generation_config
    before, config.eos_token_id = config.eos_token_id, []
    try:
        yield
    finally:
        config.eos_token_id = before


def _load_average() -> tuple[float, ...]:
    """Return the one-minute load average, where the system reports it."""
    return (round(os.getloadavg()[0], 2),) if hasattr(os, "getloadavg") else ()


# Report --------------------------------------------------------------------------------------------------------------


def report(record: Record) -> dict[str, Any]:
    """Return the record as one JSON object; step ratios have 95 % bootstrap intervals of their medians."""
    plan = record.plan
    sides = [key for key in record.targets if any((pair.rows, pair.side) == key for pair in record.pairs)]
    return {
        "benchmark": "steering",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": record.complete,
        "machine": {**machine(), "load": list(record.load)},
        "threads": plan.threads,
        "rounds": plan.rounds,
        "tokens": plan.tokens,
        "model": record.model,
        "versions": {"trimtab": package_versions()},
        "rows": {
            str(rows): {name: _side(record, rows, name) for number, name in sides if number == rows}
            for rows in dict.fromkeys(rows for rows, _ in sides)
        },
    }


def _side(record: Record, rows: int, name: str) -> dict[str, Any]:
    pairs = [pair for pair in record.pairs if (pair.rows, pair.side) == (rows, name)]
    target = record.targets[rows, name]
    return {
        "target": target,
        "step": {clock: _ratio(pairs, clock, target) for clock in CLOCKS},
        "milliseconds": _milliseconds([pair.steered for pair in pairs]),
        "unsteered_milliseconds": _milliseconds([pair.unsteered for pair in pairs]),
    }


def _ratio(pairs: Sequence[Pair], clock: Clock, target: float | None) -> dict[str, Any]:
    """Return the median ratio over rounds, its interval, and the ratio of each round."""
    ratios = np.array([getattr(pair.steered, clock) / getattr(pair.unsteered, clock) for pair in pairs])
    median = bootstrap(lambda drawn: np.median(drawn, axis=-1), ratios, seed=SEED, resamples=RESAMPLES)
    return {
        "ratio": round(median.value, 4),
        "low": round(median.low, 4),
        "high": round(median.high, 4),
        "met": None if target is None else median.value <= target,
        "rounds": [round(ratio, 4) for ratio in ratios.tolist()],
    }


def _milliseconds(turns: Sequence[TurnTimes]) -> dict[str, float]:
    """Return medians of a step in wall and CPU time, and of the time before and after all steps."""
    named = {name: [asdict(turn)[name] for turn in turns] for name in ("wall", "cpu", "before", "after")}
    return {name: round(1000 * float(np.median(values)), 3) for name, values in named.items()}
