"""Metrics for Prometheus, under the names of vLLM where it has them, so that dashboards carry over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trimtab.engines.generation import End, Generation, Serves
from trimtab.server.admission import Admission

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
        inter_token: Seconds between two tokens of an answer.
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
        self.inter_token = histogram("inter_token_latency_seconds", "Seconds between two tokens", BETWEEN)


@dataclass(frozen=True)
class _Live(Collector):
    """What the queue and the engine count themselves, read when somebody asks."""

    admission: Admission
    engine: Serves

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        done = self.engine.workload
        yield GaugeMetricFamily("trimtab_num_requests_running", "Answers in the engine", self.admission.running)
        yield GaugeMetricFamily("trimtab_num_requests_waiting", "Requests that wait", self.admission.waiting)
        yield CounterMetricFamily("trimtab_passes", "Passes of the model", done.passes)
        yield CounterMetricFamily("trimtab_pass_rows", "Answers in all passes of the model", done.rows)
        yield CounterMetricFamily("trimtab_prefix_cache_queries", "Tokens of prompts", done.prefix_queries)
        yield CounterMetricFamily("trimtab_prefix_cache_hits", "Of these, tokens that were kept", done.prefix_hits)


def follow(metrics: Metrics, admission: Admission, engine: Serves) -> None:
    """Have the metrics of a server tell of its queue and its engine, too."""
    metrics.registry.register(_Live(admission, engine))


def watch(metrics: Metrics, generation: Generation, *, since: float, begun: Callable[[float], None]) -> None:
    """Have an answer counted once it is written; the engine's thread does it, whoever reads the answer.

    Args:
        metrics: What counts.
        generation: The answer.
        since: When its request came, on the clock of ``time.monotonic``.
        begun: Called with the seconds to its first token.
    """
    times = generation.times  # and not the generation, which would never be collected

    def start() -> None:
        seconds = time.monotonic() - since
        metrics.first_token.observe(seconds)
        begun(seconds)

    def ended(end: End) -> None:
        if isinstance(end, BaseException):
            metrics.request_failure.inc()
            return
        metrics.request_success.labels(end.finish_reason).inc()
        metrics.generation_tokens.inc(len(end.tokens))
        metrics.steered_tokens.inc(end.receipt.tokens)
        metrics.conditions_fired.inc(sum(bool(term.fired) for term in end.receipt.terms))
        for earlier, later in pairwise(times):
            metrics.inter_token.observe(later - earlier)

    if not generation.listen(start):
        start()
    generation.when_ended(ended)
