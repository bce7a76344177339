"""What tests of the server share: a request, and how streams are read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from fastapi import FastAPI
from starlette.testclient import TestClient

from trimtab.engines.fake import FakeEngine
from trimtab.engines.generation import Generation, Mailbox
from trimtab.engines.protocol import Completion, Receipt, StreamedToken, ThinkingMarkers
from trimtab.server.app import create_app
from trimtab.server.listening import listen
from trimtab.server.settings import ServerSettings

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0}


def chunks_of(text: str) -> list[dict[str, Any]]:
    """Return the chunks of a stream, which must end with ``[DONE]``."""
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def client_of(engine: Any) -> TestClient:
    """Return a client of a server over an engine, without a network."""
    return TestClient(create_app(engine, ServerSettings(model="fake")), base_url="http://localhost")


@contextmanager
def listening(app: FastAPI, *, port: int = 0) -> Iterator[str]:
    """Serve an application, on a free port by default, during the ``with`` block; yields its address."""
    server = listen(app, port=port)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


class Scripted:
    """Engine that writes given texts, one after the other, in pieces, ``seconds`` apart; otherwise a fake one."""

    def __init__(
        self, *texts: str, piece: int = 3, markers: ThinkingMarkers | None = None, seconds: float = 0.0
    ) -> None:
        self._texts = iter(texts)
        self._piece = piece
        self._seconds = seconds
        self._fake = FakeEngine()
        self.thinking_markers = markers
        self.asked: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fake, name)

    def submit(self, prompt: Any, **options: Any) -> Generation:
        """Write the next text."""
        self.asked.append({"prompt": prompt, **options})
        text, mailbox = next(self._texts), Mailbox()
        pieces = [text[at : at + self._piece] for at in range(0, len(text), self._piece)]

        def write() -> None:
            for number, piece in enumerate(pieces):
                time.sleep(self._seconds)
                mailbox.put(StreamedToken(number, piece))
            receipt = Receipt("none", (), 0)
            mailbox.close(Completion(text, tuple(range(len(pieces))), "stop", prompt, receipt))

        if self._seconds:
            Thread(target=write, daemon=True).start()
        else:
            write()
        return Generation(mailbox)
