"""From a request to its completions: warnings before, batches of rows, receipts after."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final
from weakref import WeakKeyDictionary

from transformers import DynamicCache, PreTrainedModel

from trimtab.engines.base import Completion, MarkedPrompt, Receipt, Tokens
from trimtab.engines.transformers.answering import (
    Answer,
    Batch,
    Listener,
    answer_batch,
    answers_hang_on_blocks,
    kl_along,
)
from trimtab.engines.transformers.generation import Sampling, count_repeats
from trimtab.engines.transformers.host import Host
from trimtab.errors import SteeringError, StrongSteeringWarning
from trimtab.reading import distinct_names
from trimtab.steering import Steering
from trimtab.steering.meter import WARN_ABOVE, known_price
from trimtab.vectors import ControlVector

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


def fulfil(
    host: Host, request: Request, *, decode: Callable[[Sequence[int]], str], listener: Listener | None
) -> list[Completion]:
    """Answer every prompt of a request.

    Raises:
        SteeringError: It cannot be done, or was not done as asked.
    """
    if request.measure_kl and host.scopes:
        raise SteeringError("KL cannot be measured inside steered()", fix="pass steering= to generate instead")
    for vector in request.read:
        vector.check_model(host.info)
    plans = {steering: steering.plan(host.info) for steering in dict.fromkeys(request.steerings)}  # equal ones are one
    for steering in plans:
        warn_if_strong(steering)
    if request.prompts and (host.scopes or any(planned.changes for plan in plans.values() for planned in plan)):
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
    host: Host,
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
                prompt_tokens=len(prompt.tokens),
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
    spent = known_price(steering)
    if spent > WARN_ABOVE:
        warnings.warn(
            f"{steering} is predicted to spend {spent:.2f} nat per token; above {WARN_ABOVE} text begins to fall apart "
            "(lower its strengths, or give normalize=0.4)",
            StrongSteeringWarning,
            stacklevel=4,
        )


def _prove_answers(host: Host, prompt: Tokens) -> None:
    """Make sure, once for each model, that answers hang on the last block too."""
    if host.model not in _PROVEN:
        _PROVEN[host.model] = answers_hang_on_blocks(host, prompt)
    if not _PROVEN[host.model]:
        raise SteeringError(
            f"answers of {host.info.name} do not hang on its last block: {host.info.architecture} generates in "
            "another way than it reads",
            fix="its states can be read, and its plain passes steered",
        )
