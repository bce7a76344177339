"""Messages of Anthropic's API: their fields, and the chats that they stand for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from trimtab.engines.sampling import STOP_LENGTH
from trimtab.server.errors import RequestError
from trimtab.server.fields import (
    ChatFields,
    ChatMessage,
    ChatTemplateOptions,
    Fields,
    FunctionCall,
    FunctionFields,
    JsonSchemaFormat,
    NamedFunction,
    NamedTool,
    Number,
    ResponseFormat,
    SteeringFields,
    StructuredOutputs,
    Text,
    TextPart,
    Tool,
    ToolCall,
    ToolName,
    joined_text,
)
from trimtab.server.settings import MAX_MESSAGES, MAX_PARTS, MAX_STOPS, MAX_TOOLS

# Names that a mistake in a chat completion's fields has in a message.
NAMES = {"stop": "stop_sequences", "response_format": "output_config"}
SHARED = (*SteeringFields.model_fields, "temperature", "top_p", "top_k", "cache_salt", "structured_outputs", "metadata")

Id = Annotated[str, StringConstraints(max_length=256)]


class TextBlock(TextPart):
    """Text of a message."""

    citations: Any = Field(default=None, description="Ignored.")


TextBlocks = Annotated[list[TextBlock], Field(max_length=MAX_PARTS)]


class ToolUseBlock(Fields):
    """Call of a tool in an earlier answer."""

    type: Literal["tool_use"]
    id: Id
    name: ToolName
    input: dict[str, Any]
    cache_control: Any = Field(default=None, description="Ignored.")
    caller: Any = Field(default=None, description="Ignored.")


class ToolResultBlock(Fields):
    """What a called tool has returned."""

    type: Literal["tool_result"]
    tool_use_id: Id
    content: Text | TextBlocks = ""
    is_error: bool | None = None
    cache_control: Any = Field(default=None, description="Ignored.")


class ThinkingBlock(Fields):
    """Thoughts of an earlier answer; they are not read again."""

    type: Literal["thinking", "redacted_thinking"]
    thinking: Any = Field(default=None, description="Ignored.")
    signature: Any = Field(default=None, description="Ignored.")
    data: Any = Field(default=None, description="Ignored.")


Block = Annotated[TextBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock, Field(discriminator="type")]


class MessageParam(Fields):
    """Message of a conversation."""

    role: Literal["user", "assistant"]
    content: Text | Annotated[list[Block], Field(max_length=MAX_PARTS)]


class MessageTool(Fields):
    """A tool that the model may call."""

    type: Literal["custom"] | None = None
    name: ToolName
    description: Text | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    cache_control: Any = Field(default=None, description="Ignored.")
    input_examples: Any = Field(default=None, description="Ignored.")
    eager_input_streaming: Any = Field(default=None, description="Ignored.")


class MessageToolChoice(Fields):
    """Whether the model may, must or must not call a tool."""

    type: Literal["auto", "any", "none", "tool"]
    name: ToolName | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _has_name(self) -> Self:
        if (self.type == "tool") != (self.name is not None):
            raise ValueError("name belongs to the type tool, which needs it")
        return self


class ThinkingOptions(Fields):
    """Whether a reasoning model is asked to think."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Any = Field(default=None, description="Ignored.")
    display: Any = Field(default=None, description="Ignored.")


class OutputFormat(Fields):
    """Form of an answer."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Fields):
    """Options of an answer."""

    format: OutputFormat | None = None
    effort: Any = Field(default=None, description="Ignored.")


class PromptFields(Fields):
    """What a message answers."""

    model: Id
    messages: Annotated[list[MessageParam], Field(min_length=1, max_length=MAX_MESSAGES)]
    system: Text | TextBlocks | None = None
    tools: Annotated[list[MessageTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: MessageToolChoice | None = None
    thinking: ThinkingOptions | None = None
    output_config: OutputConfig | None = None
    cache_control: Any = Field(default=None, description="Ignored.")


class MessageFields(PromptFields, SteeringFields):
    """Body of a request for a message."""

    max_tokens: Annotated[int, Field(ge=1)]
    stop_sequences: (
        Annotated[
            list[Annotated[str, StringConstraints(min_length=1, max_length=STOP_LENGTH)]], Field(max_length=MAX_STOPS)
        ]
        | None
    ) = None
    stream: bool | None = None
    temperature: Annotated[Number, Field(ge=0, le=100)] | None = None
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    cache_salt: Id | None = None
    structured_outputs: StructuredOutputs | None = None
    metadata: Any = Field(default=None, description="Ignored, but for the stage of a flow.")
    service_tier: Any = Field(default=None, description="Ignored.")
    inference_geo: Any = Field(default=None, description="Ignored.")


def message_chat(body: PromptFields) -> ChatFields:
    """Return the chat completion that a message stands for.

    Raises:
        RequestError: Its messages have nothing in them but thoughts.
    """
    system = [] if not body.system else [ChatMessage(role="system", content=joined_text(body.system))]
    messages = [each for message in body.messages for each in _messages(message)]
    if not messages:
        raise RequestError("the messages say nothing", fix="send a text, or a tool's result", param="messages")
    given: dict[str, Any] = {"model": body.model, "messages": [*system, *messages]}
    if body.tools:
        given["tools"] = [_tool(tool) for tool in body.tools]
    if body.tool_choice is not None:
        given["tool_choice"] = _tool_choice(body.tool_choice)
        given["parallel_tool_calls"] = not body.tool_choice.disable_parallel_tool_use
    if body.thinking is not None:
        options = ChatTemplateOptions(enable_thinking=body.thinking.type != "disabled")
        given["chat_template_kwargs"] = options
    if body.output_config is not None and body.output_config.format is not None:
        schema = JsonSchemaFormat.model_validate({"schema": body.output_config.format.schema_})
        given["response_format"] = ResponseFormat(type="json_schema", json_schema=schema)
    if isinstance(body, MessageFields):
        given |= {name: getattr(body, name) for name in SHARED if name in body.model_fields_set}
        given["max_tokens"] = body.max_tokens
        if body.stop_sequences:
            given["stop"] = body.stop_sequences
    return ChatFields.model_validate(given)


def _messages(message: MessageParam) -> Iterator[ChatMessage]:
    """Yield the messages that one stands for: results of tools, then what is said, with its calls."""
    if isinstance(message.content, str):
        yield ChatMessage(role=message.role, content=message.content)
        return
    for block in message.content:
        if isinstance(block, ToolResultBlock):
            yield ChatMessage(role="tool", content=joined_text(block.content), tool_call_id=block.tool_use_id)
    said = joined_text([block for block in message.content if isinstance(block, TextBlock)])
    calls = [
        ToolCall(
            id=block.id, function=FunctionCall(name=block.name, arguments=json.dumps(block.input, ensure_ascii=False))
        )
        for block in message.content
        if isinstance(block, ToolUseBlock)
    ]
    if message.role == "assistant" or said or not message.content:
        yield ChatMessage(role=message.role, content=said, tool_calls=calls or None)


def _tool(tool: MessageTool) -> Tool:
    function = FunctionFields(name=tool.name, description=tool.description, parameters=tool.input_schema)
    return Tool(type="function", function=function)


def _tool_choice(choice: MessageToolChoice) -> str | NamedTool:
    if choice.name is not None:
        return NamedTool(type="function", function=NamedFunction(name=choice.name))
    return {"any": "required"}.get(choice.type, choice.type)
