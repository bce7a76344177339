"""Streams of an answer: its text piece by piece, and its tokens, which a caller can stop at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread, get_ident
from types import TracebackType
from typing import final

from trimtab.engines.protocol import Completion
from trimtab.engines.transformers.decode.answer import OnToken
from trimtab.engines.transformers.model.context import ModelLock
from trimtab.errors import SteeringError


@final
class TextStream:
    """Turns tokens into pieces of text, holding back what later tokens may still change."""

    def __init__(self, decode: Callable[[Sequence[int]], str], on_text: Callable[[str], None]) -> None:
        self._decode = decode
        self._on_text = on_text
        self._tokens: list[int] = []
        self._shown = 0

    def token(self, token: int) -> None:
        """Add a token."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        if not text.endswith("\ufffd"):
            self._show(text)

    def end(self) -> None:
        """Show the text that was held back."""
        self._show(self._decode(self._tokens))

    def _show(self, text: str) -> None:
        if len(text) > self._shown:
            self._on_text(text[self._shown :])
            self._shown = len(text)


@dataclass(frozen=True)
class StreamedToken:
    """One generated token.

    Attributes:
        token: Its id; None at the end, where ``text`` is what had been held back.
        text: The text that it completes; empty for a special token, or where later tokens may still change it.
        readings: A z-score for each vector that is read, by name, of the state from which it was chosen.
    """

    token: int | None
    text: str
    readings: Mapping[str, float] = field(default_factory=dict)


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
        decode: Callable[[Sequence[int]], str],
        names: Sequence[str],
        lock: ModelLock,
    ) -> None:
        self._work = work
        self._decode = decode
        self._names = tuple(names)
        self._lock = lock
        # SimpleQueue, because the garbage collector may put into it in the middle of anything else.
        self.tokens = SimpleQueue[StreamedToken | None]()
        self._wanted = SimpleQueue[None]()  # the worker goes on when the next token is asked for
        self._pieces: list[str] = []
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
        text = TextStream(self._decode, self._pieces.append)

        def on_token(token: int, readings: tuple[float, ...]) -> None:
            text.token(token)
            self._hand_out(token, dict(zip(self._names, readings, strict=True)))

        try:
            completion = self._work(on_token, lambda: self.stopped)
            if not self.stopped:
                self.completion = completion
                text.end()
                if self._pieces:
                    self.tokens.put(StreamedToken(None, "".join(self._pieces)))
        except BaseException as error:  # it is raised where the stream is read
            self.error = error
        finally:
            self._lock.end_stream()
            self.tokens.put(None)

    def _hand_out(self, token: int, readings: Mapping[str, float]) -> None:
        """Put out a token, and wait until the next one is requested."""
        if self.stopped:  # transformers may deliver another token before it checks whether to stop
            return
        self.tokens.put(StreamedToken(token, "".join(self._pieces), readings))
        self._pieces.clear()
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
        decode: Callable[[Sequence[int]], str],
        names: Sequence[str],
        lock: ModelLock,
    ) -> None:
        self._generation = _Generation(work, decode=decode, names=names, lock=lock)
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
