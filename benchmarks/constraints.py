"""Constraints: are steered JSON answers valid, and what do forced tokens cost when they are read at once?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import jsonschema
import numpy as np

from benchmarks.measurement import Step, ignore_step, machine, package_versions
from benchmarks.models import check_counts, load_model, torch_threads
from trimtab import Constraint, ControlVector, Tag
from trimtab.behaviours import neutral_prompts
from trimtab.engines.protocol import Completion
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.decode import row
from trimtab.vectors import find_vector

NAMES = ("happy", "formal", "trippy")
STRONGEST = 1.5
TOGETHER = 50  # answers that are asked for at once
TOKENS = 400
SEED = 0
TRIGGER = "."
SHORT = {"type": "string", "maxLength": 20}


def closed_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that has these properties and no others."""
    listed = {"properties": dict(properties), "required": list(properties)}
    return {"type": "object", **listed, "additionalProperties": False}


STREET = closed_object({"street": SHORT})
COUNT = {"type": "integer", "minimum": 0, "maximum": 99}
SCHEMAS = (
    closed_object({"name": SHORT, "city": SHORT, "complaint": {"type": "boolean"}}),
    closed_object({"title": SHORT, "year": {"type": "integer", "minimum": 1000, "maximum": 2100}, "rating": COUNT}),
    closed_object({"date": {"type": "string", "format": "date"}, "mood": {"enum": ["good", "bad", "mixed", None]}}),
    closed_object({"items": {"type": "array", "items": closed_object({"what": SHORT, "count": COUNT}), "maxItems": 3}}),
    closed_object({"code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,4}$"}, "place": STREET}),
)


@dataclass(frozen=True)
class Plan:
    """Settings of the benchmark.

    Attributes:
        answers: Number of whole answers that are JSON; a fifth as many have it as a part.
        rounds: Number of turns of each side of the comparison; medians are reported.
        threads: Number of threads of the model.
        model: Hub id, folder or file; the default model if not given.
    """

    answers: int = 500
    rounds: int = 3
    threads: int = 1
    model: str | None = None

    def __post_init__(self) -> None:
        check_counts(answers=self.answers, rounds=self.rounds, threads=self.threads)


def benchmark(
    plan: Plan,
    *,
    engine: TransformersEngine | None = None,
    vectors: Sequence[ControlVector] = (),
    on_step: Callable[[Step], None] = ignore_step,
) -> dict[str, Any]:
    """Count the valid answers, and measure tokens per CPU second with forced tokens at once and one by one.

    Returns:
        The result, for JSON.
    """
    with torch_threads(plan.threads):
        model = load_model(engine, plan.model, on_step)
        steered_by = vectors or [find_vector(name) for name in NAMES]
        on_step(Step(f"{plan.answers} JSON answers"))
        whole = [_whole(answer, schema) for answer, schema in _answers(model, steered_by, plan.answers, tagged=False)]
        on_step(Step("JSON inside answers"))
        found = _answers(model, steered_by, -(-plan.answers // 5), tagged=True)
        parts = [valid for answer, schema in found if (valid := _part(answer, schema)) is not None]
        rates = _rates(model, plan, on_step)
    return {
        "benchmark": "constraints",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {"trimtab": package_versions()},
        "threads": plan.threads,
        "model": model.info.name,
        "strongest": STRONGEST,
        "answers": {"valid": sum(whole), "of": len(whole)},
        "parts": {"valid": sum(parts), "of": len(parts), "answers": len(found)},
        "tokens_per_cpu_second": rates,
    }


def _answers(
    model: TransformersEngine, vectors: Sequence[ControlVector], count: int, *, tagged: bool
) -> list[tuple[Completion, dict[str, Any]]]:
    """Return answers steered by one vector each, at a random strength, every other one sampled, with their schemas."""
    draw = np.random.default_rng([SEED, tagged])
    prompts = neutral_prompts().calibration + neutral_prompts().more
    answers: list[tuple[Completion, dict[str, Any]]] = []
    while len(answers) < count:
        requests = []
        for n in range(len(answers), min(len(answers) + TOGETHER, count)):
            schema = SCHEMAS[n % len(SCHEMAS)]
            whole = Constraint.json_schema(schema, steer=True)
            part = Constraint.tags([Tag(TRIGGER, Constraint.json_schema(schema))], once=True)
            request = model.submit(
                prompts[int(draw.integers(len(prompts)))],
                steering=[(vectors[n % len(vectors)], float(draw.uniform(-STRONGEST, STRONGEST)))],
                constraint=part if tagged else whole,
                temperature=float(n % 2),
                seed=n,
                max_new_tokens=TOKENS,
            )
            requests.append((request, schema))
        answers += [(request.result(), schema) for request, schema in requests]
    return answers


def _whole(answer: Completion, schema: dict[str, Any]) -> bool:
    return answer.finish_reason == "stop" and is_valid(answer.text, schema)


def _part(answer: Completion, schema: dict[str, Any]) -> bool | None:
    """Return whether the part is valid; None if none was begun, or the answer ran out of tokens inside."""
    _, trigger, behind = answer.text.partition(TRIGGER)
    if not trigger:
        return None
    try:
        _, stop = json.JSONDecoder().raw_decode(behind)
    except ValueError:
        return None if answer.finish_reason == "length" else False
    return is_valid(behind[:stop], schema)


def is_valid(text: str, schema: Mapping[str, Any]) -> bool:
    """Return whether a text is JSON that a schema allows."""
    try:
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def _rates(model: TransformersEngine, plan: Plan, on_step: Callable[[Step], None]) -> dict[str, dict[str, float]]:
    """Return tokens per CPU second of answers alone and of sixteen together, by how forced tokens are read."""
    sides = [(kind, count) for kind in ("greedy", "sampled") for count in (1, 16)]
    turns: dict[str, dict[str, list[float]]] = {f"{kind}, {count}": {} for kind, count in sides}
    for number in range(-1, plan.rounds):  # the first one is not counted
        on_step(Step("Forced tokens", number + 1, plan.rounds + 1))
        for kind, count in sides:
            for reading, most in (("at once", row.FORCED), ("one by one", 0)):
                with patch.object(row, "FORCED", most):
                    rate = _rate(model, count, temperature=float(kind == "sampled"), turn=f"{number} {reading}")
                if number >= 0:
                    turns[f"{kind}, {count}"].setdefault(reading, []).append(rate)
    return {
        side: {reading: round(float(np.median(rates)), 1) for reading, rates in several.items()}
        for side, several in turns.items()
    }


def _rate(model: TransformersEngine, count: int, *, temperature: float, turn: str) -> float:
    prompts = (neutral_prompts().calibration + neutral_prompts().more)[:count]
    constraint = Constraint.json_schema(SCHEMAS[0])
    begun = time.process_time()
    requests = [
        model.submit(
            prompt, constraint=constraint, salt=turn, temperature=temperature, seed=SEED, max_new_tokens=TOKENS
        )
        for prompt in prompts
    ]
    tokens = sum(len(request.result().tokens) for request in requests)
    return tokens / (time.process_time() - begun)


def table(measured: Mapping[str, Any]) -> str:
    """Return the result as lines of text."""
    answers, parts = measured["answers"], measured["parts"]
    lines = [
        f"{answers['valid']} of {answers['of']} JSON answers are valid at strengths up to {measured['strongest']}.",
        f"{parts['valid']} of {parts['of']} JSON parts of {parts['answers']} answers are valid.",
    ]
    for side, rates in measured["tokens_per_cpu_second"].items():
        lines += [f"{side:<14}{reading:<12}{rate:>8.1f} tokens per CPU second" for reading, rate in rates.items()]
    return "\n".join(lines)
