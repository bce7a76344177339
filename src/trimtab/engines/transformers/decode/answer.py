"""Answer a batch of prompts, each row under a steering of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from typing import final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from trimtab.arrays import F32, F64
from trimtab.engines.layers import eagerly
from trimtab.engines.protocol import Completion, MarkedPrompt, Receipt, TermReceipt, Tokens
from trimtab.engines.transformers.decode.prefill import Prefilled, join_prefilled, shared_prefill
from trimtab.engines.transformers.decode.sampling import (
    Generated,
    Sampling,
    count_repeats,
    generate_tokens,
    prepares_plainly,
)
from trimtab.engines.transformers.forward.capture import ProbeHooks
from trimtab.engines.transformers.forward.collect import score_prompts
from trimtab.engines.transformers.forward.counters import Receipts, SteeringCounters, term_receipts
from trimtab.engines.transformers.forward.schedule import (
    BatchSchedule,
    Readings,
    ReplayedSchedule,
    RowText,
    check_scope,
)
from trimtab.engines.transformers.forward.steer import SteeringHooks
from trimtab.engines.transformers.forward.step_plan import Gains, Program
from trimtab.engines.transformers.model.context import ModelContext
from trimtab.engines.transformers.score.answers import answer_logprobs
from trimtab.engines.transformers.score.kl import kl_of_logprobs
from trimtab.errors import SteeringError, StrongSteeringWarning
from trimtab.reading import distinct_names
from trimtab.steering import CompiledSteering, Steering
from trimtab.steering.budget import WARN_ABOVE, least_predicted_kl
from trimtab.steering.conditions import At, Comparison, comparisons
from trimtab.vectors import ControlVector

PROOF_PUSH = 100.0


@final
@dataclass(frozen=True, eq=False)
class Batch:
    """What is to be answered.

    Attributes:
        prompts: The prompts.
        plans: The compiled steering of each row.
        repeats: How often each prompt came before.
        read: Vectors to read at every generated token.
        cache: Keys and values of the beginning of the one prompt, or an empty cache that is to be filled.
    """

    prompts: Sequence[MarkedPrompt]
    plans: Sequence[CompiledSteering]
    repeats: Sequence[int]
    read: tuple[ControlVector, ...] = ()
    cache: DynamicCache | None = None


@final
@dataclass(frozen=True, eq=False)
class Answer:
    """One row's answer.

    Attributes:
        generated: Its tokens.
        terms: What each term did.
        touched: Tokens that any term touched.
        layers: The layers at which any did.
        gains: How strongly each term of the row acted on each token that was read, ``[token, term]``.
        readings: Z-scores of the state from which each token was chosen, by the number of the vector.
    """

    generated: Generated
    terms: tuple[TermReceipt, ...]
    touched: int
    layers: tuple[int, ...]
    gains: Gains
    readings: tuple[tuple[float, ...], ...]


@final
@dataclass(frozen=True)
class Listener:
    """Who follows an answer while it is generated.

    Attributes:
        on_token: Called with each token of the first row and its z-scores on the vectors that are read.
        ended: Whether to stop where the answers are.
    """

    on_token: Callable[[int, tuple[float, ...]], None]
    ended: Callable[[], bool] = lambda: False


def answer_batch(
    host: ModelContext, batch: Batch, sampling: Sampling, *, listener: Listener | None = None
) -> list[Answer]:
    """Answer every prompt of a batch.

    Raises:
        SteeringError: A scope or condition makes no sense for this model or prompt, or steering was not done as asked.
    """
    rows = [RowText(prompt, markers=host.markers, decode=host.decode_all) for prompt in _as_read(host, batch.prompts)]
    _check_terms(host, rows, batch)
    own = Program.of_rows(batch.plans)
    watched = _watched(batch, host)
    with ExitStack() as stack:
        watcher = stack.enter_context(ProbeHooks(host.blocks, watched))

        def token_readings() -> Readings:
            latest = watcher.latest()
            return {c: latest[:, watched.index(c.vector)] for c in _on_tokens([own, *outer])}

        outer = [scope.hooks.program for scope in host.scopes]
        read_prompts = _prompt_reader(host, batch.prompts)
        kept = batch.cache.get_seq_length() if batch.cache is not None else 0
        lines = [
            BatchSchedule(
                program,
                rows,
                sink=host.sink,
                cached=sampling.use_cache and not host.blocks.encoder,
                start=kept,
                kept=kept,
                pad_left=host.start is None,
                prompt_readings=read_prompts,
                token_readings=token_readings,
            )
            for program in (*outer, own)
        ]
        ledgers = [SteeringCounters() for _ in lines]
        prefilled = _prefilled(host, batch, lines[-1], sampling)
        if prefilled is not None:
            lines[-1].begin_at(lines[-1].width - 1)
            ledgers[-1].put(prefilled.lengths, prefilled.moves)
        hooks = stack.enter_context(SteeringHooks(host.blocks, own, sink=host.sink))
        active = [*(scope.hooks for scope in host.scopes), hooks]
        for hook, line, ledger in zip(active, lines, ledgers, strict=True):
            stack.enter_context(hook.following(line, ledger))
        steps: list[F64] = []
        reads = range(len(batch.read))
        generated = generate_tokens(
            host.model,
            [prompt.tokens for prompt in batch.prompts],
            sampling,
            stop=host.stop,
            pad=host.pad,
            start=host.start,
            repeats=batch.repeats,
            prefilled=batch.cache if prefilled is None else prefilled.cache,
            on_step=(lambda: steps.append(watcher.latest()[:, list(reads)])) if batch.read else None,
            on_token=None if listener is None else lambda token: listener.on_token(token, _first_row(steps)),
            ended=None if listener is None else listener.ended,
        )
    for hook in active:
        hook.check()
    return _answers(host, batch, generated, lines, ledgers, [*outer, own], steps)


def _first_row(steps: Sequence[F64]) -> tuple[float, ...]:
    return tuple(steps[-1][0].tolist()) if steps else ()


def _as_read(host: ModelContext, prompts: Sequence[MarkedPrompt]) -> list[MarkedPrompt]:
    """What of the prompts the steered blocks read: beside an encoder only the tokens with which the decoder begins."""
    if host.start is None or host.blocks.encoder:
        return list(prompts)
    count = len(host.start)
    begun = MarkedPrompt("", host.start, ((0, 0),) * count, (), (False,) * count, 0)
    return [begun] * len(prompts)


def _check_terms(host: ModelContext, rows: Sequence[RowText], batch: Batch) -> None:
    outer = sum((scope.plan for scope in host.scopes), CompiledSteering())
    for row, plan in zip(rows, batch.plans, strict=True):
        for term in (outer + plan).terms:
            check_scope(term.scope, row, what=term.text)
            if host.blocks.encoder and not (term.scope.is_all and term.condition is None):
                raise SteeringError(f"{term.text}: an encoder is steered at all of its tokens", fix="drop the scope")
    if host.blocks.encoder and batch.read:
        raise SteeringError("an encoder generates nothing to read", fix="load the model without encoder=True")


def _on_tokens(programs: Sequence[Program]) -> list[Comparison]:
    """The comparisons at every token."""
    conditions = [slot.term.condition for program in programs for slot in program.slots if slot.term is not None]
    found = [c for condition in conditions if condition is not None for c in comparisons(condition)]
    return list(dict.fromkeys(c for c in found if c.at == "token"))


def _watched(batch: Batch, host: ModelContext) -> list[ControlVector]:
    """The vectors to read at every step, those of ``batch.read`` first."""
    conditions = _on_tokens([*(scope.hooks.program for scope in host.scopes), Program.of_rows(batch.plans)])
    return [*batch.read, *dict.fromkeys(c.vector for c in conditions if c.vector not in batch.read)]


def _prompt_reader(host: ModelContext, prompts: Sequence[MarkedPrompt]) -> Callable[[Sequence[Comparison]], Readings]:
    """Reads the prompts once on each vector and place, however many comparisons ask for it."""

    @cache
    def scored(vector: ControlVector, at: At) -> F64:
        return score_prompts(host, prompts, vector, at=at)

    return lambda asked: {c: scored(c.vector, c.at) for c in asked}


def _prefilled(host: ModelContext, batch: Batch, line: BatchSchedule, sampling: Sampling) -> Prefilled | None:
    """The prompts of rows that are steered alike read as one tree; None where that saves nothing, or cannot be."""
    if not sampling.use_cache or host.start is not None or batch.cache is not None or host.scopes:
        return None
    alike: dict[tuple[int, ...], list[int]] = {}
    for row in range(len(batch.prompts)):
        slots = line.whole_slots(row)
        if slots is None:
            return None
        alike.setdefault(slots, []).append(row)
    parts, rows = [], []
    for slots, own in sorted(alike.items(), key=lambda item: len(item[1])):  # small ones likely save nothing
        terms = tuple(term for slot in slots if (term := line.program.slots[slot].term) is not None)
        program = Program.of_rows([CompiledSteering(terms)])
        with SteeringHooks(host.blocks, program, sink=host.sink) as hooks:
            prompts = [batch.prompts[row].tokens for row in own]
            found = shared_prefill(host.model, host.blocks, prompts, cost=host.cost(), proof=host.walks, hooks=hooks)
        hooks.check()
        if found is None:
            return None
        parts.append(found.renumbered(program, line.program, slots))
        rows.append(own)
    return join_prefilled(parts, rows)


def _answers(
    host: ModelContext,
    batch: Batch,
    generated: Sequence[Generated],
    lines: Sequence[BatchSchedule],
    ledgers: Sequence[SteeringCounters],
    programs: Sequence[Program],
    steps: Sequence[F64],
) -> list[Answer]:
    """Put together what was generated and what was done."""
    read = [0 if host.blocks.encoder else max(len(answer.tokens) - 1, 0) for answer in generated]
    receipts: list[Receipts] = [
        term_receipts(ledger, program, line, generated=read)
        for ledger, program, line in zip(ledgers, programs, lines, strict=True)
    ]
    own = lines[-1]
    answers = []
    for row, answer in enumerate(generated):
        terms = tuple(term for part in receipts for term in part.terms[row])
        touched = np.logical_or.reduce([part.touched[row] for part in receipts])
        answers.append(
            Answer(
                generated=answer,
                terms=terms,
                touched=int(touched.sum()),
                layers=tuple(sorted({layer for term in terms for layer in term.layers})),
                gains=own.gains_of(row, read[row])[:, own.slots_of(row)],
                readings=tuple(
                    tuple(float(step[row, n]) for step in steps[: len(answer.tokens)]) for n in range(len(batch.read))
                ),
            )
        )
    return answers


def kl_along(host: ModelContext, prompt: MarkedPrompt, answer: Tokens, plan: CompiledSteering, gains: Gains) -> float:
    """Mean per-token KL(base ‖ steered) in nats along an answer, steered as it was when it was generated."""
    program = Program.of_rows([plan])
    with torch.inference_mode(), eagerly():
        base = answer_logprobs(host, prompt.tokens, answer)
        with (
            SteeringHooks(host.blocks, program, sink=host.sink) as hooks,
            hooks.following(ReplayedSchedule(gains)),
        ):
            steered = answer_logprobs(host, prompt.tokens, answer)
        hooks.check()
        return float(kl_of_logprobs(base, steered).double().mean())


def answers_depend_on_layers(host: ModelContext, prompt: Tokens) -> bool:
    """Whether answers hang on the last block too, where a model prepares its passes in its own way."""
    if prepares_plainly(host.model):
        return True
    push = np.where(np.arange(host.info.hidden_size) % 3, -PROOF_PUSH, PROOF_PUSH).astype(np.float32)
    first, pushed = (_first_token(host, prompt, added) for added in ({}, {host.info.layers - 1: push}))
    return first != pushed


def _first_token(host: ModelContext, prompt: Tokens, additions: Mapping[int, F32]) -> Generated:
    with SteeringHooks(host.blocks, additions, sink=False):
        return generate_tokens(
            host.model,
            [prompt],
            Sampling(max_new_tokens=1, use_cache=False),
            stop=host.stop,
            pad=host.pad,
            start=host.start,
            repeats=[0],
        )[0]


ROWS = 128
_PROVEN: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # whether answers hang on the blocks


@final
@dataclass(frozen=True, eq=False)
class Request:
    """What is asked for.

    Attributes:
        prompts: The prompts.
        steerings: One for each.
        sampling: How tokens are chosen.
        read: Vectors to read at every generated token.
        measure_kl: Whether to measure what the steering spent on each answer.
        cache: Keys and values of the beginning of the one prompt, to be used and filled.
    """

    prompts: Sequence[MarkedPrompt]
    steerings: Sequence[Steering]
    sampling: Sampling
    read: tuple[ControlVector, ...] = ()
    measure_kl: bool = False
    cache: DynamicCache | None = None


def answer_request(
    host: ModelContext, request: Request, *, decode: Callable[[Sequence[int]], str], listener: Listener | None
) -> list[Completion]:
    """Answer every prompt of a request.

    Raises:
        SteeringError: It cannot be done, or was not done as asked.
    """
    if request.measure_kl and host.scopes:
        raise SteeringError("KL cannot be measured inside steered()", fix="pass steering= to generate instead")
    for vector in request.read:
        vector.check_model(host.info)
    plans = {
        steering: steering.compile(host.info) for steering in dict.fromkeys(request.steerings)
    }  # equal ones are one
    for steering in plans:
        warn_if_strong(steering)
    if request.prompts and (host.scopes or any(plan.layers for plan in plans.values())):
        _prove_answers(host, request.prompts[0].tokens)
    repeats = count_repeats([prompt.tokens for prompt in request.prompts])
    completions: list[Completion] = []
    for at in range(0, len(request.prompts), ROWS):
        rows = slice(at, at + ROWS)
        own = request.steerings[rows]
        batch = Batch(
            request.prompts[rows],
            [plans[steering] for steering in own],
            repeats[rows],
            read=request.read,
            cache=request.cache,
        )
        answers = answer_batch(host, batch, request.sampling, listener=listener if at == 0 else None)
        completions += _completions(host, batch, own, answers, measure_kl=request.measure_kl, decode=decode)
    return completions


def _completions(
    host: ModelContext,
    batch: Batch,
    steerings: Sequence[Steering],
    answers: Sequence[Answer],
    *,
    measure_kl: bool,
    decode: Callable[[Sequence[int]], str],
) -> list[Completion]:
    outer = sum((scope.steering for scope in host.scopes), Steering())
    names = distinct_names([vector.behaviour.name for vector in batch.read])
    steered = sum(answer.touched > 0 for answer in answers)
    completions = []
    for prompt, plan, steering, answer in zip(batch.prompts, batch.plans, steerings, answers, strict=True):
        tokens = answer.generated.tokens
        receipt = Receipt(
            steering=str(outer + steering),
            layers=answer.layers,
            rows=steered if answer.touched else 0,
            tokens=answer.touched,
            terms=answer.terms,
        )
        if measure_kl:
            receipt = replace(receipt, kl=kl_along(host, prompt, tokens, plan, answer.gains))
        completions.append(
            Completion(
                text=decode(tokens),
                tokens=tokens,
                finish_reason="stop" if tokens and tokens[-1] in host.stop else "length",
                prompt=prompt,
                receipt=receipt,
                logprob=answer.generated.logprob,
                readings=dict(zip(names, answer.readings, strict=True)),
            )
        )
    return completions


def normalized_rows(steerings: Sequence[Steering], budget: float) -> list[Steering]:
    """Every mix rescaled to a budget; rows that were steered alike still are, by the same object."""
    distinct = {id(own): own.normalized(budget) if own.terms else own for own in steerings}
    return [distinct[id(own)] for own in steerings]


def warn_if_strong(steering: Steering) -> None:
    """Warn where what is known of a mix is predicted to spend so much that text falls apart."""
    spent = least_predicted_kl(steering.terms)
    if spent > WARN_ABOVE:
        warnings.warn(
            f"{steering} is predicted to spend {spent:.2f} nat per token; above {WARN_ABOVE} text begins to fall apart "
            "(lower its strengths, or give normalize=0.4)",
            StrongSteeringWarning,
            stacklevel=4,
        )


def _prove_answers(host: ModelContext, prompt: Tokens) -> None:
    """Make sure, once for each model, that answers hang on the last block too."""
    if host.model not in _PROVEN:
        _PROVEN[host.model] = answers_depend_on_layers(host, prompt)
    if not _PROVEN[host.model]:
        raise SteeringError(
            f"answers of {host.info.name} do not hang on its last block: {host.info.architecture} generates in "
            "another way than it reads",
            fix="its states can be read, and its plain passes steered",
        )
