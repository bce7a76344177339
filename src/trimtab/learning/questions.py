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
from trimtab.engines import Engine, ForcedItem, ForcedScores, TeacherForcing
from trimtab.engines.base import Additions, Tokens
from trimtab.learning.progress import OnProgress, Progress
from trimtab.pairs import persona_instructions
from trimtab.vectors import Interval

RESAMPLES = 2000
BASE, POSITIVE, NEGATIVE = 0, 1, 2  # order of the answers to a question


@dataclass(frozen=True)
class Question:
    """One neutral question and the model's answers to it.

    Attributes:
        text: The user message.
        prompt: Token ids of the chat without system prompt.
        answers: Token ids: the base model's own answer; where the behaviour has personas also the answers in the
            character of the positive and of the negative pole.
        under_positive: Token ids of the chat under the system prompt that asks for the positive pole; or None.
        under_negative: The same for the negative pole.
    """

    text: str
    prompt: Tokens
    answers: tuple[Tokens, ...]
    under_positive: Tokens | None = None
    under_negative: Tokens | None = None

    def without_character(self) -> Question:
        """The same question with the base model's own answer alone: all that KL needs."""
        return replace(self, answers=self.answers[:1], under_positive=None, under_negative=None)


@dataclass(frozen=True)
class Measured:
    """What one steering did to some questions.

    Attributes:
        kl: Mean per-token KL(base ‖ steered), in nats.
        effect: Per question, in nats per token; empty where there are no answers in character.
    """

    kl: float
    effect: NDArray[np.float64]


@final
class QuestionSet:
    """Questions prepared for scoring under many steerings."""

    def __init__(self, engine: Engine, questions: Sequence[Question]) -> None:
        self.questions = tuple(questions)
        self._engine = engine
        self._forced: TeacherForcing = engine.teacher_forcing(
            [ForcedItem(question.prompt, question.answers, reference=BASE) for question in questions]
        )

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def norms(self) -> NDArray[np.float64]:
        """Mean hidden-state norm per layer on these questions, ``[layer]``."""
        return self._forced.norms

    @property
    def has_effect(self) -> bool:
        """Whether there are answers in character to measure an effect by."""
        return all(len(question.answers) > NEGATIVE for question in self.questions)

    def measure(self, additions: Additions) -> Measured:
        """KL and effect of adding ``additions[layer]`` to each block's output."""
        scores = self._forced.measure(additions)
        if not self.has_effect:
            return Measured(scores.mean_kl, np.zeros(0))
        return Measured(scores.mean_kl, _preference(scores) - _preference(self._forced.base))

    @cached_property
    def prompt_swing(self) -> NDArray[np.float64]:
        """What the system prompts themselves do: per question, preference under the positive minus the negative one."""
        under = [
            ForcedItem(prompt, question.answers[POSITIVE:])
            for question in self.questions
            for prompt in (question.under_positive, question.under_negative)
            if prompt is not None
        ]
        preference = _preference(self._engine.teacher_forcing(under).base, positive=0, negative=1)
        return preference[0::2] - preference[1::2]


def ask(
    engine: Engine,
    texts: Sequence[str],
    behaviour: Behaviour | None,
    *,
    max_new_tokens: int,
    progress: OnProgress,
    in_character: int | None = None,
) -> tuple[Question, ...]:
    """Let the model answer every question as itself and, for the first ``in_character``, in each pole's character."""
    personas = behaviour is not None and bool(behaviour.positive.personas)
    count = (len(texts) if in_character is None else in_character) if personas else 0
    chats: list[tuple[Message, ...]] = [(Message("user", text),) for text in texts]
    for n in range(count):
        assert behaviour is not None
        instructions = persona_instructions(behaviour, n)
        for instruction in (instructions.positive, instructions.negative):
            chats.append((Message("system", instruction), Message("user", texts[n])))
    phase = "Letting the model answer"
    progress(Progress(phase, 0, len(chats)))
    completions = engine.generate(chats, max_new_tokens=max_new_tokens)
    progress(Progress(phase, len(chats), len(chats)))
    tokens = [engine.encode(engine.render(chat)) for chat in chats]
    answers = [completion.tokens for completion in completions]
    questions = []
    for n, text in enumerate(texts):
        if n >= count:
            questions.append(Question(text, tokens[n], (answers[n],)))
            continue
        plus = len(texts) + 2 * n
        questions.append(
            Question(
                text,
                tokens[n],
                (answers[n], answers[plus], answers[plus + 1]),
                tokens[plus],
                tokens[plus + 1],
            )
        )
    return tuple(questions)


def interval(values: NDArray[np.float64], *, seed: int = 0) -> Interval:
    """The mean, with its 95 % bootstrap interval (percentile method, Efron 1979)."""
    if len(values) == 0:
        return Interval(0.0, 0.0, 0.0)
    draws = np.random.default_rng(seed).integers(0, len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def _preference(scores: ForcedScores, *, positive: int = POSITIVE, negative: int = NEGATIVE) -> NDArray[np.float64]:
    """Per item, mean per-token log-probability of the positive answer minus that of the negative one."""
    means = [logprob / tokens for logprob, tokens in zip(scores.logprob, scores.tokens, strict=True)]
    return np.array([mean[positive] - mean[negative] for mean in means])
