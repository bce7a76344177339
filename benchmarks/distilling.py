"""Share of a system prompt's effect that a distilled vector carries, for prompts of many kinds."""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measurement import Step, ignore_step
from benchmarks.models import load_model, run_conditions
from benchmarks.results_cache import cached_or_measured
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import BenchmarkError
from trimtab.evaluation.distilled import Sizes, evaluate_distilled
from trimtab.training.distillation.distill import Effort, distill
from trimtab.training.progress import Progress

SEED = 0


@dataclass(frozen=True)
class SystemPrompt:
    """System prompt to distil.

    Attributes:
        kind: Description of the kind of prompt.
        prompt: Text of the prompt.
        facts: Whether it consists of exact facts; such prompts are left out of the means.
    """

    kind: str
    prompt: str
    facts: bool = False


@cache
def system_prompts() -> Mapping[str, SystemPrompt]:
    """Return the system prompts of the benchmark, by name.

    Example:
        >>> system_prompts()["tutor"].kind
        'a tutor'
    """
    text = Path(__file__).with_name("prompts.toml").read_text(encoding="utf-8")
    return {
        name: SystemPrompt(row["kind"], row["prompt"].strip(), row.get("facts", False))
        for name, row in tomllib.loads(text).items()
    }


@dataclass(frozen=True)
class Plan:
    """Settings of the benchmark of distilling.

    Attributes:
        prompts: Names of ``system_prompts``.
        model: Hub id, folder or file; the default model if not given.
        effort: Amount of training.
        sizes: Amount of evaluation.
    """

    prompts: tuple[str, ...] = field(default_factory=lambda: tuple(system_prompts()))
    model: str | None = None
    effort: Effort = field(default_factory=Effort)
    sizes: Sizes = field(default_factory=Sizes)

    def __post_init__(self) -> None:
        unknown = [name for name in self.prompts if name not in system_prompts()]
        if unknown or not self.prompts:
            what = f"no prompt named {unknown[0]!r}" if unknown else "no prompts to measure"
            raise BenchmarkError(what, fix=f"use some of {', '.join(system_prompts())}")


def benchmark(
    plan: Plan,
    folder: Path,
    *,
    engine: TransformersEngine | None = None,
    on_step: Callable[[Step], None] = ignore_step,
) -> Iterator[Mapping[str, Any]]:
    """Distil one prompt after another; results of an earlier run with the same plan are reused.

    Args:
        plan: Settings.
        folder: Folder to which the result of each prompt is written at once.
        engine: The model; loaded if not given.
        on_step: Called with each step of the work.

    Yields:
        The result of each prompt.
    """
    model = load_model(engine, plan.model, on_step)
    job = run_conditions(model, {"effort": asdict(plan.effort), "sizes": asdict(plan.sizes)})
    for number, name in enumerate(plan.prompts):
        prompt = system_prompts()[name]

        def step(progress: Progress, *, name: str = name, number: int = number) -> None:
            on_step(Step(f"{name}: {progress.phase}", number, len(plan.prompts)))

        yield cached_or_measured(
            folder / f"{name}.json",
            {"name": name, "kind": prompt.kind, "facts": prompt.facts, "job": job, "prompt": prompt.prompt},
            partial(_measure_prompt, model, name, prompt, plan, step),
        )


def _measure_prompt(
    model: TransformersEngine, name: str, prompt: SystemPrompt, plan: Plan, step: Callable[[Progress], None]
) -> dict[str, Any]:
    began = time.perf_counter()
    vector = distill(model, prompt.prompt, name=name, effort=plan.effort, seed=SEED, progress=step)
    seconds = time.perf_counter() - began
    report = evaluate_distilled(model, vector, prompt.prompt, sizes=plan.sizes, progress=step)
    record = vector.distillation
    assert record is not None
    return {
        "seconds": round(seconds, 1),
        "distillation": asdict(record),
        "report": json.loads(json.dumps(asdict(report))),
    }


def summary(measured: Sequence[Mapping[str, Any]], *, wanted: int) -> dict[str, Any]:
    """Summarise the closed share of the gap over all prompts, for the vector and for the other interventions.

    Means leave out prompts of exact facts, which no vector is expected to carry.

    Args:
        measured: Results of ``benchmark``.
        wanted: Planned number of prompts.

    Raises:
        BenchmarkError: Nothing was measured.
    """
    if not measured:
        raise BenchmarkError("no prompt was measured", fix="let the first one finish")
    interventions = list(dict.fromkeys(name for result in measured for name in _closed(result)))
    counted = [result for result in measured if not result["facts"]] or measured
    return {
        "benchmark": "distilling",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": len(measured) == wanted,
        **{key: measured[0]["job"][key] for key in ("model", "device", "effort", "versions")},
        "prompts": {
            result["name"]: {"kind": result["kind"], "seconds": result["seconds"], **_row(result)}
            for result in measured
        },
        "over": [result["name"] for result in counted],
        "closed": {
            intervention: float(
                np.mean([_closed(result)[intervention] for result in counted if intervention in _closed(result)])
            )
            for intervention in interventions
        },
        "seconds": float(np.mean([result["seconds"] for result in measured])),
    }


def _closed(result: Mapping[str, Any]) -> dict[str, float]:
    report = result["report"]
    return {
        intervention["name"]: intervention["closed"]["value"] for intervention in (report["vector"], *report["others"])
    }


def _row(result: Mapping[str, Any]) -> dict[str, Any]:
    report = result["report"]
    return {
        "tokens": report["saving"]["tokens"],
        "gap": report["base_kl"],
        "closed": _closed(result),
        "interval": report["vector"]["closed"],
        "stays": [rule["text"] for rule in report["rules"] if rule["carried"] is False],
    }


def table(overview: Mapping[str, Any]) -> str:
    """Format a summary as text."""
    interventions = list(overview["closed"])
    head = ["prompt", "tokens", "gap, nat", *interventions, "95 %", "seconds"]
    rows = [
        [
            name,
            str(row["tokens"]),
            f"{row['gap']:.3f}",
            *(
                f"{row['closed'][intervention]:.2f}" if intervention in row["closed"] else "–"
                for intervention in interventions
            ),
            f"{row['interval']['low']:.2f} to {row['interval']['high']:.2f}",
            f"{row['seconds']:.0f}",
        ]
        for name, row in overview["prompts"].items()
    ]
    rows.append(
        [
            f"mean of {len(overview['over'])}",
            "",
            "",
            *(f"{overview['closed'][intervention]:.2f}" for intervention in interventions),
            "",
            f"{overview['seconds']:.0f}",
        ]
    )
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
    return "\n".join(["Closed share of the gap between the plain and the prompted model", *lines])
