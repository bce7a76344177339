"""How far a way of asking takes a model from itself: KL between what the base and an arm predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Message
from trimtab.engines.protocol import Tokens
from trimtab.evaluation.interventions import Intervention
from trimtab.training.questions import Question

if TYPE_CHECKING:
    from trimtab.engines.transformers import TransformersEngine

Predictions: TypeAlias = list[NDArray[np.float32]]


def arm_kl(
    engine: TransformersEngine, arm: Intervention, questions: Sequence[Question], *, base: Predictions | None = None
) -> NDArray[np.float64]:
    """Mean per-token KL(base ‖ arm) along the base model's own answer to each question.

    The base is the model asked plainly. The arm reads the same answer after its own opening (a system prompt,
    examples), under its steering, and with its adapter switched on. One question is worked on at a time, so that no
    more than two tables ``[token, vocabulary]`` are made.

    For a steering of all tokens this is what ``learning.questions.KlSet`` measures, question by question.

    Args:
        engine: The model.
        arm: What to compare the base with.
        questions: Each with its prompt and the base model's answer.
        base: ``own_predictions`` of the questions, where many arms are asked them; made anew if not given.

    Returns:
        ``[question]``, in nats per token; exactly 0 for the arm that is the base.

    Raises:
        PromptError: The arm's opening, the question and the answer together do not fit into the context window.
        SteeringError: The steering has token scopes or conditions, which act in ``generate`` alone; or it was not done
            as asked.

    Example:
        >>> arm_kl(model, Arm(steering=Steering.of([(happy, 1.0)])), questions).mean()  # doctest: +SKIP
        0.41
    """
    return np.array(
        [
            _kl_of(engine, arm, number, question, base[number] if base else own_predictions(engine, [question])[0])
            for number, question in enumerate(questions)
        ]
    )


def own_predictions(engine: TransformersEngine, questions: Sequence[Question]) -> Predictions:
    """What the base, asked plainly, expects along its own answers: log-probabilities ``[token, vocabulary]`` of each.

    They stay in memory, ``token · vocabulary · 4`` bytes a question.
    """
    return engine.predict([(question.prompt, question.answer) for question in questions])


def _kl_of(
    engine: TransformersEngine, arm: Intervention, number: int, question: Question, base: NDArray[np.float32]
) -> float:
    from trimtab.engines.transformers.score.kl import kl_of_tables

    prompt = _opened(engine, arm, number, question)
    with arm.active(), engine.steered(arm.steering):
        (changed,) = engine.predict([(prompt, question.answer)])
    return float(kl_of_tables(base, changed).sum()) / max(len(question.answer), 1)


def _opened(engine: TransformersEngine, arm: Intervention, number: int, question: Question) -> Tokens:
    """The question's prompt with what the arm puts before it."""
    chat = arm.chat(number, question.text)
    if chat == (Message("user", question.text),):
        return question.prompt
    return engine.encode(engine.render(chat))
