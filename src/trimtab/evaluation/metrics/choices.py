"""Choice questions: which of two given answers is likelier under an intervention, and by how much.

Nothing is generated: both answers are scored where the model's own would begin. This is how CAA (Rimsky et al. 2024,
arXiv:2312.06681) measures vectors. A model may favour a letter or a word whatever is asked, so a good set has the
matching answer in either place equally often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import ArrayValue
from trimtab.behaviours import Behaviour, ChoiceText, read_choices
from trimtab.engines.protocol import Forces, Text, Tokens
from trimtab.errors import EvaluationError
from trimtab.evaluation.interventions import Chat, Intervention, score
from trimtab.stats import mean_interval
from trimtab.vectors import Interval


@dataclass(frozen=True, eq=False)
class ChoiceScores(ArrayValue):
    """Choices under an intervention.

    Attributes:
        log_odds: log P(matching) − log P(other) of each question, in nats, ``[question]``.

    Example:
        >>> ChoiceScores(np.array([0.5, -0.1, 2.0, 1.0])).share
        0.75
    """

    log_odds: NDArray[np.float64]

    @property
    def chosen(self) -> NDArray[np.float64]:
        """1 where the matching answer is chosen if only the two are allowed, 0 where the other is, ``[question]``."""
        return (np.sign(self.log_odds) + 1) / 2  # a tie is a half

    @property
    def share(self) -> float:
        """Return the share of questions in which the matching answer is chosen, 0 to 1."""
        return float(self.chosen.mean())

    @property
    def interval(self) -> Interval:
        """Mean log-odds in nats, with their 95 % bootstrap interval over questions."""
        return mean_interval(self.log_odds)


def load_choices(path: str | Path) -> tuple[ChoiceText, ...]:
    """Load choice questions from a file: a JSON list, or one JSON object a line.

    Its format is that of CAA, of the persona evaluations, or our own; see ``trimtab.behaviours.behaviour``.

    Raises:
        BehaviourError: It cannot be read, has no choices, or an entry is of no known kind: the line or entry is named.
    """
    return tuple(map(_stripped, read_choices(Path(path))))


def choice_questions(behaviour: Behaviour) -> tuple[ChoiceText, ...]:
    """Return the choice questions of a behaviour; its positive pole's answers are the matching ones."""
    return tuple(map(_stripped, behaviour.choices))


def choice_log_odds(engine: Forces, intervention: Intervention, questions: Sequence[ChoiceText]) -> ChoiceScores:
    """Score both answers to each question under an intervention.

    An answer's probability is that of all its tokens right after the generation prompt.

    Raises:
        EvaluationError: There are no questions, or an answer merges with the prompt's last token.
    """
    if not questions:
        raise EvaluationError("there are no choice questions", fix="give at least one")
    chats = [intervention.chat(number, question.question) for number, question in enumerate(questions)]
    answers = [
        (answer_tokens(engine, chat, question.positive), answer_tokens(engine, chat, question.negative))
        for chat, question in zip(chats, questions, strict=True)
    ]
    scores = score(engine, intervention, [question.question for question in questions], answers)
    return ChoiceScores(np.array([matching - other for matching, other in scores.logprob], dtype=np.float64))


def answer_tokens(engine: Text, chat: Chat, answer: str) -> Tokens:
    """Return the token ids of an answer right after the generation prompt of a chat.

    A space is put before an answer whose beginning would merge into one token with the end of the prompt.

    Raises:
        EvaluationError: It merges even then.
    """
    prompt = engine.encode(engine.render(chat))
    for spelled in (answer, f" {answer}"):
        whole = engine.encode(engine.render(chat, continuation=spelled))
        if whole[: len(prompt)] == prompt and len(whole) > len(prompt):
            return whole[len(prompt) :]
    raise EvaluationError(
        f"{engine.info.name} has no separate tokens for the answer {answer!r}", fix="begin the answer differently"
    )


def _stripped(choice: ChoiceText) -> ChoiceText:
    """Strip spaces around answers, because the chat template puts in what comes before an answer."""
    return ChoiceText(choice.question.strip(), choice.positive.strip(), choice.negative.strip())
