"""Flows: which preset answers in which stage of a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from trimtab.engines.protocol import Prompt
from trimtab.errors import near_names
from trimtab.server.errors import RequestError
from trimtab.server.fields import ChatFields, ChatMessage
from trimtab.server.presets import Flow, Preset
from trimtab.server.prompts import chat_prompt, message_text
from trimtab.server.serving import Serving
from trimtab.steering.conditions import Comparison, comparisons, decide

STAGE_HEADER = "x-trimtab-stage"
MAX_MESSAGE = 4_000  # characters of a user's message that the model is asked about: its end


@dataclass(frozen=True)
class StageChoice:
    """Stage of a conversation, and why it was chosen.

    Attributes:
        name: Of the stage.
        preset: Name of the preset that answers.
        by: What has chosen it.
        probabilities: Of the stages among which the model has chosen; None where it was not asked.
        readings: Z-scores that conditions of stages have read.
    """

    name: str
    preset: str
    by: Literal["request", "reading", "decision", "default"]
    probabilities: Mapping[str, float] | None = None
    readings: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the choice as answers have it."""
        return asdict(self)


async def chosen_preset(
    serving: Serving, body: ChatFields, *, header: str | None = None
) -> tuple[Preset, StageChoice | None]:
    """Return the preset that answers a chat, and the stage that has chosen it where the model's name is a flow.

    Args:
        serving: The engine and its presets.
        body: The chat; its ``metadata`` may have the stage.
        header: Stage of the request's header.

    Raises:
        RequestError: There is no such model or stage.
    """
    preset = serving.preset_of(body.model)
    if preset.flow is None:
        return preset, None
    given = body.metadata.get("stage") if isinstance(body.metadata, dict) else None
    choice = _given(preset.flow, header if given is None else given, "metadata.stage" if given else STAGE_HEADER)
    if choice is None:
        choice = await asyncio.to_thread(_choose, serving, preset.flow, body.messages)
    answering = serving.presets.get(choice.preset)
    if answering is None:  # it was deleted a moment ago
        raise RequestError(f"there is no preset {choice.preset!r} any more", fix="try again", status=404)
    return answering, choice


def _given(flow: Flow, name: object, param: str) -> StageChoice | None:
    if name is None:
        return None
    if not isinstance(name, str) or name not in flow.stages:
        fix = near_names(str(name)[:64], list(flow.stages)) or f"use one of {', '.join(flow.stages)}"
        raise RequestError(f"the flow has no stage {str(name)[:64]!r}", fix=fix, param=param)
    return StageChoice(name, flow.stages[name].preset, "request")


def _choose(serving: Serving, flow: Flow, messages: Sequence[ChatMessage]) -> StageChoice:
    readings: dict[str, float] = {}
    chat = chat_prompt(messages)
    for name, stage in flow.stages.items():
        if stage.when is None:
            continue
        holds: dict[Comparison, bool] = {}
        for each in comparisons(stage.when):
            score = float(serving.engine.scores([chat], each.vector, at=each.at)[0])
            readings[f"{each.name} at {each.at}"] = score
            holds[each] = each.holds(score)
        if decide(stage.when, holds):
            return StageChoice(name, stage.preset, "reading", readings=readings)
    free = {stage.answer: name for name, stage in flow.stages.items() if stage.when is None}
    if len(free) == 1:
        (name,) = free.values()
        return StageChoice(name, flow.stages[name].preset, "default", readings=readings)
    users = [message for message in messages if message.role == "user"]
    if not users:
        raise RequestError(
            "there is no user message to choose a stage by", fix="give the stage in metadata", param="messages"
        )
    # Not str.format: a message may have braces.
    text = message_text(users[-1])[-MAX_MESSAGE:]
    question = flow.question.replace("{choices}", ", ".join(free)).replace("{message}", text)
    prompt: Prompt = ({"role": "user", "content": question},)
    (chosen,) = serving.engine.choose([prompt], list(free))
    names = [free[answer] for answer in chosen.choices]
    best = free[chosen.best]
    probabilities = dict(zip(names, chosen.probabilities, strict=True))
    return StageChoice(best, flow.stages[best].preset, "decision", probabilities, readings)
