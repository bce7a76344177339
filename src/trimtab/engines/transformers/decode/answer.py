"""Answer the prompts of a request in batches, each row under its own steering."""

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
from trimtab.engines.protocol import Completion, MarkedPrompt, Receipt, Tokens
from trimtab.engines.transformers.decode.sampling import (
    Generated,
    Prefilled,
    Sampling,
    count_repeats,
    generate_tokens,
    join_prefilled,
    prepares_plainly,
    shared_prefill,
)
from trimtab.engines.transformers.forward.capture import ProbeHooks
from trimtab.engines.transformers.forward.collect import score_prompts
from trimtab.engines.transformers.forward.schedule import (
    BatchSchedule,
    Readings,
    ReplayedSchedule,
    RowText,
    check_scope,
)
from trimtab.engines.transformers.forward.steer import SteeringCounters, SteeringHooks
from trimtab.engines.transformers.forward.step_plan import Coefficients, StepPlan
from trimtab.engines.transformers.model.context import ModelContext
from trimtab.engines.transformers.score.forcing import answer_logprobs
from trimtab.engines.transformers.score.kl import kl_of_logprobs
from trimtab.errors import SteeringError, StrongSteeringWarning
from trimtab.reading import distinct_names
from trimtab.steering import CompiledSteering, Steering
from trimtab.steering.budget import WARN_ABOVE, least_predicted_kl
from trimtab.steering.conditions import At, Comparison, comparisons
from trimtab.vectors import ControlVector, ModelInfo

ROWS = 128  # of a batch; larger requests are answered batch by batch
PROBE_SIZE = 100.0  # of each number that is added to see whether answers depend on the last block
_PROVEN: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # whether answers depend on the blocks


@final
@dataclass(frozen=True, eq=False)
class Request:
    """Prompts to be answered, with everything that decides their answers.

    Attributes:
        prompts: The prompts.
        steerings: One compiled steering for each; equal ones share their work.
        sampling: How tokens are chosen.
        repeats: How often each prompt came before in the request.
        read: Vectors to read at every generated token.
        measure_kl: Whether to measure the KL that the steering spends on each answer.
        cache: Keys and values of the beginning of the one prompt, to be used and filled.
    """

    prompts: Sequence[MarkedPrompt]
    steerings: Sequence[CompiledSteering]
    sampling: Sampling
    repeats: Sequence[int]
    read: tuple[ControlVector, ...] = ()
    measure_kl: bool = False
    cache: DynamicCache | None = None

    def part(self, rows: slice) -> Request:
        """Return some rows of the request."""
        return replace(self, prompts=self.prompts[rows], steerings=self.steerings[rows], repeats=self.repeats[rows])


def make_request(
    prompts: Sequence[MarkedPrompt],
    steerings: Sequence[Steering],
    sampling: Sampling,
    *,
    info: ModelInfo,
    read: Sequence[ControlVector] = (),
    normalize: float | None = None,
    measure_kl: bool = False,
    cache: DynamicCache | None = None,
) -> Request:
    """Compile the steerings, each distinct one once, and check the vectors to be read.

    Raises:
        SteeringError: A steering cannot be compiled.
        VectorMismatchError: A vector belongs to another model.
    """
    for vector in read:
        vector.check_model(info)
    chosen = steerings if normalize is None else normalized_rows(steerings, normalize)
    compiled = {steering: steering.compile(info) for steering in dict.fromkeys(chosen)}
    for steering in compiled:
        warn_if_strong(steering)
    return Request(
        prompts,
        [compiled[steering] for steering in chosen],
        sampling,
        count_repeats([prompt.tokens for prompt in prompts]),
        read=tuple(read),
        measure_kl=measure_kl,
        cache=cache,
    )


@final
@dataclass(frozen=True)
class Listener:
    """Callbacks of a caller who follows an answer while it is generated.

    Attributes:
        on_token: Called with each token of the first row and its z-scores on the vectors that are read.
        ended: Whether to break the answers off.
    """

    on_token: Callable[[int, tuple[float, ...]], None]
    ended: Callable[[], bool] = lambda: False


def answer_request(
    host: ModelContext, request: Request, *, decode: Callable[[Sequence[int]], str], listener: Listener | None
) -> list[Completion]:
    """Answer every prompt of a request.

    Raises:
        SteeringError: It cannot be done, or was not done as asked.
    """
    if request.measure_kl and host.scopes:
        raise SteeringError("KL cannot be measured inside steered()", fix="pass steering= to generate instead")
    if request.prompts and (host.scopes or any(steering.layers for steering in request.steerings)):
        _prove_answers(host, request.prompts[0].tokens)
    completions: list[Completion] = []
    for at in range(0, len(request.prompts), ROWS):
        batch = request.part(slice(at, at + ROWS))
        completions += _answer_batch(host, batch, decode=decode, listener=listener if at == 0 else None)
    return completions


def _answer_batch(
    host: ModelContext, batch: Request, *, decode: Callable[[Sequence[int]], str], listener: Listener | None
) -> list[Completion]:
    rows = [RowText(prompt, markers=host.markers, decode=host.decode_all) for prompt in _as_read(host, batch.prompts)]
    _check_terms(host, rows, batch)
    own = StepPlan.of_rows(batch.steerings)
    plans = [*(hooks.plan for hooks in host.scopes), own]
    on_tokens = _comparisons_on_tokens(plans)
    vectors = [*batch.read, *dict.fromkeys(c.vector for c in on_tokens if c.vector not in batch.read)]
    with ExitStack() as stack:
        probe = stack.enter_context(ProbeHooks(host.blocks, vectors))

        def token_readings() -> Readings:
            latest = probe.latest()
            return {c: latest[:, vectors.index(c.vector)] for c in on_tokens}

        read_prompts = _prompt_reader(host, batch.prompts)
        kept = batch.cache.get_seq_length() if batch.cache is not None else 0
        schedules = [
            BatchSchedule(
                plan,
                rows,
                sink=host.sink,
                cached=batch.sampling.use_cache and not host.blocks.encoder,
                start=kept,
                kept=kept,
                pad_left=host.start is None,
                prompt_readings=read_prompts,
                token_readings=token_readings,
            )
            for plan in plans
        ]
        counters = [SteeringCounters() for _ in schedules]
        prefilled = _prefilled(host, batch, schedules[-1])
        if prefilled is not None:
            schedules[-1].begin_at(schedules[-1].width - 1)
            counters[-1].put(prefilled.lengths, prefilled.moves)
        active = [*host.scopes, stack.enter_context(SteeringHooks(host.blocks, own, sink=host.sink))]
        for hooks, schedule, counter in zip(active, schedules, counters, strict=True):
            stack.enter_context(hooks.following(schedule, counter))
        steps: list[F64] = []  # z-scores [row, vector] of each generated token
        reads = list(range(len(batch.read)))
        generated = generate_tokens(
            host.model,
            [prompt.tokens for prompt in batch.prompts],
            batch.sampling,
            stop=host.stop,
            pad=host.pad,
            start=host.start,
            repeats=batch.repeats,
            prefilled=batch.cache if prefilled is None else prefilled.cache,
            on_step=(lambda: steps.append(probe.latest()[:, reads])) if batch.read else None,
            on_token=None if listener is None else lambda token: listener.on_token(token, _first_row(steps)),
            ended=None if listener is None else listener.ended,
        )
    for hooks in active:
        hooks.check()
    return _completions(host, batch, generated, schedules, counters, steps, decode=decode)


def _completions(
    host: ModelContext,
    batch: Request,
    generated: Sequence[Generated],
    schedules: Sequence[BatchSchedule],
    counters: Sequence[SteeringCounters],
    steps: Sequence[F64],
    *,
    decode: Callable[[Sequence[int]], str],
) -> list[Completion]:
    """Join what was generated with receipts of what was done."""
    outer = _outer(host)
    names = distinct_names([vector.behaviour.name for vector in batch.read])
    # The last token of an answer is read by no pass, so nothing is steered there.
    read = [0 if host.blocks.encoder else max(len(answer.tokens) - 1, 0) for answer in generated]
    parts = [counter.receipts(schedule, generated=read) for counter, schedule in zip(counters, schedules, strict=True)]
    touched = [int(np.logical_or.reduce([part.touched[row] for part in parts]).sum()) for row in range(len(generated))]
    completions = []
    for row, answer in enumerate(generated):
        prompt, steering, tokens = batch.prompts[row], batch.steerings[row], answer.tokens
        terms = tuple(term for part in parts for term in part.terms[row])
        kl = None
        if batch.measure_kl:
            coefficients = schedules[-1].coefficients_of(row, read[row])[:, schedules[-1].terms_of(row)]
            kl = kl_along(host, prompt, tokens, steering, coefficients)
        receipt = Receipt(
            steering=str(outer + steering),
            layers=tuple(sorted({layer for term in terms for layer in term.layers})),
            rows=sum(count > 0 for count in touched) if touched[row] else 0,
            tokens=touched[row],
            kl=kl,
            terms=terms,
        )
        readings = [tuple(float(step[row, n]) for step in steps[: len(tokens)]) for n in range(len(batch.read))]
        completions.append(
            Completion(
                text=decode(tokens),
                tokens=tokens,
                finish_reason="stop" if tokens and tokens[-1] in host.stop else "length",
                prompt=prompt,
                receipt=receipt,
                logprob=answer.logprob,
                readings=dict(zip(names, readings, strict=True)),
            )
        )
    return completions


def _first_row(steps: Sequence[F64]) -> tuple[float, ...]:
    return tuple(steps[-1][0].tolist()) if steps else ()


def _outer(host: ModelContext) -> CompiledSteering:
    """The terms of all open scopes, outermost first."""
    return CompiledSteering(tuple(term for hooks in host.scopes for term in hooks.plan.terms))


def _as_read(host: ModelContext, prompts: Sequence[MarkedPrompt]) -> list[MarkedPrompt]:
    """The part of the prompts that the steered blocks read: beside an encoder, the decoder's first tokens alone."""
    if host.start is None or host.blocks.encoder:
        return list(prompts)
    count = len(host.start)
    begun = MarkedPrompt("", host.start, ((0, 0),) * count, (), (False,) * count, 0)
    return [begun] * len(prompts)


def _check_terms(host: ModelContext, rows: Sequence[RowText], batch: Request) -> None:
    outer = _outer(host)
    for row, steering in zip(rows, batch.steerings, strict=True):
        for term in (outer + steering).terms:
            check_scope(term.scope, row, what=term.text)
            if host.blocks.encoder and not (term.scope.is_all and term.condition is None):
                raise SteeringError(f"{term.text}: an encoder is steered at all of its tokens", fix="drop the scope")
    if host.blocks.encoder and batch.read:
        raise SteeringError("an encoder generates nothing to read", fix="load the model without encoder=True")


def _comparisons_on_tokens(plans: Sequence[StepPlan]) -> list[Comparison]:
    conditions = [term.condition for plan in plans for term in plan.terms]
    found = [c for condition in conditions if condition is not None for c in comparisons(condition)]
    return list(dict.fromkeys(c for c in found if c.at == "token"))


def _prompt_reader(host: ModelContext, prompts: Sequence[MarkedPrompt]) -> Callable[[Sequence[Comparison]], Readings]:
    """Return a function that reads the prompts once on each vector and place, however many comparisons need it."""

    @cache
    def scored(vector: ControlVector, at: At) -> F64:
        return score_prompts(host, prompts, vector, at=at)

    return lambda asked: {c: scored(c.vector, c.at) for c in asked}


def _prefilled(host: ModelContext, batch: Request, schedule: BatchSchedule) -> Prefilled | None:
    """Read the prompts of rows that are steered alike as one tree; None where that saves nothing, or cannot be."""
    if not batch.sampling.use_cache or host.start is not None or batch.cache is not None or host.scopes:
        return None
    alike: dict[tuple[int, ...], list[int]] = {}
    for row in range(len(batch.prompts)):
        numbers = schedule.terms_of_whole_prompt(row)
        if numbers is None:
            return None
        alike.setdefault(numbers, []).append(row)
    parts, rows = [], []
    for numbers, same in sorted(alike.items(), key=lambda item: len(item[1])):  # small ones likely save nothing
        terms = tuple(term for number in numbers if (term := schedule.plan.term_rows[number].term) is not None)
        plan = StepPlan.of_rows([CompiledSteering(terms)])
        with SteeringHooks(host.blocks, plan, sink=host.sink) as hooks:
            prompts = [batch.prompts[row].tokens for row in same]
            found = shared_prefill(
                host.model, host.blocks, prompts, cost=host.cost(), proof=host.prefix_sharing, hooks=hooks
            )
        hooks.check()
        if found is None:
            return None
        parts.append(found.renumbered(plan, schedule.plan, numbers))
        rows.append(same)
    return join_prefilled(parts, rows)


def kl_along(
    host: ModelContext, prompt: MarkedPrompt, answer: Tokens, steering: CompiledSteering, coefficients: Coefficients
) -> float:
    """Mean per-token KL(base ‖ steered) in nats along an answer, steered as it was when it was generated."""
    plan = StepPlan.of_rows([steering])
    with torch.inference_mode(), eagerly():
        base = answer_logprobs(host, prompt.tokens, answer)
        with (
            SteeringHooks(host.blocks, plan, sink=host.sink) as hooks,
            hooks.following(ReplayedSchedule(coefficients)),
        ):
            steered = answer_logprobs(host, prompt.tokens, answer)
        hooks.check()
        return float(kl_of_logprobs(base, steered).double().mean())


def answers_depend_on_layers(host: ModelContext, prompt: Tokens) -> bool:
    """Return True if answers depend on the last layer too, for a model that prepares its passes itself."""
    if prepares_plainly(host.model):
        return True
    added = np.where(np.arange(host.info.hidden_size) % 3, -PROBE_SIZE, PROBE_SIZE).astype(np.float32)
    plain, steered = (_first_token(host, prompt, at) for at in ({}, {host.info.layers - 1: added}))
    return plain != steered


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


def normalized_rows(steerings: Sequence[Steering], budget: float) -> list[Steering]:
    """Every mix rescaled to a budget; rows that were steered alike still are."""
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
            stacklevel=5,
        )


def _prove_answers(host: ModelContext, prompt: Tokens) -> None:
    """Make sure, once for each model, that answers depend on the last block too."""
    if host.model not in _PROVEN:
        _PROVEN[host.model] = answers_depend_on_layers(host, prompt)
    if not _PROVEN[host.model]:
        raise SteeringError(
            f"answers of {host.info.name} do not depend on its last block: {host.info.architecture} generates in "
            "another way than it reads",
            fix="its states can be read, and its plain passes steered",
        )
