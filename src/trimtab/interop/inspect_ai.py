"""Steered model for the Python API of Inspect."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, final

from trimtab.engines.constraints import Constraint
from trimtab.engines.protocol import Completion, Evaluates, TokenLogprob
from trimtab.errors import MissingDependencyError, PromptError, SteeringError
from trimtab.steering import Steering, SteeringLike

if TYPE_CHECKING:
    from inspect_ai.model import Model

INSTALL = 'pip install "trimtab[inspect]"'
PROVIDER = "trimtab"
UNSUPPORTED = (  # settings that would change an answer, and that the engine does not have
    "prompt_logprobs",
    "verbosity",
    "effort",
    "reasoning_effort",
    "reasoning_mode",
    "reasoning_tokens",
    "modalities",
)


def steered_model(engine: Evaluates, steering: SteeringLike = None, *, max_new_tokens: int = 1024) -> Model:
    """Return a model for ``inspect_ai.eval(task, model=...)``, steered in every answer.

    A request may replace ``steering`` by ``GenerateConfig(extra_body={"steering": "happy:0.5"})``, as text or in the
    JSON form. Answers are greedy unless a temperature is given. The metadata of each output has the effect of the
    steering under ``"steering"``.

    Args:
        engine: The model, as ``trimtab.load`` gives it.
        steering: Whatever ``Steering.of`` takes, scopes and conditions too.
        max_new_tokens: Upper bound on an answer's length, where a task does not give one.

    Raises:
        MissingDependencyError: inspect-ai is not installed.
        SteeringError: It is no steering for this model.
        VectorError: A vector that the steering names cannot be found.

    Example:
        >>> inspect_ai.eval(task, model=steered_model(model, "happy:0.5"))  # doctest: +SKIP
    """
    provider = _provider()
    from inspect_ai.model import GenerateConfig, Model

    chosen = Steering.of(steering)
    chosen.compile(engine.info)  # report errors before the evaluation begins
    api = provider(engine.info.name, setup=_Setup(engine, chosen, max_new_tokens))
    return Model(api, GenerateConfig(), {"steering": str(chosen)})


@final
@dataclass(frozen=True, eq=False)
class _Setup:
    """Arguments of ``steered_model``."""

    engine: Evaluates
    steering: Steering
    max_new_tokens: int

    def __str__(self) -> str:
        return str(self.steering)


@final
@dataclass(frozen=True)
class _Written:
    """Answers to one request, with their duration, and whether the context window ended them."""

    completions: Sequence[Completion]
    seconds: float
    window_ends: bool


@cache
def _provider() -> Any:
    """Register and return Inspect's kind of model provider, under the name that logs show."""
    try:
        import anyio.to_thread
        from inspect_ai.model import (
            ChatCompletionChoice,
            ChatMessageAssistant,
            Logprob,
            Logprobs,
            ModelAPI,
            ModelOutput,
            ModelUsage,
            TopLogprob,
            modelapi,
        )
    except ImportError as error:
        raise MissingDependencyError(f"inspect-ai cannot be imported: {error}", fix=INSTALL) from None

    @final
    class SteeredAPI(ModelAPI):  # type: ignore[misc]
        """Answers of a steered model."""

        def __init__(self, model_name: str, *_: Any, setup: _Setup | None = None, **__: Any) -> None:
            if setup is None:
                raise SteeringError(
                    f"'{PROVIDER}/{model_name}' cannot be made from its name",
                    fix="give eval the model itself: model=steered_model(engine, steering)",
                )
            super().__init__(model_name)
            self._setup = setup

        def max_tokens(self) -> int:
            return self._setup.max_new_tokens

        def max_connections(self) -> int:
            return 1

        def collapse_user_messages(self) -> bool:
            return True

        async def count_text_tokens(self, text: str) -> int:
            return len(self._setup.engine.encode(text))

        async def generate(self, input: list[Any], tools: list[Any], tool_choice: Any, config: Any) -> Any:
            if tools:
                raise PromptError(
                    f"{self.model_name} is asked to call tools, which trimtab does not do",
                    fix="use a task without tools",
                )
            written = await anyio.to_thread.run_sync(_write, self._setup, _chat(input), config)
            first = written.completions[0]
            tokens = sum(len(completion.tokens) for completion in written.completions)
            return ModelOutput(
                model=self.model_name,
                choices=[self._choice(completion, written) for completion in written.completions],
                usage=ModelUsage(
                    input_tokens=first.prompt_tokens, output_tokens=tokens, total_tokens=first.prompt_tokens + tokens
                ),
                time=written.seconds,
                metadata={
                    "steering": {
                        "steering": first.receipt.steering,
                        "layers": list(first.receipt.layers),
                        "tokens": first.receipt.tokens,
                        **({} if first.receipt.reason is None else {"reason": first.receipt.reason}),
                    }
                },
            )

        def _choice(self, completion: Completion, written: _Written) -> Any:
            reason = completion.finish_reason
            if reason == "length":
                reason = "model_length" if written.window_ends else "max_tokens"
            message = ChatMessageAssistant(content=completion.text, model=self.model_name, source="generate")
            logprobs = None
            if completion.logprobs is not None:
                logprobs = Logprobs(content=list(map(_logprob, completion.logprobs)))
            return ChatCompletionChoice(message=message, stop_reason=reason, logprobs=logprobs)

    def _logprob(token: TokenLogprob) -> Any:
        others = [TopLogprob(token=other.text, logprob=other.logprob) for other in token.alternatives]
        return Logprob(token=token.text, logprob=token.logprob, top_logprobs=others or None)

    @modelapi(name=PROVIDER)  # type: ignore[untyped-decorator]
    def trimtab_provider() -> Any:
        return SteeredAPI

    return trimtab_provider


def _write(setup: _Setup, chat: Sequence[Mapping[str, str]], config: Any) -> _Written:
    _check(config)
    steering = _steering(setup, config)
    engine = setup.engine
    begun = time.perf_counter()
    limit = setup.max_new_tokens if config.max_tokens is None else int(config.max_tokens)
    window = engine.capabilities.context_window
    room = limit if window is None else window - len(engine.marked(chat).tokens)
    completions = engine.generate(
        [chat],
        n=config.num_choices or 1,
        steering=steering,
        constraint=_constraint(config),
        max_new_tokens=min(limit, max(room, 1)),
        temperature=config.temperature or 0.0,
        top_p=1.0 if config.top_p is None else config.top_p,
        top_k=config.top_k or 0,
        presence_penalty=config.presence_penalty or 0.0,
        frequency_penalty=config.frequency_penalty or 0.0,
        logit_bias=config.logit_bias or {},
        stop=config.stop_seqs or (),
        seed=config.seed,
        logprobs=(config.top_logprobs or 0) if config.logprobs or config.top_logprobs else None,
    )
    return _Written(completions, time.perf_counter() - begun, room < limit)


def _constraint(config: Any) -> Constraint | None:
    """Return the constraint of a response schema; such answers are unsteered."""
    if config.response_schema is None:
        return None
    return Constraint.json_schema(config.response_schema.json_schema.model_dump(exclude_none=True))


def _check(config: Any) -> None:
    """Refuse settings that would change the answer and that the engine does not have."""
    asked = [name for name in UNSUPPORTED if getattr(config, name, None)]
    if (config.best_of or 1) > 1:
        asked.append("best_of")
    if asked:
        raise PromptError(f"the task asks for {', '.join(asked)}, which trimtab does not have", fix="leave it out")


def _steering(setup: _Setup, config: Any) -> Steering:
    body = dict(config.extra_body or {})
    steering = setup.steering
    if "steering" in body:
        given = body.pop("steering")
        steering = Steering.from_json(given) if isinstance(given, (Mapping, list)) else Steering.of(given)
    if body:
        raise PromptError(f"extra_body has {', '.join(sorted(body))}", fix="it may have 'steering' alone")
    return steering


def _chat(messages: Sequence[Any]) -> list[dict[str, str]]:
    """Convert Inspect's messages to the engine's; refuse tool calls and anything but text."""
    chat = []
    for message in messages:
        if message.role == "tool" or getattr(message, "tool_calls", None):
            raise PromptError("the chat has tool calls, which trimtab does not do", fix="use a task without tools")
        parts = [] if isinstance(message.content, str) else message.content
        other = sorted({part.type for part in parts} - {"text"})
        if other:
            raise PromptError(f"a message has {', '.join(other)}, but {PROVIDER} reads text", fix="use a task of text")
        chat.append({"role": message.role, "content": message.text})
    return chat
