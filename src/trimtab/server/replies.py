"""Shapes of what the server sends, for its published document; the routes make plain objects, which is quicker."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from trimtab.engines.protocol import Receipt


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerReply(BaseModel):
    """What steering did to one choice."""

    index: int
    receipt: Receipt
    beyond_safe: bool
    readings: dict[str, list[float]] = {}


class TrimtabReply(BaseModel):
    """What steering did to each choice."""

    answers: list[AnswerReply]


class Logprob(BaseModel):
    """Log-probability of a token."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprobReply(Logprob):
    """Log-probability of a token with its alternatives."""

    top_logprobs: list[Logprob]


class ChatLogprobs(BaseModel):
    """Log-probabilities of an answer."""

    content: list[TokenLogprobReply] | None
    refusal: None


class CalledFunction(BaseModel):
    """Name and arguments of a called function."""

    name: str
    arguments: str


class ToolCallReply(BaseModel):
    """Call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class MessageReply(BaseModel):
    """Answer to a chat."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    annotations: list[Any]
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallReply] | None = None


class ChatChoice(BaseModel):
    """One of the answers to a chat."""

    index: int
    message: MessageReply
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatCompletion(BaseModel):
    """Answers to a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    system_fingerprint: None
    trimtab: TrimtabReply


class TextLogprobs(BaseModel):
    """Log-probabilities of a continuation."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(BaseModel):
    """One continuation."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"]


class TextCompletion(BaseModel):
    """Continuations of texts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage
    system_fingerprint: None
    trimtab: TrimtabReply


class ModelReply(BaseModel):
    """The model, or a preset of it."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None
    max_model_len: int | None
    metadata: dict[str, Any]


class ModelList(BaseModel):
    """The model and its presets."""

    object: Literal["list"]
    data: list[ModelReply]


def streamed_or(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return the documented answer of a route that sends an object, or a stream of events."""
    return {200: {"model": model, "content": {"text/event-stream": {"schema": {"type": "string"}}}}}
