"""What tests of the server share: a request, and how streams are read."""

from __future__ import annotations

import json
from typing import Any

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0}


def chunks_of(text: str) -> list[dict[str, Any]]:
    """Return the chunks of a stream, which must end with ``[DONE]``."""
    events = text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
