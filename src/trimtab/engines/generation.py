"""Handle of one request: its tokens as they are generated, its completion, and its cancellation."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from threading import Condition, local
from types import TracebackType
from typing import Protocol, TypeAlias, Unpack, final

import numpy as np
from numpy.typing import NDArray

from trimtab.engines.constraints import ConstraintLike
from trimtab.engines.protocol import (
    Choices,
    Completion,
    Generates,
    MarkedPrompt,
    Prompt,
    StreamedToken,
    ThinkingMarkers,
)
from trimtab.engines.sampling import Sampling, SamplingOptions
from trimtab.errors import SteeringError
from trimtab.reading import Reading
from trimtab.steering import SteeringLike
from trimtab.steering.conditions import At
from trimtab.vectors import ControlVector

logger = logging.getLogger("trimtab")
End: TypeAlias = Completion | BaseException

_GATHERED = local()  # ``events`` of this thread by loop, inside of ``gathered_wakeups``


@contextmanager
def gathered_wakeups() -> Iterator[None]:
    """Wake each event loop once at the end of the ``with`` block, however many of its events ``waker`` has to set.

    A pass of the model has a token for every request. To wake their loop costs a system call, in which its thread takes
    the interpreter from the one that is handing out.
    """
    _GATHERED.events = gathered = defaultdict[asyncio.AbstractEventLoop, list[asyncio.Event]](list)
    try:
        yield
    finally:
        _GATHERED.events = None
        for loop, events in gathered.items():
            _set_all(loop, events)


def waker(event: asyncio.Event) -> Callable[[], None]:
    """Return a function that sets an event of the running loop from any thread, also once that loop is closed."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        gathered = getattr(_GATHERED, "events", None)
        if gathered is None:
            _set_all(loop, [event])
        else:
            gathered[loop].append(event)

    return wake


def _set_all(loop: asyncio.AbstractEventLoop, events: Sequence[asyncio.Event]) -> None:
    def set_all() -> None:
        for event in events:
            event.set()

    with suppress(RuntimeError):  # of a closed loop: nobody waits any more, and the engine must not fail
        loop.call_soon_threadsafe(set_all)


@final
class Mailbox:
    """What the engine has generated for one request, and whether anybody still wants more.

    The engine knows the mailbox and not its ``Generation``, so that one that nobody refers to is collected, which
    cancels the request.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._tokens: deque[StreamedToken] = deque()
        self._end: End | None = None
        self._listeners: list[Callable[[], object]] = []
        self._endings: list[Callable[[End], object]] = []
        self.cancelled = False
        self.times: list[float] = []  # at which tokens were handed out, on the clock of ``time.monotonic``

    def put(self, token: StreamedToken) -> None:
        """Hand out a token."""
        self.times.append(time.monotonic())
        self._notify(lambda: self._tokens.append(token))

    def close(self, end: End) -> None:
        """Hand out the completion, or the error with which the request has ended."""

        def finish() -> None:
            self._end = end

        self._call_endings(end)  # before anybody sees the end, so that what they note is there by then
        self._notify(finish)
        self._call_endings(end)  # those that have come meanwhile

    def _call_endings(self, end: End) -> None:
        with self._changed:
            endings, self._endings = self._endings, []
        for ending in endings:
            _call(partial(ending, end))

    def _notify(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            listeners, self._listeners = self._listeners, []
            self._changed.notify_all()
        for listener in listeners:
            _call(listener)

    def listen(self, listener: Callable[[], object], *, end: bool = False) -> bool:
        """Have ``listener`` called once, at the next change, from any thread.

        Returns:
            False if the end is there already or, unless ``end`` alone is wanted, a token; it is not called then.
        """
        with self._changed:
            if self._is_there(end=end):
                return False
            self._listeners.append(listener)
            return True

    def ignore(self, listener: Callable[[], object]) -> None:
        """Have a listener called no more."""
        with self._changed:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def _is_there(self, *, end: bool) -> bool:
        return self._end is not None or (bool(self._tokens) and not end)

    def when_ended(self, call: Callable[[End], object]) -> None:
        """Have ``call`` called with the end before others see it, from any thread, or at once if it is there."""
        with self._changed:
            if self._end is None:
                self._endings.append(call)
                return
        call(self._end)

    @property
    def ended(self) -> bool:
        """Return True if there will be no more tokens."""
        return self._end is not None

    def take(self) -> StreamedToken | End | None:
        """Return the next token, the end behind the last one, or None if there is nothing yet."""
        with self._changed:
            return self._tokens.popleft() if self._tokens else self._end

    def take_all(self) -> list[StreamedToken]:
        """Return all tokens that are there."""
        with self._changed:
            tokens = list(self._tokens)
            self._tokens.clear()
            return tokens

    def wait(self, *, end: bool, timeout: float | None) -> bool:
        """Wait for the next token, or for the end; return False if the time is over before."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_there(end=end), timeout)

    def end(self) -> End | None:
        """Return the completion or the error, if the request has ended."""
        return self._end


@final
class Generation:
    """One request that is being answered.

    Iterate over its tokens, from any thread or with ``async for``; take its ``result()``, or ``await`` it. All ways may
    be mixed; each token is handed out once. Leaving a ``with`` block, ``close()`` and the garbage collector cancel a
    request that has not ended, and its place is free at the next pass of the model.
    """

    def __init__(self, mailbox: Mailbox, *, held: Callable[[], bool] = lambda: False) -> None:
        self._mailbox = mailbox
        self._closed = False
        self._held = held  # whether this thread holds the model, so that waiting for an answer would never end

    def __iter__(self) -> Iterator[StreamedToken]:
        return self

    def __next__(self) -> StreamedToken:
        while True:
            if self._closed:
                raise StopIteration
            found = self._mailbox.take()
            if isinstance(found, StreamedToken):
                return found
            if found is not None:
                raise _error(found) or StopIteration
            self._wait(end=False, timeout=None)

    def _wait(self, *, end: bool, timeout: float | None) -> bool:
        self._check_not_held()
        return self._mailbox.wait(end=end, timeout=timeout)

    def _check_not_held(self) -> None:
        if self._held() and not self._mailbox.ended:
            raise SteeringError(
                "this answer is generated by another thread, which waits for the pass that this one is in",
                fix="take the answer when the call that runs this function has returned",
            )

    def result(self, timeout: float | None = None) -> Completion:
        """Wait for the whole answer.

        Args:
            timeout: Seconds to wait at most; None waits as long as it takes.

        Raises:
            TimeoutError: It has not ended by then; it goes on.
            CancelledGenerationError: It was cancelled, or its deadline has passed.
            TrimtabError: It has failed.
        """
        if not self._wait(end=True, timeout=timeout):
            raise TimeoutError(f"no answer within {timeout:g} s")
        return self.completion

    @property
    def completion(self) -> Completion:
        """Return the whole answer with its receipt.

        Raises:
            SteeringError: The answer is not at its end.
            TrimtabError: It has failed.
        """
        end = self._mailbox.end()
        if end is None:
            raise SteeringError("the stream is not at its end", fix="read all of its tokens first")
        if isinstance(end, BaseException):
            raise end
        return end

    def ready(self) -> list[StreamedToken]:
        """Return the tokens that are there, without waiting for any."""
        return self._mailbox.take_all()

    def listen(self, listener: Callable[[], object]) -> bool:
        """Have ``listener`` called once, from any thread, when there is more; return False if there is already."""
        return self._mailbox.listen(listener)

    def when_ended(self, call: Callable[[End], object]) -> None:
        """Have ``call`` called with the completion or the error, from any thread, or at once if it is there.

        What is called must not refer to the generation, or nobody would collect it.
        """
        self._mailbox.when_ended(call)

    @property
    def times(self) -> Sequence[float]:
        """Return when each token was handed out, on the clock of ``time.monotonic``; it grows with the answer."""
        return self._mailbox.times

    @property
    def ended(self) -> bool:
        """Return True if the answer is at its end, or has failed."""
        return self._mailbox.ended

    def cancel(self) -> None:
        """Stop the answer before the next pass; an iterator still gets the tokens that it has by then."""
        self._mailbox.cancelled = True

    def close(self) -> None:
        """Stop the answer, and wait until it has left the model; iterators are then at their end."""
        self._closed = True
        self.cancel()
        if not self._held():
            self._mailbox.wait(end=True, timeout=None)

    def __enter__(self) -> Generation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._mailbox.cancelled = True  # without a lock: the collector runs in any thread, at any time

    def __aiter__(self) -> AsyncIterator[StreamedToken]:
        return self

    async def __anext__(self) -> StreamedToken:
        while True:
            if self._closed:
                raise StopAsyncIteration
            found = self._mailbox.take()
            if isinstance(found, StreamedToken):
                return found
            if found is not None:
                raise _error(found) or StopAsyncIteration
            await self._changed(end=False)

    async def _changed(self, *, end: bool) -> None:
        self._check_not_held()
        event = asyncio.Event()
        wake = waker(event)
        if self._mailbox.listen(wake, end=end):
            try:
                await event.wait()
            finally:
                self._mailbox.ignore(wake)

    async def _result(self) -> Completion:
        while not self._mailbox.ended:
            await self._changed(end=True)
        return self.completion

    def __await__(self) -> Generator[None, None, Completion]:
        return self._result().__await__()


@dataclass
class Workload:
    """What a model has done for requests; counted by the thread that runs it.

    Attributes:
        passes: Passes of the model.
        rows: Requests in all of them.
        failures: Passes that have failed since the last one that did not.
        prefix_queries: Tokens of prompts.
        prefix_hits: Of these, tokens that were kept from earlier requests.
    """

    passes: int = 0
    rows: int = 0
    failures: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0


class Serves(Generates, Protocol):
    """Engine that answers many requests at once, each with its own options."""

    @property
    def thinking_markers(self) -> ThinkingMarkers | None:
        """Return the marks around the model's thoughts; None if it has none."""

    @property
    def workload(self) -> Workload:
        """Return what the model has done for requests."""

    @property
    def stalled(self) -> float:
        """Return the seconds for which requests have waited for a pass of the model; 0 while there are none."""

    def marked(self, prompt: Prompt, *, raw: bool = False, thinking: bool | None = None) -> MarkedPrompt:
        """Return a prompt as the model reads it; ``thinking`` switches the thoughts of a reasoning model."""

    def submit(
        self,
        prompt: Prompt | MarkedPrompt,
        *,
        steering: SteeringLike = None,
        sampling: Sampling | None = None,
        constraint: ConstraintLike | None = None,
        read: Sequence[ControlVector] = (),
        raw: bool = False,
        normalize: float | None = None,
        measure_kl: bool = False,
        deadline: float | None = None,
        salt: str = "",
        **options: Unpack[SamplingOptions],
    ) -> Generation:
        """Begin to answer one prompt, and return its handle at once."""

    def choose(
        self, prompts: Sequence[Prompt], choices: Sequence[str], *, steering: SteeringLike = None, raw: bool = False
    ) -> list[Choices]:
        """Return the probabilities of given answers to each prompt."""

    def read(self, prompt: Prompt, vectors: Sequence[ControlVector], *, raw: bool = False) -> Reading:
        """Return projections of a text or a chat on vectors, by layer and token."""

    def scores(self, prompts: Sequence[Prompt], vector: ControlVector, *, at: At = "prompt") -> NDArray[np.float64]:
        """Return a z-score of each prompt on a vector, as conditions on prompts read it, ``[prompt]``."""


def _call(listener: Callable[[], object]) -> None:
    """Call what a caller has left with a request; if it fails, the engine and all other requests go on."""
    try:
        listener()
    except Exception:
        logger.exception("what was to be called with an answer has failed")


def _error(end: End) -> BaseException | None:
    return end if isinstance(end, BaseException) else None
