"""How much of a system prompt a vector carries, over prompts of many kinds, beside other ways of doing without it."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.benches.extraction import Step
from trimtab.benches.keeping import kept_or_measured
from trimtab.benches.peer_repeng import versions
from trimtab.engines.transformers import TransformersEngine, load
from trimtab.errors import BenchmarkError
from trimtab.evaluation.distilled import Sizes, evaluate_distilled
from trimtab.training.distillation.distill import Effort, distill
from trimtab.training.progress import Progress

SEED = 0


@dataclass(frozen=True)
class BenchPrompt:
    """A system prompt to be distilled.

    Attributes:
        kind: What sort of prompt it is.
        prompt: Its text.
        facts: Whether it is of exact facts; then it is left out of the means.
    """

    kind: str
    prompt: str
    facts: bool = False


@cache
def bench_prompts() -> Mapping[str, BenchPrompt]:
    """The system prompts of the benchmark, by name.

    Example:
        >>> bench_prompts()["tutor"].kind
        'a tutor'
    """
    text = files("trimtab.benches").joinpath("prompts.toml").read_text()
    return {
        name: BenchPrompt(row["kind"], row["prompt"].strip(), row.get("facts", False))
        for name, row in tomllib.loads(text).items()
    }


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        prompts: Of ``bench_prompts``.
        model: Hub id, folder or file; the default model if not given.
        effort: How much is learned from.
        sizes: How much is asked of what was learned.
    """

    prompts: tuple[str, ...] = field(default_factory=lambda: tuple(bench_prompts()))
    model: str | None = None
    effort: Effort = field(default_factory=Effort)
    sizes: Sizes = field(default_factory=Sizes)

    def __post_init__(self) -> None:
        unknown = [name for name in self.prompts if name not in bench_prompts()]
        if unknown or not self.prompts:
            what = f"no prompt named {unknown[0]!r}" if unknown else "no prompts to measure"
            raise BenchmarkError(what, fix=f"use some of {', '.join(bench_prompts())}")


def benchmark(
    plan: Plan,
    folder: Path,
    *,
    engine: TransformersEngine | None = None,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Iterator[Mapping[str, Any]]:
    """Distil one prompt after another; what was measured before under the same plan is kept.

    Args:
        plan: What to measure.
        folder: Where each prompt's numbers are written as soon as they are there.
        engine: The model; loaded if not given.
        on_step: Called with each step of the work.

    Yields:
        Each prompt's numbers.
    """
    on_step(Step("Loading the model"))
    model = engine or load(plan.model)
    job = json.loads(json.dumps(_job(plan, model)))
    for number, name in enumerate(plan.prompts):
        given = bench_prompts()[name]

        def step(progress: Progress, *, name: str = name, number: int = number) -> None:
            on_step(Step(f"{name}: {progress.phase}", number, len(plan.prompts)))

        yield kept_or_measured(
            folder / f"{name}.json",
            {"name": name, "kind": given.kind, "facts": given.facts, "job": job, "prompt": given.prompt},
            partial(_measured, model, name, given, plan, step),
        )


def _job(plan: Plan, model: TransformersEngine) -> dict[str, Any]:
    """What decides the numbers, besides the prompt."""
    return {
        "model": model.info.name,
        "fingerprint": model.info.fingerprint,
        "device": str(model.model.device),
        "effort": asdict(plan.effort),
        "sizes": asdict(plan.sizes),
        "versions": versions(("trimtab", "torch", "transformers", "numpy")),
    }


def _measured(
    model: TransformersEngine, name: str, given: BenchPrompt, plan: Plan, step: Callable[[Progress], None]
) -> dict[str, Any]:
    began = time.perf_counter()
    vector = distill(model, given.prompt, name=name, effort=plan.effort, seed=SEED, progress=step)
    seconds = time.perf_counter() - began
    report = evaluate_distilled(model, vector, given.prompt, sizes=plan.sizes, progress=step)
    record = vector.distillation
    assert record is not None
    return {
        "seconds": round(seconds, 1),
        "distillation": asdict(record),
        "report": json.loads(json.dumps(asdict(report))),
    }


def summary(measured: Sequence[Mapping[str, Any]], *, wanted: int) -> dict[str, Any]:
    """All prompts together: the mean share of the gap that is closed, beside the mean difference's.

    Means are over prompts that a vector may carry; those of exact facts stand by themselves.

    Args:
        measured: What ``benchmark`` gave.
        wanted: How many prompts there were to be.

    Raises:
        BenchmarkError: Nothing was measured.
    """
    if not measured:
        raise BenchmarkError("no prompt was measured", fix="let it run to the end of the first one")
    ways = list(dict.fromkeys(name for one in measured for name in _closed(one)))
    counted = [one for one in measured if not one["facts"]] or measured
    return {
        "benchmark": "distilling",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": len(measured) == wanted,
        **{key: measured[0]["job"][key] for key in ("model", "device", "effort", "versions")},
        "prompts": {one["name"]: {"kind": one["kind"], "seconds": one["seconds"], **_row(one)} for one in measured},
        "over": [one["name"] for one in counted],
        "closed": {way: float(np.mean([_closed(one)[way] for one in counted if way in _closed(one)])) for way in ways},
        "seconds": float(np.mean([one["seconds"] for one in measured])),
    }


def _closed(one: Mapping[str, Any]) -> dict[str, float]:
    report = one["report"]
    return {way["name"]: way["closed"]["value"] for way in (report["vector"], *report["others"])}


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    report = one["report"]
    return {
        "tokens": report["saving"]["tokens"],
        "gap": report["base_kl"],
        "closed": _closed(one),
        "interval": report["vector"]["closed"],
        "stays": [rule["text"] for rule in report["rules"] if rule["carried"] is False],
    }


def table(found: Mapping[str, Any]) -> str:
    """The summary as text.

    Args:
        found: What ``summary`` gave.
    """
    ways = list(found["closed"])
    head = ["prompt", "tokens", "gap, nat", *ways, "95 %", "seconds"]
    rows = [
        [
            name,
            str(row["tokens"]),
            f"{row['gap']:.3f}",
            *(f"{row['closed'][way]:.2f}" if way in row["closed"] else "–" for way in ways),
            f"{row['interval']['low']:.2f} to {row['interval']['high']:.2f}",
            f"{row['seconds']:.0f}",
        ]
        for name, row in found["prompts"].items()
    ]
    rows.append(
        [
            f"mean of {len(found['over'])}",
            "",
            "",
            *(f"{found['closed'][way]:.2f}" for way in ways),
            "",
            f"{found['seconds']:.0f}",
        ]
    )
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    return "\n".join(["Share of the gap between the plain and the prompted model that is closed", *lines])
