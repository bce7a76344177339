"""``/v1/chat/completions``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, final
from uuid import uuid4

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response

from trimtab.engines.protocol import Completion, StreamedToken
from trimtab.server.answers import Answers, batches, begin, completed
from trimtab.server.chats import AnswerForm, AnswerReader, Piece, Thought, chat_request, read_answer
from trimtab.server.fields import ChatFields
from trimtab.server.flows import STAGE_HEADER, chosen_preset
from trimtab.server.presets import with_defaults
from trimtab.server.replies import ChatCompletion, streamed_or
from trimtab.server.serving import Served
from trimtab.server.shapes import logprob_json, logprobs_json, readings_json, trimtab_json, usage_json
from trimtab.server.sse import DONE, event, event_stream
from trimtab.server.steering import HEADER
from trimtab.server.tools import Call

router = APIRouter(tags=["chat"])


@dataclass(frozen=True)
class Reply:
    """How answers of a request are written down."""

    id: str
    created: int
    model: str
    form: AnswerForm
    readings: bool
    include_usage: bool
    stage: dict[str, Any] | None = None  # what a flow has chosen

    def head(self, kind: str) -> dict[str, Any]:
        """Return the keys that every object of the answer has."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


@router.post("/v1/chat/completions", response_model=None, responses=streamed_or(ChatCompletion))
async def create_chat_completion(
    body: ChatFields,
    request: Request,
    serving: Served,
    steering: Annotated[str | None, Header(alias=HEADER)] = None,
    stage: Annotated[str | None, Header(alias=STAGE_HEADER)] = None,
) -> Response:
    """Answer a chat."""
    preset, chosen = await chosen_preset(serving, body, header=stage)
    body = with_defaults(body, preset)
    asked, form = chat_request(body, serving, preset, header=steering)
    answers = await begin(serving, asked)
    reply = Reply(
        id=f"chatcmpl-{uuid4().hex}",
        created=int(time.time()),
        model=body.model,
        form=form,
        readings=bool(asked.readings),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        stage=None if chosen is None else chosen.to_json(),
    )
    if body.stream:
        return event_stream(_stream(answers, reply), answers)
    completions = await completed(answers, request)
    return JSONResponse(
        {
            **reply.head("chat.completion"),
            "choices": [_choice(number, each, reply) for number, each in enumerate(completions)],
            "usage": usage_json(answers.prompt_tokens, completions),
            "system_fingerprint": None,
            "trimtab": trimtab_json(completions, stage=reply.stage),
        }
    )


def _choice(number: int, completion: Completion, reply: Reply) -> dict[str, Any]:
    pieces = read_answer(completion, reply.form)
    thoughts = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    calls = [piece for piece in pieces if isinstance(piece, Call)]
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    if calls:
        text = text.strip()
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or None if calls else text,
        "refusal": None,
        "annotations": [],
    }
    if thoughts:
        message |= {"reasoning": thoughts, "reasoning_content": thoughts}
    if calls:
        message["tool_calls"] = [call.to_json() for call in calls]
    return {
        "index": number,
        "message": message,
        "logprobs": None if completion.logprobs is None else logprobs_json(completion.logprobs),
        "finish_reason": "tool_calls" if calls else completion.finish_reason,
    }


async def _stream(answers: Answers, reply: Reply) -> AsyncIterator[bytes]:
    writers = [ChoiceWriter(number, reply, _prompt_of(answers, number)) for number in range(len(answers.generations))]
    head = reply.head("chat.completion.chunk")
    usage: dict[str, Any] = {"usage": None} if reply.include_usage else {}

    def chunk(choice: dict[str, Any], **more: Any) -> bytes:
        return event({**head, "choices": [choice], **usage, **more})

    for writer in writers:
        yield chunk(writer.choice({"role": "assistant", "content": ""}))
    completions: dict[int, Completion] = {}
    async for events in batches(answers):
        written = []
        for number, each in events:
            writer = writers[number]
            if isinstance(each, StreamedToken):
                more = {"trimtab": readings_json([each])} if reply.readings else {}
                written += [chunk(choice, **more) for choice in writer.take(each)]
                continue
            completions[number] = each
            ending = list(writer.finish(each))
            last = len(completions) == len(writers)
            ended = [completions[n] for n in range(len(writers))] if last else []
            summary = {"trimtab": trimtab_json(ended, stage=reply.stage)} if last else {}
            written += [chunk(choice) for choice in ending[:-1]]
            written.append(chunk(ending[-1], **summary))
        if written:
            yield b"".join(written)
    if reply.include_usage:
        yield event({**head, "choices": [], "usage": usage_json(answers.prompt_tokens, list(completions.values()))})
    yield DONE


def _prompt_of(answers: Answers, number: int) -> str:
    return answers.prompts[number * len(answers.prompts) // len(answers.generations)].text


@final
class ChoiceWriter:
    """Chunks of one answer of a stream."""

    def __init__(self, number: int, reply: Reply, prompt: str) -> None:
        self._number = number
        self._reply = reply
        self._reader = AnswerReader(reply.form, prompt)
        self._called = 0

    def choice(
        self, delta: dict[str, Any], *, logprobs: dict[str, Any] | None = None, finish_reason: str | None = None
    ) -> dict[str, Any]:
        """Return one choice of a chunk."""
        return {"index": self._number, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}

    def take(self, token: StreamedToken) -> list[dict[str, Any]]:
        """Return the choices that a token makes; one is enough, unless thoughts end in it."""
        logprobs = None
        if token.logprob is not None:
            logprobs = {"content": [logprob_json(token.logprob)], "refusal": None}
        deltas = list(map(self._delta, self._reader.feed(token.text)))
        if not deltas and (logprobs is not None or self._reply.readings):
            deltas = [{"content": ""}]
        return [self.choice(delta, logprobs=logprobs if n == 0 else None) for n, delta in enumerate(deltas)]

    def finish(self, completion: Completion) -> list[dict[str, Any]]:
        """Return the last choices; the very last one has the reason of the end."""
        deltas = list(map(self._delta, self._reader.finish(completion)))
        reason = "tool_calls" if self._called else completion.finish_reason
        return [*(self.choice(delta) for delta in deltas), self.choice({}, finish_reason=reason)]

    def _delta(self, piece: Piece) -> dict[str, Any]:
        if isinstance(piece, str):
            return {"content": piece}
        if isinstance(piece, Thought):
            return {"reasoning": piece.text, "reasoning_content": piece.text}
        self._called += 1
        return {"tool_calls": [{"index": self._called - 1, **piece.to_json()}]}
