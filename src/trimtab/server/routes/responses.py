"""``/v1/responses``: OpenAI's newer route for chats, as Open Responses specifies it (2026-04-24)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, final
from uuid import uuid4

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response

from trimtab.engines.protocol import Completion, StreamedToken, TokenLogprob
from trimtab.engines.sampling import Sampling
from trimtab.server.answers import Answers, batches, begin, completed
from trimtab.server.chats import AnswerForm, AnswerReader, Block, BlockReader, Piece, Step, chat_request, naming_fields
from trimtab.server.fields import ChatMessage, FunctionCall, ToolCall
from trimtab.server.flows import STAGE_HEADER, StageChoice, chosen_preset
from trimtab.server.keys import CALLER
from trimtab.server.presets import with_defaults
from trimtab.server.replies import DeletedResponse, ResponseReply, streamed_or
from trimtab.server.responses import NAMES, ResponseFields, input_chat, response_chat
from trimtab.server.serving import Served
from trimtab.server.shapes import logprob_json, read_usage_json, readings_json, trimtab_json
from trimtab.server.sse import DONE, event, event_stream
from trimtab.server.steering import HEADER
from trimtab.server.stored import StoredResponse

router = APIRouter(tags=["responses"])
PREFIXES = {"text": "msg", "thoughts": "rs", "call": "fc"}


@router.post("/v1/responses", response_model=None, responses=streamed_or(ResponseReply))
async def create_response(
    body: ResponseFields,
    request: Request,
    serving: Served,
    steering: Annotated[str | None, Header(alias=HEADER)] = None,
    stage: Annotated[str | None, Header(alias=STAGE_HEADER)] = None,
) -> Response:
    """Answer a conversation, whose earlier part may be a stored response's."""
    owner = CALLER.get().name
    before: tuple[ChatMessage, ...] = ()
    if body.previous_response_id is not None:
        before = serving.responses.get(owner, body.previous_response_id, param="previous_response_id").chat
    chat = (*before, *input_chat(body.input))
    with naming_fields(NAMES):
        fields = response_chat(body, chat)
        preset, chosen = await chosen_preset(serving, fields, header=stage)
        fields = with_defaults(fields, preset)
        asked, form = chat_request(fields, serving, preset, header=steering)
    answers = await begin(serving, asked)
    writer = ResponseWriter(
        _head(body, asked.sampling), form, answers.prompts[0].text, readings=bool(asked.readings), stage=chosen
    )

    def keep(response: dict[str, Any]) -> None:
        if body.store is not False:
            serving.responses.put(owner, StoredResponse(response, (*chat, writer.message())))

    if body.stream:
        return event_stream(_stream(answers, writer, keep), answers, failed=writer.fail)
    (completion,) = await completed(answers, request, on_token=writer.take)
    writer.finish(completion)
    response = writer.response(completion)
    keep(response)
    return JSONResponse(response)


@router.get("/v1/responses/{name}", response_model=None, responses={200: {"model": ResponseReply}})
async def get_response(name: str, serving: Served) -> Response:
    """Return a stored response."""
    return JSONResponse(serving.responses.get(CALLER.get().name, name).response)


@router.delete("/v1/responses/{name}", response_model=None, responses={200: {"model": DeletedResponse}})
async def delete_response(name: str, serving: Served) -> dict[str, Any]:
    """Drop a stored response."""
    serving.responses.delete(CALLER.get().name, name)
    return {"id": name, "object": "response", "deleted": True}


async def _stream(
    answers: Answers, writer: ResponseWriter, keep: Callable[[dict[str, Any]], None]
) -> AsyncIterator[bytes]:
    yield b"".join(writer.start())
    async for events in batches(answers):
        written: list[bytes] = []
        for _, each in events:
            if isinstance(each, StreamedToken):
                written += writer.take(each)
                continue
            written += writer.finish(each)
            response = writer.response(each)
            keep(response)
            written.append(writer.event(f"response.{response['status']}", response=response))
        if written:
            yield b"".join(written)
    yield DONE


def _head(body: ResponseFields, sampling: Sampling) -> dict[str, Any]:
    """Return the keys of a response that say what was asked for; all must be there, even where they are null."""
    text = {} if body.text is None else body.text.model_dump(by_alias=True, exclude_none=True)
    choice = body.tool_choice
    return {
        "id": f"resp_{uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "incomplete_details": None,
        "error": None,
        "model": body.model,
        "previous_response_id": body.previous_response_id,
        "instructions": body.instructions,
        "output": [],
        "tools": [_tool_json(tool.model_dump(exclude={"defer_loading"})) for tool in body.tools or ()],
        "tool_choice": "auto" if choice is None else choice if isinstance(choice, str) else choice.model_dump(),
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "truncation": "disabled",
        "text": {"format": {"type": "text"}, "verbosity": "medium"} | text,
        "reasoning": {"effort": None, "summary": None}
        | ({} if body.reasoning is None else body.reasoning.model_dump(exclude_unset=True)),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "top_logprobs": body.top_logprobs or 0,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "usage": None,
        "store": body.store is not False,
        "background": False,
        "service_tier": "default",
        "metadata": body.metadata or {},
        "safety_identifier": body.safety_identifier,
        "prompt_cache_key": body.prompt_cache_key,
        "user": body.user if isinstance(body.user, str) else None,
    }


def _tool_json(tool: dict[str, Any]) -> dict[str, Any]:
    return {**tool, "strict": bool(tool["strict"])}


@dataclass
class _Item:
    """An output item that is being written."""

    id: str
    logprobs: list[dict[str, Any]]


@final
class ResponseWriter:
    """Events of one response, and the response that they add up to.

    Args:
        head: What was asked for.
        form: How the answer is to be read.
        prompt: Text of the prompt.
        readings: Whether readings are asked for.
        stage: What a flow has chosen.
    """

    def __init__(
        self,
        head: dict[str, Any],
        form: AnswerForm,
        prompt: str,
        *,
        readings: bool = False,
        stage: StageChoice | None = None,
    ) -> None:
        self._head = head
        self._stage = None if stage is None else stage.to_json()
        self._readings = readings
        self._reader = AnswerReader(form, prompt)
        self._blocks = BlockReader()
        self._sent = 0  # events
        self._item = _Item("", [])
        self._output: list[dict[str, Any]] = []
        self._tokens: list[StreamedToken] = []  # that no event has told of yet
        self._thoughts = 0  # tokens
        self._thinking = False

    def event(self, kind: str, **data: Any) -> bytes:
        """Return one event of the stream."""
        self._sent += 1
        return event({"type": kind, "sequence_number": self._sent - 1, **data}, name=kind)

    def start(self) -> list[bytes]:
        """Return the first events."""
        return [self.event(f"response.{kind}", response=self._head) for kind in ("created", "in_progress")]

    def take(self, token: StreamedToken) -> list[bytes]:
        """Append a token, and return its events."""
        self._tokens.append(token)
        events = self._write(self._reader.feed(token.text))
        self._thoughts += self._thinking
        return events

    def finish(self, completion: Completion) -> list[bytes]:
        """End the answer, and return the events up to the response's own."""
        events = self._write(self._reader.finish(completion))
        status = "completed" if completion.finish_reason == "stop" else "incomplete"
        return events + [each for step in self._blocks.finish() for each in self._step(step, status)]

    def fail(self, error: dict[str, Any]) -> bytes:
        """Return the last event of a response that has failed."""
        told = error["error"]
        code = "server_error" if told["type"] == "server_error" else told["code"]
        failed = {
            **self._head,
            "status": "failed",
            "output": self._output,
            "error": {**told, "code": code},
        }
        return self.event("response.failed", response=failed) + DONE

    def response(self, completion: Completion) -> dict[str, Any]:
        """Return the response."""
        whole = completion.finish_reason == "stop"
        return {
            **self._head,
            "completed_at": int(time.time()) if whole else None,
            "status": "completed" if whole else "incomplete",
            "incomplete_details": None if whole else {"reason": "max_output_tokens"},
            "output": self._output,
            "usage": read_usage_json(len(completion.prompt.tokens), [completion], thoughts=self._thoughts),
            "trimtab": trimtab_json([completion], stage=self._stage),
        }

    def message(self) -> ChatMessage:
        """Return the answer as a message of a chat."""
        said = "".join(block.text for block in self._blocks.closed if block.kind == "text")
        calls = [block.call for block in self._blocks.closed if block.call is not None]
        return ChatMessage(
            role="assistant",
            content=said,
            tool_calls=[
                ToolCall(id=call.id, function=FunctionCall(name=call.name, arguments=call.arguments)) for call in calls
            ]
            or None,
        )

    def _write(self, pieces: list[Piece]) -> list[bytes]:
        steps = [step for piece in pieces for step in self._blocks.take(piece)]
        return [each for step in steps for each in self._step(step, "completed")]

    def _step(self, step: Step, status: str) -> Iterator[bytes]:
        kind, block = step.block.kind, step.block
        at = {"output_index": block.number, "item_id": self._item.id}
        if step.what == "open":
            self._thinking = kind == "thoughts"
            self._item = _Item(f"{PREFIXES[kind]}_{uuid4().hex}", [])
            item = self._item_json(block, "in_progress")
            yield self.event("response.output_item.added", output_index=block.number, item=item)
            if kind != "call":
                at |= {"item_id": self._item.id, "content_index": 0}
                yield self.event("response.content_part.added", **at, part=self._part(block))
        elif step.what == "add":
            yield self._delta(step, at)
        else:
            self._thinking = False
            yield from self._done(block, status, at)

    def _delta(self, step: Step, at: dict[str, Any]) -> bytes:
        """Return the event of more text, with what its tokens bring along."""
        tokens, self._tokens = self._tokens, []
        more = {"trimtab": readings_json(tokens)} if self._readings and tokens else {}
        if step.block.kind == "call":
            return self.event("response.function_call_arguments.delta", **at, delta=step.text, **more)
        at["content_index"] = 0
        if step.block.kind == "thoughts":
            return self.event("response.reasoning_text.delta", **at, delta=step.text, **more)
        logprobs = [_logprob_json(token.logprob) for token in tokens if token.logprob is not None]
        self._item.logprobs += logprobs
        return self.event("response.output_text.delta", **at, delta=step.text, logprobs=logprobs, **more)

    def _done(self, block: Block, status: str, at: dict[str, Any]) -> Iterator[bytes]:
        if block.call is not None:
            name, arguments = block.call.name, block.call.arguments
            yield self.event("response.function_call_arguments.done", **at, name=name, arguments=arguments)
        else:
            part = {**at, "content_index": 0}
            if block.kind == "thoughts":
                yield self.event("response.reasoning_text.done", **part, text=block.text)
            else:
                rest, self._tokens = self._tokens, []  # the end of the turn, which has no text
                self._item.logprobs += [_logprob_json(token.logprob) for token in rest if token.logprob is not None]
                logprobs = self._item.logprobs
                yield self.event("response.output_text.done", **part, text=block.text, logprobs=logprobs)
            yield self.event("response.content_part.done", **part, part=self._part(block))
        item = self._item_json(block, status)
        self._output.append(item)
        yield self.event("response.output_item.done", output_index=block.number, item=item)

    def _item_json(self, block: Block, status: str) -> dict[str, Any]:
        item: dict[str, Any] = {"id": self._item.id, "status": status}
        if block.call is not None:
            arguments = "" if status == "in_progress" else block.text
            return {
                "type": "function_call",
                **item,
                "call_id": block.call.id,
                "name": block.call.name,
                "arguments": arguments,
            }
        content = [] if status == "in_progress" else [self._part(block)]
        if block.kind == "thoughts":
            return {"type": "reasoning", **item, "summary": [], "content": content}
        return {"type": "message", **item, "role": "assistant", "content": content}

    def _part(self, block: Block) -> dict[str, Any]:
        if block.kind == "thoughts":
            return {"type": "reasoning_text", "text": block.text}
        return {"type": "output_text", "text": block.text, "annotations": [], "logprobs": list(self._item.logprobs)}


def _logprob_json(token: TokenLogprob) -> dict[str, Any]:
    """Return a log-probability in this route's shape, where a part of a character has no bytes."""
    shape = logprob_json(token)
    return {
        **shape,
        "bytes": shape["bytes"] or [],
        "top_logprobs": [{**other, "bytes": other["bytes"] or []} for other in shape["top_logprobs"]],
    }
