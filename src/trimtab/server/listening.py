"""Listening: uvicorn with a time limit for headers, and an orderly end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from socket import socket

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from trimtab.server.serving import Serving

HEADER_SECONDS = 15.0  # that the headers of a request may take
END_SECONDS = 5  # for streams to say that they have been given up


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes connections whose client is too slow to say what it wants.

    uvicorn itself waits for ever, so a few thousand silent clients would take all connections.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEADER_SECONDS, self._close)

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of a request's headers, or no longer."""
        super().data_received(data)
        begun = self.cycle is not None and not self.cycle.response_complete
        if begun and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif not begun and self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _close(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn that lets answers come to their end before it stops.

    Args:
        config: Of uvicorn.
        serving: What is served.
        ready: Called once it listens.
    """

    def __init__(self, config: uvicorn.Config, *, serving: Serving, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._serving = serving
        self._ready = ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Refuse new requests, wait for the answers that are being written, give up the rest, and stop."""
        admission = self._serving.admission
        admission.close()
        end = time.monotonic() + self._serving.settings.drain
        while (admission.running or admission.waiting) and time.monotonic() < end and not self.force_exit:
            await asyncio.sleep(0.05)
        self._serving.stop()
        await super().shutdown(sockets)


def listen(app: FastAPI, *, ready: Callable[[], None] = lambda: None, port: int | None = None) -> Server:
    """Return a server for an application; ``run()`` serves until Ctrl-C or SIGTERM.

    Args:
        app: What ``create_app`` returns.
        ready: Called once it listens.
        port: In place of that of the settings; 0 is a free one.
    """
    serving: Serving = app.state.serving
    config = uvicorn.Config(
        app,
        host=serving.settings.host,
        port=serving.settings.port if port is None else port,
        http=TimedProtocol,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody is judged by an address
        timeout_graceful_shutdown=END_SECONDS,
    )
    return Server(config, serving=serving, ready=ready)
