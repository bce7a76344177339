"""Isolation on tiny models of ten families with plain weights, and memory over thousands of requests."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neutral_vectors import reader_for
from trimtab import Constraint, ControlVector
from trimtab.engines.protocol import Completion
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import CancelledGenerationError
from trimtab.steering import Steering

REQUESTS = int(os.environ.get("TRIMTAB_ISOLATION_REQUESTS", "500")) // 10  # of each family
THREADS = 16
NEAR = 1e-4  # difference of log-probabilities below which the order of tokens is left to rounding
MIXES = ("none", "one:0.8", "one:-0.5 + two:0.5@generated", "two:0.7@prompt", "one:0.7 when one < 3", "ablate(two)")
PROMPTS = ("How was your day?", "A longer question about rivers, and about the towns beside them.", "Hi")
STATM = Path("/proc/self/statm")


def random_request(rng: np.random.Generator, vectors: dict[str, ControlVector]) -> dict[str, Any]:
    """Options of one request: a mix, a length, a stop, a seed, and a constraint now and then."""
    options: dict[str, Any] = {
        "prompt": str(rng.choice(PROMPTS)),
        "steering": Steering.of(str(rng.choice(MIXES)), find=vectors.__getitem__),
        "max_new_tokens": int(rng.integers(1, 9)),
    }
    if rng.random() < 0.4:
        options |= {"temperature": 0.8, "seed": int(rng.integers(100))}
    if rng.random() < 0.3:
        options["stop"] = [str(rng.choice(["a", " t", "."]))]
    if rng.random() < 0.2:
        options["constraint"] = Constraint.choice(["yes", "no", "maybe"], steer=bool(rng.random() < 0.5))
    return options


def equal_but_for_ties(answer: Completion, alone: Completion) -> bool:
    """Return True if the tokens are equal up to one whose rival was as likely, up to rounding."""
    assert answer.logprobs is not None
    assert alone.logprobs is not None
    for mine, right in zip(answer.logprobs, alone.logprobs, strict=False):
        if mine.token != right.token:
            likely = [other.logprob for other in right.alternatives]
            return likely[0] - likely[1] < NEAR
        if mine.logprob != pytest.approx(right.logprob, abs=NEAR):
            return False
    return answer.tokens == alone.tokens and answer.receipt.tokens == alone.receipt.tokens


def wrong_answers(engine: TransformersEngine, *, requests: int, distinct: int) -> list[Any]:
    """Ask from many threads at once; return the answers that differ from those of the same request alone."""
    vectors = {name: reader_for(engine, seed=seed, name=name) for seed, name in enumerate(("one", "two"))}
    rng = np.random.default_rng(0)
    cases = [random_request(rng, vectors) for _ in range(distinct)]
    alone = [engine.submit(**case, logprobs=2, salt=f"alone {n}").result(60) for n, case in enumerate(cases)]
    wrong: list[Any] = []
    done = [0]

    def work(seed: int) -> None:
        own = np.random.default_rng([1, seed])
        for _ in range(requests // THREADS + 1):
            n = int(own.integers(distinct))
            request = engine.submit(**cases[n], logprobs=2, salt=str(own.integers(2)))
            if own.random() < 0.1:
                request.cancel()
            try:
                answer = request.result(timeout=120)
            except CancelledGenerationError:
                continue
            except Exception as error:  # a thread would swallow it
                wrong.append(error)
                continue
            done[0] += 1
            sampled = "seed" in cases[n]  # a draw may turn on any rounding of its probabilities
            if not sampled and not equal_but_for_ties(answer, alone[n]):
                wrong.append((n, answer, alone[n]))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done[0] > 0.8 * requests
    return wrong


def test_answers_beside_others_are_those_alone(engine: TransformersEngine) -> None:
    before = engine.model.config._attn_implementation
    assert wrong_answers(engine, requests=REQUESTS, distinct=12) == []
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in engine.model.modules())
    assert engine.model.config._attn_implementation == before


@pytest.mark.slow
@pytest.mark.skipif(not STATM.is_file(), reason="resident memory is read from /proc")
def test_memory_stays_over_thousands_of_requests(tiny: Any) -> None:
    engine = tiny("llama")
    assert wrong_answers(engine, requests=500, distinct=12) == []
    before = resident()
    assert wrong_answers(engine, requests=2500, distinct=12) == []
    assert resident() < 1.02 * before


def resident() -> int:
    """Return the pages of this process in memory."""
    return int(STATM.read_text().split()[1])
