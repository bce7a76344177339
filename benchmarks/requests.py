"""Throughput of requests that are answered together: one, sixteen, sixteen mixes, and transformers' own loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from benchmarks.measurement import Step, ignore_step, machine, package_versions
from benchmarks.models import check_counts, load_model, torch_threads
from benchmarks.ratios import ratio_of
from benchmarks.steering import POOL, mix_of, random_vectors
from trimtab.behaviours import neutral_prompts
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.decode.loop import BUSY
from trimtab.steering import Steering

REQUESTS = 16
RATIOS = (  # name, side, compared side, least ratio with reordered and with plain weights
    ("16 requests against 1", "sixteen", "one", (8.0, 6.0)),
    ("16 mixes against 16 unsteered", "mixes", "apart", (0.95, 0.95)),
    ("1 request against transformers", "one", "transformers", (0.85, 1.0)),
)


@dataclass(frozen=True)
class Plan:
    """Settings of the benchmark.

    Attributes:
        rounds: Number of turns of each side.
        tokens: Tokens of every answer; answers do not end earlier.
        threads: Number of threads of the model.
        model: Hub id, folder or file; the default model if not given.
        plain: Whether the model's weights stay as they are, where they would be reordered.
    """

    rounds: int = 5
    tokens: int = 48
    threads: int = 1
    model: str | None = None
    plain: bool = False

    def __post_init__(self) -> None:
        check_counts(rounds=self.rounds, tokens=self.tokens, threads=self.threads)


def benchmark(
    plan: Plan, *, engine: TransformersEngine | None = None, on_step: Callable[[Step], None] = ignore_step
) -> dict[str, Any]:
    """Measure tokens per CPU second of each side in turn, and how soon a newcomer has its first token.

    Returns:
        The result, for JSON.
    """
    with torch_threads(plan.threads):
        model = load_model(engine, plan.model, on_step)
        if plan.plain:
            model = TransformersEngine(
                deepcopy(model.model), model.tokenizer, name=model.info.name
            )  # a copy has plain weights
        sides = _sides(model, plan)
        for work in sides.values():
            work("warm")
        turns: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(plan.rounds):
            for at, (name, work) in enumerate(sides.items()):
                on_step(
                    Step(
                        f"Round {number + 1} of {plan.rounds}: {name}",
                        number * len(sides) + at,
                        plan.rounds * len(sides),
                    )
                )
                begun = time.process_time()
                count = work(str(number))
                turns[name].append(count / (time.process_time() - begun))
        newcomer = _passes_of_newcomer(model, plan)
    return {
        "benchmark": "requests",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {"trimtab": package_versions()},
        "threads": plan.threads,
        "rounds": plan.rounds,
        "tokens": plan.tokens,
        "model": model.info.name,
        "plain": plan.plain,
        "tokens_per_cpu_second": {name: round(float(np.median(each)), 2) for name, each in turns.items()},
        "ratios": {name: ratio_of(turns[side], turns[other], least[plan.plain]) for name, side, other, least in RATIOS},
        "newcomer": newcomer,
    }


def _sides(model: TransformersEngine, plan: Plan) -> dict[str, Callable[[str], int]]:
    """Return functions that answer once, and say how many tokens they generated."""
    prompts = (neutral_prompts().calibration + neutral_prompts().more)[:REQUESTS]
    vectors = random_vectors(model, POOL)
    mixes = [mix_of(vectors, row) for row in range(REQUESTS)]
    tokens = model.marked(prompts[0]).tokens
    ids = torch.tensor([tokens], device=model.model.device)
    config = GenerationConfig(max_new_tokens=plan.tokens, min_new_tokens=plan.tokens, do_sample=False, pad_token_id=0)

    def transformers(_: str) -> int:
        with torch.inference_mode():
            written = model.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        return int(written.shape[1] - ids.shape[1])

    def answer(steerings: Sequence[Steering | None], *, apart: bool = False) -> Callable[[str], int]:
        def work(turn: str) -> int:
            requests = [  # the salt keeps turns from sharing what they have read, and requests, if they are apart
                model.submit(
                    prompt,
                    steering=steering,
                    salt=f"{turn} {number if apart else ''}",
                    max_new_tokens=plan.tokens,
                    ignore_eos=True,
                )
                for number, (prompt, steering) in enumerate(zip(prompts, steerings, strict=False))
            ]
            return sum(len(request.result().tokens) for request in requests)

        return work

    return {
        "transformers": transformers,
        "one": answer([None]),
        "sixteen": answer([None] * REQUESTS),
        "apart": answer([None] * REQUESTS, apart=True),  # as much to read as for mixes, which share nothing
        "mixes": answer(mixes),
    }


def _passes_of_newcomer(model: TransformersEngine, plan: Plan) -> dict[str, int]:
    """Return how many passes a newcomer waits for its first token beside others that are being answered."""
    prompts = (neutral_prompts().calibration + neutral_prompts().more)[: REQUESTS + 1]
    others = [model.submit(prompt, max_new_tokens=plan.tokens, ignore_eos=True) for prompt in prompts[:-1]]
    for other in others:
        next(other)
    passes = [0]
    handle = model.blocks.body.register_forward_pre_hook(lambda *_: passes.__setitem__(0, passes[0] + 1))
    arrived: list[int] = []  # noted by the engine's thread: this one may be late
    newcomer = model.submit(prompts[-1], max_new_tokens=plan.tokens, salt="newcomer")
    begun = passes[0]
    newcomer.listen(lambda: arrived.append(passes[0]))
    next(newcomer)
    taken = (arrived or passes)[0] - begun
    handle.remove()
    for request in (newcomer, *others):
        request.close()
    own = -(-len(model.marked(prompts[-1]).tokens) // BUSY)
    return {"passes": taken, "of_its_prompt": own, "beside": len(others)}


def table(measured: Mapping[str, Any]) -> str:
    """Return the result as lines of text."""
    lines = [
        f"{name:<14}{rate:>8.1f} tokens per CPU second" for name, rate in measured["tokens_per_cpu_second"].items()
    ]
    for name, ratio in measured["ratios"].items():
        lines.append(f"{name:<32}{ratio['ratio']:>7.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})")
    newcomer = measured["newcomer"]
    lines.append(f"A newcomer beside {newcomer['beside']} has its first token after {newcomer['passes']} passes.")
    return "\n".join(lines)
