"""Presets: steering, system prompt and defaults under the name of a model; flows, which choose among presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self, TypeVar

from pydantic import Field, JsonValue, StringConstraints, model_validator

from trimtab.server.errors import RequestError
from trimtab.server.fields import ConstraintFields, Fields, Number, SamplingFields, SteeringText
from trimtab.server.settings import MAX_READINGS
from trimtab.server.vectors import NAME
from trimtab.steering import Steering
from trimtab.steering.conditions import Condition

MAX_RULES, MAX_STAGES, MAX_LOCKED = 16, 16, 64
MAX_SYSTEM = 100_000  # characters
QUESTION = """Here is a message:

{message}

Which of these is the message about? {choices}. Answer with one of them."""

F = TypeVar("F", bound=Fields)
Name = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]


class PresetDefaults(SamplingFields, ConstraintFields):
    """Fields of requests that lack them."""

    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    normalize: Annotated[Number, Field(gt=0, le=10)] | None = None
    readings: Annotated[list[Name], Field(max_length=MAX_READINGS)] | None = None
    kl: bool = False


class StageFields(Fields):
    """Stage of a conversation."""

    preset: Name = Field(description="Preset that answers in this stage.")
    when: SteeringText | None = Field(
        default=None, description="Condition on readings, such as 'angry > 1 at last-user-turn'."
    )
    answer: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        default=None, description="What the model is to choose for this stage; its name if not given."
    )


class FlowFields(Fields):
    """Flow: presets by the stage of a conversation.

    A stage comes from the request, else from the first condition that holds, else from a choice that the unsteered
    model makes among the stages without conditions.
    """

    stages: Annotated[dict[Name, StageFields], Field(min_length=1, max_length=MAX_STAGES)]
    question: Annotated[str, StringConstraints(max_length=4_096)] = Field(
        default=QUESTION, description="What the model is asked; {message} and {choices} are replaced."
    )

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        free = [stage.answer or name for name, stage in self.stages.items() if stage.when is None]
        if not free:
            raise ValueError("every stage has a condition: leave it out of the stage for all other messages")
        if len(set(free)) < len(free):
            raise ValueError("two stages have the same answer")
        return self


class PresetFields(Fields):
    """Preset, as its TOML file and the body of a request have it."""

    steering: SteeringText | None = Field(default=None, description="Text form of the steering.")
    rules: Annotated[list[SteeringText], Field(max_length=MAX_RULES)] = Field(
        default=[], description="Further steering under conditions, such as 'calm:0.5 when angry > 1'."
    )
    system: Annotated[str, StringConstraints(max_length=MAX_SYSTEM)] | None = Field(
        default=None, description="Opening of the system prompt."
    )
    defaults: PresetDefaults = PresetDefaults()
    locked: Annotated[list[Name], Field(max_length=MAX_LOCKED)] = Field(
        default=[], description="Fields that a request must not have."
    )
    unlisted: bool = Field(default=False, description="Leave it out of the list of models.")
    metadata: dict[str, JsonValue] = Field(default={}, description="Whatever a client may want to know.")
    flow: FlowFields | None = Field(default=None, description="Choose among presets by the stage of the conversation.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.flow is not None and self.model_fields_set - {"flow", "unlisted", "metadata"}:
            raise ValueError("a flow has its steering in the presets that it names")
        return self


@dataclass(frozen=True)
class Stage:
    """Stage of a flow, checked."""

    preset: str
    answer: str
    when: Condition | None = None


@dataclass(frozen=True)
class Flow:
    """Stages by name, and what the model is asked to choose among those without conditions."""

    stages: Mapping[str, Stage]
    question: str = QUESTION


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Defaults of requests that name it.

    Attributes:
        steering: Of requests that bring none.
        system: Opening of the system prompt; that of the request follows.
        defaults: Fields of requests that lack them, such as ``temperature``.
        locked: Fields that a request must not have.
        unlisted: Leave it out of the list of models.
        metadata: Whatever a client may want to know.
        flow: How one of several presets is chosen; None for a preset that answers itself.
    """

    steering: Steering = field(default_factory=Steering)
    system: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    locked: frozenset[str] = frozenset()
    unlisted: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    flow: Flow | None = None


def with_defaults(fields: F, preset: Preset) -> F:
    """Return a request's fields with the preset's defaults for those that it lacks.

    Raises:
        RequestError: The request has a field that the preset locks; or the preset is a flow of which no stage was
            chosen.
    """
    if preset.flow is not None:
        raise RequestError("a flow answers chats only", fix="use /v1/chat/completions, or a preset", param="model")
    given = {name for name in fields.model_fields_set if getattr(fields, name) is not None}
    for name in sorted(preset.locked & given):
        raise RequestError(f"the preset does not let requests set {name!r}", fix="leave it out", param=name)
    missing = {
        name: value
        for name, value in preset.defaults.items()
        if name in type(fields).model_fields and name not in given
    }
    if not missing:
        return fields
    return type(fields).model_validate({**fields.model_dump(exclude_unset=True, by_alias=True), **missing})
