"""Sampled answers of a prompted model, and the KL from its predictions along them to those of other models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32
from trimtab.behaviours import Message
from trimtab.engines import Engine
from trimtab.engines.protocol import DistillationExample, Gradients, TeacherDistribution, Tokens
from trimtab.stats import bootstrap
from trimtab.steering import Steering
from trimtab.training.distillation.examples import TOP, Answered, Teacher, answered_by, lessons_of
from trimtab.training.progress import ignore
from trimtab.vectors import ControlVector, Interval

TokenKls: TypeAlias = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Substitute:
    """Substitute for a prompt, and how near it comes to the prompted model.

    Attributes:
        name: Short name.
        about: How it was made, in words.
        kl: Mean KL(prompted ‖ substitute) per token, in nats.
        closed: Share of the gap between the plain and the prompted model that it closes:
            1 - KL / KL of the plain model.
    """

    name: str
    about: str
    kl: float
    closed: Interval


@dataclass(frozen=True, eq=False)
class Student:
    """Model that is compared with the prompted one; the plain model by default.

    Attributes:
        opening: Messages before the user's message; empty: those of the plain model.
        additions: Vector added to each layer's output, layer to ``[hidden]``.
        generated: Whether it is added only at the answers' tokens.
    """

    opening: tuple[Message, ...] = ()
    additions: Mapping[int, F32] = field(default_factory=dict)
    generated: bool = False

    @classmethod
    def steered(cls, vector: ControlVector, strength: float = 1.0) -> Student:
        """Return the model under a vector, added at the tokens at which the vector was learned."""
        generated = vector.distillation is not None and vector.distillation.tokens == "generated"
        return cls(additions=vector.addition(strength), generated=generated)


@final
@dataclass(frozen=True, eq=False)
class PromptedAnswers:
    """Answers of a prompted model, along which other models are measured.

    Attributes:
        model: The engine.
        gradients: Gradients of the model.
        answered: The answers.
        expected: The prompted model's next-token distributions along each answer.
        opening: Messages before the user's message for the plain model.
        base: KL(prompted ‖ plain) at every token of every answer, in nats.
        seed: Seed of the answers and of resamples.
    """

    model: Engine
    gradients: Gradients
    answered: tuple[Answered, ...]
    expected: tuple[TeacherDistribution, ...]
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
        additions: Mapping[int, F32] | None = None,
    ) -> PromptedAnswers:
        """Let the prompted model answer, and measure the plain model along its answers.

        Args:
            model: The engine.
            gradients: Gradients of the model.
            teacher: Messages before the user's message for the prompted model.
            texts: Users' messages.
            answer_tokens: Upper bound on an answer's length.
            seed: Seed of the sampled answers and of resamples.
            opening: Messages before the user's message for the plain model, such as earlier turns.
            steering: Steering of the prompted model.
            additions: The same steering as vectors added to hidden states.

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
        return replace(asked, base=asked.measure(Student()))

    @property
    def base_kl(self) -> float:
        """Mean KL(prompted ‖ plain) per token, in nats."""
        return mean_kl(self.base)

    def first(self, count: int) -> PromptedAnswers:
        """Return the first ``count`` answers."""
        parts = (self.answered[:count], self.expected[:count], self.base[:count])
        return replace(self, answered=parts[0], expected=parts[1], base=parts[2])

    def measure(self, student: Student, *, of: Sequence[TeacherDistribution] | None = None) -> TokenKls:
        """Measure KL(prompted ‖ student) at every token of every answer, in nats.

        Args:
            student: The model to compare.
            of: Distributions of another model along the answers, to take the prompted model's place.
        """
        return self._measured(self._prompts(student), of or self.expected, student)

    def prompted(self, *, of: Sequence[TeacherDistribution]) -> TokenKls:
        """Measure KL(another model ‖ prompted) at every token of every answer, in nats.

        Args:
            of: That model's distributions along the answers.
        """
        return self._measured([a.prompted for a in self.answered], of, Student())

    def expects(self, student: Student) -> list[TeacherDistribution]:
        """Return a student's next-token distributions along every answer."""
        texts = [(prompt, a.answer) for prompt, a in zip(self._prompts(student), self.answered, strict=True)]
        added, generated = student.additions, student.generated
        return self.gradients.teacher_distributions(texts, top=TOP, additions=added, generated=generated)

    def _prompts(self, student: Student) -> list[Tokens]:
        before = student.opening or self.opening
        if not before:
            return [a.prompt for a in self.answered]
        return [self.model.encode(self.model.render([*before, Message("user", a.text)])) for a in self.answered]

    def _measured(self, prompts: Sequence[Tokens], of: Sequence[TeacherDistribution], student: Student) -> TokenKls:
        answers = [a.answer for a in self.answered]
        lessons = [DistillationExample(*each) for each in zip(prompts, answers, of, strict=True)]
        return self.gradients.distillation_loss(lessons, generated=student.generated).measure(student.additions)

    def substitute(self, name: str, about: str, kls: TokenKls) -> Substitute:
        """Return the share of the gap that a student with these KLs closes."""
        own, base = per_answer(kls), per_answer(self.base)
        return Substitute(name, about, float(own.mean()), share_closed(own, base, seed=self.seed))


def mean_kl(tokens: TokenKls) -> float:
    """Return the mean over answers of the mean over tokens, in nats."""
    return float(per_answer(tokens).mean())


def per_answer(tokens: TokenKls) -> NDArray[np.float64]:
    """Return the mean over the tokens of each answer, in nats, ``[answer]``."""
    return np.array([each.mean() for each in tokens])


def share_closed(own: NDArray[np.float64], base: NDArray[np.float64], *, seed: int) -> Interval:
    """Return ``1 - mean(own) / mean(base)`` with its 95 % bootstrap interval over answers.

    Numerator and denominator are resampled together, because both are measured along the same answers.
    """
    return bootstrap(lambda own, base: 1 - own.mean(axis=-1) / base.mean(axis=-1), own, base, seed=seed)
