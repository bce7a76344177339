"""What a benchmark measured, and what follows from it: medians, ratios, one JSON object."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OWN, PLAIN, PEER = "trimtab", "trimtab-plain", "repeng"


@dataclass(frozen=True)
class Run:
    """One side reading one case once: wall and CPU seconds, and peak memory above the model in bytes."""

    dtype: str
    case: str
    side: str
    wall: float
    cpu: float
    memory: int | None


@dataclass(frozen=True)
class Difference:
    """The largest ``‖ours − theirs‖ / ‖theirs‖`` over all texts and compared layers of a case."""

    dtype: str
    case: str
    side: str
    value: float


@dataclass(frozen=True)
class CaseSize:
    """What a case consists of.

    Attributes:
        prompts: Texts.
        distinct_prompts: Different texts among them.
        tokens: Their tokens.
        distinct_tokens: Different beginnings of the texts, so many tokens must be computed at the least.
    """

    prompts: int
    distinct_prompts: int
    tokens: int
    distinct_tokens: int


@dataclass(frozen=True)
class Record:
    """Everything measured so far.

    Attributes:
        rounds: How often every side was to read every case.
        threads: Of every side.
        openings: Where the recipe's openings are from.
        model: The model's name.
        versions: By side.
        sizes: By case.
        gpu: What the large random model gave on a GPU, if there is one.
        complete: Whether that is all.
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


def report(record: Record) -> dict[str, Any]:
    """The record as one JSON object.

    ``times_wall`` and ``times_cpu`` say how many times trimtab's median another side took; ``share_memory`` is
    trimtab's peak as a share of the other's. Memory is in bytes, time in seconds.
    """
    return {
        "benchmark": "extraction",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": record.complete,
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "platform": platform.platform()},
        "threads": record.threads,
        "rounds": record.rounds,
        "model": record.model,
        "openings": record.openings,
        "versions": dict(record.versions or {}),
        "dtypes": {dtype: _cases(record, dtype) for dtype in _names(run.dtype for run in record.runs)},
        "gpu": dict(record.gpu) if record.gpu is not None else None,
    }


def _cases(record: Record, dtype: str) -> dict[str, Any]:
    names = _names(run.case for run in record.runs if run.dtype == dtype)
    return {name: _case(record, dtype, name) for name in names}


def _case(record: Record, dtype: str, case: str) -> dict[str, Any]:
    runs = [run for run in record.runs if run.dtype == dtype and run.case == case]
    sides = {side: _side([run for run in runs if run.side == side]) for side in _names(run.side for run in runs)}
    size = (record.sizes or {})[case]
    return {
        "prompts": size.prompts,
        "distinct_prompts": size.distinct_prompts,
        "tokens": size.tokens,
        "distinct_tokens": size.distinct_tokens,
        "sides": sides,
        "ratios": {side: _ratios(sides[OWN], sides[side]) for side in sides if side != OWN},
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


def _ratios(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "times_wall": _ratio(other["wall"], own["wall"]),
        "times_cpu": _ratio(other["cpu"], own["cpu"]),
        "share_memory": _ratio(own["memory"], other["memory"]),
    }


def _ratio(above: float | None, below: float | None) -> float | None:
    return round(above / below, 3) if above is not None and below else None


def _names(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def count(number: int, noun: str) -> str:
    """``1 thread``, ``2 threads``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def cpu_name() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
