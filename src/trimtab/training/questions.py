"""Questions that the model is asked, the answers that it wrote, and how steering changes what it thinks of them.

The effect of a steering is the change in log-probability (nats per token) of answers in the character of the positive
pole, minus that of answers in the character of the negative pole, asked without any system prompt. The answers are the
model's own, written under system prompts that ask for the poles; what those prompts themselves do to the same answers
is the unit "prompt-equivalent". No judge is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Behaviour, Message
from trimtab.behaviours.pairs import persona_instructions
from trimtab.engines import Completion, Engine, ForcedItem, ForcedScores, TeacherForcing
from trimtab.engines.protocol import Changes, Tokens
from trimtab.errors import CalibrationError
from trimtab.training.progress import OnProgress, Progress

PHASE = "Letting the model answer"


@dataclass(frozen=True)
class InCharacter:
    """Answers to a question under the system prompts that ask for the two poles; all are token ids.

    Attributes:
        positive: The answer in the character of the positive pole.
        negative: The answer in the character of the negative pole.
        under_positive: The chat under the system prompt that asks for the positive pole.
        under_negative: The chat under the system prompt that asks for the negative pole.
        positive_logprob: Log-probability of ``positive`` under the prompt that it was written under, in nats.
        negative_logprob: Log-probability of ``negative`` under its own.
    """

    positive: Tokens
    negative: Tokens
    under_positive: Tokens
    under_negative: Tokens
    positive_logprob: float
    negative_logprob: float


@dataclass(frozen=True)
class Question:
    """One neutral question and the model's answers to it.

    Attributes:
        text: The user message.
        prompt: Token ids of the chat without system prompt.
        answer: Token ids of the base model's own answer.
        in_character: The answers in character, where the behaviour has personas and they were asked for.
    """

    text: str
    prompt: Tokens
    answer: Tokens
    in_character: InCharacter | None = None


@final
class KlSet:
    """Questions along whose own answers KL is measured."""

    def __init__(self, engine: Engine, questions: Sequence[Question]) -> None:
        items = [ForcedItem(question.prompt, (question.answer,), reference=0) for question in questions]
        self._forced: TeacherForcing = engine.teacher_forcing(items)
        self._count = len(items)

    def __len__(self) -> int:
        return self._count

    @property
    def norms(self) -> NDArray[np.float64]:
        """Mean hidden-state norm per layer on these questions, ``[layer]``."""
        return self._forced.norms

    @property
    def own_logprob(self) -> float:
        """Log-probability of all the model's own answers together, in nats."""
        return float(np.concatenate(self._forced.base.logprob).sum())

    def measure(self, additions: Changes) -> float:
        """Mean per-token KL(base ‖ steered) in nats when ``additions[layer]`` is added to each block's output."""
        return self._forced.measure(additions).mean_kl


@final
class EffectSet:
    """Questions with answers in character, by which effects are measured."""

    def __init__(self, engine: Engine, questions: Sequence[Question]) -> None:
        self._engine = engine
        self._told = [(question.prompt, told) for question in questions if (told := question.in_character) is not None]
        if not self._told:
            raise CalibrationError("no answers in character", fix="give the behaviour personas")
        items = [ForcedItem(prompt, (told.positive, told.negative)) for prompt, told in self._told]
        self._forced: TeacherForcing = engine.teacher_forcing(items)

    def __len__(self) -> int:
        return len(self._told)

    def measure(self, additions: Changes) -> NDArray[np.float64]:
        """Effect per question, in nats per token, when ``additions[layer]`` is added to each block's output."""
        return preference(self._forced.measure(additions)) - self.base

    @property
    def base(self) -> NDArray[np.float64]:
        """Preference of the model as it is, per question; see ``preference``."""
        return preference(self._forced.base)

    @cached_property
    def prompt_swing(self) -> NDArray[np.float64]:
        """What the system prompts themselves do: per question, preference under the positive minus the negative one."""
        crossed = [
            ForcedItem(prompt, (answer,))
            for _, told in self._told
            for prompt, answer in ((told.under_positive, told.negative), (told.under_negative, told.positive))
        ]
        scores = self._engine.teacher_forcing(crossed, once=True).base  # each answer under the other one's prompt
        other = [float(logprob[0] / tokens[0]) for logprob, tokens in zip(scores.logprob, scores.tokens, strict=True)]
        own = [
            (told.positive_logprob / len(told.positive), told.negative_logprob / len(told.negative))
            for _, told in self._told
        ]
        swings = [
            (positive - negative_there) - (positive_there - negative)
            for (positive, negative), negative_there, positive_there in zip(own, other[0::2], other[1::2], strict=True)
        ]
        return np.array(swings)


def ask(
    engine: Engine,
    texts: Sequence[str],
    behaviour: Behaviour | None,
    *,
    in_character: int,
    max_new_tokens: int,
    progress: OnProgress,
) -> tuple[Question, ...]:
    """Let the model answer every question as itself and, for the first ``in_character``, in each pole's character."""
    count = in_character if behaviour is not None and behaviour.positive.personas else 0
    chats = [(Message("user", text),) for text in texts]
    steps = 2 if count else 1
    progress(Progress(PHASE, 0, steps))
    answers = engine.generate(chats, max_new_tokens=max_new_tokens)
    asked = tuple(
        Question(text, answer.prompt.tokens, answer.tokens) for text, answer in zip(texts, answers, strict=True)
    )
    progress(Progress(PHASE, 1, steps))
    if behaviour is None or not count:
        return asked
    told = answered_in_character(engine, asked[:count], behaviour, max_new_tokens=max_new_tokens)
    progress(Progress(PHASE, 2, steps))
    return (*told, *asked[count:])


def answered_in_character(
    engine: Engine, questions: Sequence[Question], behaviour: Behaviour, *, max_new_tokens: int
) -> tuple[Question, ...]:
    """The same questions, with the model's answers in the character of each pole.

    Raises:
        BehaviourError: The behaviour has no personas.
    """
    told: list[tuple[Message, ...]] = []
    for number, question in enumerate(questions):
        instructions = persona_instructions(behaviour, number)
        for instruction in (instructions.positive, instructions.negative):
            told.append((Message("system", instruction), Message("user", question.text)))
    answers = engine.generate(told, max_new_tokens=max_new_tokens)
    return tuple(
        replace(
            question,
            in_character=_in_character(answers[at], answers[at + 1]),
        )
        for at, question in zip(range(0, len(told), 2), questions, strict=True)
    )


def _in_character(positive: Completion, negative: Completion) -> InCharacter:
    assert positive.logprob is not None  # answers are greedy
    assert negative.logprob is not None
    return InCharacter(
        positive.tokens,
        negative.tokens,
        positive.prompt.tokens,
        negative.prompt.tokens,
        positive.logprob,
        negative.logprob,
    )


def preference(scores: ForcedScores) -> NDArray[np.float64]:
    """Per item, mean per-token log-probability (nats) of its first answer minus that of its second one."""
    means = [logprob / tokens for logprob, tokens in zip(scores.logprob, scores.tokens, strict=True)]
    return np.array([positive - negative for positive, negative in means])
