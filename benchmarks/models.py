"""Model of a benchmark: loading it, and the conditions under which its results are comparable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.measurement import Step, package_versions
from trimtab.engines.transformers import TransformersEngine, load
from trimtab.errors import BenchmarkError


def load_model(
    engine: TransformersEngine | None, name: str | None, on_step: Callable[[Step], None]
) -> TransformersEngine:
    """Return the given engine; load the model of that name, or the default one, where none is given."""
    on_step(Step("Loading the model"))
    return engine or load(name)


def check_counts(**counts: int) -> None:
    """Check that the counts of a plan are positive.

    Raises:
        BenchmarkError: One is not.
    """
    if min(counts.values()) < 1:
        *names, last = counts
        raise BenchmarkError(f"{', '.join(names)} and {last} must be at least 1", fix="increase them")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Inside, torch uses a number of threads, in the engine's thread too; limits of OpenMP hold in one thread alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_conditions(model: TransformersEngine, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides a result except its case, as JSON values like those of a cached result."""
    conditions: dict[str, Any] = json.loads(
        json.dumps(
            {
                "model": model.info.name,
                "fingerprint": model.info.fingerprint,
                "device": str(model.model.device),
                **settings,
                "versions": package_versions(),
            }
        )
    )
    return conditions
