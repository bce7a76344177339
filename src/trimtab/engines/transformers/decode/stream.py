"""An answer while it is generated: text as it comes, and a stream of tokens that can be followed and broken off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Queue
from threading import Event, Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, final

from trimtab.engines.protocol import Completion
from trimtab.errors import SteeringError

if TYPE_CHECKING:
    from trimtab.engines.transformers.decode.answer import Listener


@final
class TextStream:
    """Turns tokens into pieces of text, holding back what later tokens may still change."""

    def __init__(self, decode: Callable[[Sequence[int]], str], on_text: Callable[[str], None]) -> None:
        self._decode = decode
        self._on_text = on_text
        self._tokens: list[int] = []
        self._shown = 0

    def token(self, token: int) -> None:
        """One more token."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        if not text.endswith("\ufffd"):
            self._show(text)

    def end(self) -> None:
        """Nothing comes any more: give out what was held back."""
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
class AnswerStream:
    """An iterator over the tokens of an answer, which is generated as they are taken.

    Leaving it early, by ``close()`` or at the end of a ``with`` block, breaks the answer off.

    Raises:
        SteeringError: As ``generate`` does, while it is followed.
    """

    def __init__(
        self,
        work: Callable[[Listener], Completion],
        *,
        decode: Callable[[Sequence[int]], str],
        names: Sequence[str],
        lock: Lock,
    ) -> None:
        self._work = work
        self._decode = decode
        self._names = tuple(names)
        self._lock = lock
        self._tokens: Queue[StreamedToken | None] = Queue()
        self._wanted = Queue[None]()  # the worker goes on when the next token is asked for
        self._ended = Event()
        self._completion: Completion | None = None
        self._error: BaseException | None = None
        self._pieces: list[str] = []
        lock.acquire()
        self._thread: Thread | None = Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def completion(self) -> Completion:
        """The whole answer with its receipt.

        Raises:
            SteeringError: It is not at its end.
        """
        if self._completion is None:
            raise SteeringError("the stream is not at its end", fix="read all of its tokens first")
        return self._completion

    def __iter__(self) -> Iterator[StreamedToken]:
        return self

    def __next__(self) -> StreamedToken:
        if self._thread is None:
            raise StopIteration
        self._wanted.put(None)
        token = self._tokens.get()
        if token is None:
            self._join()
            if self._error is not None:
                raise self._error
            raise StopIteration
        return token

    def __enter__(self) -> AnswerStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Break the answer off, if it is not at its end."""
        if self._thread is not None:
            self._ended.set()
            self._wanted.put(None)
            self._join()

    def _join(self) -> None:
        assert self._thread is not None
        self._thread.join()
        self._thread = None
        self._lock.release()

    def _run(self) -> None:
        from trimtab.engines.transformers.decode.answer import Listener

        text = TextStream(self._decode, self._pieces.append)

        def on_token(token: int, readings: tuple[float, ...]) -> None:
            text.token(token)
            self._hand_on(token, dict(zip(self._names, readings, strict=True)))

        try:
            self._wanted.get()
            if self._ended.is_set():
                return
            completion = self._work(Listener(on_token, self._ended.is_set))
            if self._ended.is_set():  # it was broken off
                return
            self._completion = completion
            text.end()
            if self._pieces:
                self._tokens.put(StreamedToken(None, "".join(self._pieces)))
        except BaseException as error:  # it is raised where the stream is followed
            self._error = error
        finally:
            self._tokens.put(None)

    def _hand_on(self, token: int, readings: Mapping[str, float]) -> None:
        """Give a token out, and wait until the next one is asked for."""
        self._tokens.put(StreamedToken(token, "".join(self._pieces), readings))
        self._pieces.clear()
        if not self._ended.is_set():
            self._wanted.get()
