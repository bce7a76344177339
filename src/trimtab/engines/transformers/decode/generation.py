"""Requests on their way: what is asked, the threads that answer it, and what ends it early."""

from __future__ import annotations

import atexit
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import cache
from threading import Lock, Thread
from typing import TypeAlias, final

from transformers import PreTrainedModel

from trimtab.engines.generation import Generation, Mailbox
from trimtab.engines.protocol import Completion
from trimtab.engines.transformers.decode.answer import Request, answer_request, check_terms, joined_request
from trimtab.engines.transformers.model.context import ModelContext, model_lock, refuse_waits, running
from trimtab.errors import CancelledGenerationError, PromptError

QUEUED = 10_000  # requests that may wait
_RUNNING: dict[Thread, Callable[[], None]] = {}  # threads inside a model, with what makes them end


def start_thread(run: Callable[[], None], *, cancel: Callable[[], None]) -> None:
    """Run a function that answers requests in a thread and a context of its own, where no ``steered()`` is open.

    The thread is over before the interpreter is: the end of the interpreter aborts a thread that is inside of torch.

    Args:
        run: The function.
        cancel: Makes it end soon.
    """

    def work() -> None:
        try:
            Context().run(run)
        finally:
            _RUNNING.pop(thread, None)

    thread = Thread(target=work, name="trimtab-decoding", daemon=True)
    _end_at_exit()
    _RUNNING[thread] = cancel
    try:
        thread.start()
    except BaseException:
        del _RUNNING[thread]
        raise


@cache
def _end_at_exit() -> None:
    def end() -> None:
        refuse_waits()  # a thread that waits for the model would not end if its holder never releases it
        for thread, cancel in list(_RUNNING.items()):
            cancel()
            thread.join()

    atexit.register(end)


@dataclass(frozen=True, eq=False)
class Asked:
    """One prompt that is to be answered."""

    request: Request  # of this prompt alone
    context: ModelContext  # the model as it was when the request was made, with its stop tokens
    streamed: bool = False  # whether its text is wanted piece by piece
    salt: bytes = b""  # prefixes are shared only between requests of the same salt
    deadline: float | None = None  # on the clock of ``time.monotonic``


Entry: TypeAlias = tuple[Asked, Mailbox]  # a request that waits


@final
class StaticAnswers:
    """Answers calls one after another, each in a static batch of its own, in a thread that waits for the model."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._lock = Lock()  # of what follows
        self._waiting: deque[tuple[Entry, ...]] = deque()  # the requests of each call
        self._running: tuple[Entry, ...] | None = None

    def submit(self, asked: Sequence[Asked]) -> list[Generation]:
        """Queue the requests of one call, and return their handles at once.

        Only the tokens of the first are handed out before the end of the batch, which comes when its last answer is
        complete, cancelled or late.

        Raises:
            PromptError: Too many requests are waiting.
            SteeringError: A scope makes no sense for a prompt.
        """
        for each in asked:
            check_terms(each.context, each.request)
        entries = tuple((each, Mailbox()) for each in asked)
        with self._lock:
            check_queue([entry for batch in self._waiting for entry in batch], more=len(entries))
            if entries and self._running is None:
                start_thread(self._run, cancel=self._cancel_all)  # it waits for the lock
                self._running = entries
            elif entries:
                self._waiting.append(entries)
        lock = model_lock(self._model)
        return [Generation(mailbox, held=lambda: lock.held) for _, mailbox in entries]

    def _cancel_all(self) -> None:
        with self._lock:
            for batch in (*self._waiting, self._running or ()):
                for _, mailbox in batch:
                    mailbox.cancelled = True

    def _run(self) -> None:
        with self._lock:
            now = self._running
        while now is not None:
            ends = self._answer(now)
            for n, entry in enumerate(now):
                entry[1].close(why_ended(*entry) or ends[n])
            with self._lock:
                now = self._running = self._waiting.popleft() if self._waiting else None

    def _answer(self, batch: tuple[Entry, ...]) -> Sequence[Completion | BaseException]:
        def is_over() -> bool:
            self._leave_early()
            return all(why_ended(*entry) is not None for entry in batch)

        first, mailbox = batch[0]
        try:
            with running(self._model):
                if is_over():
                    return []  # each has its own reason
                request = joined_request([asked.request for asked, _ in batch])
                on_token = mailbox.put if first.streamed else None
                return answer_request(first.context, request, on_token=on_token, ended=is_over)
        except BaseException as error:
            return [error] * len(batch)

    def _leave_early(self) -> None:
        with self._lock:
            over = [batch for batch in self._waiting if all(why_ended(*entry) is not None for entry in batch)]
            for batch in over:
                self._waiting.remove(batch)
        for batch in over:
            for entry in batch:
                if (error := why_ended(*entry)) is not None:
                    entry[1].close(error)


def check_queue(waiting: Collection[Entry], *, more: int) -> None:
    """Refuse requests that would make a queue too long.

    Raises:
        PromptError: They would.
    """
    if len(waiting) + more > QUEUED:
        fix = f"wait for some of the {len(waiting)} requests that are waiting"
        raise PromptError(f"more than {QUEUED} requests would wait", fix=fix)


def take_ended(waiting: deque[Entry]) -> list[tuple[Mailbox, CancelledGenerationError]]:
    """Take the requests that were cancelled or are late out of a queue, and return them with their errors."""
    over = {entry: error for entry in waiting if (error := why_ended(*entry)) is not None}
    if over:
        left = [entry for entry in waiting if entry not in over]
        waiting.clear()
        waiting.extend(left)
    return [(mailbox, error) for (_, mailbox), error in over.items()]


def why_ended(asked: Asked, mailbox: Mailbox) -> CancelledGenerationError | None:
    """Return the error of a request that was cancelled or is late; None of another one."""
    if mailbox.cancelled:
        return CancelledGenerationError("the answer was cancelled")
    if asked.deadline is not None and time.monotonic() > asked.deadline:
        return CancelledGenerationError("the answer's deadline has passed")
    return None
