"""Stream of an answer's tokens, which a caller can stop at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Thread, get_ident
from types import TracebackType
from typing import final

from trimtab.engines.protocol import Completion, StreamedToken
from trimtab.engines.transformers.decode.answer import OnToken
from trimtab.engines.transformers.model.context import ModelLock
from trimtab.errors import SteeringError


@final
class _Generation:
    """One answer, generated in a worker thread a token at a time.

    The worker must not know the stream that reads it: a stream that nobody refers to any more is then collected, and
    ends the worker.
    """

    def __init__(
        self,
        work: Callable[[OnToken, Callable[[], bool]], Completion],
        *,
        lock: ModelLock,
    ) -> None:
        self._work = work
        self._lock = lock
        # SimpleQueue, because the garbage collector may put into it in the middle of anything else.
        self.tokens = SimpleQueue[StreamedToken | None]()
        self._wanted = SimpleQueue[None]()  # the worker goes on when the next token is asked for
        self.reader = get_ident()
        self.worker: int | None = None
        self.stopped = False
        self.completion: Completion | None = None
        self.error: BaseException | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Wait for the model, then generate the first token."""
        self._lock.begin_stream(self)
        try:
            self._thread = Thread(target=self._run, daemon=True)
            self._thread.start()
        except BaseException:
            self._lock.end_stream()
            raise

    def go_on(self) -> None:
        """Generate the next token."""
        self._wanted.put(None)

    def stop(self) -> None:
        """Have the worker end where it is."""
        self.stopped = True
        self._wanted.put(None)

    def join(self) -> None:
        """Wait until the worker has ended; it has then given the lock back."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        self.worker = get_ident()
        try:
            completion = self._work(self._hand_out, lambda: self.stopped)
            if not self.stopped:
                self.completion = completion
        except BaseException as error:  # it is raised where the stream is read
            self.error = error
        finally:
            self._lock.end_stream()
            self.tokens.put(None)

    def _hand_out(self, token: StreamedToken) -> None:
        """Put out a token, and wait until the next one is requested."""
        if self.stopped:  # before the first token, as the worker waits after each
            return
        self.tokens.put(token)
        self._wanted.get()


@final
class AnswerStream:
    """An iterator over the tokens of an answer, which is generated as they are taken.

    The first token taken reserves the model; the last one, ``close()``, the end of a ``with`` block or the garbage
    collector releases it. An answer that is left early is broken off.

    Raises:
        SteeringError: As ``generate`` does, while tokens are taken.
    """

    def __init__(
        self,
        work: Callable[[OnToken, Callable[[], bool]], Completion],
        *,
        lock: ModelLock,
    ) -> None:
        self._generation = _Generation(work, lock=lock)
        self._started = False
        self._over = False

    @property
    def completion(self) -> Completion:
        """Return the whole answer with its receipt.

        Raises:
            SteeringError: The stream is not at its end.
        """
        if self._generation.completion is None:
            raise SteeringError("the stream is not at its end", fix="read all of its tokens first")
        return self._generation.completion

    def __iter__(self) -> Iterator[StreamedToken]:
        return self

    def __next__(self) -> StreamedToken:
        if self._over:
            raise StopIteration
        generation = self._generation
        generation.reader = get_ident()
        if self._started:
            generation.go_on()
        else:
            generation.start()
            self._started = True
            if self._over:  # closed by another thread while this one waited for the model
                generation.stop()
        token = generation.tokens.get()
        if token is None:
            self._over = True
            generation.join()
            if generation.error is not None:
                raise generation.error
            raise StopIteration
        return token

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._started and not self._over:
            self._generation.stop()  # without waiting: the collector runs in any thread, the worker's own included

    def close(self) -> None:
        """Break the answer off, if it is not at its end, and release the model."""
        if self._started and not self._over:
            self._generation.stop()
            self._generation.join()
        self._over = True
