"""Responses of OpenAI's API of that name: their fields, and the chats that they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from trimtab.engines.sampling import ALTERNATIVES
from trimtab.server.errors import RequestError
from trimtab.server.fields import (
    ChatFields,
    ChatMessage,
    ChatTemplateOptions,
    Fields,
    FunctionCall,
    FunctionFields,
    IgnoredFields,
    JsonSchemaFormat,
    NamedFunction,
    NamedTool,
    ResponseFormat,
    SamplingFields,
    SteeringFields,
    StructuredOutputs,
    Text,
    Tool,
    ToolCall,
    ToolName,
    joined_text,
)
from trimtab.server.settings import MAX_MESSAGES, MAX_PARTS, MAX_TOOLS

# Fields that a response has under the same name, and with the same meaning, as a chat completion.
SHARED = frozenset(
    (
        *SamplingFields.model_fields,
        *SteeringFields.model_fields,
        *IgnoredFields.model_fields,
        "structured_outputs",
        "top_logprobs",
        "parallel_tool_calls",
        "chat_template_kwargs",
    )
)
# Names that a mistake in a chat completion's fields has in a response.
NAMES = {"messages": "input", "response_format": "text", "max_tokens": "max_output_tokens"}

Id = Annotated[str, StringConstraints(max_length=256)]
Status = Literal["in_progress", "completed", "incomplete"]
LOGPROBS = "message.output_text.logprobs"
# What may be included: there is nothing here to include but log-probabilities.
Included = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


class InputPart(Fields):
    """Part of a message; text alone is read."""

    type: Literal["input_text", "output_text", "text"]
    text: Text
    annotations: Any = Field(default=None, description="Ignored.")
    logprobs: Any = Field(default=None, description="Ignored.")
    prompt_cache_breakpoint: Any = Field(default=None, description="Ignored.")


Parts = Annotated[list[InputPart], Field(max_length=MAX_PARTS)]


class MessageItem(Fields):
    """Message of a conversation."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Parts
    id: Id | None = None
    status: Status | None = None
    phase: Any = Field(default=None, description="Ignored.")


class FunctionCallItem(Fields):
    """Call of a function in an earlier answer."""

    type: Literal["function_call"]
    call_id: Id
    name: ToolName
    arguments: Text
    id: Id | None = None
    status: Status | None = None
    caller: Any = Field(default=None, description="Ignored.")


class FunctionOutputItem(Fields):
    """What a called function has returned."""

    type: Literal["function_call_output"]
    call_id: Id
    output: Text | Parts
    id: Id | None = None
    name: Id | None = None
    status: Status | None = None
    caller: Any = Field(default=None, description="Ignored.")


class ReasoningItem(Fields):
    """Thoughts of an earlier answer; they are not read again."""

    type: Literal["reasoning"]
    id: Id | None = None
    summary: Any = Field(default=None, description="Ignored.")
    content: Any = Field(default=None, description="Ignored.")
    encrypted_content: Any = Field(default=None, description="Ignored.")
    status: Status | None = None


def _kind(item: Any) -> Any:
    """Return the type of an item; messages may leave it out."""
    return item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_kind),
]
Input = Text | Annotated[list[InputItem], Field(max_length=MAX_MESSAGES)]


class ResponseTool(Fields):
    """A function that the model may call."""

    type: Literal["function"]
    name: ToolName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    defer_loading: Literal[False] | None = None


class ChosenTool(Fields):
    """The function that the model must call."""

    type: Literal["function"]
    name: ToolName


class AllowedTools(Fields):
    """The functions, of those that are offered, that the model may call, or must call one of."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[ChosenTool], Field(min_length=1, max_length=MAX_TOOLS)]


class TextFormat(Fields):
    """Format of a response."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Id | None = None
    description: Text | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_schema(self) -> Self:
        if (self.type == "json_schema") != (self.schema_ is not None):
            raise ValueError("schema belongs to the type json_schema, which needs it")
        return self


class TextOptions(Fields):
    """Form of a response."""

    format: TextFormat | None = None
    verbosity: Any = Field(default=None, description="Ignored.")


class ReasoningOptions(Fields):
    """Options of reasoning; all are ignored, see chat_template_kwargs."""

    effort: Id | None = None
    summary: Id | None = None
    generate_summary: Id | None = None
    context: Any = None
    mode: Any = None


class ResponseStreamOptions(Fields):
    """Options of a stream."""

    include_obfuscation: bool | None = Field(default=None, description="Ignored.")


MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class ResponseFields(SamplingFields, SteeringFields, IgnoredFields):
    """Body of a request for a response."""

    model: Id
    input: Input | None = None
    instructions: Text | None = None
    previous_response_id: Id | None = Field(default=None, description="Response that this one continues.")
    store: bool | None = Field(default=None, description="False does not keep the response for later requests.")
    include: Annotated[list[Included], Field(max_length=16)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=ALTERNATIVES)] | None = None
    tools: Annotated[list[ResponseTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: (
        Literal["none", "auto", "required"] | Annotated[ChosenTool | AllowedTools, Field(discriminator="type")] | None
    ) = None
    parallel_tool_calls: bool | None = Field(default=None, description="False allows one call in an answer.")
    text: TextOptions | None = None
    structured_outputs: StructuredOutputs | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    reasoning: ReasoningOptions | None = None
    chat_template_kwargs: ChatTemplateOptions | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    safety_identifier: Id | None = None
    prompt_cache_key: Id | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Ignored.")
    n: Literal[1] | None = None
    conversation: None = None
    prompt: None = None
    prompt_cache_options: Any = Field(default=None, description="Ignored.")

    @property
    def wants_logprobs(self) -> bool:
        """Return True if log-probabilities are asked for."""
        return LOGPROBS in (self.include or ()) or bool(self.top_logprobs)


def input_chat(given: Input | None) -> tuple[ChatMessage, ...]:
    """Return the messages that an input stands for.

    A function's call is part of the assistant's message before it.
    """
    if given is None:
        return ()
    if isinstance(given, str):
        return (ChatMessage(role="user", content=given),)
    return tuple(_joined(_messages(given)))


def response_chat(body: ResponseFields, before: Sequence[ChatMessage]) -> ChatFields:
    """Return the chat completion that a response stands for.

    Args:
        body: The request.
        before: Messages of the responses that it continues, and its own.

    Raises:
        RequestError: A field is wrong.
    """
    if not any(message.role not in ("system", "developer") for message in before):
        raise RequestError("there is nothing to answer", fix="give an input", param="input")
    instructions = [ChatMessage(role="system", content=body.instructions)] if body.instructions else []
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set & SHARED}
    if body.max_output_tokens is not None:
        given["max_tokens"] = body.max_output_tokens
    if body.text is not None and body.text.format is not None:
        given["response_format"] = _format(body.text.format)
    if body.tools:
        given |= _tools(body)
    elif body.tool_choice is not None and body.tool_choice != "auto":
        given["tool_choice"] = _tool_choice(body.tool_choice)
    if body.wants_logprobs:
        given["logprobs"] = True
    return ChatFields.model_validate({"model": body.model, "messages": [*instructions, *before], **given})


def _messages(items: Sequence[InputItem]) -> Iterator[ChatMessage]:
    for item in items:
        if isinstance(item, MessageItem):
            yield ChatMessage(role=item.role, content=joined_text(item.content))
        elif isinstance(item, FunctionCallItem):
            function = FunctionCall(name=item.name, arguments=item.arguments)
            yield ChatMessage(role="assistant", tool_calls=[ToolCall(id=item.call_id, function=function)])
        elif isinstance(item, FunctionOutputItem):
            yield ChatMessage(role="tool", content=joined_text(item.output), tool_call_id=item.call_id)


def _joined(messages: Iterator[ChatMessage]) -> Iterator[ChatMessage]:
    """Yield messages, with calls in the assistant's message before them."""
    last: ChatMessage | None = None
    for message in messages:
        if last is not None and last.role == "assistant" and message.tool_calls:
            last = last.model_copy(update={"tool_calls": [*(last.tool_calls or ()), *message.tool_calls]})
            continue
        if last is not None:
            yield last
        last = message
    if last is not None:
        yield last


def _format(asked: TextFormat) -> ResponseFormat:
    if asked.schema_ is None:
        return ResponseFormat(type=asked.type)
    schema = JsonSchemaFormat.model_validate({"name": asked.name or "", "schema": asked.schema_})
    return ResponseFormat(type=asked.type, json_schema=schema)


def _tools(body: ResponseFields) -> dict[str, Any]:
    """Return the fields of tools, of which ``allowed_tools`` may leave some out."""
    offered, choice = list(body.tools or ()), body.tool_choice
    if isinstance(choice, AllowedTools):
        names = {tool.name for tool in choice.tools}
        if missing := sorted(names - {tool.name for tool in offered}):
            raise RequestError(f"there is no tool {missing[0]!r} to allow", fix="add it to tools", param="tool_choice")
        offered = [tool for tool in offered if tool.name in names]
    tools = [
        Tool(
            type="function",
            function=FunctionFields(
                name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict
            ),
        )
        for tool in offered
    ]
    return {"tools": tools, **({} if choice is None else {"tool_choice": _tool_choice(choice)})}


def _tool_choice(choice: str | ChosenTool | AllowedTools) -> str | NamedTool:
    if isinstance(choice, str):
        return choice
    if isinstance(choice, AllowedTools):
        return choice.mode
    return NamedTool(type="function", function=NamedFunction(name=choice.name))
