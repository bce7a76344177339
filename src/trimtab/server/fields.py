"""Fields that clients send, with their bounds: everything that a request may ask for is bounded here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from trimtab.engines.constraints import MAX_BYTES, MAX_CHOICES, MAX_TAGS
from trimtab.engines.sampling import ALTERNATIVES, BIAS, PENALTY, STOP_LENGTH
from trimtab.server.errors import RequestError
from trimtab.server.settings import (
    MAX_BIASES,
    MAX_MESSAGES,
    MAX_N,
    MAX_PARTS,
    MAX_PROMPTS,
    MAX_READINGS,
    MAX_STEERING_TEXT,
    MAX_STOPS,
    MAX_TERMS,
    MAX_TEXT,
    MAX_TOOLS,
)

RENAMED = {
    "guided_json": 'structured_outputs={"json": ...}',
    "guided_regex": 'structured_outputs={"regex": ...}',
    "guided_choice": 'structured_outputs={"choice": [...]}',
    "guided_grammar": 'structured_outputs={"grammar": ...}',
    "guided_decoding_backend": "structured_outputs, without a backend",
    "guided_whitespace_pattern": "structured_outputs, without it",
    "functions": "tools",
    "function_call": "tool_choice",
}
LARGEST_SEED = 9_223_372_036_854_776_000  # as OpenAI's schema has it

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=STOP_LENGTH)]
TokenText = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-BIAS, le=BIAS, allow_inf_nan=False)]
Token = Annotated[int, Field(ge=0, lt=2**31)]
ToolName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Fields(BaseModel):
    """Fields of an object that a client sends; any others are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _name_new_fields(cls, given: Any) -> Any:
        """Refuse old names of fields by naming the new ones, where other servers ignore them in silence."""
        if isinstance(given, dict):
            for name in RENAMED.keys() & given.keys() - cls.model_fields.keys():
                raise RequestError(f"there is no field {name!r}", fix=f"use {RENAMED[name]}", param=name)
        return given


class IgnoredFields(Fields):
    """Fields that clients send and that change no answer here; they are taken and ignored."""

    user: Any = Field(default=None, description="Ignored.")
    metadata: Any = Field(default=None, description="Ignored.")
    store: Any = Field(default=None, description="Ignored: nothing is stored.")
    service_tier: Any = Field(default=None, description="Ignored.")
    safety_identifier: Any = Field(default=None, description="Ignored.")
    prompt_cache_key: Any = Field(default=None, description="Ignored: equal beginnings of prompts are always shared.")
    prompt_cache_retention: Any = Field(default=None, description="Ignored.")
    reasoning_effort: Any = Field(default=None, description="Ignored; see chat_template_kwargs.")
    verbosity: Any = Field(default=None, description="Ignored.")


class SamplingFields(Fields):
    """How tokens are chosen, and where answers end; the names are those of OpenAI and vLLM."""

    max_tokens: Annotated[int, Field(ge=1)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=100)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = Field(default=None, description="0 and -1 are all tokens.")
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[Number, Field(ge=-PENALTY, le=PENALTY)] | None = None
    frequency_penalty: Annotated[Number, Field(ge=-PENALTY, le=PENALTY)] | None = None
    repetition_penalty: Annotated[Number, Field(gt=0, le=100)] | None = None
    logit_bias: Annotated[dict[TokenText, Bias], Field(max_length=MAX_BIASES)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    stop_token_ids: Annotated[list[Token], Field(max_length=MAX_STOPS)] | None = None
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    seed: Annotated[int, Field(ge=-LARGEST_SEED, le=LARGEST_SEED)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_N)] | None = None
    cache_salt: Annotated[str, StringConstraints(max_length=256)] | None = Field(
        default=None, description="Kept beginnings of prompts are shared between requests of the same salt alone."
    )


class StructuredOutputs(Fields):
    """What an answer must be; one of these."""

    json_: dict[str, Any] | Annotated[str, StringConstraints(max_length=2 * MAX_BYTES)] | None = Field(
        default=None, alias="json", description="JSON schema."
    )
    regex: Annotated[str, StringConstraints(max_length=MAX_BYTES)] | None = None
    choice: Annotated[list[str], Field(min_length=1, max_length=MAX_CHOICES)] | None = None
    grammar: Annotated[str, StringConstraints(max_length=MAX_BYTES)] | None = Field(
        default=None, description="Grammar in Lark's syntax."
    )
    json_object: bool | None = Field(default=None, description="Any JSON object.")
    tags: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_TAGS)] | None = Field(
        default=None, description="Constrained parts of a free answer; see docs/constraints.md."
    )


class JsonSchemaFormat(Fields):
    """A JSON schema with its name."""

    name: Annotated[str, StringConstraints(max_length=256)] = ""
    description: Text | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Fields):
    """Format of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema belongs to the type json_schema, which needs it")
        return self


class ConstraintFields(Fields):
    """What answers must be."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None


SteeringText = Annotated[str, StringConstraints(max_length=MAX_STEERING_TEXT)]
SteeringJson = (
    Annotated[dict[str, Any], Field(max_length=MAX_TERMS)]
    | Annotated[list[SteeringText | dict[str, Any] | list[Any]], Field(max_length=MAX_TERMS)]
)


class SteeringFields(Fields):
    """Steering of a request."""

    steering: SteeringText | SteeringJson | None = Field(
        default=None, description='Steering as text ("happy:0.5 + formal:-0.3"), object or list; see docs/steering.md.'
    )
    normalize: Annotated[Number, Field(gt=0, le=10)] | None = Field(
        default=None, description="KL in nats per token to which the steering is rescaled."
    )
    readings: Annotated[list[str], Field(max_length=MAX_READINGS)] | None = Field(
        default=None, description="Names of vectors to read at every generated token."
    )
    kl: bool = Field(default=False, description="Measure the KL that the steering spends on each answer.")
    steer_constrained: bool = Field(default=False, description="Steer constrained answers, too.")


class StreamOptions(Fields):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = Field(default=None, description="Ignored.")


class TextPart(Fields):
    """Part of a message; text alone is read."""

    type: Literal["text"]
    text: Text
    cache_control: Any = Field(default=None, description="Ignored.")


class HasText(Protocol):
    """Part of a content, of whichever route."""

    @property
    def text(self) -> str:
        """Return its text."""


def joined_text(content: str | Sequence[HasText]) -> str:
    """Return the text of a content, which may be in parts."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


class FunctionCall(Fields):
    """Name and arguments of a called function; the arguments are JSON as text."""

    name: ToolName
    arguments: Text


class ToolCall(Fields):
    """Call of a tool in an earlier answer."""

    id: Annotated[str, StringConstraints(max_length=256)]
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = Field(default=None, description="Ignored.")


class ChatMessage(Fields):
    """Message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(max_length=MAX_PARTS)] | None = None
    name: Annotated[str, StringConstraints(max_length=256)] | None = Field(default=None, description="Ignored.")
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: Annotated[str, StringConstraints(max_length=256)] | None = None
    reasoning: Text | None = Field(default=None, description="Ignored: thoughts of earlier answers are not read again.")
    reasoning_content: Text | None = Field(default=None, description="Ignored.")
    refusal: Any = Field(default=None, description="Ignored.")
    annotations: Any = Field(default=None, description="Ignored.")
    audio: None = None
    function_call: None = None
    trimtab: Any = Field(default=None, description="Ignored.")


class FunctionFields(Fields):
    """A function that the model may call."""

    name: ToolName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Fields):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionFields


class NamedFunction(Fields):
    """Name of a function."""

    name: ToolName


class NamedTool(Fields):
    """The tool that the model must call."""

    type: Literal["function"]
    function: NamedFunction


class ChatTemplateOptions(Fields):
    """Options of the model's chat template: these, and no others."""

    enable_thinking: bool | None = None
    thinking: bool | None = None


class ChatFields(SamplingFields, ConstraintFields, SteeringFields, IgnoredFields):
    """Body of a request for a chat completion."""

    model: Annotated[str, StringConstraints(max_length=256)]
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=ALTERNATIVES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = Field(default=None, description="False allows one call in an answer.")
    chat_template_kwargs: ChatTemplateOptions | None = None
    modalities: list[Literal["text"]] | None = None


class CompletionFields(SamplingFields, ConstraintFields, SteeringFields, IgnoredFields):
    """Body of a request for completions of bare text."""

    model: Annotated[str, StringConstraints(max_length=256)]
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS)]
    logprobs: Annotated[int, Field(ge=0, le=ALTERNATIVES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: None = None
