"""Simple facts: the share that a model knows, before and under an intervention."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import ArrayValue
from trimtab.behaviours import Message
from trimtab.engines import ForcedScores, TeacherForcing
from trimtab.engines.protocol import Changes, Forces, Text, Tokens
from trimtab.errors import EvaluationError
from trimtab.evaluation.interventions import Intervention, forced_items, score
from trimtab.stats import mean_interval
from trimtab.vectors import Interval

HINT = "Answer with one or two words."
OPENING = "Answer: "  # a small model that has begun like this knows that a word is wanted, not a sentence
TRUTHFULQA = "mc_task.json"


@dataclass(frozen=True)
class Fact:
    """A question with answers to choose from.

    Attributes:
        question: The question.
        choices: Answers, the right one first.
        hint: Text before the question that asks for answers of this kind. At the front it is a prefix that all
            questions share, so it is read once.
    """

    question: str
    choices: tuple[str, ...]
    hint: str = HINT

    @property
    def asked(self) -> str:
        """Return the user message."""
        return f"{self.hint} {self.question}".strip()


@cache
def builtin_facts() -> tuple[Fact, ...]:
    """Return the built-in facts, written for this package at the level of a children's encyclopedia, four choices each.

    Example:
        >>> builtin_facts()[0].choices
        ('honey', 'bread', 'silk', 'wool')
    """
    text = (resources.files("trimtab.evaluation") / "data" / "facts.toml").read_text(encoding="utf-8")
    topics = tomllib.loads(text)
    return tuple(Fact(question, tuple(choices)) for rows in topics.values() for question, *choices in rows)


def truthfulqa_facts(folder: Path) -> tuple[Fact, ...]:
    """Load TruthfulQA in its form MC1: one right answer each (Lin et al. 2022, arXiv:2109.07958).

    Args:
        folder: Folder with TruthfulQA's ``mc_task.json``.

    Raises:
        EvaluationError: There is no such file, or it is not of that form.

    Example:
        >>> len(truthfulqa_facts(Path("truthfulqa")))  # doctest: +SKIP
        817
    """
    path = folder / TRUTHFULQA
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return tuple(_mc1(entry) for entry in entries)
    except OSError:
        raise EvaluationError(
            f"there is no {TRUTHFULQA} that can be read in {str(folder)!r}",
            fix=f"give a folder with TruthfulQA's {TRUTHFULQA}",
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(
            f"{str(path)!r} is not TruthfulQA's multiple choice ({error!r})",
            fix="each entry has a question and mc1_targets, of which one answer is 1 and the others are 0",
        ) from None


def _mc1(entry: Any) -> Fact:
    question, targets = entry["question"], entry["mc1_targets"]
    right = [choice for choice, truth in targets.items() if truth == 1]
    wrong = [choice for choice, truth in targets.items() if truth == 0]
    if len(right) != 1 or not wrong or len(right) + len(wrong) != len(targets):
        raise ValueError(f"{question!r} has {len(right)} right and {len(wrong)} wrong answers")
    return Fact(question.strip(), (*right, *wrong), hint="")


@dataclass(frozen=True, eq=False)
class Accuracy(ArrayValue):
    """Facts known under an intervention.

    Attributes:
        right: For each fact, in order, whether the right choice was the likeliest.
    """

    right: NDArray[np.bool_]

    @property
    def interval(self) -> Interval:
        """Return the share of facts known, with its 95 % bootstrap interval over facts."""
        return mean_interval(self.right.astype(np.float64))

    def drop_from(self, other: Accuracy) -> Interval:
        """Return the change of the share known from ``other``, which was asked the same: below 0 where less is known.

        Returns:
            The difference of the shares, with its 95 % interval from a bootstrap over facts, paired.

        Raises:
            EvaluationError: The two were not asked the same number of facts.

        Example:
            >>> Accuracy(np.array([True, False])).drop_from(Accuracy(np.array([True, True]))).value
            -0.5
        """
        if len(self.right) != len(other.right):
            raise EvaluationError(
                f"{len(self.right)} facts cannot be compared with {len(other.right)}", fix="ask both the same facts"
            )
        return mean_interval(self.right.astype(np.float64) - other.right.astype(np.float64))


def answer_facts(engine: Forces, intervention: Intervention, facts: Sequence[Fact]) -> Accuracy:
    """Measure which facts are known under an intervention.

    Every choice is scored as the assistant's answer, ``"Answer: honey"``, and the one of the highest mean
    log-probability per token is taken. Nothing is written, so the style of answers does not matter. Every prefix that
    questions or choices share is read once.

    Raises:
        EvaluationError: There are no facts.

    Example:
        >>> answer_facts(model, Intervention(), builtin_facts()).interval.value  # doctest: +SKIP
        0.72
    """
    return _accuracy(score(engine, intervention, [fact.asked for fact in facts], _answers(engine, facts)))


@final
class FactSet:
    """Facts measured under many steerings: as ``answer_facts``, but prompts are prepared once.

    Attributes:
        facts: The facts.
        base: The facts that the base model knows.
    """

    def __init__(self, engine: Forces, facts: Sequence[Fact]) -> None:
        self.facts = tuple(facts)
        items = forced_items(engine, Intervention(), [fact.asked for fact in facts], _answers(engine, facts))
        self._forced: TeacherForcing = engine.teacher_forcing(items)
        self.base = _accuracy(self._forced.base)

    def measure(self, changes: Changes) -> Accuracy:
        """Measure which facts the model knows under ``changes`` to its layers' outputs."""
        return _accuracy(self._forced.measure(changes)) if changes else self.base


def _accuracy(scores: ForcedScores) -> Accuracy:
    means = [logprob / count for logprob, count in zip(scores.logprob, scores.tokens, strict=True)]
    return Accuracy(np.array([bool(each[0] > each[1:].max()) for each in means]))  # a tie, or NaN, is not known


def _answers(engine: Text, facts: Sequence[Fact]) -> list[list[Tokens]]:
    if not facts:
        raise EvaluationError("there are no facts to ask", fix="give at least one")
    tokens = _answer_tokens(engine, facts)
    return [[tokens[choice] for choice in fact.choices] for fact in facts]


def _answer_tokens(engine: Text, facts: Sequence[Fact]) -> dict[str, Tokens]:
    """Return the tokens of each choice after the generation prompt; the question does not change them."""
    chat = (Message("user", facts[0].asked),)
    prompt = engine.encode(engine.render(chat))

    def after_prompt(choice: str) -> Tokens:
        whole = engine.encode(engine.render(chat, continuation=OPENING + choice))
        # Where the prompt's last token merges with the answer's first, the merged one begins the answer.
        differs = (n for n, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b)
        return whole[next(differs, len(prompt)) :]

    return {choice: after_prompt(choice) for choice in dict.fromkeys(c for fact in facts for c in fact.choices)}
