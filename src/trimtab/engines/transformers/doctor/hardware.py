"""What a model runs on here: packages, processor, memory, GPUs, and the folders that trimtab writes to."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.utils.versions import require_version

from trimtab.engines.transformers.model.source import cache_folder
from trimtab.vectors import vectors_folder

NEEDED = ("trimtab", "torch", "transformers", "tokenizers", "numpy", "accelerate", "safetensors")
OPTIONAL = ("bitsandbytes", "gptqmodel", "kernels", "matplotlib", "peft", "torchao", "vllm")


@dataclass(frozen=True)
class Gpu:
    """A GPU and its memory, in bytes."""

    name: str
    free: int
    total: int


@dataclass(frozen=True)
class Folder:
    """A folder that trimtab writes to; it need not exist yet."""

    path: str
    writable: bool


@dataclass(frozen=True)
class Machine:
    """What a model runs on here.

    Attributes:
        python: Version of the interpreter.
        packages: Version of each package that matters; None where it is not installed.
        outdated: Requirements of trimtab that are not met.
        cpu: What the processor calls itself; empty if it does not.
        cores: Processor cores that this process may use.
        threads: How many of them torch uses.
        free_memory: Bytes; None where the system does not tell.
        gpus: Every GPU that torch can use.
        cache: Where converted models are kept.
        vectors: Where vectors are found by name.
    """

    python: str
    packages: dict[str, str | None]
    outdated: tuple[str, ...]
    cpu: str
    cores: int
    threads: int
    free_memory: int | None
    gpus: tuple[Gpu, ...]
    cache: Folder
    vectors: Folder


def this_machine() -> Machine:
    """The machine at hand, as it is now. Nothing is imported or written for it."""
    return Machine(
        python=platform.python_version(),
        packages={name: _version(name) for name in (*NEEDED, *OPTIONAL)},
        outdated=_outdated(),
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        free_memory=free_memory(),
        gpus=tuple(map(_gpu, range(torch.cuda.device_count()))) if torch.cuda.is_available() else (),
        cache=_folder(cache_folder()),
        vectors=_folder(vectors_folder()),
    )


def free_memory() -> int | None:
    """Bytes of memory that can be had without pushing anything else out; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _outdated() -> tuple[str, ...]:
    try:
        requirements = importlib.metadata.requires("trimtab") or []
    except importlib.metadata.PackageNotFoundError:  # run from a folder that was never installed
        return ()
    return tuple(requirement for requirement in requirements if ";" not in requirement and not _is_met(requirement))


def _is_met(requirement: str) -> bool:
    try:
        require_version(requirement)
    except (ImportError, ValueError):
        return False
    return True


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _gpu(number: int) -> Gpu:
    free, total = torch.cuda.mem_get_info(number)
    return Gpu(torch.cuda.get_device_name(number), free, total)


def _folder(path: Path) -> Folder:
    there = next((folder for folder in (path, *path.absolute().parents) if folder.exists()), path)
    return Folder(str(path), writable=there.is_dir() and os.access(there, os.W_OK | os.X_OK))
