"""Requests on their way: what is asked, the threads that answer it, and what ends it early."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from threading import Thread

from trimtab.engines.generation import Generation, Mailbox
from trimtab.engines.protocol import Completion
from trimtab.engines.transformers.decode.answer import Request, answer_request
from trimtab.engines.transformers.model.context import ModelContext, ModelLock, running
from trimtab.errors import CancelledGenerationError

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


def answer_alone(asked: Asked, *, lock: ModelLock) -> Generation:
    """Answer one request in a static batch of its own, in a thread that waits for the model."""
    mailbox = Mailbox()

    def is_over() -> bool:
        return why_ended(asked, mailbox) is not None

    def work() -> None:
        end: Completion | BaseException
        try:
            with running(asked.context.model):
                if (error := why_ended(asked, mailbox)) is not None:
                    raise error
                (end,) = answer_request(asked.context, asked.request, on_token=mailbox.put, ended=is_over)
        except BaseException as error:
            end = error
        mailbox.close(why_ended(asked, mailbox) or end)

    start_thread(work, cancel=lambda: setattr(mailbox, "cancelled", True))
    return Generation(mailbox, held=lambda: lock.held)


def why_ended(asked: Asked, mailbox: Mailbox) -> CancelledGenerationError | None:
    """Return the error of a request that was cancelled or is late; None of another one."""
    if mailbox.cancelled:
        return CancelledGenerationError("the answer was cancelled")
    if asked.deadline is not None and time.monotonic() > asked.deadline:
        return CancelledGenerationError("the answer's deadline has passed")
    return None
