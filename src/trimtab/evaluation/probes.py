"""Answers of a prompted model, and how far others are from what it expects along them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Message
from trimtab.engines import Engine
from trimtab.engines.base import Array, Expected, Gradients, Lesson
from trimtab.learning.lessons import Answered, Teacher, answered_by, lessons_of
from trimtab.learning.progress import ignore
from trimtab.learning.questions import RESAMPLES
from trimtab.steering import Steering
from trimtab.vectors import Interval

TokenKls: TypeAlias = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Closed:
    """How near something comes to the prompted model.

    Attributes:
        name: What it is.
        about: How it was made, in words.
        kl: Mean KL(prompted ‖ this) per token, in nats.
        closed: Share of the gap between the plain and the prompted model that it closes: 1 - KL / KL of the plain one.
    """

    name: str
    about: str
    kl: float
    closed: Interval


@final
@dataclass(frozen=True, eq=False)
class Probes:
    """Answers of a prompted model, by which students are measured.

    Attributes:
        model: The engine.
        gradients: Of it.
        answered: The answers.
        expected: What the prompted model expects along each.
        opening: What stands before the message for the plain model.
        base: KL(prompted ‖ plain) at every token of every answer, in nats.
        seed: Of the answers, and of resamples.
    """

    model: Engine
    gradients: Gradients
    answered: tuple[Answered, ...]
    expected: tuple[Expected, ...]
    opening: tuple[Message, ...]
    base: TokenKls
    seed: int

    @classmethod
    def ask(
        cls,
        model: Engine,
        gradients: Gradients,
        teacher: Teacher,
        texts: Sequence[str],
        *,
        answer_tokens: int,
        seed: int,
        opening: Sequence[Message] = (),
        steering: Steering | None = None,
        additions: Mapping[int, Array] | None = None,
    ) -> Probes:
        """Let the prompted model answer, and measure how far the plain one is from it.

        Args:
            model: The engine.
            gradients: Of it.
            teacher: What stands before the messages for the prompted model.
            texts: Users' messages.
            answer_tokens: Upper bound on an answer's length.
            seed: Of the sampled answers, and of resamples.
            opening: What stands before them for the plain model, such as earlier turns.
            steering: What the prompted model answers under.
            additions: The same as what is added to its hidden states.

        Raises:
            PromptError: A chat does not fit into the context window.
        """
        answered = answered_by(
            model,
            teacher,
            texts,
            answers=1,
            max_new_tokens=answer_tokens,
            temperature=1.0,
            seed=seed,
            steering=steering or Steering(),
            progress=ignore,
        )
        lessons = lessons_of(gradients, answered, additions=additions or {})
        expected = tuple(lesson.expected for lesson in lessons)
        asked = cls(model, gradients, tuple(answered), expected, tuple(opening), [], seed)
        return replace(asked, base=asked.student(additions={}))

    @property
    def base_kl(self) -> float:
        """Mean KL(prompted ‖ plain) per token."""
        return mean_kl(self.base)

    def student(
        self,
        *,
        opening: Sequence[Message] = (),
        additions: Mapping[int, Array],
        generated: bool = False,
        first: int = 0,
    ) -> TokenKls:
        """KL(prompted ‖ student) at every token of every answer, in nats.

        Args:
            opening: What stands before the message; as for the plain model if not given.
            additions: Layer to ``[hidden]``: what is added.
            generated: Whether that is at the answers' tokens alone.
            first: Only of so many answers, if given.
        """
        stop = first or len(self.answered)
        before = tuple(opening) or self.opening
        lessons = [
            Lesson(
                self.model.encode(self.model.render([*before, Message("user", a.text)])) if before else a.prompt,
                a.answer,
                expected,
            )
            for a, expected in zip(self.answered[:stop], self.expected[:stop], strict=True)
        ]
        return self.gradients.imitation(lessons, generated=generated).measure(additions)

    def closed(self, name: str, about: str, found: TokenKls) -> Closed:
        """What a student closes of the gap."""
        own, base = (np.array([each.mean() for each in tokens]) for tokens in (found, self.base))
        return Closed(name, about, float(own.mean()), share_closed(own, base, seed=self.seed))


def mean_kl(tokens: TokenKls) -> float:
    """Mean over answers of the mean over tokens, in nats."""
    return float(np.mean([each.mean() for each in tokens]))


def share_closed(own: NDArray[np.float64], base: NDArray[np.float64], *, seed: int) -> Interval:
    """``1 - mean(own) / mean(base)`` with its 95 % bootstrap interval over answers."""
    draws = np.random.default_rng(seed).integers(0, len(own), size=(RESAMPLES, len(own)))
    shares = 1 - own[draws].mean(axis=1) / base[draws].mean(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return Interval(float(1 - own.mean() / base.mean()), float(low), float(high))
