"""Admission: how many answers are in the engine at once, and whose turn it is next.

Clients take turns: a client that has sent a hundred requests waits for its own, not others for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import final

from trimtab.server.errors import RequestError
from trimtab.server.keys import CALLER


@final
class Admission:
    """Places in the engine, for which clients wait in turn. It belongs to one event loop.

    Args:
        places: Answers in the engine at once.
        waiting: Requests that may wait.
    """

    def __init__(self, *, places: int, waiting: int) -> None:
        self._places = places
        self._free = places
        self._most = waiting
        self._queues: dict[str, deque[tuple[int, asyncio.Future[None]]]] = {}  # by client; the next one is first

    @property
    def running(self) -> int:
        """Return the places that are taken."""
        return self._places - self._free

    @property
    def waiting(self) -> int:
        """Return the number of requests that wait."""
        return sum(map(len, self._queues.values()))

    async def enter(self, answers: int) -> Callable[[], None]:
        """Wait for the caller's turn; return what gives the places back, once.

        Args:
            answers: Places to take; a request of more than there are takes all.

        Raises:
            RequestError: Too many requests wait already.
        """
        wanted = min(answers, self._places)
        if self._queues or wanted > self._free:
            await self._wait(wanted)
        else:
            self._free -= wanted
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._free += wanted
                self._admit()

        return leave

    async def _wait(self, wanted: int) -> None:
        if self.waiting >= self._most:
            raise RequestError(
                f"{self._most} requests are waiting already",
                fix="try again in a few seconds",
                status=429,
                code="queue_full",
                retry_after=5,
            )
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(CALLER.get().name, deque()).append((wanted, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was let in at the moment in which its client left
                self._free += wanted
                self._admit()
            raise

    def _admit(self) -> None:
        """Let in whoever is next; the client then goes behind all others."""
        while self._queues:
            client, queue = next(iter(self._queues.items()))
            wanted, turn = queue[0]
            if not turn.cancelled():
                if wanted > self._free:
                    return
                self._free -= wanted
                turn.set_result(None)
            queue.popleft()
            del self._queues[client]
            if queue:
                self._queues[client] = queue
