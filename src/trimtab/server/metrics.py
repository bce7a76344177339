"""Metrics for Prometheus, under the names of vLLM where it has them, so that dashboards carry over."""

from __future__ import annotations

import time
from typing import final

from prometheus_client import CollectorRegistry, Counter, Histogram

from trimtab.engines.generation import End, Generation

FIRST = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # seconds
BETWEEN = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


@final
class Metrics:
    """Counters of one server; each may be changed from any thread.

    Attributes:
        registry: All of them.
        prompt_tokens: Tokens of prompts.
        generation_tokens: Tokens of answers.
        steered_tokens: Tokens of both on which a term acted.
        conditions_fired: Terms whose condition was met in an answer.
        request_success: Answers that came to their end, by the reason of it.
        request_failure: Answers that did not.
        admission_rejections: Requests that were not let in, by the code of the error.
        first_token: Seconds to the first token.
        inter_token: Mean seconds between the tokens of an answer.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"trimtab_{name}", meaning, labels, registry=self.registry)

        def histogram(name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"trimtab_{name}", meaning, buckets=buckets, registry=self.registry)

        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts")
        self.generation_tokens = counter("generation_tokens", "Tokens of answers")
        self.steered_tokens = counter("steered_tokens", "Tokens on which a term of a steering acted")
        self.conditions_fired = counter("conditions_fired", "Terms whose condition was met in an answer")
        self.request_success = counter("request_success", "Answers that came to their end", "finished_reason")
        self.request_failure = counter("request_failure", "Answers that did not come to their end")
        self.admission_rejections = counter("admission_rejections", "Requests that were not let in", "reason")
        self.first_token = histogram("time_to_first_token_seconds", "Seconds to the first token", FIRST)
        self.inter_token = histogram("inter_token_latency_seconds", "Mean seconds between two tokens", BETWEEN)


def watch(metrics: Metrics, generation: Generation, *, since: float) -> None:
    """Have an answer counted once it is written; the engine's thread does it, whoever reads the answer.

    Args:
        metrics: What counts.
        generation: The answer.
        since: When its request came, on the clock of ``time.monotonic``.
    """
    first: list[float] = []

    def begun() -> None:
        first.append(time.monotonic())
        metrics.first_token.observe(first[0] - since)

    def ended(end: End) -> None:
        if isinstance(end, BaseException):
            metrics.request_failure.inc()
            return
        count = len(end.tokens)
        metrics.request_success.labels(end.finish_reason).inc()
        metrics.generation_tokens.inc(count)
        metrics.steered_tokens.inc(end.receipt.tokens)
        metrics.conditions_fired.inc(sum(bool(term.fired) for term in end.receipt.terms))
        if first and count > 1:
            metrics.inter_token.observe((time.monotonic() - first[0]) / (count - 1))

    if not generation.listen(begun):
        begun()
    generation.when_ended(ended)
