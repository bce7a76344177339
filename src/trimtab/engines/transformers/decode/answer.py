"""Answer the prompts of a request in batches, each row under its own steering."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeAlias, final
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from trimtab.arrays import F32, F64
from trimtab.engines.layers import eagerly
from trimtab.engines.protocol import Completion, MarkedPrompt, Receipt, StreamedToken, Tokens
from trimtab.engines.sampling import Sampling
from trimtab.engines.transformers.decode.choose import TokenChooser
from trimtab.engines.transformers.decode.constraints import State, TaggedState
from trimtab.engines.transformers.decode.output import RowAnswer
from trimtab.engines.transformers.decode.sampling import (
    count_repeats,
    generate_tokens,
)
from trimtab.engines.transformers.forward.capture import ProbeHooks
from trimtab.engines.transformers.forward.collect import score_prompts
from trimtab.engines.transformers.forward.run import prepares_plainly
from trimtab.engines.transformers.forward.schedule import BatchSchedule, Readings, RowText, check_scope
from trimtab.engines.transformers.forward.steer import SteeringCounters, SteeringHooks, term_receipts
from trimtab.engines.transformers.forward.step_plan import Coefficients, StepPlan
from trimtab.engines.transformers.model.context import ModelContext
from trimtab.engines.transformers.score.forcing import answer_logprobs
from trimtab.engines.transformers.score.kl import kl_of_logprobs
from trimtab.errors import SteeringError, StrongSteeringWarning
from trimtab.reading import distinct_names
from trimtab.steering import CompiledSteering, Steering
from trimtab.steering.budget import WARN_ABOVE, least_predicted_kl
from trimtab.steering.compiled import NONE
from trimtab.steering.conditions import At, Comparison, comparisons
from trimtab.vectors import ControlVector, ModelInfo

ROWS = 128  # of a batch; larger requests are answered batch by batch
PROBE_SIZE = 100.0  # of each number that is added to see whether answers depend on the last block
OnToken: TypeAlias = Callable[[StreamedToken], None]
PROBE_TOKENS = 3  # generated to compare a row of a batch with the row alone
SAME_LOGPROB = {torch.float32: 1e-3, torch.float64: 1e-3}  # nats; coarser types round differently in a batch
ROUNDED_LOGPROB = 0.3
_PROVEN: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # whether answers depend on the blocks
_BATCHED: WeakKeyDictionary[PreTrainedModel, bool] = WeakKeyDictionary()  # whether rows are answered as alone


@final
@dataclass(frozen=True, eq=False)
class Request:
    """Prompts to be answered, with everything that decides their answers."""

    prompts: Sequence[MarkedPrompt]
    steerings: Sequence[CompiledSteering]  # one compiled steering for each; equal ones share their work
    sampling: Sampling  # how tokens are chosen
    repeats: Sequence[int]  # how often each prompt came before in the request
    constraints: Sequence[State | None]  # one for each, which advances with the answer
    read: tuple[ControlVector, ...] = ()  # vectors to read at every generated token
    measure_kl: bool = False  # whether to measure the KL that the steering spends on each answer
    cache: DynamicCache | None = None  # keys and values of the beginning of the one prompt, to be used and filled


def make_request(
    prompts: Sequence[MarkedPrompt],
    steerings: Sequence[Steering],
    sampling: Sampling,
    *,
    info: ModelInfo,
    constraints: Sequence[State | None],
    ambient: CompiledSteering = NONE,
    read: Sequence[ControlVector] = (),
    normalize: float | None = None,
    measure_kl: bool = False,
    cache: DynamicCache | None = None,
) -> Request:
    """Compile the steerings, each distinct one once, and check the vectors to be read.

    The terms of ``ambient`` act before those of each row. Constrained answers are unsteered unless their constraints
    say otherwise.

    Raises:
        SteeringError: A steering cannot be compiled, or an open ``steered()`` block leaves the request without meaning.
        VectorMismatchError: A vector belongs to another model.
    """
    for vector in read:
        vector.check_model(info)
    if ambient.terms and any(map(unsteers, constraints)):
        raise SteeringError(
            "a constrained answer is unsteered, but a steered() block is open",
            fix="leave the block, or give the constraint steer=True",
        )
    if ambient.terms and measure_kl:
        raise SteeringError("KL cannot be measured inside steered()", fix="pass steering= to generate instead")
    none = Steering()
    chosen = [none if unsteers(row) else steering for steering, row in zip(steerings, constraints, strict=True)]
    chosen = chosen if normalize is None else normalized_rows(chosen, normalize)
    compiled = {steering: ambient + steering.compile(info) for steering in dict.fromkeys(chosen)}
    for steering in compiled:
        warn_if_strong(steering)
    return Request(
        prompts,
        [compiled[steering] for steering in chosen],
        sampling,
        count_repeats([prompt.tokens for prompt in prompts]),
        constraints,
        read=tuple(read),
        measure_kl=measure_kl,
        cache=cache,
    )


def answer_request(
    context: ModelContext,
    request: Request,
    *,
    on_token: OnToken | None = None,
    ended: Callable[[], bool] | None = None,
) -> list[Completion]:
    """Answer every prompt of a request.

    Args:
        context: The model.
        request: The prompts.
        on_token: Called with each token of the first row.
        ended: Returns True to break the answers off.

    Raises:
        SteeringError: It cannot be done, or was not done as asked.
        ConstraintError: A constraint became too complex to follow.
    """
    if request.prompts and any(steering.layers for steering in request.steerings):
        _prove_answers(context, request.prompts[0].tokens)
    completions: list[Completion] = []
    size = ROWS if len(request.prompts) < 2 or answers_batches(context, request.prompts[0].tokens) else 1
    for at in range(0, len(request.prompts), size):
        completions += _answer_batch(context, _part(request, slice(at, at + size)), on_token, ended)
        on_token = None
    return completions


def _answer_batch(
    context: ModelContext,
    batch: Request,
    on_token: OnToken | None,
    ended: Callable[[], bool] | None,
) -> list[Completion]:
    rows = [
        RowText(prompt, markers=context.markers, decode=context.decode_all, left_out=left_out_of(constraint))
        for prompt, constraint in zip(_as_read(context, batch.prompts), batch.constraints, strict=True)
    ]
    plan = StepPlan.of_rows(batch.steerings)
    on_tokens = _comparisons_on_tokens(plan)
    vectors = [*batch.read, *dict.fromkeys(c.vector for c in on_tokens if c.vector not in batch.read)]
    with ExitStack() as stack:
        probe = stack.enter_context(ProbeHooks(context.blocks, vectors))

        def token_readings() -> Readings:
            latest = probe.latest()
            return {c: latest[:, vectors.index(c.vector)] for c in on_tokens}

        schedule = BatchSchedule(
            plan,
            rows,
            sink=context.sink,
            cached=batch.sampling.use_cache and not context.blocks.encoder,
            kept=batch.cache.get_seq_length() if batch.cache is not None else 0,
            pad_left=context.start is None,
            prompt_readings=prompt_reader(context, batch.prompts),
            token_readings=token_readings,
        )
        hooks = stack.enter_context(SteeringHooks(context.blocks, plan, sink=context.sink))
        passes = stack.enter_context(hooks.following(schedule))
        steps: list[F64] = []  # z-scores [row, vector] of each generated token
        reads = list(range(len(batch.read)))
        names = distinct_names([vector.behaviour.name for vector in batch.read])
        answers = [
            row_answer(
                context,
                prompt.tokens,
                batch.sampling,
                repeat=repeat,
                constraint=constraint,
                streamed=on_token is not None and row == 0,
            )
            for row, (prompt, repeat, constraint) in enumerate(
                zip(batch.prompts, batch.repeats, batch.constraints, strict=True)
            )
        ]

        def on_text(text: str) -> None:
            first = answers[0]
            readings = dict(zip(names, steps[-1][0].tolist(), strict=True)) if steps else {}
            if on_token is not None:
                on_token(StreamedToken(first.tokens[-1], text, readings, first.token_logprob()))

        generate_tokens(
            context.model,
            answers,
            pad=context.pad,
            use_cache=batch.sampling.use_cache,
            start=context.start,
            prefilled=batch.cache,
            on_step=(lambda: steps.append(probe.latest()[:, reads])) if batch.read else None,
            on_text=None if on_token is None else on_text,
            ended=ended,
        )
    hooks.check()
    return _completions(context, batch, answers, schedule, passes, steps)


def row_answer(
    context: ModelContext,
    prompt: Tokens,
    sampling: Sampling,
    *,
    repeat: int = 0,
    constraint: State | None = None,
    streamed: bool = False,
) -> RowAnswer:
    """Return an answer without tokens; ``repeat`` is how often the prompt came before in the same call."""
    chooser = TokenChooser(sampling, prompt, stop=context.stop, repeat=repeat, constraint=constraint)
    return RowAnswer(chooser, decode=context.decode, decode_all=context.decode_all, streamed=streamed)


def unsteers(constraint: State | None) -> bool:
    """Return True if an answer is to be unsteered because of its constraint."""
    return constraint is not None and constraint.constraint.unsteers


def left_out_of(constraint: State | None) -> Callable[[int], bool] | None:
    """Return a function that says whether a token is unsteered because it is in a constrained part; None: none is."""
    if isinstance(constraint, TaggedState) and not constraint.constraint.steer:
        return constraint.inside
    return None


def reason_of(constraint: State | None) -> str | None:
    """Return why an answer is unsteered, for its receipt; None if it need not be."""
    return "constrained" if unsteers(constraint) else None


def _completions(
    context: ModelContext,
    batch: Request,
    answers: Sequence[RowAnswer],
    schedule: BatchSchedule,
    passes: Sequence[SteeringCounters],
    steps: Sequence[F64],
) -> list[Completion]:
    """Join the answers with receipts of their steering."""
    names = distinct_names([vector.behaviour.name for vector in batch.read])
    # The last token of an answer is read by no pass, so nothing is steered there.
    read = [0 if context.blocks.encoder else max(len(answer.tokens) - 1, 0) for answer in answers]
    coefficients = [schedule.coefficients_of(row, count) for row, count in enumerate(read)]
    receipts = term_receipts(schedule, coefficients, passes)
    completions = []
    for row, answer in enumerate(answers):
        prompt, steering, terms = batch.prompts[row], batch.steerings[row], tuple(receipts[row])
        kl = None
        if batch.measure_kl:
            of_row = coefficients[row][:, schedule.terms_of(row)]
            kl = kl_along(context, prompt, tuple(answer.tokens), steering, of_row)
        receipt = Receipt(
            steering=str(steering),
            layers=tuple(sorted({layer for term in terms for layer in term.layers})),
            tokens=int(coefficients[row].any(axis=1).sum()),
            kl=kl,
            terms=terms,
            reason=reason_of(batch.constraints[row]),
        )
        readings = [tuple(float(step[row, n]) for step in steps[: len(answer.tokens)]) for n in range(len(names))]
        completions.append(answer.completion(prompt, receipt, readings=dict(zip(names, readings, strict=True))))
    return completions


def _as_read(context: ModelContext, prompts: Sequence[MarkedPrompt]) -> list[MarkedPrompt]:
    """Return the part of the prompts that the steered layers read: beside an encoder, the decoder's start tokens."""
    if context.start is None or context.blocks.encoder:
        return list(prompts)
    count = len(context.start)
    begun = MarkedPrompt("", context.start, ((0, 0),) * count, (), (False,) * count, 0)
    return [begun] * len(prompts)


def check_terms(context: ModelContext, batch: Request) -> None:
    """Refuse terms that make no sense for the prompts of a request.

    Raises:
        SteeringError: A scope asks for what a prompt does not have, or an encoder is to be steered in part.
    """
    for prompt, steering in zip(_as_read(context, batch.prompts), batch.steerings, strict=True):
        row = RowText(prompt, markers=context.markers, decode=context.decode_all)
        for term in steering.terms:
            check_scope(term.scope, row, what=term.text)
            if context.blocks.encoder and not (term.scope.is_all and term.condition is None):
                raise SteeringError(f"{term.text}: an encoder is steered at all of its tokens", fix="drop the scope")
    if context.blocks.encoder and batch.read:
        raise SteeringError("an encoder generates nothing to read", fix="load the model without encoder=True")


def single_requests(request: Request) -> list[Request]:
    """Return a request for each prompt of a request."""
    return [_part(request, slice(at, at + 1)) for at in range(len(request.prompts))]


def joined_request(requests: Sequence[Request]) -> Request:
    """Return the request of which ``single_requests`` has made these."""
    return replace(
        requests[0],
        prompts=[prompt for each in requests for prompt in each.prompts],
        steerings=[steering for each in requests for steering in each.steerings],
        repeats=[repeat for each in requests for repeat in each.repeats],
        constraints=[constraint for each in requests for constraint in each.constraints],
    )


def _part(request: Request, rows: slice) -> Request:
    return replace(
        request,
        prompts=request.prompts[rows],
        steerings=request.steerings[rows],
        repeats=request.repeats[rows],
        constraints=request.constraints[rows],
    )


def _comparisons_on_tokens(plan: StepPlan) -> list[Comparison]:
    conditions = [term.condition for term in plan.terms]
    used = [c for condition in conditions if condition is not None for c in comparisons(condition)]
    return list(dict.fromkeys(c for c in used if c.at == "token"))


def prompt_reader(context: ModelContext, prompts: Sequence[MarkedPrompt]) -> Callable[[Sequence[Comparison]], Readings]:
    """Return a function that reads the prompts once on each vector and place, however many comparisons need it."""

    @cache
    def scored(vector: ControlVector, at: At) -> F64:
        return score_prompts(context, prompts, vector, at=at)

    return lambda asked: {c: scored(c.vector, c.at) for c in asked}


def kl_along(
    context: ModelContext, prompt: MarkedPrompt, answer: Tokens, steering: CompiledSteering, coefficients: Coefficients
) -> float:
    """Return the mean per-token KL(base ‖ steered) in nats along an answer, steered as when it was generated."""
    plan = StepPlan.of_rows([steering])
    with torch.inference_mode(), eagerly():
        base = answer_logprobs(context, prompt.tokens, answer)
        with SteeringHooks(context.blocks, plan, sink=context.sink, coefficients=coefficients) as hooks:
            steered = answer_logprobs(context, prompt.tokens, answer)
        hooks.check()
        return float(kl_of_logprobs(base, steered).double().mean())


def answers_depend_on_layers(context: ModelContext, prompt: Tokens) -> bool:
    """Return True if answers depend on the last layer too, for a model that prepares its passes itself."""
    if prepares_plainly(context.model):
        return True
    added = np.where(np.arange(context.info.hidden_size) % 3, -PROBE_SIZE, PROBE_SIZE).astype(np.float32)
    plain, steered = (_first_token(context, prompt, at) for at in ({}, {context.info.layers - 1: added}))
    return plain != steered


def _first_token(context: ModelContext, prompt: Tokens, additions: Mapping[int, F32]) -> tuple[list[int], float | None]:
    answer = row_answer(context, prompt, Sampling(max_new_tokens=1))
    with SteeringHooks(context.blocks, additions, sink=False):
        generate_tokens(context.model, [answer], pad=context.pad, use_cache=False, start=context.start)
    return answer.tokens, answer.logprob


def normalized_rows(steerings: Sequence[Steering], budget: float) -> list[Steering]:
    """Rescale every mix to a budget; rows that share a steering still share it."""
    distinct = {id(own): own.normalized(budget) if own.terms else own for own in steerings}
    return [distinct[id(own)] for own in steerings]


def warn_if_strong(steering: Steering) -> None:
    """Warn where a mix is predicted to spend so much that text becomes incoherent."""
    spent = least_predicted_kl(steering.terms)
    if spent > WARN_ABOVE:
        warnings.warn(
            f"{steering} is predicted to spend {spent:.2f} nat per token; above {WARN_ABOVE} text becomes incoherent "
            "(lower its strengths, or give normalize=0.4)",
            StrongSteeringWarning,
            stacklevel=5,
        )


def _prove_answers(context: ModelContext, prompt: Tokens) -> None:
    """Make sure, once for each model, that answers depend on the last block too."""
    if context.model not in _PROVEN:
        _PROVEN[context.model] = answers_depend_on_layers(context, prompt)
    if not _PROVEN[context.model]:
        raise SteeringError(
            f"answers of {context.info.name} do not depend on its last block: {context.info.architecture} generates in "
            "another way than it reads",
            fix="its states can be read, and its plain passes steered",
        )


def answers_batches(context: ModelContext, prompt: Tokens) -> bool:
    """Return True if the model answers a row of a batch as it does alone, which is tried once for each model.

    Some give positions to padding, or carry it in a recurrent state; their prompts are answered one by one.
    """
    if context.model not in _BATCHED:
        _BATCHED[context.model] = _batches_agree(context, prompt)
    return _BATCHED[context.model]


def _batches_agree(context: ModelContext, prompt: Tokens) -> bool:
    """Return True if two prompts of different length get the same answers in a batch as alone."""
    long = prompt[:8] * (8 // len(prompt[:8]))
    rows = [long[: len(long) // 2], long]

    def logprobs(prompts: Sequence[Tokens]) -> list[float]:
        sampling = Sampling(max_new_tokens=PROBE_TOKENS, ignore_eos=True)
        answers = [row_answer(context, prompt, sampling) for prompt in prompts]
        generate_tokens(context.model, answers, pad=context.pad, start=context.start)
        return [answer.logprob for answer in answers if answer.logprob is not None]

    try:
        together = logprobs(rows)
        alone = [logprob for row in rows for logprob in logprobs([row])]
    except Exception:  # models may fail in any way; one that also fails alone says so when it answers
        return False
    tolerance = SAME_LOGPROB.get(context.model.dtype, ROUNDED_LOGPROB)
    return all(abs(a - b) <= tolerance for a, b in zip(together, alone, strict=True))
