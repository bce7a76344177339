"""A behaviour's direction learned from its personas: plus predicts what one predicts, minus what the other does.

Each question is asked under the system prompts that ask for the two poles. Along the positive persona's answer the
model without a prompt but with the vector added is to predict what that persona predicts; along the negative one's,
with the same vector taken away, what that one does. Two prompts are distilled into the two ends of one dial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.engines.base import Gradients, Lesson, Tokens
from trimtab.errors import BehaviourError, CalibrationError
from trimtab.learning.imitating import Learned, Schedule, imitate
from trimtab.learning.journal import Journal
from trimtab.learning.lessons import TOP
from trimtab.learning.progress import OnProgress, Progress
from trimtab.learning.questions import Question

PHASE = "Learning from the personas"
APART = 7  # one question in so many is not learned from but chooses the best point
SCHEDULE = Schedule()


@dataclass(frozen=True, eq=False)
class _Lessons:
    """Of the two personas.

    Attributes:
        learned_from: Lessons to learn from.
        others: Lessons by which the best point is chosen.
    """

    learned_from: Sequence[Lesson]
    others: Sequence[Lesson]


def learn_from_personas(
    gradients: Gradients | None,
    questions: Sequence[Question],
    norms: Mapping[int, float],
    *,
    width: int,
    seed: int,
    journal: Journal,
    progress: OnProgress,
) -> Learned:
    """Learn one vector per layer by which plus answers as the positive persona and minus as the negative one.

    Args:
        gradients: Of the model.
        questions: With answers in character.
        norms: Layers to learn at, with the mean norm of their hidden states.
        width: Of the hidden states.
        seed: Of the order in which is learned.
        journal: Where the state is kept.
        progress: Told of each step.

    Returns:
        Additions for the positive sign, as long as they were learned: no budget has a say in it.

    Raises:
        CalibrationError: The model has no gradients, or nothing was learned.
        BehaviourError: There are too few questions with answers in character.
    """
    if gradients is None:
        fix = "use a decoder-only model, or another method"
        raise CalibrationError("the model has no gradients with respect to its hidden states", fix=fix)
    told = [question for question in questions if question.in_character is not None]
    if len(told) < 2:
        raise BehaviourError(
            "there are no personas to learn from", fix="give the behaviour personas, or another method"
        )
    lessons = _lessons(gradients, told)

    def step(number: int, kl: float) -> None:
        progress(Progress(PHASE, number, SCHEDULE.steps, status=f"{kl:.3f} nat apart"))

    learned = imitate(
        gradients.imitation(lessons.learned_from, swift=True),
        gradients.imitation(lessons.others),
        norms,
        count=len(lessons.learned_from),
        width=width,
        schedule=SCHEDULE,
        active={},
        seed=seed,
        journal=journal,
        on_step=step,
    )
    if learned.best.step == 0:
        fix = "see whether the personas change the model's answers at all, or use another method"
        raise CalibrationError("nothing was learned from the personas", fix=fix)
    return learned


def _lessons(gradients: Gradients, told: Sequence[Question]) -> _Lessons:
    """Two of every question; one question in some is left to choose by."""
    apart = set(told[APART - 1 :: APART] or told[-1:])
    return _Lessons(
        _lessons_of(gradients, [question for question in told if question not in apart], swift=True),
        _lessons_of(gradients, [question for question in told if question in apart], swift=False),
    )


def _lessons_of(gradients: Gradients, told: Sequence[Question], *, swift: bool) -> list[Lesson]:
    sides = [(question.prompt, *side) for question in told for side in _sides(question)]
    expected = gradients.expectations(
        [(prompted, answer) for _, prompted, answer, _ in sides], top=TOP, additions={}, swift=swift
    )
    return [
        Lesson(prompt, answer, found, factor)
        for (prompt, _, answer, factor), found in zip(sides, expected, strict=True)
    ]


def _sides(question: Question) -> list[tuple[Tokens, Tokens, float]]:
    """The chat under a persona, the answer to it, and the sign of the dial, where there is an answer."""
    told = question.in_character
    if told is None:
        return []
    sides = [(told.under_positive, told.positive, 1.0), (told.under_negative, told.negative, -1.0)]
    return [side for side in sides if side[1]]
