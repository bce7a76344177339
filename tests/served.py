"""What tests of the server share: a request, and how streams are read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import uvicorn
from fastapi import FastAPI

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0}


def chunks_of(text: str) -> list[dict[str, Any]]:
    """Return the chunks of a stream, which must end with ``[DONE]``."""
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port during the ``with`` block; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=5))
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
