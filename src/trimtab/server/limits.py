"""Pace of clients: how much each key may use in a minute."""

from __future__ import annotations

import math
import time
from threading import Lock
from typing import final

from trimtab.server.errors import RequestError


@final
class Pace:
    """So much per minute for each key; what is not used is kept for a minute.

    Args:
        most: How much; None sets no bound.
        what: Of what, for the message to a client.
    """

    def __init__(self, most: int | None, *, what: str) -> None:
        self._most = most
        self._what = what
        self._lock = Lock()
        self._left: dict[str, tuple[float, float]] = {}  # with the time

    def check(self, client: str) -> None:
        """Refuse a client that has nothing left.

        Raises:
            RequestError: It has used too much.
        """
        if self._most is None:
            return
        left = self._refilled(client)
        if left < 1:
            raise RequestError(
                f"this key has used more than {self._most} {self._what} in a minute",
                fix="ask more slowly",
                status=429,
                code="rate_limit_exceeded",
                retry_after=max(1, math.ceil((1 - left) * 60 / self._most)),
            )

    def use(self, client: str, amount: int = 1) -> None:
        """Count what a client has used, which may be more than it had."""
        if self._most is not None:
            with self._lock:
                self._left[client] = (self._refilled(client) - amount, time.monotonic())

    def _refilled(self, client: str) -> float:
        assert self._most is not None
        left, then = self._left.get(client, (float(self._most), 0.0))
        return min(left + (time.monotonic() - then) * self._most / 60, float(self._most))
