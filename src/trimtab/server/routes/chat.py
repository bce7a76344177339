"""``/v1/chat/completions``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, final
from uuid import uuid4

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response

from trimtab.engines.protocol import Completion, StreamedToken, ThinkingMarkers
from trimtab.server.answers import Answers, Asked, batches, begin, completed, request_sampling
from trimtab.server.constraints import request_constraint
from trimtab.server.errors import RequestError
from trimtab.server.fields import ChatFields, Tool
from trimtab.server.presets import with_defaults
from trimtab.server.prompts import chat_prompt, thinking_of
from trimtab.server.reasoning import ThoughtSplitter, split_thoughts
from trimtab.server.replies import ChatCompletion, streamed_or
from trimtab.server.serving import Served
from trimtab.server.shapes import logprob_json, logprobs_json, readings_json, trimtab_json, usage_json
from trimtab.server.sse import DONE, event, event_stream
from trimtab.server.steering import HEADER, request_readings, request_steering
from trimtab.server.tools import (
    Call,
    CallReader,
    must_call,
    offered_tools,
    read_call,
    split_calls,
    tools_constraint,
)

router = APIRouter(tags=["chat"])


@dataclass(frozen=True)
class Reply:
    """How answers of a request are written down."""

    id: str
    created: int
    model: str
    tools: tuple[Tool, ...]
    forced: bool  # each answer is a call
    markers: ThinkingMarkers | None
    stop_in_output: bool
    readings: bool
    include_usage: bool

    def head(self, kind: str) -> dict[str, Any]:
        """Return the keys that every object of the answer has."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


@router.post("/v1/chat/completions", response_model=None, responses=streamed_or(ChatCompletion))
async def create_chat_completion(
    body: ChatFields,
    request: Request,
    serving: Served,
    steering: Annotated[str | None, Header(alias=HEADER)] = None,
) -> Response:
    """Answer a chat."""
    preset = serving.preset_of(body.model)
    body = with_defaults(body, preset)
    tools = offered_tools(body.tools, body.tool_choice)
    forced = must_call(body.tool_choice)
    constraint = request_constraint(body, steer=body.steer_constrained)
    if tools and constraint is not None:
        raise RequestError(
            "tools cannot be called by an answer with a form of its own", fix="drop one of both", param="tools"
        )
    if tools:
        constraint = tools_constraint(
            tools, forced=forced, once=body.parallel_tool_calls is False, steer=body.steer_constrained
        )
    if body.top_logprobs and not body.logprobs:
        raise RequestError("top_logprobs needs logprobs", fix="set logprobs to true", param="top_logprobs")
    asked = Asked(
        prompts=(chat_prompt(body.messages, system=preset.system, tools=tools),),
        sampling=request_sampling(
            body,
            serving.settings,
            max_tokens=body.max_completion_tokens,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        ),
        n=body.n or 1,
        steering=request_steering(body, steering, preset, serving.vectors),
        constraint=constraint,
        readings=request_readings(body, serving.vectors),
        measure_kl=body.kl,
        thinking=thinking_of(body.chat_template_kwargs),
        salt=body.cache_salt or "",
    )
    answers = await begin(serving, asked)
    reply = Reply(
        id=f"chatcmpl-{uuid4().hex}",
        created=int(time.time()),
        model=body.model,
        tools=tools,
        forced=forced,
        markers=serving.engine.thinking_markers if constraint is None or constraint.parts else None,
        stop_in_output=body.include_stop_str_in_output,
        readings=bool(asked.readings),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
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
            "trimtab": trimtab_json(completions),
        }
    )


def _choice(number: int, completion: Completion, reply: Reply) -> dict[str, Any]:
    text = completion.text
    if reply.stop_in_output and isinstance(completion.stopped_by, str):
        text += completion.stopped_by
    thoughts, text = split_thoughts(text, completion.prompt, reply.markers)
    if reply.forced:
        call = read_call(text, reply.tools)  # None if it ran out of tokens
        text, calls = ("", [call]) if call is not None else (text, [])
    else:
        text, calls = split_calls(text, reply.tools)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or None if calls else text,
        "refusal": None,
        "annotations": [],
    }
    if thoughts is not None:
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
            summary = {"trimtab": trimtab_json([completions[n] for n in range(len(writers))])} if last else {}
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
        self._thoughts = ThoughtSplitter(reply.markers, prompt) if reply.markers is not None else None
        self._calls = CallReader(reply.tools) if reply.tools and not reply.forced else None
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
        deltas = [] if self._reply.forced else self._deltas(token.text)
        if not deltas and (logprobs is not None or self._reply.readings):
            deltas = [{"content": ""}]
        return [self.choice(delta, logprobs=logprobs if n == 0 else None) for n, delta in enumerate(deltas)]

    def finish(self, completion: Completion) -> list[dict[str, Any]]:
        """Return the last choices; the very last one has the reason of the end."""
        stopped = completion.stopped_by
        text = stopped if self._reply.stop_in_output and isinstance(stopped, str) else ""
        if self._reply.forced:
            call = read_call(completion.text, self._reply.tools)
            deltas = [{"content": completion.text}] if call is None else [self._called_delta(call)]
        else:
            deltas = [*self._deltas(text), *self._last_deltas()]
        reason = "tool_calls" if self._called else completion.finish_reason
        return [*(self.choice(delta) for delta in deltas), self.choice({}, finish_reason=reason)]

    def _deltas(self, piece: str) -> list[dict[str, Any]]:
        if not piece:
            return []
        if self._thoughts is None:
            return self._content(piece)
        return self._split(self._thoughts.feed(piece))

    def _last_deltas(self) -> list[dict[str, Any]]:
        deltas = self._split(self._thoughts.finish()) if self._thoughts is not None else []
        rest = self._calls.finish() if self._calls is not None else ()
        return [*deltas, *map(self._delta, rest)]

    def _split(self, parts: Sequence[tuple[bool, str]]) -> list[dict[str, Any]]:
        deltas: list[dict[str, Any]] = []
        for thought, text in parts:
            deltas += [{"reasoning": text, "reasoning_content": text}] if thought else self._content(text)
        return deltas

    def _content(self, text: str) -> list[dict[str, Any]]:
        return [{"content": text}] if self._calls is None else list(map(self._delta, self._calls.feed(text)))

    def _delta(self, found: str | Call) -> dict[str, Any]:
        return self._called_delta(found) if isinstance(found, Call) else {"content": found}

    def _called_delta(self, call: Call) -> dict[str, Any]:
        self._called += 1
        return {"tool_calls": [{"index": self._called - 1, **call.to_json()}]}
