"""Isolation on the default model: a request has the same answer, bit for bit, whatever is answered beside it."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest

from trimtab import Constraint, ControlVector, Tag
from trimtab.engines.protocol import Completion
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.model.reorder import is_reordered
from trimtab.errors import CancelledGenerationError
from trimtab.vectors import find_vector

REQUESTS = int(os.environ.get("TRIMTAB_ISOLATION_REQUESTS", "200"))
DISTINCT = 40
THREADS = 16
NAMES = ("happy", "formal", "trippy")
SCHEMA = {"properties": {"a long name": {"type": "string", "maxLength": 9}, "is it wet": {"type": "boolean"}}}
JSON = Constraint.json_schema({**SCHEMA, "required": list(SCHEMA["properties"]), "additionalProperties": False})
CONSTRAINTS = (
    Constraint.choice(["yes", "no", "maybe"]),
    JSON,
    Constraint.json_schema(JSON.to_json()["json_schema"], steer=True),
    Constraint.tags([Tag("a", JSON), Tag("I", Constraint.regex("[0-9]{2}"), "!")]),
)
PROMPTS = ("How was your day?", "Name a sea.", "Tell me about rivers, and about the towns beside them.", "Is rain wet?")


@pytest.fixture(scope="module")
def vectors() -> list[ControlVector]:
    return [find_vector(name) for name in NAMES]


def random_request(rng: np.random.Generator, vectors: list[ControlVector]) -> dict[str, Any]:
    """Options of one request: a mix, a length, a stop, a seed, and a constraint now and then."""
    count = int(rng.integers(0, 3))
    chosen = rng.choice(len(vectors), size=count, replace=False)
    options: dict[str, Any] = {
        "prompt": str(rng.choice(PROMPTS)),
        "steering": [(vectors[n], round(float(rng.uniform(-1, 1)), 2)) for n in chosen],
        "max_new_tokens": int(rng.integers(1, 20)),
    }
    if rng.random() < 0.5:
        options |= {"temperature": 0.8, "seed": int(rng.integers(100)), "top_p": 0.9}
    if rng.random() < 0.3:
        options["stop"] = [str(rng.choice(["a", " the", "."]))]
    if rng.random() < 0.3:
        options["constraint"] = CONSTRAINTS[rng.integers(len(CONSTRAINTS))]
    return options


def logprobs(completion: Completion) -> list[float]:
    assert completion.logprobs is not None
    return [each.logprob for each in completion.logprobs]


@pytest.mark.slow
def test_answers_beside_others_are_those_alone(smollm2: TransformersEngine, vectors: list[ControlVector]) -> None:
    assert is_reordered(smollm2.model)
    rng = np.random.default_rng(0)
    cases = [random_request(rng, vectors) for _ in range(DISTINCT)]
    alone = [smollm2.submit(**case, logprobs=0, salt=f"alone {n}").result() for n, case in enumerate(cases)]
    wrong: list[int] = []
    done = [0]

    def work(seed: int) -> None:
        own = np.random.default_rng([1, seed])
        for _ in range(REQUESTS // THREADS + 1):
            n = int(own.integers(DISTINCT))
            request = smollm2.submit(**cases[n], logprobs=0, salt=str(own.integers(3)))
            if own.random() < 0.1:
                request.cancel()
            try:
                answer = request.result(timeout=600)
            except CancelledGenerationError:
                continue
            done[0] += 1
            same = (answer.tokens, answer.text, answer.receipt) == (alone[n].tokens, alone[n].text, alone[n].receipt)
            if not same or logprobs(answer) != logprobs(alone[n]):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert done[0] > 0.8 * REQUESTS
    assert not any(module._forward_hooks for module in smollm2.model.modules())
