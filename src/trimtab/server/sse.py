"""Server-sent events."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.responses import StreamingResponse

from trimtab.errors import TrimtabError
from trimtab.server.answers import Answers
from trimtab.server.errors import error_json, internal_error_json

logger = logging.getLogger("trimtab.server")
DONE = b"data: [DONE]\n\n"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def event(data: dict[str, Any], *, name: str | None = None, number: int | None = None) -> bytes:
    """Return one event, with a name where clients look at it, and a number where they may go on behind it."""
    text = f"data: {_encode(data)}\n\n"
    if name is not None:
        text = f"event: {name}\n{text}"
    return (text if number is None else f"id: {number}\n{text}").encode(errors="replace")


def event_stream(
    events: AsyncIterator[bytes], answers: Answers | None = None, *, failed: Callable[[dict[str, Any]], bytes] = event
) -> StreamingResponse:
    """Return a response that streams events; the answers, if it has any, are given up if the client goes.

    Args:
        events: The events.
        answers: The answers that they tell of.
        failed: Makes the stream's last event of an error in the middle, as the status is already sent.
    """

    async def guarded() -> AsyncIterator[bytes]:
        try:
            async for each in events:
                yield each
        except TrimtabError as error:
            yield failed(error_json(error))
        except Exception:
            logger.exception("a stream has failed")
            yield failed(internal_error_json())
        finally:
            if answers is not None:
                answers.cancel()

    return StreamingResponse(guarded(), media_type="text/event-stream", headers=HEADERS)
