"""Collect the states of contrasting pairs, a group at a time, and keep of them only what an estimator needs.

Groups are sorted so that pairs that share beginnings meet in one group; each is collected, added to running sums and
forgotten. So memory depends on the size of a group, never on the number of pairs.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32
from trimtab.behaviours import Behaviour, Message, neutral_prompts
from trimtab.behaviours.pairs import persona_instructions
from trimtab.engines import Completion, Engine
from trimtab.engines.protocol import CollectionReport, Span, Tokens
from trimtab.errors import BehaviourError, VectorError
from trimtab.training.checkpoint import Checkpoint
from trimtab.training.directions import SECOND_MOMENTS, STREAMING, WHOLE, Sums
from trimtab.training.progress import OnProgress, Progress
from trimtab.vectors import Collection

COLLECTING = "Collecting hidden states"
MEMORY = 512 * 1024**2
SAMPLE = 512  # pairs by which separation is judged
STATES_KEY = "contrast"


@dataclass(frozen=True)
class Contrasted:
    """One pair to be read: texts or token ids, and the span of tokens to average over; None for the last token."""

    positive: str | Tokens
    negative: str | Tokens
    spans: tuple[Span, Span] | None = None


@dataclass(frozen=True)
class Contrast:
    """What was kept of all pairs.

    Attributes:
        sums: Running sums over their differences.
        sample: Differences of an evenly spaced sample of pairs, ``[pair, layer, hidden]``.
        states: Both poles' states of every pair where the estimator needs them, ``[pole, pair, layer, hidden]``.
        collection: How they were collected.
    """

    sums: Sums
    sample: F32
    states: F32 | None
    collection: Collection

    def direction(self, method: str, layer: int) -> F32:
        """The unit direction of one layer."""
        if self.states is not None:
            return WHOLE[method](self.states[0, :, layer], self.states[1, :, layer])
        return STREAMING[method](self.sums, layer)

    def separation(self, direction: F32, layer: int) -> float:
        """Share of the sample whose positive side projects further along ``direction`` than its negative side."""
        return float((self.sample[:, layer].astype(np.float64) @ direction.astype(np.float64) > 0).mean())


def collect_contrast(
    model: Engine,
    pairs: Sequence[Contrasted],
    *,
    method: str,
    memory: int,
    journal: Checkpoint,
    progress: OnProgress,
) -> Contrast:
    """Collect all pairs; what is done is kept in the journal after every group.

    Args:
        model: The engine.
        pairs: What to read.
        method: The estimator that the states are for.
        memory: Bytes that states may take.
        journal: Where running sums are kept, and found again after an interruption.
        progress: Called with the number of prompts read.

    Raises:
        VectorError: The estimator needs all states, or all covariances, and they do not fit.
    """
    info = model.info
    pair_bytes = 2 * info.layers * info.hidden_size * 4
    streamed = method in STREAMING
    second = method in SECOND_MOMENTS
    _check_memory(method, len(pairs) * pair_bytes, info.layers * info.hidden_size**2 * 8 * second, memory, streamed)
    order = sorted(range(len(pairs)), key=lambda n: (isinstance(pairs[n].positive, str), pairs[n].positive))
    groups = np.array_split(order, -(-len(pairs) * pair_bytes // memory))
    state = _Running.new(info.layers, info.hidden_size, len(pairs), second=second, keep_states=not streamed)
    if streamed and (kept := journal.get(STATES_KEY)) is not None:
        state = state.restored(kept)
    for group in groups[state.groups :]:
        before = 2 * state.sums.pairs

        def told(done: int, _: int, before: int = before) -> None:
            progress(Progress(COLLECTING, before + done, 2 * len(pairs)))

        state = _with_group(model, [pairs[n] for n in group], group, state, told)
        if state.report.halved_to is not None:
            note = f"memory ran out: passes were cut to {state.report.halved_to} tokens"
            progress(Progress(COLLECTING, 2 * state.sums.pairs, 2 * len(pairs), note=note))
        if streamed:
            journal.put(STATES_KEY, state.dumped())
    progress(Progress(COLLECTING, 2 * len(pairs), 2 * len(pairs)))
    return Contrast(state.sums, state.sample, state.states, _collection(state.report))


def _check_memory(method: str, states: int, covariances: float, memory: int, streamed: bool) -> None:
    needed = covariances if streamed else states
    if needed > memory:
        what = "the covariances of all layers" if streamed else "all states at once"
        raise VectorError(
            f"{method} needs {what}, {needed / 1e6:,.0f} MB; {memory / 1e6:,.0f} MB are allowed",
            fix="use mean_difference, fewer pairs, or allow more memory",
        )


@dataclass(frozen=True)
class _Running:
    """Sums under way, after so many groups."""

    groups: int
    sums: Sums
    sample: F32
    sampled: NDArray[np.int64]  # which pairs the sample has
    states: F32 | None
    report: CollectionReport

    @classmethod
    def new(cls, layers: int, hidden: int, pairs: int, *, second: bool, keep_states: bool) -> _Running:
        sampled = np.unique(np.linspace(0, pairs - 1, min(SAMPLE, pairs)).round().astype(np.int64))
        return cls(
            groups=0,
            sums=Sums.empty(layers, hidden, second=second),
            sample=np.zeros((len(sampled), layers, hidden), dtype=np.float32),
            sampled=sampled,
            states=np.zeros((2, pairs, layers, hidden), dtype=np.float32) if keep_states else None,
            report=CollectionReport(path="", reason="", sequences=0, tokens=0, distinct=0),
        )

    def dumped(self) -> bytes:
        arrays: dict[str, Any] = {"groups": self.groups, "sample": self.sample, **self.sums.arrays()}
        report = self.report
        arrays["counts"] = [report.sequences, report.tokens, report.distinct, report.computed, report.passes]
        buffer = io.BytesIO()
        np.savez(buffer, path=report.path, reason=report.reason, **arrays)
        return buffer.getvalue()

    def restored(self, kept: bytes) -> _Running:
        with np.load(io.BytesIO(kept), allow_pickle=False) as arrays:
            counts = dict(
                zip(("sequences", "tokens", "distinct", "computed", "passes"), arrays["counts"].tolist(), strict=True)
            )
            return replace(
                self,
                groups=int(arrays["groups"]),
                sums=Sums.of_arrays({name: arrays[name] for name in arrays.files}),
                sample=arrays["sample"],
                report=CollectionReport(path=str(arrays["path"]), reason=str(arrays["reason"]), **counts),
            )


def _with_group(
    model: Engine, pairs: Sequence[Contrasted], numbers: NDArray[np.int64], state: _Running, told: Any
) -> _Running:
    texts = [pair.positive for pair in pairs] + [pair.negative for pair in pairs]
    spans = [pair.spans for pair in pairs]
    if all(span is not None for span in spans):
        sided = [span[side] for side in (0, 1) for span in spans if span is not None]
        collected = model.collect(texts, position="mean", span=sided, progress=told)
    else:
        collected = model.collect(texts, progress=told)
    positive, negative = collected.states[: len(pairs)], collected.states[len(pairs) :]
    sample, states = state.sample, state.states
    where = np.searchsorted(state.sampled, numbers).clip(max=len(state.sampled) - 1)
    hit = state.sampled[where] == numbers
    sample[where[hit]] = positive[hit] - negative[hit]
    if states is not None:
        states[:, numbers] = positive, negative
    return replace(
        state,
        groups=state.groups + 1,
        sums=state.sums.plus(positive, negative),
        report=_added(state.report, collected.report),
    )


def _added(report: CollectionReport, other: CollectionReport) -> CollectionReport:
    return replace(
        other,
        sequences=report.sequences + other.sequences,
        tokens=report.tokens + other.tokens,
        distinct=report.distinct + other.distinct,
        computed=report.computed + other.computed,
        passes=report.passes + other.passes,
    )


def _collection(report: CollectionReport) -> Collection:
    return Collection(
        path=report.path,
        reason=report.reason,
        prompts=report.sequences,
        tokens=report.tokens,
        distinct=report.distinct,
        computed=report.computed,
    )


ANSWERING = "Letting the model answer in character"
MAX_RESPONSES = 96
ANSWER_TOKENS = 32


def answers_in_character(
    model: Engine,
    behaviour: Behaviour,
    *,
    max_pairs: int,
    temperature: float,
    seed: int,
    progress: OnProgress,
) -> list[Contrasted]:
    """Pairs of answers to the same question under the two poles' system prompts, to be averaged over their tokens.

    Questions are the neutral prompts of the calibration half, met by one phrasing of the personas after another; the
    held-out half stays unseen.

    Args:
        model: The engine.
        behaviour: Must have personas.
        max_pairs: Upper bound on the pairs; ``MAX_RESPONSES`` at most.
        temperature: 0 takes greedy answers, else they are sampled.
        seed: Of the samples.
        progress: Told when the answers are there.

    Raises:
        BehaviourError: The behaviour has no personas, or fewer than two pairs come out.
    """
    questions = neutral_prompts().calibration
    count = min(max_pairs, MAX_RESPONSES)
    chats = []
    for number in range(count):
        instructions = persona_instructions(behaviour, number)
        question = Message("user", questions[number % len(questions)])
        chats += [(Message("system", told), question) for told in (instructions.positive, instructions.negative)]
    progress(Progress(ANSWERING, 0, 1))
    answers = model.generate(chats, max_new_tokens=ANSWER_TOKENS, temperature=temperature, seed=seed)
    progress(Progress(ANSWERING, 1, 1))
    prompts = [answer.prompt.tokens for answer in answers]
    spoken = [_spoken(answer) for answer in answers]
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
        Contrasted(positive, negative, ((starts[0], None), (starts[1], None)))
        for (positive, negative), starts in pairs.items()
    ]


def _spoken(answer: Completion) -> tuple[int, ...]:
    """The answer's tokens without the one that ends the turn."""
    return answer.tokens[:-1] if answer.finish_reason == "stop" else answer.tokens
