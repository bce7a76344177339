"""Answers: from a request's fields to the engine, and back as completions or as tokens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import Lock
from typing import TypeAlias

from fastapi import Request

from trimtab.engines.constraints import Constraint
from trimtab.engines.generation import End, Generation, waker
from trimtab.engines.protocol import Completion, MarkedPrompt, Prompt, StreamedToken
from trimtab.engines.sampling import Sampling
from trimtab.errors import CancelledGenerationError
from trimtab.server.errors import RequestError
from trimtab.server.fields import SamplingFields
from trimtab.server.keys import CALLER
from trimtab.server.metrics import watch
from trimtab.server.records import RECORD, until_gone
from trimtab.server.serving import Serving
from trimtab.server.settings import MAX_ANSWERS, ServerSettings
from trimtab.steering import Steering
from trimtab.vectors import ControlVector

Event: TypeAlias = tuple[int, StreamedToken | Completion]  # with the number of the answer


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request, checked and in the engine's terms.

    Attributes:
        prompts: What is to be answered.
        sampling: How; ``max_new_tokens`` is lowered to what fits into the context window.
        n: Answers to each prompt.
        steering: Steering of all answers.
        constraint: What they must be.
        readings: Vectors that are read at every token.
        measure_kl: Whether the KL that the steering spends is measured.
        raw: Whether prompts are bare text.
        thinking: Whether a reasoning model is asked to think.
        salt: Beginnings of prompts are shared between requests of the same salt alone.
    """

    prompts: tuple[Prompt, ...]
    sampling: Sampling
    n: int = 1
    steering: Steering = Steering()  # noqa: RUF009 - a frozen value
    constraint: Constraint | None = None
    readings: tuple[ControlVector, ...] = ()
    measure_kl: bool = False
    raw: bool = False
    thinking: bool | None = None
    salt: str = ""


@dataclass(frozen=True)
class Answers:
    """Answers that are being written, prompt after prompt, ``n`` for each.

    Attributes:
        prompts: The prompts as the model reads them.
        generations: The answers.
        stopped: Returns True once the server has given them up.
    """

    prompts: tuple[MarkedPrompt, ...]
    generations: tuple[Generation, ...]
    stopped: Callable[[], bool] = bool

    @property
    def prompt_tokens(self) -> int:
        """Return the tokens of all prompts."""
        return sum(len(prompt.tokens) for prompt in self.prompts)

    def cancel(self) -> None:
        """Have the engine give up what is not at its end."""
        for generation in self.generations:
            generation.cancel()


def request_sampling(
    fields: SamplingFields, settings: ServerSettings, *, max_tokens: int | None = None, logprobs: int | None = None
) -> Sampling:
    """Return the sampling that a request asks for.

    Args:
        fields: The request.
        settings: Defaults and upper bounds.
        max_tokens: Upper bound on an answer, in place of the field.
        logprobs: Alternatives of each token.

    Raises:
        PromptError: It is impossible.
    """
    asked = max_tokens or fields.max_tokens or settings.answer_tokens
    stop = (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop or ())
    return Sampling(
        max_new_tokens=min(asked, settings.max_answer_tokens),
        min_tokens=fields.min_tokens or 0,
        temperature=settings.temperature if fields.temperature is None else fields.temperature,
        top_p=1.0 if fields.top_p is None else fields.top_p,
        top_k=max(fields.top_k or 0, 0),
        min_p=fields.min_p or 0.0,
        presence_penalty=fields.presence_penalty or 0.0,
        frequency_penalty=fields.frequency_penalty or 0.0,
        repetition_penalty=fields.repetition_penalty or 1.0,
        logit_bias={int(token): change for token, change in (fields.logit_bias or {}).items()},
        stop=stop,
        stop_token_ids=tuple(fields.stop_token_ids or ()),
        ignore_eos=fields.ignore_eos,
        seed=None if fields.seed is None else fields.seed % 2**63,
        logprobs=logprobs,
    )


async def begin(serving: Serving, asked: Asked) -> Answers:
    """Hand a request to the engine once it is the caller's turn.

    Prompts are rendered and constraints compiled in another thread, so that streams go on meanwhile.

    Raises:
        RequestError: It is too much, or too many requests wait already.
        TrimtabError: The engine does not take it.
    """
    if len(asked.prompts) * asked.n > MAX_ANSWERS:
        raise RequestError(
            f"{len(asked.prompts)} prompts with {asked.n} answers each are asked for",
            fix=f"ask for at most {MAX_ANSWERS} answers at once",
            param="n",
        )
    arrived, client = time.monotonic(), CALLER.get().name
    record, log_prompts = RECORD.get(), serving.settings.log_prompts
    deadline = serving.settings.deadline
    try:
        serving.tokens.check(client)
        leave = await serving.admission.enter(len(asked.prompts) * asked.n, seconds=deadline)
    except RequestError as error:
        serving.metrics.admission_rejections.labels(error.code).inc()
        raise
    try:
        left = None if deadline is None else max(deadline - (time.monotonic() - arrived), 0.1)
        workers = _workers(constrained=asked.constraint is not None)
        submit = partial(copy_context().run, _submit, serving, asked, deadline=left)
        answers = await asyncio.get_running_loop().run_in_executor(workers, submit)
    except BaseException:
        leave()
        raise
    serving.metrics.prompt_tokens.inc(answers.prompt_tokens)
    serving.tokens.use(client, answers.prompt_tokens)
    record.steering, record.prompt_tokens = str(asked.steering), answers.prompt_tokens
    if log_prompts:
        record.prompts = [prompt.text for prompt in answers.prompts]

    def ended(number: int, end: End) -> None:
        if isinstance(end, Completion):
            serving.tokens.use(client, len(end.tokens))
            record.ended[number] = end

    def begun(seconds: float) -> None:
        if record.first_token is None or seconds < record.first_token:
            record.first_token = seconds

    for number, generation in enumerate(answers.generations):
        serving.generations.add(generation)
        watch(serving.metrics, generation, since=arrived, begun=begun)
        generation.when_ended(partial(ended, number))
    _leave_at_the_end(answers, leave)
    return answers


@cache
def _workers(*, constrained: bool) -> ThreadPoolExecutor:
    """Return threads that submit requests: others for those with a constraint, which may take seconds to compile."""
    return ThreadPoolExecutor(2 if constrained else 4, thread_name_prefix="trimtab-submitting")


def _leave_at_the_end(answers: Answers, leave: Callable[[], None]) -> None:
    """Give places back once the engine has written all answers, whether anybody has read them or not."""
    lock, left = Lock(), len(answers.generations)

    def ended(end: End) -> None:
        nonlocal left
        with lock:
            left -= 1
        if left == 0:
            leave()

    for generation in answers.generations:
        generation.when_ended(ended)


def _submit(serving: Serving, asked: Asked, *, deadline: float | None) -> Answers:
    engine = serving.engine
    prompts = tuple(engine.marked(prompt, raw=asked.raw, thinking=asked.thinking) for prompt in asked.prompts)
    generations = [
        engine.submit(
            prompt,
            steering=asked.steering,
            sampling=_nth(_fitted(asked.sampling, prompt, engine.capabilities.context_window), number),
            constraint=asked.constraint,
            read=asked.readings,
            measure_kl=asked.measure_kl,
            deadline=deadline,
            salt=f"{CALLER.get().name}\n{asked.salt}",  # or the time of an answer would tell of other clients' prompts
        )
        for prompt in prompts
        for number in range(asked.n)
    ]
    return Answers(prompts, tuple(generations), serving.stopped.is_set)


def _fitted(sampling: Sampling, prompt: MarkedPrompt, window: int | None) -> Sampling:
    """Return a sampling whose upper bound fits behind the prompt; the engine refuses a prompt that leaves no room."""
    room = sampling.max_new_tokens if window is None else min(sampling.max_new_tokens, window - len(prompt.tokens))
    if room == sampling.max_new_tokens or room < max(1, sampling.min_tokens):
        return sampling
    return replace(sampling, max_new_tokens=room)


def _nth(sampling: Sampling, number: int) -> Sampling:
    """Return the sampling of one of several answers to a prompt: with a seed of its own, or all would be equal."""
    return sampling if sampling.seed is None or number == 0 else replace(sampling, seed=sampling.seed + number)


async def completed(
    answers: Answers, request: Request, *, on_token: Callable[[StreamedToken], object] | None = None
) -> list[Completion]:
    """Return whole answers; they are given up if the client goes.

    Args:
        answers: The answers.
        request: The client's request.
        on_token: Called with every token.

    Raises:
        RequestError: The deadline has passed.
        CancelledGenerationError: The client has gone.
        TrimtabError: An answer has failed.
    """
    gone = asyncio.create_task(until_gone(request.receive))
    work = asyncio.create_task(_all(answers, on_token))
    try:
        await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise CancelledGenerationError("the client has gone")
        return work.result()
    finally:
        gone.cancel()
        work.cancel()
        answers.cancel()


async def _all(answers: Answers, on_token: Callable[[StreamedToken], object] | None) -> list[Completion]:
    found: dict[int, Completion] = {}
    async for events in batches(answers):
        for number, each in events:
            if isinstance(each, Completion):
                found[number] = each
            elif on_token is not None:
                on_token(each)
    return [found[number] for number in range(len(answers.generations))]


async def batches(answers: Answers) -> AsyncIterator[list[Event]]:
    """Yield tokens of several answers as they come, all that are there at once; each answer's completion is its last.

    Raises:
        RequestError: The deadline has passed.
        TrimtabError: An answer has failed.
    """
    changed = asyncio.Event()
    wake = waker(changed)
    left = dict(enumerate(answers.generations))
    listening: set[int] = set()

    def listener(number: int) -> Callable[[], None]:
        def notice() -> None:
            listening.discard(number)
            wake()

        return notice

    while left:
        changed.clear()
        if events := _ready(left, answers.stopped):
            yield events
            continue
        for number in left.keys() - listening:
            listening.add(number)
            if not left[number].listen(listener(number)):
                listening.discard(number)
                break
        else:
            await changed.wait()


def _ready(left: dict[int, Generation], stopped: Callable[[], bool]) -> list[Event]:
    """Return the events that are there, and drop the answers that have ended."""
    events: list[Event] = []
    for number, generation in list(left.items()):
        ended = generation.ended  # before its last tokens are taken
        events += [(number, token) for token in generation.ready()]
        if ended:
            events.append((number, _completion(generation, stopped)))
            del left[number]
    return events


def _completion(generation: Generation, stopped: Callable[[], bool]) -> Completion:
    try:
        return generation.completion
    except CancelledGenerationError as error:
        if stopped():
            raise RequestError("the server stops", fix="try again soon", status=503, code="stopping") from None
        raise RequestError(
            error.problem, fix="ask for fewer tokens, or try again later", status=504, code="deadline_passed"
        ) from None
