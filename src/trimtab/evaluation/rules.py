"""A prompt's rules: its items where it has a list, its sentences where it has none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Message
from trimtab.engines import Engine
from trimtab.engines.protocol import TeacherDistribution
from trimtab.errors import PromptError
from trimtab.evaluation.probes import Probes, Student, mean_kl, per_answer, share_closed
from trimtab.training.distillation.examples import Teacher
from trimtab.training.progress import OnProgress, Progress
from trimtab.vectors import Interval

ITEM = re.compile(r"^[ \t]*(?:[-*•–]|\(?\d{1,2}[.)])[ \t]+\S.*$", re.MULTILINE)
SENTENCE = re.compile(r"\S.*?(?:[.!?][\"'”’)]*(?=\s+[^\sa-z]|\s*\Z)|\n|\Z)", re.DOTALL)
MOST = 12  # rules; more take long to weigh and to read


@dataclass(frozen=True)
class Rule:
    """One instruction of a prompt.

    Attributes:
        text: As it stands there, without its mark.
        prompt: The whole prompt.
        without: It without the rule.
    """

    text: str
    prompt: str
    without: str


def rules_of(prompt: str) -> tuple[Rule, ...]:
    r"""The rules of a prompt, ``MOST`` at most; none where it is a single one.

    Example:
        >>> [rule.text for rule in rules_of("You are a guide.\n- Be brief.\n- Say where to eat.")]
        ['Be brief.', 'Say where to eat.']
        >>> rules_of("Be brief. Be kind.")[0].without
        'Be kind.'
        >>> rules_of("Be brief.")
        ()
    """
    found = [match.span() for match in ITEM.finditer(prompt)]
    if len(found) < 2:
        found = [match.span() for match in SENTENCE.finditer(prompt) if match.group().strip()]
    if len(found) < 2:
        return ()
    return tuple(_rule(prompt, start, stop) for start, stop in found[:MOST])


def first_sentence(prompt: str) -> str:
    """A prompt cut down to its first sentence; all of it where that is one."""
    match = SENTENCE.search(prompt.strip())
    return match.group().strip() if match else prompt.strip()


def _rule(prompt: str, start: int, stop: int) -> Rule:
    text = re.sub(r"^\s*(?:[-*•–]|\(?\d{1,2}[.)])\s+", "", prompt[start:stop]).strip()
    before, after = prompt[:start].rstrip(" \t"), prompt[stop:].lstrip(" \t")
    if before.endswith("\n") or not before:
        after = after.removeprefix("\n")
    elif after and not after.startswith("\n"):
        before += " "
    return Rule(text, prompt.strip(), (before + after).strip())


TOKENS = 24
TEMPERATURE = 0.8
SHOWN = (
    ("Dogs are allowed on Platform 4 only.", "Where are dogs allowed?"),
    ("The museum was founded by Ada Brunt.", "Who founded the museum?"),
    ("A ticket costs 12.50 euros.", "How much is a ticket?"),
)
NAME = re.compile(r"(?<=[a-z,;] )[\"“']?[A-Z][\w’'-]+")
NUMBER = re.compile(r"\d[\d.,:/-]*")
WORD = re.compile(r"[^\W\d_]{4,}")  # shorter ones are in any text
NAMED = re.compile(r"\b(?:called|named)\s+\w", re.IGNORECASE)
FEW_WORDS = r"[\w’'-]+(?: [\w’'-]+){0,2}"  # a few words
LIST = re.compile(rf"(?:{FEW_WORDS}, ){{2}}{FEW_WORDS}(?:,|,? (?:and|or)) \w")  # of four and more
SUBJECT = re.compile(r"(?:the|an?|we|our|i|my|it|its|they|their|he|his|she|her|there|this|these)\b", re.IGNORECASE)
QUOTED = re.compile(r"[\"“][^\"”]+[\"”]")
EXACT = (NUMBER, NAME, NAMED, LIST)


def is_exact(rule: str) -> bool:
    """Whether a rule has something exact in it: a number, a name, words to be said as they are, or a long list.

    Example:
        >>> is_exact("A loaf costs 4.35 dollars."), is_exact("Ask for Ottoline."), is_exact("Be brief.")
        (True, True, False)
    """
    return any(pattern.search(rule) for pattern in (*EXACT, QUOTED))


def is_statement(rule: str) -> bool:
    """Whether a rule tells what is so, and not what to do, as far as its first word says.

    Example:
        >>> is_statement("We do not deliver."), is_statement("Never boast.")
        (True, False)
    """
    return SUBJECT.match(rule) is not None


def is_fact(rule: str) -> bool:
    """Whether a rule tells what is so, and that with a number, a name or a long list.

    Example:
        >>> is_fact("A loaf costs 4.35 dollars."), is_fact("Mention Ottoline."), is_fact("We do not deliver.")
        (True, False, False)
    """
    return is_statement(rule) and any(pattern.search(rule) for pattern in EXACT)


def questions_for(model: Engine, rule: str, *, count: int, seed: int) -> tuple[str, ...]:
    """What users would ask to be told what a rule says; none where the model can think of nothing, or reads too little.

    Questions with a word of the rule come first.

    Args:
        model: Writes them.
        rule: A fact, or an instruction.
        count: So many at most; they differ.
        seed: Of the samples.

    Example:
        >>> questions_for(model, "A loaf costs 4.35 dollars.", count=2, seed=0)  # doctest: +SKIP
        ('How much is a loaf?', 'What does a loaf cost?')
    """
    chat: list[Message] = []
    for fact, question in SHOWN:
        chat += [Message("user", _task(fact)), Message("assistant", question)]
    chat.append(Message("user", _task(rule)))
    try:
        written = model.generate([chat] * (2 * count), max_new_tokens=TOKENS, temperature=TEMPERATURE, seed=seed)
    except PromptError:  # the rule and what is shown do not fit into the context window
        return ()
    numbers, words = set(NUMBER.findall(rule)), _words(rule)
    found = dict.fromkeys(_question(completion.text) for completion in written)
    asked = [text for text in found if text and not numbers & set(NUMBER.findall(text))]
    return tuple(sorted(asked, key=lambda text: _words(text).isdisjoint(words)))[:count]


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))


def _task(fact: str) -> str:
    return f'Fact: "{fact}"\nWhich question does it answer?'


def _question(text: str) -> str:
    """The first line, if it is a question."""
    first = text.strip().partition("\n")[0].strip(" \"'“”")
    return first if first.endswith("?") and len(first.split()) > 2 else ""


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

    expected: Sequence[TeacherDistribution]
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
