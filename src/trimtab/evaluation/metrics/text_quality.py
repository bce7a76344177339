"""Answers as seen from outside: fluent or not, going round in circles, to the point, longer or shorter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.engines import Completion, Engine, ForcedItem
from trimtab.engines.protocol import Tokens
from trimtab.evaluation.metrics.refusals import refuses
from trimtab.training.check import distinct_2
from trimtab.training.questions import Question

LOOPS = 0.5  # of runs of three words different: an answer below goes round in circles


def distinct(answer: str) -> float:
    """The share of an answer's runs of three words that are different; low where it goes round in circles.

    Example:
        >>> distinct("no no no no no"), distinct("I will not do that")
        (0.3333333333333333, 1.0)
    """
    words = answer.split()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(runs)) / len(runs) if runs else 1.0


def loops(answer: str) -> bool:
    """Whether fewer than half of an answer's runs of three words are different.

    Example:
        >>> loops("no no no no no"), loops("I will not do that")
        (True, False)
    """
    return distinct(answer) < LOOPS


@dataclass(frozen=True)
class Written:
    """Answers to the first questions, in order.

    Attributes:
        texts: What was written.
        tokens: Its token ids.
    """

    texts: tuple[str, ...]
    tokens: tuple[Tokens, ...]

    @classmethod
    def of(cls, completions: Sequence[Completion]) -> Written:
        """From completions."""
        return cls(tuple(c.text for c in completions), tuple(c.tokens for c in completions))

    @classmethod
    def of_tokens(cls, engine: Engine, tokens: Sequence[Tokens]) -> Written:
        """From token ids."""
        return cls(tuple(engine.decode(answer) for answer in tokens), tuple(tokens))

    def first(self, count: int) -> Written:
        """The first ``count`` of them."""
        return Written(self.texts[:count], self.tokens[:count])

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TextQuality:
    """What a set of answers looks like, beside the base model's own to the same questions.

    Attributes:
        perplexity_ratio: Of their perplexity under the base model to that of the base's own.
        distinct_2: Distinct bigrams of tokens divided by all of them.
        loops: Share that goes round in circles.
        length_ratio: Of their mean length in tokens to that of the base's.
        refuses: Share that refuses.
    """

    perplexity_ratio: float
    distinct_2: float
    loops: float
    length_ratio: float
    refuses: float


def measure_text_quality(
    engine: Engine, questions: Sequence[Question], base: Written, written: Sequence[Written]
) -> tuple[TextQuality, ...]:
    """Look at several sets of answers; each is of the first questions, at most as many as ``base`` has."""
    surprise = _surprises(engine, questions, [base, *written])
    found = []
    for answers, logprob in zip(written, surprise[1:], strict=True):
        own = base.first(len(answers))
        found.append(
            TextQuality(
                perplexity_ratio=float(np.exp(_per_token(logprob, answers) - _per_token(surprise[0], own))),
                distinct_2=distinct_2(answers.tokens),
                loops=float(np.mean([loops(text) for text in answers.texts])),
                length_ratio=sum(map(len, answers.tokens)) / max(sum(map(len, own.tokens)), 1),
                refuses=float(np.mean([refuses(text) for text in answers.texts])),
            )
        )
    return tuple(found)


def _per_token(logprob: NDArray[np.float64], answers: Written) -> float:
    return -float(logprob[: len(answers)].sum()) / max(sum(map(len, answers.tokens)), 1)


def _surprises(engine: Engine, questions: Sequence[Question], written: Sequence[Written]) -> list[NDArray[np.float64]]:
    """For each set, the log-probability of every answer under the base model asked plainly, in nats."""
    items, places = [], []
    for n, question in enumerate(questions):
        here = [k for k, answers in enumerate(written) if n < len(answers)]
        distinct = list(dict.fromkeys(written[k].tokens[n] for k in here))
        items.append(ForcedItem(question.prompt, tuple(distinct)))
        places.append({k: distinct.index(written[k].tokens[n]) for k in here})
    scores = engine.teacher_forcing(items, once=True).base.logprob
    return [
        np.array([float(scores[n][place[k]]) for n, place in enumerate(places) if k in place])
        for k in range(len(written))
    ]
