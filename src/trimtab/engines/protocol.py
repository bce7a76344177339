"""Protocols of an engine and the values that cross them.

An engine knows tokens and arrays, never behaviours, so everything above it works with any engine. Each protocol is
what one kind of user needs: ``train`` takes ``Trains``, a reader takes ``Collects``. An engine that lacks a protocol is
then refused by the type checker, and one whose model lacks a capability before any work (``Capabilities``).

Left out on purpose: batching, caches and devices, which are an engine's own business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from html import escape
from typing import Any, Literal, Protocol, TypeAlias, Unpack

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32, ArrayValue
from trimtab.behaviours import Message
from trimtab.defaults import ANSWER_TOKENS, CHECKED_TOKENS
from trimtab.engines.constraints import ConstraintRows
from trimtab.engines.sampling import Sampling, SamplingOptions
from trimtab.errors import PromptError
from trimtab.steering import RowsLike, Steering, SteeringLike, Term
from trimtab.steering.compiled import Change
from trimtab.steering.conditions import At
from trimtab.vectors import BeyondSafe, ControlVector, ModelInfo

Tokens: TypeAlias = tuple[int, ...]
Prompt: TypeAlias = str | Sequence[Message | Mapping[str, str]]
Position: TypeAlias = int | Literal["last", "mean", "all"]
Span: TypeAlias = tuple[int | None, int | None]
Changes: TypeAlias = Mapping[int, F32 | Sequence[Change]]  # by layer; an array is added


def as_messages(prompt: Prompt) -> tuple[Message, ...]:
    """Return a chat from a string (a user message) or a list of messages.

    Raises:
        PromptError: It is neither, or a message lacks its role or content.
    """
    if isinstance(prompt, str):
        return (Message("user", prompt),)
    if isinstance(prompt, (Mapping, bytes)) or not isinstance(prompt, Sequence):
        raise PromptError(f"{str(prompt)[:60]!r} is not a prompt", fix="give a string, or a list of messages")
    messages = tuple(map(_message, prompt))
    if not messages:
        raise PromptError("the chat has no messages", fix="give at least one user message")
    return messages


def list_prompts(prompts: Any) -> tuple[list[Prompt], bool]:
    """Return prompts as a list, and True if a single string or chat was given.

    Raises:
        PromptError: It is neither a prompt nor an iterable of prompts.
    """
    if isinstance(prompts, str):
        return [prompts], True
    if isinstance(prompts, (Mapping, Message, bytes, bytearray)) or not isinstance(prompts, Iterable):
        raise PromptError(
            f"{str(prompts)[:60]!r} is not a prompt", fix="give a string, a list of messages, or a list of these"
        )
    listed = list(prompts)
    return ([listed], True) if listed and isinstance(listed[0], (Message, Mapping)) else (listed, False)


def _message(given: Any) -> Message:
    if isinstance(given, Message):
        return given
    if isinstance(given, Mapping) and isinstance(given.get("role"), str) and isinstance(given.get("content"), str):
        return Message(given["role"], given["content"])
    raise PromptError(f"{str(given)[:60]!r} is not a chat message", fix='write {"role": "user", "content": "..."}')


@dataclass(frozen=True)
class Turn:
    """Token span ``[start, stop)`` of the words of one chat message."""

    role: str
    start: int
    stop: int


@dataclass(frozen=True)
class MarkedPrompt:
    """Prompt as the model reads it, with the role of each token.

    Attributes:
        text: Rendered text.
        tokens: Token ids.
        offsets: Character span of each token, ``[start, stop)``; empty for a token without text.
        turns: Words of each message, in order, without the template's marks. A system prompt that the template
            inserts is a turn too. Empty for bare text.
        words: Tokens that count for scores: those of all turns but the system's, or all of bare text. Special tokens
            and the attention sink (the first token that a decoder reads) never count.
        opening: Character at which the assistant's next turn opens, or at which the last message begins; where the
            template opens no turn, the character at which the answer's text begins.
        located: Whether every message was found in the rendered text.
    """

    text: str
    tokens: Tokens
    offsets: tuple[tuple[int, int], ...]
    turns: tuple[Turn, ...]
    words: tuple[bool, ...]
    opening: int
    located: bool = True

    def read_mask(self, at: At, *, last: bool = False) -> NDArray[np.bool_]:
        """Return which tokens a score of this prompt is read at, ``[token]``.

        Args:
            at: ``"prompt"`` for all words, ``"last-user-turn"`` for those of the last user message.
            last: Read the last token of the prompt alone.

        Raises:
            PromptError: There are no words to read, or no user message.
        """
        mask = np.zeros(len(self.tokens), dtype=bool)
        if last:
            mask[-1] = True
            return mask
        if at == "last-user-turn":
            users = [turn for turn in self.turns if turn.role == "user"]
            if not users:
                raise PromptError(f"no user message was found in {self.text[:40]!r}", fix="read it at prompt")
            mask[users[-1].start : users[-1].stop] = True
            mask &= np.array(self.words)
        else:
            mask[:] = self.words
        if not mask.any():
            raise PromptError(f"the prompt has no words to read ({self.text[:40]!r})", fix="write something")
        return mask


@dataclass(frozen=True)
class TermReceipt:
    """Effect of one term on one completion, as counted in the forward pass.

    Attributes:
        term: Text form of the term.
        layers: Layers at which it acted.
        tokens: Tokens of this row on which it acted.
        shift: Mean distance by which it moved a hidden state, relative to the state's norm; None if it never acted.
        fired: Whether its condition ever held; None without a condition.
        readings: Z-scores that decided its condition, by vector and place; of readings at every token the one that
            came closest to meeting the condition.
        beyond_safe: By what its strength exceeds the safe range of its vector, and what breaks there; None inside it,
            and where the range says nothing (``Term.beyond_safe``).
        constrained: Tokens on which it did not act because they are in a constrained part of a free answer.
    """

    term: str
    layers: tuple[int, ...]
    tokens: int
    shift: float | None
    fired: bool | None = None
    readings: Mapping[str, float] = field(default_factory=dict)
    beyond_safe: BeyondSafe | None = None
    constrained: int = 0


@dataclass(frozen=True)
class Receipt:
    """Steering of one completion, as counted in the forward pass.

    Attributes:
        steering: Text form of all terms.
        layers: Steered layers.
        tokens: Steered tokens of this row, in its prompt and its answer. The attention sink is never steered, nor is
            the answer's last token, since the model never reads it.
        kl: Mean per-token KL(base ‖ steered) over this answer in nats, if requested.
        terms: Effect of each term; terms of enclosing ``steered`` scopes come first.
        reason: ``"constrained"`` if the answer was left unsteered because it is constrained; None otherwise.
    """

    steering: str
    layers: tuple[int, ...]
    tokens: int
    kl: float | None = None
    terms: tuple[TermReceipt, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class ThinkingMarkers:
    """Marks around a model's thoughts."""

    open: str
    close: str


THINKING_MARKERS = (
    ThinkingMarkers("<think>", "</think>"),
    ThinkingMarkers("[THINK]", "[/THINK]"),
    ThinkingMarkers("<seed:think>", "</seed:think>"),
    ThinkingMarkers("<|START_THINKING|>", "<|END_THINKING|>"),
    ThinkingMarkers("<|channel|>analysis<|message|>", "<|end|>"),
)


def without_thoughts(text: str) -> str:
    """Return what a person reads of an answer: the text behind a reasoning model's thoughts.

    The opening mark may be in the prompt, so all before a closing one are thoughts. Thoughts that were not finished are
    the whole answer.

    Example:
        >>> without_thoughts("<think>They greet me.</think>Hello!")
        'Hello!'
    """
    for markers in THINKING_MARKERS:
        if markers.close in text:
            return text.rpartition(markers.close)[2].lstrip()
        if markers.open in text:
            return text.partition(markers.open)[0]
    return text


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probability of one generated token, with alternatives.

    Attributes:
        token: Its id.
        text: Its text, also of a special token; U+FFFD where it is a part of a character.
        logprob: Log-probability under the steered model, before sampling options changed it, in nats.
        alternatives: The likeliest tokens at its place, likeliest first; it may be among them.
    """

    token: int
    text: str
    logprob: float
    alternatives: tuple[TokenLogprob, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the token for a program; its alternatives have none themselves."""
        value = {"token": self.token, "text": self.text, "logprob": self.logprob}
        others = [{"token": o.token, "text": o.text, "logprob": o.logprob} for o in self.alternatives]
        return {**value, "alternatives": others}


@dataclass(frozen=True)
class StreamedToken:
    """One generated token.

    Attributes:
        token: Its id.
        text: The text that it completes. It is empty for a special token, inside a character of several tokens, and
            while the text may be the beginning of a stop string; the last token has all that was held back.
        readings: A z-score for each vector that is read, by name, of the state from which it was chosen.
        logprob: Its log-probability with alternatives, if asked for.
    """

    token: int
    text: str
    readings: Mapping[str, float] = field(default_factory=dict)
    logprob: TokenLogprob | None = None


@dataclass(frozen=True)
class Completion:
    """Answer of a model to one prompt.

    Attributes:
        text: Generated text, without special tokens and stop string.
        tokens: Generated token ids, with the end-of-turn token, or the tokens of the stop string.
        finish_reason: ``"stop"`` if the model ended its turn, or at a stop string, or where a constraint was complete;
            ``"length"`` if it ran out of ``max_new_tokens``.
        prompt: The prompt as the model read it.
        receipt: Steering as counted in the forward pass.
        logprob: Log-probability of the answer under the steered model, in nats; None for a sampled answer.
        readings: Z-scores by vector name, one for each generated token, of the hidden state it was predicted from.
        stopped_by: The stop string, or the id of the stop token, that ended the answer; None if neither did.
        logprobs: Log-probability of each token with alternatives, if asked for.
    """

    text: str
    tokens: Tokens
    finish_reason: str
    prompt: MarkedPrompt
    receipt: Receipt
    logprob: float | None = field(default=None, compare=False)  # its last digits depend on the batch
    readings: Mapping[str, tuple[float, ...]] = field(default_factory=dict, compare=False)
    stopped_by: str | int | None = None
    logprobs: tuple[TokenLogprob, ...] | None = field(default=None, compare=False)

    @property
    def prompt_tokens(self) -> int:
        """Length of the rendered prompt."""
        return len(self.prompt.tokens)

    def to_json(self) -> dict[str, Any]:
        """Return the answer for a program: text, lengths, receipt, readings, and log-probabilities if asked for."""
        return {
            "text": self.text,
            "finish_reason": self.finish_reason,
            "stopped_by": self.stopped_by,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": len(self.tokens),
            "receipt": asdict(self.receipt),
            "readings": {name: list(scores) for name, scores in self.readings.items()},
            **({} if self.logprobs is None else {"logprobs": [token.to_json() for token in self.logprobs]}),
        }

    def _repr_html_(self) -> str:
        kl = "" if self.receipt.kl is None else f", {self.receipt.kl:.3f} nats per token"
        note = f"{self.receipt.steering}: {self.receipt.tokens} tokens steered{kl}"
        note += "".join(f"; {term.term} is {term.beyond_safe}" for term in self.receipt.terms if term.beyond_safe)
        return f"<div style='white-space:pre-wrap'>{escape(self.text)}</div><small>{escape(note)}</small>"


@dataclass(frozen=True)
class Choices:
    """Probabilities of given answers to one prompt.

    Attributes:
        choices: Texts of the answers.
        logprobs: Log-probability of each answer as a whole, with its end, in nats. What is missing to 1 are all other
            answers: where that is nearly everything, the model would rather say something else.
        steering: Text form of the steering.
    """

    choices: tuple[str, ...]
    logprobs: tuple[float, ...]
    steering: str = "none"

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Return the probability of each answer among the given ones; they sum to 1."""
        weights = np.exp(np.array(self.logprobs) - max(self.logprobs))  # against underflow
        return tuple((weights / weights.sum()).tolist())

    @property
    def best(self) -> str:
        """Return the likeliest answer."""
        return self.choices[self.logprobs.index(max(self.logprobs))]

    def to_json(self) -> dict[str, Any]:
        """Return the likeliest answer, and the probability and log-probability of each."""
        rows = zip(self.choices, self.probabilities, self.logprobs, strict=True)
        return {
            "best": self.best,
            "choices": [{"text": text, "probability": p, "logprob": logprob} for text, p, logprob in rows],
            "steering": self.steering,
        }


@dataclass(frozen=True)
class CollectionReport:
    """Cost of collecting hidden states."""

    path: str  # "tree": every distinct prefix was computed once; "plain": every sequence, without prefixes of others
    reason: str  # for the path
    sequences: int
    tokens: int  # of all sequences
    distinct: int  # distinct prefixes of the sequences
    computed: int = 0  # tokens that went through the model, with padding
    passes: int = 0
    halved_to: int | None = None  # tokens of a pass after memory ran out; None if it did not


@dataclass(frozen=True, eq=False)
class Collected(ArrayValue):
    """Hidden states with the cost of collecting them."""

    states: F32  # [text, layer, hidden]; for all positions [token, layer, hidden], text after text
    report: CollectionReport


@dataclass(frozen=True)
class ForcedItem:
    """Prompt with given answers as token ids, for teacher forcing."""

    prompt: Tokens
    answers: tuple[Tokens, ...]
    reference: int | None = None  # index of the answer along which KL is measured; None for no KL


@dataclass(frozen=True, eq=False)
class ForcedScores(ArrayValue):
    """Scores of given answers."""

    logprob: tuple[NDArray[np.float64], ...]  # sum over each answer, [item][answer], in nats
    tokens: tuple[NDArray[np.int64], ...]  # length of each answer, [item][answer]
    kl: NDArray[np.float64]  # sum of KL(base ‖ steered) along each reference answer, [item], in nats; 0 without one
    kl_tokens: NDArray[np.int64]  # length of each reference answer, [item]

    @property
    def mean_kl(self) -> float:
        """Return the mean per-token KL over all reference answers, in nats."""
        return float(self.kl.sum() / max(int(self.kl_tokens.sum()), 1))


@dataclass(frozen=True, eq=False)
class GreedyScores(ArrayValue):
    """Log-probabilities of answers, and whether greedy decoding would give them."""

    logprob: tuple[NDArray[np.float64], ...]  # sum over each answer, [item][answer], in nats
    greedy: tuple[NDArray[np.bool_], ...]  # made of the likeliest tokens; true of an empty answer


class TeacherForcing(Protocol):
    """Given prompts and answers that can be scored repeatedly under different additions."""

    @property
    def base(self) -> ForcedScores:
        """Return the scores without any addition; their KL is 0."""

    @property
    def norms(self) -> NDArray[np.float64]:
        """Return the mean hidden-state norm over the items' tokens, ``[layer]``, without attention sinks."""

    def measure(self, additions: Changes) -> ForcedScores:
        """Return the scores with ``additions[layer]`` (``[hidden]``) added to the output of each layer."""


@dataclass(frozen=True, eq=False)
class PersonaContrast(ArrayValue):
    """Answers to a question, with the chats that ask for the two poles; all are token ids."""

    prompt: Tokens  # the chat without system prompt
    under_positive: Tokens  # the chat with the positive pole's system prompt
    under_negative: Tokens
    answers: tuple[Tokens, ...]  # the first is the model's own, along which KL is measured


@dataclass(frozen=True, eq=False)
class RatioGradient(ArrayValue):
    """Expected persona ratio and KL under additions, by sign, with the gradient."""

    ratio: Mapping[str, float]  # mean of log p₊ - log p₋ over the next token, in nats
    kl: Mapping[str, float]  # mean per-token KL(base ‖ steered), in nats
    gradient: Mapping[int, F32]  # of the mean over signs of sign · ratio - price · KL, by layer, [hidden]


class RatioGradients(Protocol):
    """Fixed questions whose next tokens additions are to make likelier for one persona than for the other."""

    def at(
        self,
        additions: Mapping[int, F32],
        numbers: Sequence[int],
        *,
        factors: Mapping[str, float],
        prices: Mapping[str, float],
    ) -> RatioGradient:
        """Return values and gradient on the questions ``numbers``, with ``±factor · additions`` for each sign."""


@dataclass(frozen=True, eq=False)
class TeacherDistribution(ArrayValue):
    """Next-token distributions along an answer: the likeliest tokens and the mass of all others."""

    tokens: NDArray[np.int32]  # ids of the likeliest tokens, [token, top]
    logprobs: NDArray[np.float16]  # of the likeliest tokens, in nats, [token, top]
    rest: NDArray[np.float16]  # log-probability of all others together, [token]


@dataclass(frozen=True, eq=False)
class DistillationExample(ArrayValue):
    """Answer with the teacher's distributions along it."""

    prompt: Tokens  # the chat as the student sees it
    answer: Tokens
    expected: TeacherDistribution  # the teacher's distributions


@dataclass(frozen=True, eq=False)
class LossGradient(ArrayValue):
    """Distance of a student from its teacher, with the gradient of the loss."""

    kl: float  # mean KL(teacher ‖ student) per token, in nats
    gradient: Mapping[int, F32]  # of that mean, softened if halfway is given, by layer, [hidden]


class DistillationLoss(Protocol):
    """Fixed examples from which additions are learned."""

    def at(self, additions: Mapping[int, F32], numbers: Sequence[int], *, halfway: float = math.inf) -> LossGradient:
        """Return distance and gradient on the examples ``numbers``.

        A token counts as ``halfway · log(1 + KL / halfway)`` in the loss, whose slope is a half at ``halfway`` nats.
        """

    def measure(self, additions: Mapping[int, F32]) -> list[NDArray[np.float64]]:
        """Return KL(teacher ‖ student) at each token of every example's answer, in nats."""


class Gradients(Protocol):
    """Gradients of one model with respect to what is added to its hidden states."""

    def ratio_gradients(self, items: Sequence[PersonaContrast], *, bf16: bool = False) -> RatioGradients:
        """Prepare questions whose expected persona ratio is to be increased.

        See ``distillation_loss`` for ``bf16``.
        """

    def teacher_distributions(
        self,
        texts: Sequence[tuple[Tokens, Tokens]],
        *,
        top: int,
        additions: Mapping[int, F32],
        generated: bool = False,
        bf16: bool = False,
    ) -> list[TeacherDistribution]:
        """Return the model's distribution at every token of answers (prompt, answer), with ``additions`` added.

        See ``distillation_loss`` for ``generated`` and ``bf16``.
        """

    def distillation_loss(
        self, examples: Sequence[DistillationExample], *, generated: bool = False, bf16: bool = False
    ) -> DistillationLoss:
        """Prepare examples to learn from.

        Args:
            examples: Answers with the teacher's distributions along them.
            generated: Whether vectors are added at the answers' tokens only.
            bf16: Whether matrix products may be in bfloat16 where that is faster: exact enough for a step downhill, not
                for a measurement.
        """


@dataclass(frozen=True)
class Capabilities:
    """Capabilities of an engine with its model. Anything else is refused before any work.

    Attributes:
        predicts: Whether the model predicts tokens; an encoder alone does not.
        reads_every_token: Whether each token of a prompt has a separate hidden state in the steered layers.
            Beside an encoder only the decoder's start tokens have one.
        gradients: Whether gradients with respect to additions can be computed.
        context_window: Tokens that the model can read; None if its config does not say.
    """

    predicts: bool = True
    reads_every_token: bool = True
    gradients: bool = False
    context_window: int | None = None


class RenderedChat(str):
    """Text of a chat as its template renders it, special tokens included: encoding it adds none."""

    __slots__ = ()


class Text(Protocol):
    """Prompts and tokens of one model. Pure, so safe to call from any thread."""

    @property
    def info(self) -> ModelInfo:
        """Return the identity of the model: name, sizes, fingerprint of its weights."""

    @property
    def capabilities(self) -> Capabilities:
        """Return what the engine can do with this model."""

    def encode(self, text: str) -> Tokens:
        """Return token ids of a text, with the tokenizer's special tokens, never doubled."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, without special tokens."""

    def render(self, messages: Prompt, *, continuation: str = "") -> str:
        """Return the chat as the model sees it, with ``continuation`` opening the assistant's turn."""

    def marked(self, prompt: Prompt, *, raw: bool = False) -> MarkedPrompt:
        """Return a prompt as the model reads it, with the role of each of its tokens."""

    def check_unsteered(self, work: str) -> None:
        """Refuse ``work`` that would learn from steered hidden states: a ``steered()`` block is open."""

    def cuts(self, text: str, *, limit: int) -> tuple[str, ...]:
        """Return ``text`` cut after its first token, its second, and so on, at most ``limit`` of them."""


class Collects(Text, Protocol):
    """Engine that returns hidden states."""

    def collect(
        self,
        texts: Sequence[str | Tokens],
        *,
        layers: Sequence[int] | None = None,
        position: Position = "last",
        span: Span | Sequence[Span] | None = None,
        max_tokens: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Collected:
        """Return outputs of decoder layers at chosen tokens, with a report of how they were computed."""

    def scores(self, prompts: Sequence[Prompt], vector: ControlVector, *, at: At = "prompt") -> NDArray[np.float64]:
        """Return a z-score of each prompt on a vector, as conditions on prompts read it, ``[prompt]``."""


class Generates(Text, Protocol):
    """Engine that writes answers, with a separate steering for each."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        steering: RowsLike = None,
        max_new_tokens: int = ANSWER_TOKENS,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> list[Completion]:
        """Answer each prompt, greedily unless a temperature is given; one steering for all, or one for each."""

    def steered(self, steering: SteeringLike) -> AbstractContextManager[None]:
        """Steer everything that runs inside the ``with`` block."""


class Predicts(Generates, Protocol):
    """Engine that returns next-token distributions along given answers."""

    def predict(self, sequences: Sequence[tuple[Tokens, Tokens]]) -> list[F32]:
        """Return log-probabilities ``[token, vocabulary]`` of each (prompt, answer), under the open ``steered()``."""


class Evaluates(Generates, Protocol):
    """Engine that evaluation harnesses can use."""

    @property
    def model(self) -> Any:
        """Return the underlying model."""

    @property
    def tokenizer(self) -> Any:
        """Return the model's tokenizer."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        n: int | None = None,
        steering: RowsLike = None,
        sampling: Sampling | None = None,
        constraint: ConstraintRows = None,
        raw: bool = False,
        **options: Unpack[SamplingOptions],
    ) -> list[Completion]:
        """Answer each prompt ``n`` times; ``raw`` strings are bare text instead of user messages."""

    def greedy_scores(self, items: Sequence[ForcedItem]) -> GreedyScores:
        """Score answers under the open ``steered()`` scopes."""


class Forces(Text, Protocol):
    """Engine that scores given answers (teacher forcing)."""

    def teacher_forcing(self, items: Sequence[ForcedItem], *, once: bool = False) -> TeacherForcing:
        """Prepare prompts and answers for scoring; ``once`` if only the unsteered scores are wanted."""


class Differentiates(Text, Protocol):
    """Engine that computes gradients with respect to additions, if its model has them."""

    @property
    def gradients(self) -> Gradients | None:
        """Return the gradients, or None where ``capabilities.gradients`` is False."""


class Trains(Collects, Generates, Forces, Differentiates, Protocol):
    """Engine that ``train``, ``calibrate`` and ``distill`` can use."""


class Measures(Trains, Predicts, Protocol):
    """Engine that ``evaluate`` can use."""


Engine: TypeAlias = Trains


SIDES = ("baseline", "plus", "minus")


@dataclass(frozen=True)
class AnswerComparison:
    """Three answers to each of several prompts."""

    prompts: tuple[str, ...]
    steering: str  # in text form
    opposite: str  # so too
    baseline: tuple[Completion, ...]  # unsteered
    plus: tuple[Completion, ...]  # steered
    minus: tuple[Completion, ...]  # under the opposite steering

    def rows(self) -> Iterator[tuple[str, tuple[Completion, Completion, Completion]]]:
        """Yield each prompt with its answers: baseline, plus, minus."""
        for prompt, *answers in zip(self.prompts, self.baseline, self.plus, self.minus, strict=True):
            yield prompt, (answers[0], answers[1], answers[2])

    def to_json(self) -> list[dict[str, Any]]:
        """Return one object for each prompt."""
        return [
            {"prompt": prompt, **{side: answer.to_json() for side, answer in zip(SIDES, answers, strict=True)}}
            for prompt, answers in self.rows()
        ]

    def _repr_html_(self) -> str:
        heads = "".join(
            f"<th style='text-align:left'>{escape(head)}</th>"
            for head in ("prompt", "baseline", f"+ {self.steering}", f"− {self.opposite}")
        )
        rows = "".join(
            f"<tr style='vertical-align:top'><td>{escape(prompt)}</td>"
            + "".join(f"<td>{answer._repr_html_()}</td>" for answer in answers)
            + "</tr>"
            for prompt, answers in self.rows()
        )
        return f"<table><tr>{heads}</tr>{rows}</table>"


def compare_answers(
    model: Generates, prompts: Sequence[str], steering: SteeringLike, *, max_new_tokens: int = CHECKED_TOKENS
) -> AnswerComparison:
    """Answer every prompt greedily without steering, with it, and with its opposite.

    Example:
        >>> compare_answers(model, ["How was your day?"], "happy")  # doctest: +SKIP
    """
    plus = Steering.of(steering)
    minus = opposite_steering(plus)
    asked = list(prompts)
    rows = [each for each in (Steering(), plus, minus) for _ in asked]  # one batch takes little longer than a third
    written = model.generate(asked * 3, steering=rows, max_new_tokens=max_new_tokens)
    answers = (tuple(written[side * len(asked) : (side + 1) * len(asked)]) for side in range(3))
    return AnswerComparison(tuple(asked), str(plus), str(minus), *answers)


def opposite_steering(steering: Steering) -> Steering:
    """Return a steering towards the other pole of each vector.

    A strength that is its vector's default becomes the default of the other sign, which is inside the safe range as
    well; other strengths and coefficients change their sign.
    """
    return Steering(tuple(map(_opposite, steering.terms)))


def _opposite(term: Term) -> Term:
    if term.strength is None:
        return term if term.coefficient is None else replace(term, coefficient=-term.coefficient)
    defaults = term.vector.default_strengths
    sign, other = ("+", "-") if term.strength >= 0 else ("-", "+")
    is_default = defaults.get(sign) == term.strength
    return replace(term, strength=defaults.get(other, -term.strength) if is_default else -term.strength)
