"""Requests on their way: what is asked, the threads that answer it, and what ends it early."""

from __future__ import annotations

import atexit
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from threading import Lock, Thread
from typing import TypeAlias, final

from trimtab.engines.generation import Generation, Mailbox
from trimtab.engines.protocol import Completion
from trimtab.engines.transformers.decode.answer import Request, answer_request
from trimtab.engines.transformers.model.context import ModelContext, ModelLock, refuse_waits, running
from trimtab.errors import CancelledGenerationError, PromptError

QUEUED = 10_000  # requests that may wait
_RUNNING: dict[Thread, Callable[[], None]] = {}  # threads inside a model, with what makes them end


def start_thread(run: Callable[[], None], *, cancel: Callable[[], None]) -> None:
    """Run a function that answers requests in a thread of its own.

    The thread is over before the interpreter is: the end of the interpreter aborts a thread that is inside of torch.

    Args:
        run: The function.
        cancel: Makes it end soon.
    """

    def work() -> None:
        try:
            run()
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
    """Answers requests one after another, each in a static batch of its own, in a thread that waits for the model."""

    def __init__(self, model_lock: ModelLock) -> None:
        self._model_lock = model_lock
        self._lock = Lock()  # of what follows
        self._waiting: deque[Entry] = deque()
        self._running: Entry | None = None

    def submit(self, asked: Asked) -> Generation:
        """Queue a request, and return its handle at once.

        Raises:
            PromptError: Too many requests are waiting.
        """
        mailbox, model_lock = Mailbox(), self._model_lock
        with self._lock:
            check_queue(self._waiting, more=1)
            if self._running is None:
                start_thread(self._run, cancel=self._cancel_all)  # it waits for the lock
                self._running = asked, mailbox
            else:
                self._waiting.append((asked, mailbox))
        return Generation(mailbox, held=lambda: model_lock.held)

    def _cancel_all(self) -> None:
        with self._lock:
            for _, mailbox in (*self._waiting, *((self._running,) if self._running else ())):
                mailbox.cancelled = True

    def _run(self) -> None:
        with self._lock:
            now = self._running
        while now is not None:
            asked, mailbox = now
            end = self._answer(asked, mailbox)
            mailbox.close(why_ended(asked, mailbox) or end)
            with self._lock:
                now = self._running = self._waiting.popleft() if self._waiting else None

    def _answer(self, asked: Asked, mailbox: Mailbox) -> Completion | BaseException:
        def is_over() -> bool:
            self._leave_early()
            return why_ended(asked, mailbox) is not None

        try:
            with running(asked.context.model):
                if is_over():
                    return CancelledGenerationError("the answer was cancelled")
                (end,) = answer_request(asked.context, asked.request, on_token=mailbox.put, ended=is_over)
                return end
        except BaseException as error:
            return error

    def _leave_early(self) -> None:
        with self._lock:
            left = take_ended(self._waiting)
        for mailbox, error in left:
            mailbox.close(error)


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
