"""Isolation: a request has the same answer whatever is answered beside it, and leaves nothing behind.

On the default model, whose weights are reordered, answers are the same bit for bit. Products of plain weights round
differently in other shapes, so tiny models of many families may differ where two tokens are nearly as likely.
"""

from __future__ import annotations

import gc
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from by_hand import digest_of, traces_in
from neutral_vectors import reader_for
from tiny_models import BY_NAME, FAMILIES, Family, byte_tokenizer
from trimtab import Constraint, ControlVector, Tag
from trimtab.engines.protocol import Completion
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.decode.choose import TokenChooser
from trimtab.engines.transformers.model.reorder import is_reordered
from trimtab.errors import CancelledGenerationError
from trimtab.steering import Steering
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


def shifts(completion: Completion) -> NDArray[np.float64]:
    """Return how far each term has moved hidden states; NaN where it was never active."""
    return np.array([term.shift for term in completion.receipt.terms], dtype=np.float64)


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

    run_threads(work)
    assert wrong == []
    assert done[0] > 0.8 * REQUESTS
    assert not any(module._forward_hooks for module in smollm2.model.modules())


def run_threads(work: Callable[[int], None]) -> None:
    """Run ``work`` with the number of each thread, and wait for them and for the engine's own."""
    errors: list[BaseException] = []

    def noted(seed: int) -> None:
        try:
            work(seed)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=noted, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for thread in threading.enumerate():
        if thread.name == "trimtab-decoding":
            thread.join()
    assert errors == []


# Tiny models of many families ----------------------------------------------------------------------------------------

NEAR = 1e-4  # difference of the two largest scores below which rounding may choose either token
MIXES = (
    "none",
    "one:0.8",
    "one:-0.5 + two:0.5",
    "one:0.8@generated",
    "two:0.7@prompt",
    "one:0.9@user + two:0.4@generated, half-life 4",
    "two:0.6 when one < 0.2 at token",
    "ablate(one)",
    "one:0.5 + floor(two, 50%)",
)
GROUPED = {"num_key_value_heads": 2}
MORE_FAMILIES = (
    *(BY_NAME[name] for name in ("mamba", "lfm2")),
    Family("qwen2", "Qwen2ForCausalLM", "Qwen2Config", "model.layers", GROUPED),
    Family("qwen3", "Qwen3ForCausalLM", "Qwen3Config", "model.layers", {**GROUPED, "head_dim": 8}),
    Family("gemma2", "Gemma2ForCausalLM", "Gemma2Config", "model.layers", {**GROUPED, "head_dim": 8}),
    Family("phi3", "Phi3ForCausalLM", "Phi3Config", "model.layers", GROUPED),
    Family("olmo2", "Olmo2ForCausalLM", "Olmo2Config", "model.layers", GROUPED),
)


@dataclass(frozen=True)
class Alone:
    """Answer to a request that nothing is answered beside, and how near each choice of a token was."""

    completion: Completion
    gaps: tuple[float, ...]  # between the two largest scores at each token

    def is_answered_by(self, other: Completion) -> bool:
        """Return True if ``other`` is the same answer, or another one from a choice on that rounding decides."""
        mine = self.completion
        pairs = itertools.zip_longest(mine.tokens, other.tokens)
        differs = next((n for n, (one, two) in enumerate(pairs) if one != two), None)
        if differs is not None:
            return differs < len(self.gaps) and self.gaps[differs] < NEAR
        one, two = mine.receipt, other.receipt
        return (
            (mine.text, mine.finish_reason, one.steering, one.layers, one.tokens, one.reason)
            == (other.text, other.finish_reason, two.steering, two.layers, two.tokens, two.reason)
            and [(term.tokens, term.layers, term.fired) for term in one.terms]
            == [(term.tokens, term.layers, term.fired) for term in two.terms]
            and np.allclose(shifts(mine), shifts(other), atol=1e-4, equal_nan=True)
            and np.allclose(logprobs(mine), logprobs(other), atol=1e-3)
        )


@contextmanager
def measured_gaps() -> Iterator[list[float]]:
    """Inside, note how far the two largest scores of each choice are apart; for one request at a time."""
    scores, gaps = TokenChooser.scores, list[float]()

    def scored(chooser: TokenChooser, logits: Tensor) -> Tensor:
        found = scores(chooser, logits)
        best, second = found.topk(2).values.tolist()
        gaps.append(best - second)
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TokenChooser, "scores", scored)
        patched.setattr(TokenChooser, "is_plain", False)  # so that every choice has scores
        yield gaps


def tiny_request(rng: np.random.Generator, vectors: dict[str, ControlVector]) -> dict[str, Any]:
    """Options of one request to a tiny model, whose tokens are bytes."""
    options: dict[str, Any] = {
        "prompt": str(rng.choice(PROMPTS)),
        "steering": Steering.of(str(rng.choice(MIXES)), find=vectors.__getitem__),
        "max_new_tokens": int(rng.integers(1, 14)),
    }
    if rng.random() < 0.5:
        options |= {"temperature": 0.8, "seed": int(rng.integers(100)), "top_p": 0.9}
    if rng.random() < 0.3:
        options["stop"] = [str(rng.choice(["a", "!", "e"]))]
    if rng.random() < 0.3:
        options["constraint"] = CONSTRAINTS[rng.integers(len(CONSTRAINTS))]
    return options


def faults_of(engine: TransformersEngine, *, distinct: int, rounds: int) -> list[str]:
    """Return what is wrong with answers to requests from many threads, and what they leave on the model."""
    vectors = {name: reader_for(engine, seed=seed, name=name) for seed, name in enumerate(("one", "two"))}
    rng = np.random.default_rng(0)
    cases = [tiny_request(rng, vectors) for _ in range(distinct)]
    weights, attention = digest_of(engine.model), engine.model.config._attn_implementation
    alone: list[Alone] = []
    with measured_gaps() as gaps:
        for n, case in enumerate(cases):
            gaps.clear()
            completion = engine.submit(**case, logprobs=0, salt=f"alone {n}").result(timeout=60)
            alone.append(Alone(completion, tuple(gaps)))
    faults: list[str] = []
    done = [0]

    def work(seed: int) -> None:
        own = np.random.default_rng([1, seed])
        for _ in range(rounds):
            n = int(own.integers(distinct))
            request = engine.submit(**cases[n], logprobs=0, salt=str(own.integers(3)))
            if (chance := own.random()) < 0.2:
                if chance < 0.1:  # after its first token
                    next(request, None)
                request.cancel()
            try:
                answer = request.result(timeout=120)
            except CancelledGenerationError:
                continue
            done[0] += 1
            if not alone[n].is_answered_by(answer):
                faults.append(f"{cases[n]}: {answer} instead of {alone[n]}")

    run_threads(work)
    if done[0] < 0.6 * THREADS * rounds:
        faults.append("too few were answered")
    if traces := traces_in(engine.model):
        faults.append(f"left on the model: {traces}")
    if digest_of(engine.model) != weights or engine.model.config._attn_implementation != attention:
        faults.append("the model is another one")
    return faults


def test_requests_to_each_family_are_answered_as_alone(engine: TransformersEngine) -> None:
    assert faults_of(engine, distinct=12, rounds=3) == []


@pytest.mark.slow
@pytest.mark.parametrize("each", [*FAMILIES, *MORE_FAMILIES], ids=lambda each: each.name)
def test_many_requests_to_each_family_are_answered_as_alone(each: Family) -> None:
    engine = TransformersEngine(each.build(), byte_tokenizer(), name=f"tiny {each.name}")
    assert faults_of(engine, distinct=DISTINCT, rounds=REQUESTS // THREADS + 1) == []


def test_steering_of_another_request_is_noticed(llama: TransformersEngine) -> None:
    vector = reader_for(llama, name="one")
    answers = [
        llama.submit("Hi", steering=[(vector, strength)], max_new_tokens=8, logprobs=0).result(timeout=60)
        for strength in (0.5, 0.5, 0.55)
    ]
    alone = Alone(answers[0], (1.0,) * 8)
    assert [alone.is_answered_by(answer) for answer in answers] == [True, True, False]


STATM = Path("/proc/self/statm")


def resident() -> float:
    """Return the MiB of memory that this process has."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="memory is read from /proc")
def test_memory_stays_the_same_over_thousands_of_requests(llama: TransformersEngine) -> None:
    vectors = {name: reader_for(llama, seed=seed, name=name) for seed, name in enumerate(("one", "two"))}
    rng = np.random.default_rng(0)
    cases = [tiny_request(rng, vectors) for _ in range(DISTINCT)]
    sizes: list[float] = []
    for at in range(0, 3000, 50):
        for request in [llama.submit(**cases[n % DISTINCT], salt=str(n % 3)) for n in range(at, at + 50)]:
            request.result(timeout=120)
        if at % 500 == 450:
            sizes.append(resident())
    print("MiB after every 500 requests:", [round(size, 1) for size in sizes])
    assert sizes[-1] < 1.02 * sizes[0]
