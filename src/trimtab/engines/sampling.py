"""Options of choosing tokens and of ending an answer, as users of OpenAI's API and of vLLM know them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, final

from trimtab.defaults import ANSWER_TOKENS
from trimtab.errors import PromptError

STOPS = 64  # stop strings of one request
STOP_LENGTH = 1000  # characters of one
ALTERNATIVES = 20  # of a token, with their log-probabilities
BIAS = 100.0  # largest change of a logit
PENALTY = 2.0  # largest presence or frequency penalty


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options of choosing tokens and of ending an answer.

    Attributes:
        max_new_tokens: Upper bound on the answer's length.
        min_tokens: Tokens before which no stop token is chosen and no stop string ends the answer.
        temperature: 0 is greedy.
        top_p: Sample from the smallest set of tokens with this much probability.
        top_k: Sample from this many likeliest tokens, and those as likely as the last of them; 0 is all.
        min_p: Sample from tokens with at least this fraction of the likeliest token's probability.
        presence_penalty: Subtracted from the logit of each token that the answer has already; -2 to 2.
        frequency_penalty: The same, times how often the answer has it; -2 to 2.
        repetition_penalty: Divides a positive logit of each token that prompt or answer has already, and multiplies a
            negative one; 1 is none.
        logit_bias: Added to the logits of token ids; -100 excludes a token, 100 forces it.
        stop: Strings that end the answer. Its text ends before the one that is complete first.
        stop_token_ids: Tokens that end the answer as the model's own end-of-turn tokens do. They are part of it.
        ignore_eos: Do not end the answer at the model's own end-of-turn tokens.
        seed: Makes sampling reproducible; None draws a new seed each time.
        logprobs: Number of alternatives (0 to 20) to report with the log-probability of each token; None reports none.
        use_cache: Keep keys and values between steps; off, every step reads everything again.
    """

    max_new_tokens: int = ANSWER_TOKENS
    min_tokens: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    seed: int | None = None
    logprobs: int | None = None
    use_cache: bool = True

    def __post_init__(self) -> None:
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        object.__setattr__(self, "stop", stops)
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids or ()))
        object.__setattr__(self, "logit_bias", _checked_bias(self.logit_bias or {}))
        self._check_numbers()
        if len(stops) > STOPS:
            raise PromptError(f"there are {len(stops)} stop strings", fix=f"give at most {STOPS}")
        for stop in stops:
            if not isinstance(stop, str) or not 0 < len(stop) <= STOP_LENGTH:
                raise PromptError(f"{str(stop)[:40]!r} cannot stop an answer", fix=f"give 1 to {STOP_LENGTH} letters")
        for token in self.stop_token_ids:
            if not _is_token(token):
                raise PromptError(f"stop_token_ids has {token!r}", fix="give token ids: integers of at least 0")

    def _check_numbers(self) -> None:
        between = f"give a number from -{PENALTY:g} to {PENALTY:g}"
        asked = 0 if self.logprobs is None else self.logprobs
        checks = (  # written so that NaN fails
            ("max_new_tokens", _is_integer(self.max_new_tokens) and self.max_new_tokens >= 1, "ask for at least 1"),
            (
                "min_tokens",
                _is_integer(self.min_tokens) and 0 <= self.min_tokens <= self.max_new_tokens,
                f"give a number from 0 to max_new_tokens, which is {self.max_new_tokens}",
            ),
            ("temperature", 0 <= self.temperature < math.inf, "give a number of at least 0"),
            ("top_p", 0 < self.top_p <= 1, "give a number above 0 and up to 1"),
            ("top_k", _is_integer(self.top_k) and self.top_k >= 0, "give a number of at least 1, or 0 for all tokens"),
            ("min_p", 0 <= self.min_p <= 1, "give a number from 0 to 1"),
            ("presence_penalty", abs(self.presence_penalty) <= PENALTY, between),
            ("frequency_penalty", abs(self.frequency_penalty) <= PENALTY, between),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "give a number above 0; 1 is no penalty"),
            ("logprobs", _is_integer(asked) and 0 <= asked <= ALTERNATIVES, f"ask for 0 to {ALTERNATIVES}"),
        )
        for name, valid, fix in checks:
            if not valid:
                raise PromptError(f"{name} is {getattr(self, name)}", fix=fix)

    def check_tokens(self, vocabulary: int, *, name: str) -> None:
        """Refuse token ids that a model does not have.

        Args:
            vocabulary: Number of its tokens.
            name: Name of the model, for the message.

        Raises:
            PromptError: ``logit_bias`` or ``stop_token_ids`` has such an id.
        """
        for option, tokens in (("logit_bias", self.logit_bias), ("stop_token_ids", self.stop_token_ids)):
            strange = [token for token in tokens if token >= vocabulary]
            if strange:
                raise PromptError(f"{option} has token {strange[0]}", fix=f"{name} has tokens 0 to {vocabulary - 1}")

    @property
    def changes_logits(self) -> bool:
        """Return True if logits are changed before a token is chosen from them."""
        return (
            bool(self.logit_bias)
            or self.min_tokens > 0
            or (self.presence_penalty, self.frequency_penalty, self.repetition_penalty) != (0, 0, 1)
        )


class SamplingOptions(TypedDict, total=False):
    """Options of ``Sampling`` as keyword arguments."""

    max_new_tokens: int
    min_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: Mapping[int, float]
    stop: Sequence[str]
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    seed: int | None
    logprobs: int | None
    use_cache: bool


def make_sampling(sampling: Sampling | None, options: SamplingOptions, *, max_new_tokens: int) -> Sampling:
    """Return ``sampling`` with ``options`` in place of its own; by default it has ``max_new_tokens``.

    Raises:
        PromptError: An option is out of range.
    """
    return replace(sampling or Sampling(max_new_tokens=max_new_tokens), **options)


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _is_token(token: Any) -> bool:
    return _is_integer(token) and token >= 0


def _checked_bias(given: Any) -> dict[int, float]:
    pairs: Iterable[tuple[Any, Any]] = given.items() if isinstance(given, Mapping) else given
    bias = {}
    for token, change in pairs:
        if not _is_token(token):
            raise PromptError(f"logit_bias has {token!r}", fix="give token ids: integers of at least 0")
        if not isinstance(change, (int, float)) or not abs(change) <= BIAS:
            raise PromptError(
                f"logit_bias of token {token} is {change!r}", fix=f"give a number from -{BIAS:g} to {BIAS:g}"
            )
        bias[token] = float(change)
    return bias
