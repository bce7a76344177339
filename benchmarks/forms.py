"""JSON over HTTP: is it valid under steering, and are forms filled in as well as without steering?"""

from __future__ import annotations

import asyncio
import json
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from benchmarks.constraints import NAMES, SCHEMAS, STRONGEST, closed_object, is_valid
from benchmarks.measurement import Step, ignore_step, machine, package_versions
from benchmarks.models import check_counts, load_model
from benchmarks.served import running_server, trimtab_command
from trimtab import ControlVector
from trimtab.behaviours import neutral_prompts
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import BenchmarkError
from trimtab.vectors import find_vector

NAME = "benchmark"
TOGETHER = 16  # requests at once
TOKENS = 400
FORM_TOKENS = 160
SEED = 0
STEERED = {"off inside JSON": False, "steer_constrained": True}  # settings, and the field of the request
UNSTEERED = "unsteered"
FIELD_TYPES: Mapping[str, Mapping[str, Any]] = {
    "text": {"type": "string", "maxLength": 30},
    "date": {"type": "string", "format": "date"},
    "number": {"type": "integer", "minimum": 0, "maximum": 99_999},
}


@dataclass(frozen=True)
class Plan:
    """Settings of the benchmark.

    Attributes:
        answers: Number of JSON answers of each setting, besides the forms.
        forms: Number of forms; all if not given.
        threads: Number of threads of the model.
        model: Hub id, folder or file; the default model if not given.
    """

    answers: int = 500
    forms: int | None = None
    threads: int = 1
    model: str | None = None

    def __post_init__(self) -> None:
        check_counts(answers=self.answers, forms=self.forms or 1, threads=self.threads)


@dataclass(frozen=True)
class Form:
    """A short text, and what a form about it should say.

    Attributes:
        about: What the text is about.
        text: The text.
        schema: Of the form.
        fields: Each field with its right value.
    """

    about: str
    text: str
    schema: Mapping[str, Any]
    fields: Mapping[str, str | int]

    @property
    def question(self) -> str:
        """Return what a model is asked."""
        names = ", ".join(name.replace("_", " ") for name in self.fields)
        return f"{self.text}\n\nFill in the form of this {self.about} as JSON: {names}. Dates are YYYY-MM-DD."

    def right(self, answer: str) -> int:
        """Return how many fields an answer has right."""
        try:
            filled = json.loads(answer)
        except ValueError:
            return 0
        return sum(filled.get(name) == value for name, value in self.fields.items())


def load_forms() -> tuple[Form, ...]:
    """Return the 100 forms of this benchmark, kinds in turn."""
    kinds = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))["kinds"]
    listed = []
    for kind in kinds:
        types = {name: FIELD_TYPES[kind] if isinstance(kind, str) else {"enum": kind} for name, kind in _items(kind)}
        listed.append(
            [
                Form(kind["about"], text, closed_object(types), dict(zip(types, values, strict=True)))
                for text, *values in kind["forms"]
            ]
        )
    return tuple(form for together in zip(*listed, strict=True) for form in together)


def _items(kind: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(kind["fields"].items())


def benchmark(
    plan: Plan,
    *,
    engine: TransformersEngine | None = None,
    vectors: Sequence[ControlVector] = (),
    on_step: Callable[[Step], None] = ignore_step,
) -> dict[str, Any]:
    """Count the valid JSON answers of a server to steered requests, and the right fields of forms.

    Returns:
        The result, for JSON.
    """
    model = load_model(engine, plan.model, on_step)
    steered_by = list(vectors) or [find_vector(name) for name in NAMES]
    forms = load_forms()[: plan.forms]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "vectors").mkdir()
        for number, vector in enumerate(steered_by):
            vector.save(folder / "vectors" / f"v{number}.safetensors")
        model.model.save_pretrained(folder / "model")
        model.tokenizer.save_pretrained(folder / "model")
        on_step(Step("Starting the server"))
        with running_server(trimtab_command(folder, NAME), folder, plan.threads) as server:
            filled = {}
            for setting, fields in _settings(UNSTEERED).items():
                on_step(Step(f"{len(forms)} forms: {setting}"))
                bodies = [_form_body(form, n, fields, len(steered_by)) for n, form in enumerate(forms)]
                filled[setting] = asyncio.run(_ask_all(server.address, bodies))
            valid = {}
            for setting, fields in _settings().items():
                on_step(Step(f"{plan.answers} JSON answers: {setting}"))
                bodies = _json_bodies(plan.answers, fields, len(steered_by))
                answers = asyncio.run(_ask_all(server.address, bodies))
                schemas = [SCHEMAS[n % len(SCHEMAS)] for n in range(plan.answers)]
                valid[setting] = sum(map(is_valid, answers, schemas))
    return {
        "benchmark": "forms",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {"trimtab": package_versions()},
        "threads": plan.threads,
        "model": model.info.name,
        "strongest": STRONGEST,
        "answers": {"of": plan.answers, "valid": valid},
        "forms": {
            "of": len(forms),
            "fields": sum(len(form.fields) for form in forms),
            "settings": {
                setting: {
                    "valid": sum(is_valid(answer, form.schema) for answer, form in zip(answers, forms, strict=True)),
                    "right": sum(form.right(answer) for answer, form in zip(answers, forms, strict=True)),
                    "as_unsteered": sum(map(str.__eq__, answers, filled[UNSTEERED])),
                }
                for setting, answers in filled.items()
            },
        },
    }


def _settings(*unsteered: str) -> dict[str, Mapping[str, Any] | None]:
    """Return the fields of each setting; None for a request that steers nothing."""
    return {**dict.fromkeys(unsteered), **{name: {"steer_constrained": on} for name, on in STEERED.items()}}


def _form_body(form: Form, number: int, fields: Mapping[str, Any] | None, vectors: int) -> dict[str, Any]:
    """Return the request of a form; its strength is the same in every setting that steers."""
    strength = float(np.random.default_rng([SEED, number]).uniform(-STRONGEST, STRONGEST))
    steering = {} if fields is None else {"steering": {f"v{number % vectors}": strength}, **fields}
    return {**_body(form.question, form.schema), "max_tokens": FORM_TOKENS, "temperature": 0, **steering}


def _json_bodies(count: int, fields: Mapping[str, Any] | None, vectors: int) -> list[dict[str, Any]]:
    """Return requests steered by one vector each, at a random strength, every other one sampled."""
    draw = np.random.default_rng(SEED)
    prompts = neutral_prompts().calibration + neutral_prompts().more
    return [
        {
            **_body(prompts[int(draw.integers(len(prompts)))], SCHEMAS[n % len(SCHEMAS)]),
            "steering": {f"v{n % vectors}": float(draw.uniform(-STRONGEST, STRONGEST))},
            "max_tokens": TOKENS,
            "temperature": n % 2,
            "seed": n,
            **(fields or {}),
        }
        for n in range(count)
    ]


def _body(question: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": NAME,
        "messages": [{"role": "user", "content": question}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}},
    }


async def _ask_all(address: str, bodies: Sequence[Mapping[str, Any]]) -> list[str]:
    free = asyncio.Semaphore(TOGETHER)

    async def ask(client: httpx2.AsyncClient, body: Mapping[str, Any]) -> str:
        async with free:
            answer = await client.post(f"{address}/v1/chat/completions", json=body)
        if answer.status_code != 200:
            raise BenchmarkError(f"the server answers {answer.status_code}: {answer.text[:200]}")
        return str(answer.json()["choices"][0]["message"]["content"])

    async with httpx2.AsyncClient(timeout=600, limits=httpx2.Limits(max_connections=TOGETHER)) as client:
        return await asyncio.gather(*(ask(client, body) for body in bodies))


def table(measured: Mapping[str, Any]) -> str:
    """Return the result as lines of text."""
    answers, forms = measured["answers"], measured["forms"]
    lines = [
        f"{setting:<20}{valid} of {answers['of']} JSON answers are valid at strengths up to {measured['strongest']}"
        for setting, valid in answers["valid"].items()
    ]
    lines += [
        f"{setting:<20}{each['right']} of {forms['fields']} fields are right; of {forms['of']} forms {each['valid']} "
        f"are valid, {each['as_unsteered']} as without steering"
        for setting, each in forms["settings"].items()
    ]
    return "\n".join(lines)
