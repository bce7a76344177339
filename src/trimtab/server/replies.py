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


class StageReply(BaseModel):
    """Stage that a flow has chosen."""

    name: str
    preset: str
    by: Literal["request", "reading", "decision", "default"]
    probabilities: dict[str, float] | None
    readings: dict[str, float]


class TrimtabReply(BaseModel):
    """What steering did to each choice, and the stage of a flow."""

    answers: list[AnswerReply]
    stage: StageReply | None = None


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


class ChatMessageReply(BaseModel):
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
    message: ChatMessageReply
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


class InputTokens(BaseModel):
    """Tokens of a prompt that were kept from earlier ones; not counted yet."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokens(BaseModel):
    """Tokens of thoughts."""

    reasoning_tokens: int


class ReadUsage(BaseModel):
    """Tokens of a request, under the names of newer routes."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputTokens
    total_tokens: int


class ResponseReply(BaseModel):
    """A response; all of these keys are there."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    incomplete_details: dict[str, str] | None
    error: dict[str, Any] | None
    model: str
    previous_response_id: str | None
    instructions: str | None
    output: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    tool_choice: str | dict[str, Any]
    parallel_tool_calls: bool
    truncation: Literal["disabled"]
    text: dict[str, Any]
    reasoning: dict[str, Any]
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int
    max_output_tokens: int | None
    max_tool_calls: int | None
    usage: ReadUsage | None
    store: bool
    background: Literal[False]
    service_tier: str
    metadata: dict[str, str]
    safety_identifier: str | None
    prompt_cache_key: str | None
    user: str | None
    trimtab: TrimtabReply


class DeletedResponse(BaseModel):
    """A response that is no longer stored."""

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class DecisionTrimtab(BaseModel):
    """How one decision was steered, with the log-probability of each of its answers among all texts."""

    index: int
    steering: str
    reason: Literal["decision"] | None
    logprobs: list[float]


class DecisionTrimtabs(BaseModel):
    """How decisions were steered."""

    answers: list[DecisionTrimtab]


class PredicateReply(BaseModel):
    """How likely a statement is."""

    type: Literal["predicate"]
    name: str | None
    probability: float


class ChoiceProbability(BaseModel):
    """How likely an answer is."""

    value: str | bool
    probability: float


class ChoiceReply(BaseModel):
    """The likeliest of some answers."""

    type: Literal["choice"]
    name: str | None
    choice: str | bool
    confidence: float
    probabilities: list[ChoiceProbability]


class LevelProbability(BaseModel):
    """How likely a level is."""

    value: int
    label: str
    probability: float


class ScoreReply(BaseModel):
    """The mean of levels."""

    type: Literal["score"]
    name: str | None
    score: float
    confidence: float
    probabilities: list[LevelProbability]


class DecisionReply(BaseModel):
    """Answers to questions, in their order."""

    object: Literal["decision"]
    model: str
    answers: list[PredicateReply | ChoiceReply | ScoreReply]
    usage: ReadUsage
    trimtab: DecisionTrimtabs


class MessageUsage(BaseModel):
    """Tokens of a message."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int


class MessageReply(BaseModel):
    """A message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    usage: MessageUsage
    trimtab: TrimtabReply


class CountedTokens(BaseModel):
    """Tokens of a prompt."""

    input_tokens: int


class MessageError(BaseModel):
    """Error in Anthropic's shape."""

    type: Literal["error"]
    error: dict[str, Any]


def streamed_or(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Return the documented answer of a route that sends an object, or a stream of events."""
    return {200: {"model": model, "content": {"text/event-stream": {}}}}
