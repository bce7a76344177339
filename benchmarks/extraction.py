"""Extraction of hidden states: trimtab, trimtab without prefix sharing, and repeng in turn on the same texts."""

from __future__ import annotations

import os
import re
import statistics
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import CASES, RECIPE, Case, Sizes, build_cases, find_openings
from benchmarks.measurement import Step, ignore_step, machine
from benchmarks.models import check_counts
from benchmarks.processes import Job, Worker, check_interpreter, start_repeng, start_trimtab
from trimtab.engines.prefix_tree import build_tree
from trimtab.errors import BenchmarkError

TRIMTAB, PLAIN, REPENG = "trimtab", "trimtab-plain", "repeng"
GPU_CASE = "gpu-1b"
DTYPES = ("float32", "bfloat16", "float16")
WARM_UP = ("A first text.", "Another, which is a little longer.", "And a third.")
CHUNK = 256
CONVERTED = re.compile(r"-[0-9a-f]{16}-v[0-9]+$")  # suffix of the folder of a converted model


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@dataclass(frozen=True)
class Plan:
    """Settings of the extraction benchmark.

    Attributes:
        cases: Names of cases; ``gpu-1b`` is left out where there is no GPU.
        dtypes: Data types of the weights.
        rounds: Number of times each side reads each case; the sides take turns.
        threads: Number of threads of each side.
        peer: Interpreter that has repeng; None to measure trimtab with and without prefix sharing only.
        data: Folder of the recipe's openings; None for the default places.
        sizes: Sizes of the cases.
    """

    cases: tuple[str, ...] = (*CASES, GPU_CASE)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    rounds: int = 3
    threads: int = field(default_factory=usable_cores)
    peer: str | None = None
    data: Path | None = None
    sizes: Sizes = field(default_factory=Sizes)

    def __post_init__(self) -> None:
        _check("case", self.cases, (*CASES, GPU_CASE))
        _check("dtype", self.dtypes, DTYPES)
        check_counts(rounds=self.rounds, threads=self.threads)

    @property
    def sides(self) -> tuple[str, ...]:
        """Names of the sides, in the order of their turns."""
        return (TRIMTAB, PLAIN) if self.peer is None else (TRIMTAB, PLAIN, REPENG)


@dataclass(frozen=True)
class Run:
    """Figures of one side reading one case once: wall and CPU seconds, peak memory above the model in bytes."""

    dtype: str
    case: str
    side: str
    wall: float
    cpu: float
    memory: int | None


@dataclass(frozen=True)
class Difference:
    """Largest ``‖ours − theirs‖ / ‖theirs‖`` over all texts and compared layers of a case."""

    dtype: str
    case: str
    side: str
    value: float


@dataclass(frozen=True)
class CaseSize:
    """Size of a case.

    Attributes:
        prompts: Number of texts.
        distinct_prompts: Number of different texts.
        tokens: Number of tokens of all texts.
        distinct_tokens: Number of different prefixes, which is the least number of tokens to compute.
    """

    prompts: int
    distinct_prompts: int
    tokens: int
    distinct_tokens: int


@dataclass(frozen=True)
class Record:
    """Everything measured so far.

    Attributes:
        rounds: Planned number of times that each side reads each case.
        threads: Number of threads of each side.
        openings: Source of the recipe's openings.
        model: Name of the model.
        versions: Package versions by side.
        sizes: Sizes by case.
        runs: Figures in the order of measurement.
        differences: Differences between trimtab's hidden states and each other side's.
        gpu: Figures of the large random model, if there is a GPU.
        complete: Whether the benchmark is finished.
    """

    rounds: int
    threads: int
    openings: str = ""
    model: str = ""
    versions: Mapping[str, Mapping[str, str]] | None = None
    sizes: Mapping[str, CaseSize] | None = None
    runs: tuple[Run, ...] = ()
    differences: tuple[Difference, ...] = ()
    gpu: Mapping[str, Any] | None = None
    complete: bool = False


@dataclass(frozen=True)
class WorkerWords:
    """Tokenizer of a worker."""

    worker: Worker
    vocabulary: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text."""
        tokens: list[list[int]] = self.worker.ask("encode", texts=list(texts))["tokens"]
        return tokens

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of token ids."""
        texts: list[str] = self.worker.ask("decode", tokens=[list(ids) for ids in tokens])["texts"]
        return texts

    def render(self, messages: Sequence[str]) -> list[str]:
        """Render each user message as the model sees it, up to where the answer begins."""
        texts: list[str] = self.worker.ask("render", messages=list(messages))["texts"]
        return texts


def benchmark(plan: Plan, *, on_step: Callable[[Step], None] = ignore_step) -> Generator[Record, None, None]:
    """Measure, and yield the record after each run; the last one is complete.

    Each worker is a separate process that keeps its model loaded. No worker outlives this generator, however it ends.

    Raises:
        BenchmarkError: A worker cannot be started or fails, or hidden states are not finite.
    """
    if plan.peer is not None:
        check_interpreter(plan.peer)
    openings = find_openings(plan.data)
    record = Record(rounds=plan.rounds, threads=plan.threads, openings=openings.source)
    names = [name for name in plan.cases if name != GPU_CASE]
    cases: tuple[Case, ...] = ()
    gpu = None
    for number, dtype in enumerate(plan.dtypes if names else ()):
        with ExitStack() as stack:
            on_step(Step(f"{dtype}: starting workers"))
            workers = _start_workers(plan, dtype, stack)
            gpu = workers.trimtab["gpu"]
            if not cases:
                words = WorkerWords(workers.by_side[TRIMTAB], workers.trimtab["vocabulary"])
                cases = build_cases(words, openings.texts, plan.sizes, names)
                record = replace(
                    record,
                    model=CONVERTED.sub("", Path(workers.trimtab["model"]).name),
                    versions={side: about["versions"] for side, about in workers.about.items() if side != PLAIN},
                    sizes={case.name: case_size(case.texts, words.encode(case.texts)) for case in cases},
                )
            for newer in _measure(plan, record, workers, cases, before=number, on_step=on_step):
                record = newer
                yield record
    if GPU_CASE in plan.cases and (gpu or not names):
        record = _on_gpu(plan, record, openings.texts, on_step=on_step)
    yield replace(record, complete=True)


def case_size(texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> CaseSize:
    """Count the texts and tokens of a case."""
    return CaseSize(len(texts), len(set(texts)), sum(map(len, tokens)), len(build_tree(tokens)))


def largest_difference(ours: Path, theirs: Path, *, layers: int) -> float:
    """Return the largest ``‖ours − theirs‖ / ‖theirs‖`` over all texts and the first ``layers`` of two saved arrays.

    Raises:
        BenchmarkError: The arrays differ in shape, or are not finite.
    """
    left, right = np.load(ours, mmap_mode="r"), np.load(theirs, mmap_mode="r")
    if left.shape != right.shape:
        raise BenchmarkError(f"the sides returned hidden states of different shapes: {left.shape} and {right.shape}")
    largest = 0.0
    for at in range(0, len(left), CHUNK):
        rows = slice(at, at + CHUNK)
        a, b = (array[rows, :layers].astype(np.float64) for array in (left, right))
        relative = np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)
        if not np.isfinite(relative).all():
            raise BenchmarkError("a side returned hidden states that are not finite")
        largest = max(largest, float(relative.max(initial=0.0)))
    return largest


@dataclass(frozen=True)
class _Workers:
    """Workers of all sides for one dtype, and the description that each gave of itself."""

    dtype: str
    by_side: Mapping[str, Worker]
    about: Mapping[str, Mapping[str, Any]]

    @property
    def trimtab(self) -> Mapping[str, Any]:
        return self.about[TRIMTAB]


def _start_workers(plan: Plan, dtype: str, stack: ExitStack) -> _Workers:
    """Start and warm up the workers of all sides."""
    job = Job(dtype, plan.threads)
    by_side = {TRIMTAB: stack.enter_context(closing(start_trimtab(TRIMTAB, job)))}
    about = {TRIMTAB: by_side[TRIMTAB].answer()}
    job = replace(job, model=about[TRIMTAB]["model"])
    for side in plan.sides[1:]:
        worker = start_trimtab(side, job) if plan.peer is None or side != REPENG else start_repeng(side, plan.peer, job)
        by_side[side] = stack.enter_context(closing(worker))
    for side, worker in by_side.items():
        if side != TRIMTAB:
            about[side] = worker.answer()
        _run(worker, side, WARM_UP, save=None)
    return _Workers(dtype, by_side, about)


def _run(worker: Worker, side: str, texts: Sequence[str], *, save: Path | None) -> dict[str, Any]:
    return worker.ask("run", texts=list(texts), share_prefixes=side == TRIMTAB, save=str(save) if save else None)


def _measure(
    plan: Plan,
    record: Record,
    workers: _Workers,
    cases: Sequence[Case],
    *,
    before: int,
    on_step: Callable[[Step], None],
) -> Iterator[Record]:
    """Measure all cases in one dtype, round after round. Progress counts tokens; ``before`` dtypes are done."""
    sizes = record.sizes or {}
    each = sum(size.tokens for size in sizes.values()) * plan.rounds * len(workers.by_side)
    done, total = each * before, each * len(plan.dtypes)
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as folder:
            for turn in range(plan.rounds):
                for side, worker in workers.by_side.items():
                    on_step(
                        Step(f"{workers.dtype} {case.name}, round {turn + 1} of {plan.rounds}, {side}", done, total)
                    )
                    save = None if turn else _states_file(folder, side)
                    figures = _run(worker, side, case.texts, save=save)
                    done += sizes[case.name].tokens
                    run = Run(workers.dtype, case.name, side, figures["wall"], figures["cpu"], figures["memory"])
                    record = replace(record, runs=(*record.runs, run))
                    yield record
                    if save is not None and side != TRIMTAB:
                        # repeng takes the last layer after the model's final norm, so it cannot be compared.
                        layers = workers.trimtab["layers"] - (side == REPENG)
                        value = largest_difference(_states_file(folder, TRIMTAB), save, layers=layers)
                        difference = Difference(workers.dtype, case.name, side, value)
                        record = replace(record, differences=(*record.differences, difference))
                        save.unlink()
    yield record


def _states_file(folder: str, side: str) -> Path:
    return Path(folder) / f"{side}.npy"


def _on_gpu(plan: Plan, record: Record, openings: Sequence[str], *, on_step: Callable[[Step], None]) -> Record:
    """Read the recipe with a large random model on the GPU."""
    on_step(Step(f"{GPU_CASE}: starting"))
    with closing(start_trimtab(TRIMTAB, Job("float32", plan.threads))) as worker:
        about = worker.answer()
        if about["gpu"] is None:
            raise BenchmarkError(f"{GPU_CASE} needs a GPU that torch can use", fix="leave it out of --cases")
        on_step(Step(f"{GPU_CASE} on {about['gpu']}"))
        words = WorkerWords(worker, about["vocabulary"])
        (case,) = build_cases(words, openings, plan.sizes, [RECIPE])
        measured = worker.ask("gpu", tokens=words.encode(case.texts), rounds=plan.rounds)
        versions = record.versions or {TRIMTAB: about["versions"]}
        return replace(record, versions=versions, gpu={"device": about["gpu"], **measured})


def _check(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise BenchmarkError(f"there is no {kind} {name!r}", fix=f"choose from {', '.join(known)}")
    if not names:
        raise BenchmarkError(f"no {kind} was given", fix=f"choose from {', '.join(known)}")


# Report ---------------------------------------------------------------------------------------------------------------


def report(record: Record) -> dict[str, Any]:
    """Return the record as one JSON object.

    ``times_wall`` and ``times_cpu`` are the other side's median divided by trimtab's; ``share_memory`` is trimtab's
    peak divided by the other side's. Memory is in bytes, time in seconds.
    """
    return {
        "benchmark": "extraction",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": record.complete,
        "machine": machine(),
        "threads": record.threads,
        "rounds": record.rounds,
        "model": record.model,
        "openings": record.openings,
        "versions": dict(record.versions or {}),
        "dtypes": {dtype: _cases(record, dtype) for dtype in _distinct(run.dtype for run in record.runs)},
        "gpu": dict(record.gpu) if record.gpu is not None else None,
    }


def _cases(record: Record, dtype: str) -> dict[str, Any]:
    names = _distinct(run.case for run in record.runs if run.dtype == dtype)
    return {name: _case(record, dtype, name) for name in names}


def _case(record: Record, dtype: str, case: str) -> dict[str, Any]:
    runs = [run for run in record.runs if run.dtype == dtype and run.case == case]
    sides = {side: _side([run for run in runs if run.side == side]) for side in _distinct(run.side for run in runs)}
    size = (record.sizes or {})[case]
    return {
        "prompts": size.prompts,
        "distinct_prompts": size.distinct_prompts,
        "tokens": size.tokens,
        "distinct_tokens": size.distinct_tokens,
        "sides": sides,
        "ratios": {side: _ratios(sides[TRIMTAB], sides[side]) for side in sides if side != TRIMTAB},
        "difference": {
            difference.side: float(f"{difference.value:.3g}")
            for difference in record.differences
            if difference.dtype == dtype and difference.case == case
        },
    }


def _side(runs: Sequence[Run]) -> dict[str, Any]:
    memory = [run.memory for run in runs if run.memory is not None]
    return {
        "wall": round(statistics.median(run.wall for run in runs), 4),
        "cpu": round(statistics.median(run.cpu for run in runs), 4),
        "memory": round(statistics.median(memory)) if memory else None,
        "rounds": [{"wall": round(run.wall, 4), "cpu": round(run.cpu, 4), "memory": run.memory} for run in runs],
    }


def _ratios(trimtab: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "times_wall": _ratio(other["wall"], trimtab["wall"]),
        "times_cpu": _ratio(other["cpu"], trimtab["cpu"]),
        "share_memory": _ratio(trimtab["memory"], other["memory"]),
    }


def _ratio(above: float | None, below: float | None) -> float | None:
    return round(above / below, 3) if above is not None and below else None


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
