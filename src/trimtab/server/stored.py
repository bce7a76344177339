"""Responses that later requests may continue: the last ones of each client, in memory."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any, final

from trimtab.server.errors import RequestError
from trimtab.server.fields import ChatMessage

MAX_RESPONSES = 256  # of one client
MAX_BYTES = 64 * 1024**2  # of all


@dataclass(frozen=True)
class StoredResponse:
    """A response, and the conversation that it ends.

    Attributes:
        response: The response as its client has seen it.
        chat: Messages up to its end, without instructions.
    """

    response: dict[str, Any]
    chat: tuple[ChatMessage, ...]

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        return len(json.dumps(self.response)) + sum(len(message.model_dump_json()) for message in self.chat)


@final
class ResponseStore:
    """The last responses of each client; the least lately used go first.

    Args:
        most: Responses of one client.
        max_bytes: Of all responses.
    """

    def __init__(self, *, most: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self._most = most
        self._max_bytes = max_bytes
        self._found: OrderedDict[tuple[str, str], tuple[StoredResponse, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def put(self, owner: str, stored: StoredResponse) -> None:
        """Keep a response; one that is larger than all may be together is not kept."""
        size = stored.size
        with self._lock:
            if size > self._max_bytes:
                return
            self._found[owner, stored.response["id"]] = stored, size
            self._bytes += size
            mine = [key for key in self._found if key[0] == owner]
            for key in mine[: max(len(mine) - self._most, 0)]:
                self._drop(key)
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._found)))

    def get(self, owner: str, name: str, *, param: str | None = None) -> StoredResponse:
        """Return a response.

        Raises:
            RequestError: There is none of this id, or it is another client's.
        """
        with self._lock:
            if (owner, name) not in self._found:
                raise _unknown(name, param)
            self._found.move_to_end((owner, name))
            return self._found[owner, name][0]

    def delete(self, owner: str, name: str) -> None:
        """Drop a response.

        Raises:
            RequestError: There is none of this id, or it is another client's.
        """
        with self._lock:
            if (owner, name) not in self._found:
                raise _unknown(name, None)
            self._drop((owner, name))

    def _drop(self, key: tuple[str, str]) -> None:
        self._bytes -= self._found.pop(key)[1]


def _unknown(name: str, param: str | None) -> RequestError:
    return RequestError(
        f"there is no response {name[:80]!r}",
        fix="send the whole conversation; only the last responses are kept, those with store=false never",
        param=param,
        status=404 if param is None else 400,
        code="response_not_found" if param is None else "previous_response_not_found",
    )
