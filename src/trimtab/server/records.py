"""What is known about a request while it is answered: for its log, and to notice that its client has gone."""

from __future__ import annotations

import asyncio
import time
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.types import Message, Receive

from trimtab.engines.protocol import Completion


async def until_gone(receive: Receive) -> None:
    """Wait until the server says that a client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


@dataclass(eq=False, kw_only=True)
class Record:
    """One request, without what it says unless that is asked for.

    Attributes:
        id: Of the request, as in ``x-request-id``.
        client: Name of the key.
        method: Of HTTP.
        path: As it is routed.
        receive: Where the server says that the client has gone.
        came: When, in seconds since 1970.
        begun: When it came, on the clock of ``time.monotonic``.
        status: Of its answer; 0 if there is none.
        seconds: Until the answer's end.
        first_token: Seconds until the first token.
        steering: Text form.
        prompt_tokens: Of all prompts.
        prompts: What the model read, if it is logged.
        ended: The answers that have come to their end, by number; they end in any order.
    """

    id: str = ""
    client: str = ""
    method: str = ""
    path: str = ""
    receive: Receive = _never
    came: float = field(default_factory=time.time)
    begun: float = field(default_factory=time.monotonic)
    status: int = 0
    seconds: float = 0.0
    first_token: float | None = None
    steering: str | None = None
    prompt_tokens: int | None = None
    prompts: list[str] | None = None
    ended: dict[int, Completion] = field(default_factory=dict)

    @property
    def answers(self) -> list[Completion]:
        """Return the answers that have come to their end."""
        return [answer for _, answer in sorted(self.ended.items())]

    @property
    def tokens(self) -> int:
        """Return the tokens of all answers."""
        return sum(len(answer.tokens) for answer in self.answers)

    def answers_json(self) -> list[dict[str, Any]]:
        """Return each answer's length, end and receipt, and its text if prompts are logged."""
        return [
            {
                "tokens": len(answer.tokens),
                "finish_reason": answer.finish_reason,
                "receipt": asdict(answer.receipt),
                **({} if self.prompts is None else {"text": answer.text}),
            }
            for answer in self.answers
        ]

    def line(self) -> dict[str, Any]:
        """Return what a line of the log has."""
        answers = {
            "steering": self.steering,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            "first_token": None if self.first_token is None else round(self.first_token, 3),
            "finish_reasons": [answer.finish_reason for answer in self.answers],
        }
        texts = {"prompts": self.prompts, "answers": [answer.text for answer in self.answers]}
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.came)),
            "id": self.id,
            "key": self.client,
            "method": self.method,
            "path": self.path[:200],
            "status": self.status,
            "seconds": round(self.seconds, 3),
            **({} if self.prompt_tokens is None else answers),
            **({} if self.prompts is None else texts),
        }


RECORD: ContextVar[Record] = ContextVar("trimtab_record", default=Record())  # noqa: B039 - nobody reads the default's
