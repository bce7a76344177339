"""Scorers: numbers for answers.

A scorer has a name, a unit, and a method that gives each answer one number. NaN means "no score", such as for an answer
without words. The scorers here are quick and need no model.
"""

from __future__ import annotations

import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, final

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Behaviour, keyword_pattern
from trimtab.errors import EvaluationError, MissingDependencyError
from trimtab.evaluation.metrics.embedding import Embedder, load_embedder, pole_similarity

INSTALL = 'pip install "trimtab[evaluate]"'

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|\n+")
VOWELS = re.compile(r"[aeiouyáàâäãéèêëíìîïóòôöõúùûü]+")
SILENT = re.compile(  # an e that is not heard: like, files, jumped, movement; but not in table, houses, wanted
    r"(?:[^aeiouyl]|[aeiouy]l)e(?:s?$|(?=(?:ly|ments?|ful|fully|less|ness|thing|times?|where|fore)$))|[^aeiouytd]ed$"
)
HISSING = re.compile(r"(?:[scxz]|ch|sh|[dr]?g)es$|[^aeiouyl]led$")  # in which it is
HIATUS = re.compile(  # adjacent vowels of two syllables: di-al, vi-o-lin, seri-ous, qui-et, cre-ate, po-em, be-ing
    r"(?<![cts])ia|(?<![cgstxn])(?<!ll)io(?!u)|(?<![cgstx])iou|iet|sci(?=en)|(?<![ct])ien(?!d)|eo(?![pu])|creat(?!ur)"
    r"|oe[mt]|(?:id|ar)ea|eum|coop|(?<![gq])ua|uous|[eoyu]ing|thm"
)
NOT = re.compile(r"[ds]n['’]t$")  # is-n't, did-n't; but don't
LONG = 7  # letters; in English most words as long are nouns, adjectives or what is made of them


def _vocabulary(text: str) -> frozenset[str]:
    return frozenset(text.split())


ARTICLES_AND_PREPOSITIONS = _vocabulary(
    "a an the of in on at by for with from into upon within without through between among during under over against"
    " toward towards regarding concerning via per throughout despite"
)
PERSONAL = _vocabulary("i me my mine myself you your yours yourself we us our ours ourselves u ya y'all")
INFORMAL = _vocabulary(
    "hey hi yeah yep yup nope nah wow whoa oh ah ugh um uh huh hmm haha hehe lol lmao omg btw yay oops duh meh boo"
    " gonna wanna gotta gimme lemme kinda sorta dunno ain't dude bro buddy guys folks cool awesome stuff totally super"
    " okay ok cuz legit chill crazy lots"
)
CONTRACTION = re.compile(
    r"n['’]t\b|['’](?:re|ve|ll|d|m)\b|\b(?:it|that|there|here|what|who|how|where|he|she|let)['’]s\b", re.IGNORECASE
)
EXCITED = re.compile(r"!|[\u2600-\u27bf\U0001f300-\U0001faff]")


class Scorer(Protocol):
    """Value that gives each answer a number.

    Example:
        >>> class Questions:
        ...     name, unit = "questions", "question marks"
        ...
        ...     def score(self, questions, answers):
        ...         return np.array([answer.count("?") for answer in answers], dtype=float)
        >>> Questions().score(["Hello!"], ["Hi. And you?"])
        array([1.])
    """

    @property
    def name(self) -> str:
        """Name in tables."""

    @property
    def unit(self) -> str:
        """Unit of the scores."""

    def score(self, questions: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
        """Return one number an answer, ``[answer]``; NaN where there is none."""


class AnswerScorer(ABC):
    """Scorer that rates each answer without looking at its question."""

    @abstractmethod
    def rate(self, answer: str) -> float:
        """Return the number of one answer; NaN where there is none."""

    def score(self, questions: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
        """Return one number an answer, ``[answer]``; NaN where there is none."""
        return np.array([self.rate(answer) for answer in answers], dtype=np.float64)


@final
@dataclass(frozen=True)
class Sentiment(AnswerScorer):
    """Sentiment of an answer: VADER's compound score (Hutto & Gilbert 2014). Blank answers have none.

    Example:
        >>> Sentiment().score(["How are you?"], ["I feel wonderful."])  # doctest: +SKIP
        array([0.5719])
    """

    name: str = "sentiment"
    unit: str = "VADER compound, −1 to 1"

    def rate(self, answer: str) -> float:
        """Return the compound score.

        Raises:
            MissingDependencyError: vaderSentiment is not installed.
        """
        return float(_vader().polarity_scores(answer)["compound"]) if answer.strip() else np.nan


@cache
def _vader() -> Any:
    try:
        return importlib.import_module("vaderSentiment.vaderSentiment").SentimentIntensityAnalyzer()
    except ImportError:
        raise MissingDependencyError("sentiment needs vaderSentiment", fix=f"run: {INSTALL}") from None


@final
@dataclass(frozen=True)
class Readability(AnswerScorer):
    """Flesch reading ease of an answer (Flesch 1948): about 100 for very easy, 30 for academic prose.

    206.835 − 1.015 · words per sentence − 84.6 · syllables per word. Syllables are counted by rule, for English. A line
    ends a sentence too, so that lists are not one long one.

    Example:
        >>> Readability().score(["Why?"], ["The cat sat on the mat."]).round(1)
        array([116.1])
    """

    name: str = "readability"
    unit: str = "Flesch reading ease"

    def rate(self, answer: str) -> float:
        """Return the reading ease; NaN without words."""
        counted = words(answer)
        if not counted:
            return np.nan
        sentences = sum(bool(WORD.search(part)) for part in SENTENCE_END.split(answer))
        return 206.835 - 1.015 * len(counted) / sentences - 84.6 * sum(map(syllables, counted)) / len(counted)


@final
@dataclass(frozen=True)
class Formality(AnswerScorer):
    """Formality of an answer, by its words alone; 50 is the middle.

    In the spirit of the F-score (Heylighen & Dewaele 2002, Foundations of Science 7), which sets nouns, adjectives,
    prepositions and articles against pronouns, verbs, adverbs and interjections. Here without a tagger of words, and
    for English: 50 + ½ (articles and prepositions + words of seven letters and more − pronouns of the first and second
    person − contractions − interjections and slang − exclamation marks and emoji), each as per cent of the words.

    Example:
        >>> Formality().score(["Hi?"] * 2, ["Hey dude, I'm fine!", "The author is in satisfactory health."]).round(1)
        array([-12.5,  75. ])
    """

    name: str = "formality"
    unit: str = "formal minus informal words, 50 is even"

    def rate(self, answer: str) -> float:
        """Return the formality; NaN without words."""
        counted = [word.lower().replace("’", "'") for word in words(answer)]
        if not counted:
            return np.nan
        formal = sum(word in ARTICLES_AND_PREPOSITIONS or len(word) >= LONG for word in counted)
        personal = sum(word.split("'")[0] in PERSONAL or word in PERSONAL for word in counted)
        informal = sum(word in INFORMAL for word in counted)
        informal += len(CONTRACTION.findall(answer)) + len(EXCITED.findall(answer))
        return 50 + 50 * (formal - personal - informal) / len(counted)


@final
@dataclass(frozen=True)
class Length(AnswerScorer):
    """Number of words of an answer.

    Example:
        >>> Length().score(["Why?"], ["Well, it's late."])
        array([3.])
    """

    name: str = "length"
    unit: str = "words"

    def rate(self, answer: str) -> float:
        """Return the number of words."""
        return len(words(answer))


@final
@dataclass(frozen=True)
class Keywords(AnswerScorer):
    """Share of keywords in an answer: that of the positive pole's minus that of the negative pole's.

    Attributes:
        positive: Words or phrases, in any case, or ``/regular expressions/``.
        negative: The same; none, the share of the positive ones alone is the score.
        per: ``"word"``: the share of an answer's words that belong to a match; what matches without a word, such as an
            emoji, counts as a word. ``"answer"``: whether there is a match at all, so that the mean over answers is
            the share of answers.

    Raises:
        EvaluationError: There is no keyword, or one is not a regular expression.

    Example:
        >>> Keywords(("glad", "/joy(ful)?/"), ("sad",)).score(["How?"], ["Glad and joyful, never sad."])
        array([0.2])
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...] = ()
    per: Literal["word", "answer"] = "word"
    name: str = "keywords"

    def __post_init__(self) -> None:
        if not self.positive and not self.negative:
            raise EvaluationError("there are no keywords", fix="give at least one")
        for keyword in (*self.positive, *self.negative):
            try:
                keyword_pattern(keyword)
            except re.error as error:
                raise EvaluationError(
                    f"keyword {keyword!r} is not a regular expression: {error}", fix="mend it"
                ) from None

    @property
    def unit(self) -> str:
        """Unit of the scores."""
        whole = f"share of {self.per}s"
        return f"{whole}, positive − negative" if self.positive and self.negative else whole

    def rate(self, answer: str) -> float:
        """Return the share; NaN without words, when they are counted."""
        share = _any_match if self.per == "answer" else _share_of_words
        return share(self.positive, answer) - share(self.negative, answer)


def default_scorers(
    behaviour: Behaviour, *, embedder: Embedder | None = None
) -> tuple[tuple[Scorer, ...], tuple[str, ...]]:
    """Return the default scorers of a behaviour: its keywords and poles, sentiment, formality, readability.

    ``embedder`` is MiniLM if not given.

    Returns:
        Scorers whose packages are installed, in the order of tables, and reasons why others are left out.
    """
    missing: list[str] = []

    def sentiment() -> Scorer:
        _vader()
        return Sentiment()

    def similarity() -> Scorer:
        return pole_similarity(behaviour, embedder=embedder or load_embedder())

    scorers: list[Scorer] = [Formality(), Readability()]
    if behaviour.keywords is not None:
        scorers.insert(0, Keywords(behaviour.keywords.positive, behaviour.keywords.negative))
    for made in (sentiment, similarity):
        try:
            scorers.append(made())
        except MissingDependencyError as error:
            missing.append(str(error))
    return tuple(scorers), tuple(missing)


def words(text: str) -> list[str]:
    """Return the words of a text: letters, with apostrophes and hyphens inside."""
    return WORD.findall(text)


def syllables(word: str) -> int:
    """Count the syllables of an English word by rule: groups of vowels, minus the silent e, plus hiatus.

    Example:
        >>> [syllables(word) for word in ("cat", "like", "table", "jumped", "wanted", "readability")]
        [1, 1, 2, 1, 2, 5]
    """
    parts = re.split(r"['’].*$|-", word.lower())
    return sum(_syllables_of_part(part) for part in parts if part) + bool(NOT.search(word.lower()))


def _syllables_of_part(part: str) -> int:
    silent = 0 if HISSING.search(part) else len(SILENT.findall(part))
    return max(1, len(VOWELS.findall(part)) + len(HIATUS.findall(part)) - silent)


def _any_match(keywords: Sequence[str], text: str) -> float:
    return float(any(keyword_pattern(keyword).search(text) for keyword in keywords))


def _share_of_words(keywords: Sequence[str], text: str) -> float:
    spans = [word.span() for word in WORD.finditer(text)]
    hits = {match.span() for keyword in keywords for match in keyword_pattern(keyword).finditer(text) if match.group()}
    matched = sum(any(start < end and begin < stop for start, stop in hits) for begin, end in spans)
    wordless = sum(not any(start < end and begin < stop for begin, end in spans) for start, stop in hits)
    total = len(spans) + wordless
    return (matched + wordless) / total if total else np.nan
