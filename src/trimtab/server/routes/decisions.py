"""``/v1/decisions``: probabilities of given answers to questions about an input."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request

from trimtab.engines.protocol import Choices
from trimtab.server.chats import naming_fields
from trimtab.server.decisions import DecisionFields, decide, decision_json
from trimtab.server.presets import with_defaults
from trimtab.server.prompts import chat_prompt
from trimtab.server.replies import DecisionReply
from trimtab.server.responses import NAMES, input_chat
from trimtab.server.serving import Served
from trimtab.server.shapes import read_usage_json
from trimtab.server.steering import HEADER, request_steering
from trimtab.steering import Steering

router = APIRouter(tags=["decisions"])


@router.post("/v1/decisions", response_model=None, responses={200: {"model": DecisionReply}})
async def create_decision(
    body: DecisionFields,
    request: Request,
    serving: Served,
    steering: Annotated[str | None, Header(alias=HEADER)] = None,
) -> dict[str, Any]:
    """Answer questions about an input, unsteered unless ``steer`` is true."""
    preset = serving.preset_of(body.model)
    body = with_defaults(body, preset)
    asked = request_steering(body, steering, preset, serving.vectors)
    with naming_fields(NAMES):
        chat = chat_prompt(input_chat(body.input), system=preset.system)
    used = asked if body.steer else Steering()
    found, tokens = await decide(serving, chat, body.questions, steering=used, request=request)
    left_alone = bool(asked.terms) and not body.steer
    return {
        "object": "decision",
        "model": body.model,
        "answers": [decision_json(question, each) for question, each in zip(body.questions, found, strict=True)],
        "usage": read_usage_json(tokens),
        "trimtab": {"answers": [_trimtab_json(n, each, left_alone=left_alone) for n, each in enumerate(found)]},
    }


def _trimtab_json(number: int, found: Choices, *, left_alone: bool) -> dict[str, Any]:
    """Return how an answer was steered, and how much of all probability is left to what was not to be chosen."""
    return {
        "index": number,
        "steering": found.steering,
        "reason": "decision" if left_alone else None,
        "logprobs": list(found.logprobs),
    }
