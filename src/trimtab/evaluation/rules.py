"""Rule attribution: split a prompt into rules and measure which of them a distilled vector carries.

The evidence for a rule in what a model predicts is a log-likelihood ratio: the mean of
``log p(token | whole prompt) - log p(token | prompt without the rule)`` over the model's own next-token distribution.
Each rule is measured on general messages and on questions that ask for it: nobody asks for the price of bread by
chance, so a general message hardly shows whether a model knows it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32
from trimtab.behaviours import Message
from trimtab.engines import Engine
from trimtab.engines.protocol import DistillationExample, Generates, Gradients, TeacherDistribution, Tokens
from trimtab.errors import PromptError
from trimtab.stats import bootstrap
from trimtab.steering import Steering
from trimtab.training.distillation.examples import TOP, Answered, Teacher, answered_by, distillation_examples
from trimtab.training.progress import OnProgress, Phases, ignore
from trimtab.vectors import ControlVector, Interval

TokenKls: TypeAlias = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Substitute:
    """Substitute for a prompt, with its distance to the prompted model.

    Attributes:
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
        """Let the prompted model answer users' messages, and measure the plain model along its answers.

        The prompted model may be steered: by ``steering``, and by ``additions``, the same as vectors added to hidden
        states. ``answer_tokens`` is the upper bound on an answer's length.

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
        lessons = distillation_examples(gradients, answered, additions=additions or {})
        expected = tuple(lesson.expected for lesson in lessons)
        asked = cls(model, gradients, tuple(answered), expected, tuple(opening), [], seed)
        return replace(asked, base=asked.measure(Student()))

    @property
    def base_kl(self) -> float:
        """Mean KL(prompted ‖ plain) per token, in nats."""
        return mean_kl(self.base)

    def first(self, count: int) -> PromptedAnswers:
        """Return the first ``count`` answers."""
        answered, expected = self.answered[:count], self.expected[:count]
        return replace(self, answered=answered, expected=expected, base=self.base[:count])

    def measure(self, student: Student, *, of: Sequence[TeacherDistribution] | None = None) -> TokenKls:
        """Measure KL(prompted ‖ student) at every token of every answer, in nats.

        ``of``, another model's distributions along the answers, takes the prompted model's place.
        """
        return self._measured(self._prompts(student), of or self.expected, student)

    def prompted(self, *, of: Sequence[TeacherDistribution]) -> TokenKls:
        """Measure KL(another model ‖ prompted) at every token, in nats, from that model's distributions ``of``."""
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
        kl, base = per_answer(kls), per_answer(self.base)
        return Substitute(name, about, float(kl.mean()), share_closed(kl, base, seed=self.seed))


def mean_kl(tokens: TokenKls) -> float:
    """Return the mean over answers of the mean over tokens, in nats."""
    return float(per_answer(tokens).mean())


def per_answer(tokens: TokenKls) -> NDArray[np.float64]:
    """Return the mean over the tokens of each answer, in nats, ``[answer]``."""
    return np.array([each.mean() for each in tokens])


def share_closed(kl: NDArray[np.float64], base: NDArray[np.float64], *, seed: int) -> Interval:
    """Return ``1 - mean(kl) / mean(base)`` with its 95 % bootstrap interval over answers.

    Numerator and denominator are resampled together, because both are measured along the same answers.
    """
    return bootstrap(lambda kl, base: 1 - kl.mean(axis=-1) / base.mean(axis=-1), kl, base, seed=seed)


LIST_MARK = r"(?:[-*•–]|\(?\d{1,2}[.)])"
ITEM = re.compile(rf"^[ \t]*{LIST_MARK}[ \t]+\S.*$", re.MULTILINE)
SENTENCE = re.compile(r"\S.*?(?:[.!?][\"'”’)]*(?=\s+[^\sa-z]|\s*\Z)|\n|\Z)", re.DOTALL)
MAX_RULES = 12  # more take long to measure and to read
MIN_WEIGHT = 0.01  # nats per token; below, even the prompted model hardly follows the rule
CARRIED = 0.5  # share of the rule's evidence from which it counts as carried
QUESTION_TOKENS = 24
QUESTION_TEMPERATURE = 0.8
PHASE = "Measuring the rules one by one"

EXAMPLES = (
    ("Dogs are allowed on Platform 4 only.", "Where are dogs allowed?"),
    ("The museum was founded by Ada Brunt.", "Who founded the museum?"),
    ("A ticket costs 12.50 euros.", "How much is a ticket?"),
)
NUMBER = re.compile(r"\d[\d.,:/-]*")
WORD = re.compile(r"[^\W\d_]{4,}")  # shorter words are in any text


@dataclass(frozen=True)
class Rule:
    """One instruction of a prompt.

    Attributes:
        text: The rule, without its list mark.
        prompt: The whole prompt.
        without: The prompt without the rule.
    """

    text: str
    prompt: str
    without: str


def split_rules(prompt: str) -> tuple[Rule, ...]:
    r"""Split a prompt into its list items, or into its sentences where it has no list.

    Returns:
        ``MAX_RULES`` at most; none where the prompt is a single instruction.

    Example:
        >>> [rule.text for rule in split_rules("You are a guide.\n- Be brief.\n- Say where to eat.")]
        ['Be brief.', 'Say where to eat.']
        >>> split_rules("Be brief. Be kind.")[0].without
        'Be kind.'
        >>> split_rules("Be brief.")
        ()
    """
    spans = [match.span() for match in ITEM.finditer(prompt)]
    if len(spans) < 2:
        spans = [match.span() for match in SENTENCE.finditer(prompt) if match.group().strip()]
    if len(spans) < 2:
        return ()
    return tuple(_rule(prompt, start, stop) for start, stop in spans[:MAX_RULES])


def first_sentence(prompt: str) -> str:
    """Return the first sentence of a prompt."""
    match = SENTENCE.search(prompt.strip())
    return match.group().strip() if match else prompt.strip()


def _rule(prompt: str, start: int, stop: int) -> Rule:
    text = re.sub(rf"^\s*{LIST_MARK}\s+", "", prompt[start:stop]).strip()
    before, after = prompt[:start].rstrip(" \t"), prompt[stop:].lstrip(" \t")
    if before.endswith("\n") or not before:
        after = after.removeprefix("\n")
    elif after and not after.startswith("\n"):
        before += " "
    return Rule(text, prompt.strip(), (before + after).strip())


@dataclass(frozen=True)
class RuleEffect:
    """Effect of one rule on one set of messages.

    Attributes:
        weight: Mean KL(whole prompt ‖ prompt without the rule) per token, in nats: how much the rule changes answers.
        share: How far the steered model follows the rule. 1: as far as under the whole prompt. 0: no further than under
            the prompt without the rule, or than the plain model, whichever has less evidence for the rule. None where
            ``weight`` is below ``MIN_WEIGHT``.
    """

    weight: float
    share: Interval | None


@dataclass(frozen=True)
class RuleReport:
    """Measurement of one rule of a prompt in a vector.

    Attributes:
        text: The rule.
        general: Its effect on general messages.
        asked: Its effect on questions that ask for it; None where the model wrote no such question.
        questions: Those questions.
        carried: Whether the steered model follows it on both; None where even the prompted model hardly follows it.
    """

    text: str
    general: RuleEffect
    asked: RuleEffect | None
    questions: tuple[str, ...]
    carried: bool | None


def attribute_rules(
    answers: PromptedAnswers,
    steered: Student,
    rules: Sequence[Rule],
    *,
    messages: int,
    questions: int,
    answer_tokens: int,
    progress: OnProgress,
) -> tuple[RuleReport, ...]:
    """Measure which rules of a prompt a vector carries, from answers under the whole prompt.

    Each rule is measured on the first ``messages`` answers, and on ``questions`` at most that ask for it.
    """
    if not rules:
        return ()
    general = _Reference(answers.first(messages), steered)
    reports = []
    with Phases(progress)(PHASE, len(rules)) as step:
        for rule in rules:
            reports.append(_attribute(general, rule, questions, answer_tokens))
            step()
    return tuple(reports)


def _attribute(general: _Reference, rule: Rule, count: int, answer_tokens: int) -> RuleReport:
    model, gradients, seed = general.answers.model, general.answers.gradients, general.answers.seed
    questions = questions_for(model, rule.text, count=count, seed=seed) if count else ()
    effects = [general.effect_of(rule)]
    if questions:
        teacher = Teacher.of(rule.prompt)
        asked = PromptedAnswers.ask(model, gradients, teacher, questions, answer_tokens=answer_tokens, seed=seed)
        effects.append(_Reference(asked, general.steered).effect_of(rule))
    shares = [effect.share.value for effect in effects if effect.share is not None]
    carried = min(shares) >= CARRIED if shares else None
    return RuleReport(rule.text, effects[0], effects[1] if questions else None, questions, carried)


class _Reference:
    """Answers under the whole prompt, with the steered and the plain model's predictions along them."""

    def __init__(self, answers: PromptedAnswers, steered: Student) -> None:
        self.answers, self.steered = answers, steered
        self.predictions = [self._predict(student) for student in (steered, Student())]

    def _predict(self, student: Student) -> tuple[Sequence[TeacherDistribution], NDArray[np.float64]]:
        """Return a student's predictions, with its mean KL(student ‖ whole prompt) per token of each answer."""
        expected = self.answers.expects(student)
        return expected, per_answer(self.answers.prompted(of=expected))

    def effect_of(self, rule: Rule) -> RuleEffect:
        answers, shortened = self.answers, Student(opening=(Message("system", rule.without),))
        whole = per_answer(answers.measure(shortened))  # KL(whole ‖ without) is the evidence under the whole prompt
        weight = float(whole.mean())
        if weight < MIN_WEIGHT:
            return RuleEffect(weight, None)

        def evidence(expected: Sequence[TeacherDistribution], kl_whole: NDArray[np.float64]) -> NDArray[np.float64]:
            # E[log(whole / without)] under a model is KL(model ‖ without) - KL(model ‖ whole).
            return per_answer(answers.measure(shortened, of=expected)) - kl_whole

        steered, plain = (evidence(*predicted) for predicted in self.predictions)
        without = -self._predict(shortened)[1]  # its KL to itself is 0
        share = share_closed(whole - steered, whole - min(without, plain, key=np.mean), seed=answers.seed)
        return RuleEffect(weight, share)


def questions_for(model: Generates, rule: str, *, count: int, seed: int) -> tuple[str, ...]:
    """Let the model write up to ``count`` different questions whose answer is in a rule: a fact or an instruction.

    Questions that share a word with the rule come first; those that repeat one of its numbers are dropped, because
    they would give the answer away. There are none where the rule does not fit into the context window.

    Example:
        >>> questions_for(model, "A loaf costs 4.35 dollars.", count=2, seed=0)  # doctest: +SKIP
        ('How much is a loaf?', 'What does a loaf cost?')
    """
    chat: list[Message] = []
    for fact, question in EXAMPLES:
        chat += [Message("user", _task(fact)), Message("assistant", question)]
    chat.append(Message("user", _task(rule)))
    try:
        written = model.generate(
            [chat] * (2 * count), max_new_tokens=QUESTION_TOKENS, temperature=QUESTION_TEMPERATURE, seed=seed
        )
    except PromptError:
        return ()
    numbers, words = set(NUMBER.findall(rule)), _words(rule)
    questions = dict.fromkeys(_question(completion.text) for completion in written)
    usable = [text for text in questions if text and not numbers & set(NUMBER.findall(text))]
    return tuple(sorted(usable, key=lambda text: _words(text).isdisjoint(words)))[:count]


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))


def _task(fact: str) -> str:
    return f'Fact: "{fact}"\nWhich question does it answer?'


def _question(text: str) -> str:
    """Return the first line if it is a question, else an empty text."""
    first = text.strip().partition("\n")[0].strip(" \"'“”")
    return first if first.endswith("?") and len(first.split()) > 2 else ""
