"""Whether a vector carries one rule of a prompt, told by the tokens that the rule makes likelier.

How much likelier a token is under the whole prompt than under the prompt without the rule is evidence for the rule, in
nats; that ratio is the best test of whether the rule stood there (Neyman and Pearson 1933). Its mean over what a model
expects next is how much that model goes by the rule: KL(whole ‖ without) under the whole prompt, -KL(without ‖ whole)
without the rule, and what lies between for a model that follows it half. What else a model does differently does not
count, so a small rule can be seen beside large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Message
from trimtab.engines.base import Expected
from trimtab.evaluation.asking import is_exact, is_fact, is_statement, questions_for
from trimtab.evaluation.probes import Probes, Student, mean_kl, per_answer, share_closed
from trimtab.evaluation.rules import Rule
from trimtab.learning.lessons import Teacher
from trimtab.learning.progress import OnProgress, Progress
from trimtab.vectors import Interval

PHASE = "Weighing the rules one by one"
MATTERS = 0.01  # nats per token: what a prompt's answers lose without a rule that they follow
TOOK = 0.5
FAR_MORE = 2.0  # times: so much more must count what is no plain fact, where somebody asks for it


@dataclass(frozen=True)
class RuleClosed:
    """Whether a vector carries one rule of a prompt.

    Attributes:
        text: The rule.
        weight: Mean KL per token, in nats, from the whole prompt to the prompt without it: what following it changes.
        closed: How far the steered model goes by the rule: 1 as far as under the whole prompt, 0 no further than under
            the prompt without it or than the plain model, whichever goes by it less. None if it hardly counts.
        word: ``"took"``, ``"did not take"``, or ``"not followed"`` even by the prompted model.
        asked: Questions that ask for it, on which it was weighed; empty where the messages of all do.
    """

    text: str
    weight: float
    closed: Interval | None
    word: str
    asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weighing:
    """How much is asked.

    Attributes:
        messages: On which rules are weighed.
        questions: That ask for a rule, on which it is weighed if it counts more there.
        answer_tokens: Upper bound on an answer's length.
    """

    messages: int
    questions: int
    answer_tokens: int


def weigh(
    probes: Probes, steered: Student, rules: Sequence[Rule], *, sizes: Weighing, progress: OnProgress
) -> tuple[RuleClosed, ...]:
    """Find out which rules of a prompt a vector carries.

    Args:
        probes: Answers under the whole prompt.
        steered: The model under the vector.
        rules: Of the prompt.
        sizes: How much is asked.
        progress: Told of every rule.
    """
    if not rules:
        return ()
    scales = _Scales.of(probes.first(sizes.messages), steered)
    found = []
    for number, rule in enumerate(rules):
        progress(Progress(PHASE, number, len(rules)))
        found.append(_weighed(scales, rule, sizes))
    progress(Progress(PHASE, len(rules), len(rules)))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Side:
    """A model that may or may not go by a rule.

    Attributes:
        expected: What it expects along every answer.
        whole: Mean KL(it ‖ whole prompt) per token of each answer, in nats.
    """

    expected: Sequence[Expected]
    whole: NDArray[np.float64]

    @classmethod
    def of(cls, probes: Probes, student: Student) -> _Side:
        expected = probes.expects(student)
        return cls(expected, per_answer(probes.prompted(of=expected)))


@dataclass(frozen=True, eq=False)
class _Scales:
    """Answers under the whole prompt, and the models that every rule is held against."""

    probes: Probes
    student: Student
    steered: _Side
    plain: _Side

    @classmethod
    def of(cls, probes: Probes, student: Student) -> _Scales:
        return cls(probes, student, steered=_Side.of(probes, student), plain=_Side.of(probes, Student()))


def _weighed(scales: _Scales, rule: Rule, sizes: Weighing) -> RuleClosed:
    """On the messages of all, or on questions that ask for the rule.

    What somebody may ask of a manner is mostly odd. So plain facts are weighed on such questions if they count more
    there, what else has something exact in it only if it counts far more, and nothing else is asked for.
    """
    shortened = Student(opening=(Message("system", rule.without),))
    without = scales.probes.measure(shortened)
    weight = mean_kl(without)
    asked: tuple[str, ...] = ()
    more = 1.0 if is_fact(rule.text) else FAR_MORE
    ask = is_exact(rule.text) or (weight < MATTERS and is_statement(rule.text))
    if ask and (questions := _questions(scales.probes, rule, sizes)):
        own = _asked(scales.probes, rule, questions, sizes)
        on_own = own.measure(shortened)
        if mean_kl(on_own) >= more * weight:
            scales, without, asked = _Scales.of(own, scales.student), on_own, questions
            weight = mean_kl(on_own)
    if weight < MATTERS:
        return RuleClosed(rule.text, weight, None, "not followed", asked)
    closed = _closed(scales, shortened, whole=per_answer(without))
    return RuleClosed(rule.text, weight, closed, "took" if closed.value >= TOOK else "did not take", asked)


def _closed(scales: _Scales, shortened: Student, *, whole: NDArray[np.float64]) -> Interval:
    """How far the steered model goes by the rule.

    Args:
        scales: The answers, and what is held against the rule.
        shortened: The model under the prompt without the rule.
        whole: Evidence for the rule under the whole prompt, of each answer.
    """
    probes = scales.probes

    def evidence(side: _Side) -> NDArray[np.float64]:
        """Mean of log(whole / without) over what a model expects: KL(it ‖ without) - KL(it ‖ whole)."""
        return per_answer(probes.measure(shortened, of=side.expected)) - side.whole

    without = -_Side.of(probes, shortened).whole  # its KL from itself is 0
    lowest = min(without, evidence(scales.plain), key=np.mean)
    return share_closed(whole - evidence(scales.steered), whole - lowest, seed=probes.seed)


def _questions(probes: Probes, rule: Rule, sizes: Weighing) -> tuple[str, ...]:
    return questions_for(probes.model, rule.text, count=min(sizes.questions, sizes.messages), seed=probes.seed)


def _asked(probes: Probes, rule: Rule, texts: Sequence[str], sizes: Weighing) -> Probes:
    """Other messages, answered under the whole prompt."""
    teacher, tokens = Teacher.of(rule.prompt), sizes.answer_tokens
    return Probes.ask(probes.model, probes.gradients, teacher, texts, answer_tokens=tokens, seed=probes.seed)
