"""Chat whose steering may change between turns, with a choice of how earlier turns are treated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias, Unpack, final

from transformers import DynamicCache

from trimtab.behaviours import Message
from trimtab.defaults import CHAT_ANSWER_TOKENS
from trimtab.engines.constraints import Constraint, ConstraintLike
from trimtab.engines.protocol import Completion, Tokens, as_messages
from trimtab.engines.sampling import Sampling, SamplingOptions, make_sampling
from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.errors import PromptError, SteeringError
from trimtab.steering import Steering, SteeringLike
from trimtab.vectors import ControlVector

CacheMode: TypeAlias = Literal["recompute", "keep"]


@final
class Chat:
    """Chat with its steering and, optionally, the cached keys and values of earlier turns.

    Steering acts on how the model reads as much as on how it writes. After a change of steering:

    * ``cache="recompute"``: every turn reads the whole chat again under its steering, as ``generate`` would. Earlier
      steering has an effect through the earlier answers only.
    * ``cache="keep"``: earlier turns keep the keys and values of their own steering; only new tokens are read. That is
      quicker, and earlier steering lingers. The chat is read again from the first token that the template changes.

    Args:
        model: The engine.
        system: A system prompt.
        steering: Applied until ``steering`` is set to something else.
        cache: Treatment of earlier turns.
        messages: Earlier messages.

    Raises:
        PromptError: The earlier messages are no chat.
        SteeringError: The steering does not belong to the model, or earlier turns cannot be kept.

    Example:
        >>> chat = Chat(model, steering=[(happy, 1)])  # doctest: +SKIP
        >>> chat.send("How was your day?").text  # doctest: +SKIP
        >>> chat.steering = [(happy, -1)]  # doctest: +SKIP
        >>> chat.send("And what now?").text  # doctest: +SKIP
    """

    def __init__(
        self,
        model: TransformersEngine,
        *,
        system: str | None = None,
        steering: SteeringLike = None,
        cache: CacheMode = "recompute",
        messages: Sequence[Message | Mapping[str, str]] = (),
    ) -> None:
        if cache not in ("recompute", "keep"):
            raise SteeringError(f"cache={cache!r} is not known", fix="use 'recompute' or 'keep'")
        if cache == "keep" and not model.keeps_turns:
            raise SteeringError(
                f"earlier turns of {model.info.name} cannot be kept: what it remembers is not keys and values",
                fix="use cache='recompute'",
            )
        self._model = model
        self._begun = (*((Message("system", system),) if system else ()), *(as_messages(messages) if messages else ()))
        self._messages = self._begun
        self._mode = cache
        self._steering = self._checked(steering)
        self._read: Tokens = ()  # what the cache has keys and values of
        self._cache: DynamicCache | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """Return the messages so far."""
        return self._messages

    @property
    def steering(self) -> Steering:
        """Return the steering of the next turns."""
        return self._steering

    @steering.setter
    def steering(self, given: SteeringLike) -> None:
        self._steering = self._checked(given)

    def _checked(self, given: SteeringLike) -> Steering:
        steering = Steering.of(given)
        steering.compile(self._model.info)  # a vector for another model is refused before the first word
        return steering

    def reset(self) -> None:
        """Forget everything but the system prompt and the messages that the chat began with."""
        self._messages = self._begun
        self._forget()

    def _forget(self) -> None:
        self._read, self._cache = (), None

    def send(
        self,
        text: str,
        *,
        sampling: Sampling | None = None,
        constraint: ConstraintLike | None = None,
        read: Sequence[ControlVector] = (),
        on_text: Callable[[str], None] | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Completion:
        """Send a user message, and return the answer; both join the chat. A turn that fails leaves no trace.

        The options are those of ``generate``. A constrained answer is unsteered, also where earlier turns are kept: it
        reads the whole chat again.

        Raises:
            PromptError: The message is empty, or the chat does not fit into the context window any more.
            SteeringError: The steering was not done as asked.
        """
        if not text.strip():
            raise PromptError("the message is empty", fix="write something to answer")
        chosen = make_sampling(sampling, options, max_new_tokens=CHAT_ANSWER_TOKENS)
        messages = (*self._messages, Message("user", text))
        rule = None if constraint is None else Constraint.of(constraint)
        cache = None
        if self._mode == "keep" and not (rule and rule.unsteers):  # else the steered turns would show
            cache = self._cache_for(self._model.marked(messages).tokens)
            self._forget()  # an interrupted turn leaves the cache unusable
        answer = self._model.reply(
            messages,
            cache=cache,
            steering=self._steering,
            sampling=chosen,
            constraint=rule,
            read=read,
            on_text=on_text,
        )
        if cache is not None:
            self._read, self._cache = (*answer.prompt.tokens, *answer.tokens[:-1]), cache
        self._messages = (*messages, Message("assistant", answer.text))
        return answer

    def _cache_for(self, tokens: Tokens) -> DynamicCache:
        """Crop the cache to the beginning shared with the new prompt, whose last token is always read again."""
        if self._cache is None:
            return DynamicCache()
        alike = 0
        for old, new in zip(self._read, tokens[:-1], strict=False):
            if old != new:
                break
            alike += 1
        if alike < len(self._read):
            self._cache.crop(alike - len(self._read))
        return self._cache
