"""``/v1/messages``: Anthropic's route for chats."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, final
from uuid import uuid4

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, Response

from trimtab.engines.protocol import Completion, StreamedToken
from trimtab.server.answers import Answers, batches, begin, completed
from trimtab.server.chats import AnswerForm, AnswerReader, Block, BlockReader, Step, chat_request, naming_fields
from trimtab.server.errors import MESSAGES, shaped_for
from trimtab.server.flows import STAGE_HEADER, StageChoice, chosen_preset
from trimtab.server.messages import NAMES, MessageFields, PromptFields, message_chat
from trimtab.server.presets import with_defaults
from trimtab.server.prompts import chat_prompt, thinking_of
from trimtab.server.replies import CountedTokens, MessageError, MessageReply, streamed_or
from trimtab.server.serving import Served
from trimtab.server.shapes import readings_json, trimtab_json
from trimtab.server.sse import event, event_stream
from trimtab.server.steering import HEADER
from trimtab.server.tools import offered_tools

DELTAS = {
    "thoughts": ("thinking_delta", "thinking"),
    "text": ("text_delta", "text"),
    "call": ("input_json_delta", "partial_json"),
}


router = APIRouter(
    tags=["messages"],
    responses={
        "4XX": {"model": MessageError, "description": "The request is not taken."},
        "5XX": {"model": MessageError, "description": "The server cannot answer."},
    },
)


@router.post("/v1/messages", response_model=None, responses=streamed_or(MessageReply))
async def create_message(
    body: MessageFields,
    request: Request,
    serving: Served,
    steering: Annotated[str | None, Header(alias=HEADER)] = None,
    stage: Annotated[str | None, Header(alias=STAGE_HEADER)] = None,
) -> Response:
    """Answer a conversation."""
    with naming_fields(NAMES):
        fields = message_chat(body)
        preset, chosen = await chosen_preset(serving, fields, header=stage)
        fields = with_defaults(fields, preset)
        asked, form = chat_request(fields, serving, preset, header=steering)
    answers = await begin(serving, asked)
    writer = MessageWriter(body.model, form, answers, readings=bool(asked.readings), stage=chosen)
    if body.stream:
        return event_stream(_stream(answers, writer), answers, failed=_failed)
    (completion,) = await completed(answers, request, on_token=writer.take)
    writer.finish(completion)
    return JSONResponse(writer.message(completion))


@router.post("/v1/messages/count_tokens", response_model=None, responses={200: {"model": CountedTokens}})
async def count_tokens(body: PromptFields, serving: Served) -> dict[str, Any]:
    """Return how many tokens a prompt has."""
    preset = serving.preset_of(body.model)
    with naming_fields(NAMES):
        fields = message_chat(body)
        tools = offered_tools(fields.tools, fields.tool_choice)
        prompt = chat_prompt(fields.messages, system=preset.system, tools=tools)
    thinking = thinking_of(fields.chat_template_kwargs)
    marked = await asyncio.to_thread(serving.engine.marked, prompt, thinking=thinking)
    return {"input_tokens": len(marked.tokens)}


async def _stream(answers: Answers, writer: MessageWriter) -> AsyncIterator[bytes]:
    yield writer.start()
    async for events in batches(answers):
        written: list[bytes] = []
        for _, each in events:
            written += writer.take(each) if isinstance(each, StreamedToken) else writer.finish(each)
        if written:
            yield b"".join(written)


def _failed(error: dict[str, Any]) -> bytes:
    return _event(shaped_for(MESSAGES, error))


def _event(data: dict[str, Any]) -> bytes:
    return event(data, name=data["type"])


@final
class MessageWriter:
    """Events of one message, and the message that they add up to.

    Args:
        model: Name of the model.
        form: How the answer is to be read.
        answers: The answer that is being written.
        readings: Whether readings are asked for.
        stage: What a flow has chosen.
    """

    def __init__(
        self,
        model: str,
        form: AnswerForm,
        answers: Answers,
        *,
        readings: bool = False,
        stage: StageChoice | None = None,
    ) -> None:
        self._stage = None if stage is None else stage.to_json()
        self._head: dict[str, Any] = {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(answers.prompt_tokens, 0),
        }
        self._readings = readings
        self._reader = AnswerReader(form, answers.prompts[0].text)
        self._blocks = BlockReader()
        self._tokens: list[StreamedToken] = []  # that no event has told of yet

    def start(self) -> bytes:
        """Return the first event."""
        return _event({"type": "message_start", "message": self._head})

    def take(self, token: StreamedToken) -> list[bytes]:
        """Append a token, and return its events."""
        self._tokens.append(token)
        steps = [step for piece in self._reader.feed(token.text) for step in self._blocks.take(piece)]
        return [each for step in steps for each in self._step(step)]

    def finish(self, completion: Completion) -> list[bytes]:
        """End the answer, and return its last events."""
        steps = [step for piece in self._reader.finish(completion) for step in self._blocks.take(piece)]
        steps += self._blocks.finish()
        message = self.message(completion)
        delta = {"stop_reason": message["stop_reason"], "stop_sequence": message["stop_sequence"]}
        return [
            *(each for step in steps for each in self._step(step)),
            _event(
                {
                    "type": "message_delta",
                    "delta": delta,
                    "usage": message["usage"],
                    "trimtab": message["trimtab"],
                }
            ),
            _event({"type": "message_stop"}),
        ]

    def message(self, completion: Completion) -> dict[str, Any]:
        """Return the message."""
        stopped = completion.stopped_by
        if any(block.call is not None for block in self._blocks.closed):
            reason = "tool_use"
        elif completion.finish_reason == "length":
            reason = "max_tokens"
        else:
            reason = "stop_sequence" if isinstance(stopped, str) else "end_turn"
        return {
            **self._head,
            "content": [_block_json(block) for block in self._blocks.closed],
            "stop_reason": reason,
            "stop_sequence": stopped if reason == "stop_sequence" else None,
            "usage": _usage(len(completion.prompt.tokens), len(completion.tokens)),
            "trimtab": trimtab_json([completion], stage=self._stage),
        }

    def _step(self, step: Step) -> Iterator[bytes]:
        at = {"index": step.block.number}
        if step.what == "open":
            yield _event({"type": "content_block_start", **at, "content_block": _block_json(step.block, empty=True)})
        elif step.what == "add":
            kind, name = DELTAS[step.block.kind]
            yield self._delta(at, {"type": kind, name: step.text})
        else:
            if step.block.kind == "thoughts":
                yield self._delta(at, {"type": "signature_delta", "signature": ""})
            yield _event({"type": "content_block_stop", **at})

    def _delta(self, at: dict[str, Any], delta: dict[str, Any]) -> bytes:
        tokens, self._tokens = self._tokens, []
        more = {"trimtab": readings_json(tokens)} if self._readings and tokens else {}
        return _event({"type": "content_block_delta", **at, "delta": delta, **more})


def _usage(prompt: int, written: int) -> dict[str, int]:
    return {
        "input_tokens": prompt,
        "output_tokens": written,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }


def _block_json(block: Block, *, empty: bool = False) -> dict[str, Any]:
    text = "" if empty else block.text
    if block.call is not None:
        given = json.loads(text) if text else {}
        return {"type": "tool_use", "id": block.call.id, "name": block.call.name, "input": given}
    if block.kind == "thoughts":
        return {"type": "thinking", "thinking": text, "signature": ""}
    return {"type": "text", "text": text, "citations": None}
