"""Extraction of hidden states: trimtab, trimtab without sharing prefixes, and repeng, in turn on the same texts."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.benches.cases import CASES, RECIPE, Case, Sizes, build_cases, find_openings
from trimtab.benches.report import OWN, PEER, PLAIN, CaseSize, Difference, Record, Run
from trimtab.benches.workers import Job, Worker, check_peer, start_own, start_peer
from trimtab.engines.prefix_tree import build_tree
from trimtab.errors import BenchmarkError

GPU_CASE = "gpu-1b"
DTYPES = ("float32", "bfloat16", "float16")
WARM_UP = ("A first text.", "Another, which is a little longer.", "And a third.")
CHUNK = 256
CONVERTED = re.compile(r"-[0-9a-f]{16}-v[0-9]+$")  # what a converted folder's name ends with


def usable_cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        cases: Their names; ``gpu-1b`` is left out where there is no GPU.
        dtypes: Of the weights.
        rounds: How often every side reads every case; the sides take turns.
        threads: Of every side.
        peer: The interpreter that has repeng; None to measure trimtab's own two ways alone.
        data: Folder of the recipe's openings; None for the usual places.
        sizes: Of the cases.
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
        if self.rounds < 1 or self.threads < 1:
            raise BenchmarkError("rounds and threads must be at least 1", fix="ask for more")

    @property
    def sides(self) -> tuple[str, ...]:
        """In the order in which they take turns."""
        return (OWN, PLAIN) if self.peer is None else (OWN, PLAIN, PEER)


@dataclass(frozen=True)
class Step:
    """What is being done now, and how much of all the work is done."""

    what: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class WorkerWords:
    """A worker's tokens."""

    worker: Worker
    vocabulary: int

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text."""
        tokens: list[list[int]] = self.worker.ask("encode", texts=list(texts))["tokens"]
        return tokens

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of token ids."""
        texts: list[str] = self.worker.ask("decode", tokens=[list(ids) for ids in tokens])["texts"]
        return texts

    def render(self, messages: Sequence[str]) -> list[str]:
        """Each user message as the model sees it, up to where its answer begins."""
        texts: list[str] = self.worker.ask("render", messages=list(messages))["texts"]
        return texts


def benchmark(plan: Plan, *, on_step: Callable[[Step], None] = lambda _: None) -> Generator[Record, None, None]:
    """Measure; gives all that has been measured so far, again and again, the last time when complete.

    Every worker is a process of its own that keeps its model; none outlives this generator, however it ends.

    Raises:
        BenchmarkError: A worker cannot be started or fails, or states are not finite.
    """
    if plan.peer is not None:
        check_peer(plan.peer)
    openings = find_openings(plan.data)
    record = Record(rounds=plan.rounds, threads=plan.threads, openings=openings.source)
    names = [name for name in plan.cases if name != GPU_CASE]
    cases: tuple[Case, ...] = ()
    gpu = None
    for number, dtype in enumerate(plan.dtypes if names else ()):
        with ExitStack() as stack:
            on_step(Step(f"{dtype}: starting workers"))
            crew = _start(plan, dtype, stack)
            gpu = crew.own["gpu"]
            if not cases:
                words = WorkerWords(crew.workers[OWN], crew.own["vocabulary"])
                cases = build_cases(words, openings.texts, plan.sizes, names)
                record = replace(
                    record,
                    model=CONVERTED.sub("", Path(crew.own["model"]).name),
                    versions={side: said["versions"] for side, said in crew.said.items() if side != PLAIN},
                    sizes={case.name: case_size(case.texts, words.encode(case.texts)) for case in cases},
                )
            for newer in _measure(plan, record, crew, cases, before=number, on_step=on_step):
                record = newer
                yield record
    if GPU_CASE in plan.cases and (gpu or not names):
        record = _on_gpu(plan, record, openings.texts, on_step=on_step)
    yield replace(record, complete=True)


def case_size(texts: Sequence[str], tokens: Sequence[Sequence[int]]) -> CaseSize:
    """How much a case asks for."""
    return CaseSize(len(texts), len(set(texts)), sum(map(len, tokens)), len(build_tree(tokens)))


def largest_difference(ours: Path, theirs: Path, *, layers: int) -> float:
    """The largest ``‖ours − theirs‖ / ‖theirs‖`` over all texts and the first ``layers`` layers of two saved arrays.

    Raises:
        BenchmarkError: The arrays differ in shape, or are not finite.
    """
    left, right = np.load(ours, mmap_mode="r"), np.load(theirs, mmap_mode="r")
    if left.shape != right.shape:
        raise BenchmarkError(f"the sides gave states of different shapes: {left.shape} and {right.shape}")
    worst = 0.0
    for at in range(0, len(left), CHUNK):
        rows = slice(at, at + CHUNK)
        a, b = (array[rows, :layers].astype(np.float64) for array in (left, right))
        relative = np.linalg.norm(a - b, axis=-1) / np.linalg.norm(b, axis=-1)
        if not np.isfinite(relative).all():
            raise BenchmarkError("a side gave states that are not finite")
        worst = max(worst, float(relative.max(initial=0.0)))
    return worst


@dataclass(frozen=True)
class _Crew:
    """The workers of all sides for one dtype, and what each said of itself."""

    dtype: str
    workers: Mapping[str, Worker]
    said: Mapping[str, Mapping[str, Any]]

    @property
    def own(self) -> Mapping[str, Any]:
        return self.said[OWN]


def _start(plan: Plan, dtype: str, stack: ExitStack) -> _Crew:
    """Workers of all sides, warm."""
    job = Job(dtype, plan.threads)
    workers = {OWN: stack.enter_context(closing(start_own(OWN, job)))}
    said = {OWN: workers[OWN].answer()}
    job = replace(job, model=said[OWN]["model"])
    for side in plan.sides[1:]:
        worker = start_own(side, job) if plan.peer is None or side != PEER else start_peer(side, plan.peer, job)
        workers[side] = stack.enter_context(closing(worker))
    for side, worker in workers.items():
        if side != OWN:
            said[side] = worker.answer()
        _ask(worker, side, WARM_UP, save=None)
    return _Crew(dtype, workers, said)


def _ask(worker: Worker, side: str, texts: Sequence[str], *, save: Path | None) -> dict[str, Any]:
    return worker.ask("run", texts=list(texts), share_prefixes=side == OWN, save=str(save) if save else None)


def _measure(
    plan: Plan,
    record: Record,
    crew: _Crew,
    cases: Sequence[Case],
    *,
    before: int,
    on_step: Callable[[Step], None],
) -> Iterator[Record]:
    """All cases in one dtype, side by side, round after round. Progress counts tokens; ``before`` dtypes are done."""
    sizes = record.sizes or {}
    each = sum(size.tokens for size in sizes.values()) * plan.rounds * len(crew.workers)
    done, total = each * before, each * len(plan.dtypes)
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as folder:
            for turn in range(plan.rounds):
                for side, worker in crew.workers.items():
                    on_step(Step(f"{crew.dtype} {case.name}, round {turn + 1} of {plan.rounds}, {side}", done, total))
                    save = None if turn else _states(folder, side)
                    spent = _ask(worker, side, case.texts, save=save)
                    done += sizes[case.name].tokens
                    run = Run(crew.dtype, case.name, side, spent["wall"], spent["cpu"], spent["memory"])
                    record = replace(record, runs=(*record.runs, run))
                    yield record
                    if save is not None and side != OWN:
                        # repeng's last layer is taken behind the model's final norm, and so is another thing.
                        layers = crew.own["layers"] - (side == PEER)
                        value = largest_difference(_states(folder, OWN), save, layers=layers)
                        found = Difference(crew.dtype, case.name, side, value)
                        record = replace(record, differences=(*record.differences, found))
                        save.unlink()
    yield record


def _states(folder: str, side: str) -> Path:
    return Path(folder) / f"{side}.npy"


def _on_gpu(plan: Plan, record: Record, openings: Sequence[str], *, on_step: Callable[[Step], None]) -> Record:
    """The recipe read by a large random model on the GPU."""
    on_step(Step(f"{GPU_CASE}: starting"))
    with closing(start_own(OWN, Job("float32", plan.threads))) as worker:
        said = worker.answer()
        if said["gpu"] is None:
            raise BenchmarkError(f"{GPU_CASE} needs a GPU that torch can use", fix="leave it out of --cases")
        on_step(Step(f"{GPU_CASE} on {said['gpu']}"))
        words = WorkerWords(worker, said["vocabulary"])
        (case,) = build_cases(words, openings, plan.sizes, [RECIPE])
        measured = worker.ask("gpu", tokens=words.encode(case.texts), rounds=plan.rounds)
        versions = record.versions or {OWN: said["versions"]}
        return replace(record, versions=versions, gpu={"device": said["gpu"], **measured})


def _check(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise BenchmarkError(f"there is no {kind} {name!r}", fix=f"choose from {', '.join(known)}")
    if not names:
        raise BenchmarkError(f"no {kind} is asked for", fix=f"choose from {', '.join(known)}")
