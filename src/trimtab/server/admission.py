"""Admission: how many answers are in the engine at once, and whose turn it is next.

Clients take turns: a client that has sent a hundred requests waits for its own, not others for it.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import final

from trimtab.errors import CancelledGenerationError
from trimtab.server.errors import RequestError
from trimtab.server.keys import CALLER
from trimtab.server.records import RECORD, until_gone

LONGEST_WAIT = 60  # seconds after which a refused client is asked to come again, at most


@dataclass(eq=False)
class _Waiting:
    """Request that waits for its turn."""

    answers: int
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    granted: bool = False

    def grant(self) -> None:
        self.granted = True
        with suppress(RuntimeError):  # of a closed loop
            self.loop.call_soon_threadsafe(self.turn.set)


@final
class Admission:
    """Places in the engine, for which clients wait in turn.

    A free place goes to the client with the fewest answers in the engine; among those to the one whose last turn is
    longest ago, and to its oldest request. A request for more places than are free keeps its turn until there are
    enough, so that small ones do not overtake it for ever. Places are given back from any thread.

    Args:
        places: Answers in the engine at once.
        waiting: Requests that may wait.
        share: Answers of one client in the engine at once; all by default.
        waiting_share: Requests of one client that may wait; all by default.
    """

    def __init__(
        self, *, places: int, waiting: int, share: int | None = None, waiting_share: int | None = None
    ) -> None:
        self._places = places
        self._share = min(share or places, places)
        self._most = waiting
        self._most_of_one = min(waiting_share or waiting, waiting)
        self._lock = Lock()  # of what follows
        self._running: Counter[str] = Counter()  # by client
        self._queues: dict[str, deque[_Waiting]] = {}  # by client
        self._last_turn: dict[str, int] = {}
        self._turns = 0
        self._closed = False

    @property
    def running(self) -> int:
        """Return the places that are taken."""
        return self._running.total()

    @property
    def waiting(self) -> int:
        """Return the number of requests that wait."""
        return sum(map(len, list(self._queues.values())))

    @property
    def closed(self) -> bool:
        """Return True if no more requests are let in."""
        return self._closed

    def close(self) -> None:
        """Let in no more requests but those that wait."""
        self._closed = True

    async def enter(self, answers: int, *, seconds: float | None = None) -> Callable[[], None]:
        """Wait for the caller's turn; return what gives the places back, once.

        Args:
            answers: Places to take; a request of more than there are takes all.
            seconds: How long it may wait.

        Raises:
            RequestError: Too many requests wait already, it waits for too long, or the server is about to stop.
            CancelledGenerationError: The client has gone.
        """
        client, entry = CALLER.get().name, _Waiting(min(answers, self._share))
        with self._lock:
            self._check_room(client)
            self._queues.setdefault(client, deque()).append(entry)
            self._admit()
        if not entry.granted:
            await self._wait(client, entry, seconds)
        left = False

        def leave() -> None:
            nonlocal left
            with self._lock:
                if not left:
                    left = True
                    self._free(client, entry.answers)

        return leave

    def _check_room(self, client: str) -> None:
        if self._closed:
            raise RequestError(
                "the server is about to stop", fix="try again soon", status=503, code="stopping", retry_after=5
            )
        if self.waiting >= self._most or len(self._queues.get(client, ())) >= self._most_of_one:
            seconds = min(5 + self.waiting // self._places, LONGEST_WAIT)
            raise RequestError(
                f"{self.waiting} requests are waiting already",
                fix=f"try again in {seconds} s",
                status=429,
                code="queue_full",
                retry_after=seconds,
            )

    async def _wait(self, client: str, entry: _Waiting, seconds: float | None) -> None:
        gone = asyncio.create_task(until_gone(RECORD.get().receive))
        turn = asyncio.create_task(entry.turn.wait())
        entered = False
        try:
            await asyncio.wait({gone, turn}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            entered = turn.done()
        finally:
            has_gone = gone.done()
            gone.cancel()
            turn.cancel()
            if not entered:
                self._withdraw(client, entry)
        if has_gone and not entered:
            raise CancelledGenerationError("the client has gone")
        if not entered:
            raise RequestError(
                "the request has waited for too long", fix="try again later", status=504, code="deadline_passed"
            )

    def _withdraw(self, client: str, entry: _Waiting) -> None:
        with self._lock:
            if entry.granted:  # at the moment in which its client left
                self._free(client, entry.answers)
                return
            self._queues[client].remove(entry)
            if not self._queues[client]:
                del self._queues[client]
            self._admit()

    def _free(self, client: str, answers: int) -> None:
        self._running[client] -= answers
        if not self._running[client]:
            del self._running[client]
        self._admit()

    def _admit(self) -> None:
        """Let in whoever is next."""
        while True:
            allowed = [
                client
                for client, queue in self._queues.items()
                if self._running[client] + queue[0].answers <= self._share
            ]
            if not allowed:
                return
            client = min(allowed, key=lambda client: (self._running[client], self._last_turn.get(client, 0)))
            queue = self._queues[client]
            if self.running + queue[0].answers > self._places:
                return
            entry = queue.popleft()
            if not queue:
                del self._queues[client]
            self._turns += 1
            self._last_turn[client] = self._turns
            self._running[client] += entry.answers
            entry.grant()
