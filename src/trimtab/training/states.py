"""Hidden states of contrastive pairs, collected a group at a time; only what an estimator needs is kept.

Groups are sorted so that pairs that share beginnings meet in one group; each is collected, added to running sums and
forgotten. So memory depends on the size of a group, never on the number of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32, I64
from trimtab.behaviours import Behaviour, Message, neutral_prompts
from trimtab.behaviours.pairs import persona_instructions
from trimtab.engines import Completion
from trimtab.engines.protocol import CollectionReport, Collects, Generates, Span, Tokens
from trimtab.errors import BehaviourError, VectorError
from trimtab.training.checkpoint import NO_CHECKPOINT, Checkpoint
from trimtab.training.directions import SECOND_MOMENTS, STREAMING, WHOLE, Sums
from trimtab.training.progress import OnProgress, Progress
from trimtab.vectors import Collection, Reliability

COLLECTING = "Collecting hidden states"
SAMPLE = 512  # pairs by which separation is judged
STATES_KEY = "contrast"
COUNTS = ("sequences", "tokens", "distinct", "computed", "passes")


@dataclass(frozen=True)
class PairInput:
    """Pair of texts or token ids, with the spans of tokens to average over; None for the last token."""

    positive: str | Tokens
    negative: str | Tokens
    spans: tuple[Span, Span] | None = None


@dataclass(frozen=True)
class Contrast:
    """Summary of the hidden states of all pairs read so far.

    Attributes:
        sums: Running sums over their differences.
        sample: Differences of an evenly spaced sample of pairs, ``[pair, layer, hidden]``.
        states: Both poles' states of every pair where the estimator needs them, ``[pole, pair, layer, hidden]``.
        report: Cost and path of the collection.
    """

    sums: Sums
    sample: F32
    states: F32 | None
    report: CollectionReport

    def direction(self, method: str, layer: int) -> F32:
        """Return the unit direction of one layer."""
        if self.states is not None:
            return WHOLE[method](self.states[0, :, layer], self.states[1, :, layer])
        return STREAMING[method](self.sums, layer)

    def separation(self, direction: F32, layer: int) -> float:
        """Return the share of the sample whose positive side projects further along ``direction`` than its negative."""
        return float((self.sample[:, layer].astype(np.float64) @ direction.astype(np.float64) > 0).mean())

    def reliability(self, directions: Mapping[int, F32], layers: Sequence[int]) -> Reliability:
        """Return how far the pairs agree; figures are means over the steered ``layers``."""
        cosines = {layer: self.sums.pairwise_cosine(layer) for layer in directions}
        return Reliability(
            pairs=self.sums.pairs,
            pairwise_cosine=float(np.mean([cosines[layer] for layer in layers])),
            separation=float(np.mean([self.separation(directions[layer], layer) for layer in layers])),
            cosine_by_layer=cosines,
        )

    @property
    def collection(self) -> Collection:
        """Return the report as a vector records it."""
        report = self.report
        return Collection(
            path=report.path,
            reason=report.reason,
            prompts=report.sequences,
            tokens=report.tokens,
            distinct=report.distinct,
            computed=report.computed,
        )


def collect_contrast(
    model: Collects,
    pairs: Sequence[PairInput],
    *,
    method: str,
    memory: int,
    checkpoint: Checkpoint = NO_CHECKPOINT,
    progress: OnProgress,
) -> Contrast:
    """Collect all pairs, a group at a time; the sums so far are kept in the checkpoint after every group.

    Args:
        model: The engine.
        pairs: What to read.
        method: The estimator that the states are for.
        memory: Bytes that states may take.
        checkpoint: Where running sums are kept, and found again after an interruption.
        progress: Called with the number of prompts read.

    Raises:
        VectorError: The estimator needs all states, or all covariances, and they do not fit.
    """
    info = model.info
    pair_bytes = 2 * info.layers * info.hidden_size * 4
    streamed, second = method in STREAMING, method in SECOND_MOMENTS
    _check_memory(method, len(pairs) * pair_bytes, info.layers * info.hidden_size**2 * 8 * second, memory, streamed)
    order = sorted(range(len(pairs)), key=lambda n: (isinstance(pairs[n].positive, str), pairs[n].positive))
    groups = np.array_split(order, -(-len(pairs) * pair_bytes // memory))
    sampled = np.unique(np.linspace(0, len(pairs) - 1, min(SAMPLE, len(pairs))).round().astype(np.int64))
    contrast = Contrast(
        sums=Sums.empty(info.layers, info.hidden_size, second=second),
        sample=np.zeros((len(sampled), info.layers, info.hidden_size), dtype=np.float32),
        states=None if streamed else np.zeros((2, len(pairs), info.layers, info.hidden_size), dtype=np.float32),
        report=CollectionReport(path="", reason="", sequences=0, tokens=0, distinct=0),
    )
    done = 0
    if streamed and (arrays := checkpoint.get_arrays(STATES_KEY)) is not None:
        done, contrast = int(arrays["groups"]), _of_arrays(arrays)
    for number, group in enumerate(groups[done:], start=done + 1):
        before = 2 * contrast.sums.pairs

        def tell(read: int, _: int, before: int = before) -> None:
            progress(Progress(COLLECTING, before + read, 2 * len(pairs)))

        contrast = _add_group(model, [pairs[n] for n in group], group, sampled, contrast, tell)
        if contrast.report.halved_to is not None:
            note = f"memory ran out: passes were cut to {contrast.report.halved_to} tokens"
            progress(Progress(COLLECTING, 2 * contrast.sums.pairs, 2 * len(pairs), note=note))
        if streamed:
            checkpoint.put_arrays(STATES_KEY, {"groups": np.array(number), **_arrays(contrast)})
    progress(Progress(COLLECTING, 2 * len(pairs), 2 * len(pairs)))
    return contrast


def _check_memory(method: str, states: int, covariances: float, memory: int, streamed: bool) -> None:
    needed = covariances if streamed else states
    if needed > memory:
        what = "the covariances of all layers" if streamed else "all states at once"
        raise VectorError(
            f"{method} needs {what}, {needed / 1e6:,.0f} MB; {memory / 1e6:,.0f} MB are allowed",
            fix="use mean_difference, fewer pairs, or allow more memory",
        )


def _add_group(
    model: Collects,
    pairs: Sequence[PairInput],
    numbers: I64,
    sampled: I64,
    contrast: Contrast,
    progress: Callable[[int, int], None],
) -> Contrast:
    """Read a group of pairs, whose places among all are ``numbers``; ``sampled`` are the places that the sample has."""
    texts = [pair.positive for pair in pairs] + [pair.negative for pair in pairs]
    spans = [pair.spans for pair in pairs]
    if all(span is not None for span in spans):
        sided = [span[side] for side in (0, 1) for span in spans if span is not None]
        collected = model.collect(texts, position="mean", span=sided, progress=progress)
    else:
        collected = model.collect(texts, progress=progress)
    positive, negative = collected.states[: len(pairs)], collected.states[len(pairs) :]
    where = np.searchsorted(sampled, numbers).clip(max=len(sampled) - 1)
    hit = sampled[where] == numbers
    contrast.sample[where[hit]] = positive[hit] - negative[hit]
    if contrast.states is not None:
        contrast.states[:, numbers] = positive, negative
    counts = {name: getattr(contrast.report, name) + getattr(collected.report, name) for name in COUNTS}
    return replace(contrast, sums=contrast.sums.plus(positive, negative), report=replace(collected.report, **counts))


def _arrays(contrast: Contrast) -> dict[str, NDArray[Any]]:
    report = contrast.report
    text = {"path": np.array(report.path), "reason": np.array(report.reason)}
    counts = {name: np.array(getattr(report, name)) for name in COUNTS}
    return {"sample": contrast.sample, **text, **counts, **contrast.sums.arrays()}


def _of_arrays(arrays: Mapping[str, NDArray[Any]]) -> Contrast:
    counts = {name: int(arrays[name]) for name in COUNTS}
    report = CollectionReport(path=str(arrays["path"]), reason=str(arrays["reason"]), **counts)
    return Contrast(Sums.of_arrays(arrays), arrays["sample"], None, report)


ANSWERING = "Letting the model answer as both personas"
MAX_RESPONSES = 96
ANSWER_TOKENS = 32


def pair_persona_answers(
    model: Generates,
    behaviour: Behaviour,
    *,
    max_pairs: int,
    temperature: float,
    seed: int,
    checkpoint: Checkpoint = NO_CHECKPOINT,
    progress: OnProgress,
) -> list[PairInput]:
    """Return pairs of answers to one question under the two poles' system prompts, to be averaged over their tokens.

    Questions are the calibration half of the neutral prompts, with one phrasing of the personas after another; the
    held-out half stays unseen.

    Args:
        model: The engine.
        behaviour: Must have personas.
        max_pairs: Upper bound on the pairs; ``MAX_RESPONSES`` at most.
        temperature: 0 takes greedy answers, else they are sampled.
        seed: Of the samples.
        checkpoint: Where the answers are kept.
        progress: Called when the answers are there.

    Raises:
        BehaviourError: The behaviour has no personas, or fewer than two pairs come out.
    """
    questions = neutral_prompts().calibration
    count = min(max_pairs, MAX_RESPONSES)
    chats = []
    for number in range(count):
        instructions = persona_instructions(behaviour, number)
        question = Message("user", questions[number % len(questions)])
        chats += [(Message("system", text), question) for text in (instructions.positive, instructions.negative)]
    progress(Progress(ANSWERING, 0, 1))
    answered = checkpoint.remember(
        "responses",
        list[tuple[Tokens, Tokens]],
        lambda: [
            (answer.prompt.tokens, _without_end(answer))
            for answer in model.generate(chats, max_new_tokens=ANSWER_TOKENS, temperature=temperature, seed=seed)
        ],
    )
    progress(Progress(ANSWERING, 1, 1))
    prompts, spoken = zip(*answered, strict=True)
    pairs = {
        (prompts[n] + spoken[n], prompts[n + 1] + spoken[n + 1]): (len(prompts[n]), len(prompts[n + 1]))
        for n in range(0, len(chats), 2)
        if spoken[n] and spoken[n + 1]
    }
    if len(pairs) < 2:
        raise BehaviourError(
            f"{behaviour.source}: the model gave fewer than two pairs of answers", fix="use source='prompts'"
        )
    return [
        PairInput(positive, negative, ((starts[0], None), (starts[1], None)))
        for (positive, negative), starts in pairs.items()
    ]


def _without_end(answer: Completion) -> Tokens:
    """Drop the token that ends the turn."""
    return answer.tokens[:-1] if answer.finish_reason == "stop" else answer.tokens
