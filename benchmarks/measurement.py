"""Measurement and worker protocol that both sides of a comparison share.

repeng's worker imports this module in an environment without trimtab, so it uses the standard library of Python 3.10
only. Both sides are measured by the same lines.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeAlias

KIB = 1024
PROCESS = Path("/proc/self")

Handler: TypeAlias = Callable[[Any], Mapping[str, Any]]


@dataclass(frozen=True)
class Step:
    """Progress of a benchmark: the current work, and how much of the total is done."""

    what: str
    done: int = 0
    total: int = 0


def ignore_step(_: Step) -> None:
    """Report progress to nobody."""


def measure(work: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """Run ``work``; return its result, and wall seconds, CPU seconds of all threads and peak memory in bytes.

    Peak memory counts from what the process held before the call, after freed memory went back to the system. It is
    None where the system does not report it.
    """
    gc.collect()
    before = _resident()
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    peak = _process_memory("VmHWM")
    return result, {**seconds, "memory": None if before is None or peak is None else max(peak - before, 0)}


def _resident() -> int | None:
    """Return freed memory to the system, reset its high-water mark, and return the memory in use."""
    with suppress(OSError, AttributeError, TypeError):  # not glibc: freed memory may count as used
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (PROCESS / "clear_refs").write_text("5")  # 5 resets VmHWM
    except OSError:
        return None
    return _process_memory("VmRSS")


def _process_memory(key: str) -> int | None:
    with suppress(OSError):
        for line in (PROCESS / "status").read_text().splitlines():
            if line.startswith(f"{key}:"):
                return int(line.split()[1]) * KIB
    return None


def package_versions(packages: Sequence[str] = ("trimtab", "torch", "transformers", "numpy")) -> dict[str, str]:
    """Return the versions of Python and of installed packages."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def cpu_name() -> str:
    """Return the processor's name as the system reports it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """Describe the machine for a report."""
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "platform": platform.platform()}


def plural(number: int, noun: str) -> str:
    """Return ``1 thread``, ``2 threads``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def claim_stdout() -> TextIO:
    """Return a stream to the parent process; anything else that is printed goes to standard error from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def serve(answers: TextIO, ready: Mapping[str, Any], handlers: Mapping[str, Handler]) -> None:
    """Write ``ready``, then answer each JSON line on standard input with one JSON line until the input ends."""
    print(json.dumps(ready), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(handlers[request["do"]](request)), file=answers, flush=True)
