"""Sentence embeddings: similarity of answers to the poles, and relevance of answers to their questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Behaviour, Pole
from trimtab.errors import EvaluationError


class Embedder(Protocol):
    """Sentence encoder."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return embeddings of length 1, ``[text, width]``."""


@cache
def load_embedder() -> Embedder:
    """Load the MiniLM sentence encoder of the installed wheel, once.

    Raises:
        MissingDependencyError: The wheel is not installed.
        ModelError: The model in it cannot be loaded.
    """
    from trimtab.engines.transformers.model.sentence_embedding import MiniLM  # imports torch

    return MiniLM()


@final
@dataclass(frozen=True)
class PoleSimilarity:
    """Scorer: similarity of an answer to the positive pole's descriptions minus that to the negative pole's.

    Each similarity is a mean cosine of embeddings. The subject of an answer moves both alike, so it cancels out. A
    blank answer has no score.

    Attributes:
        positive: Descriptions of the positive pole.
        negative: Descriptions of the negative pole.
        embedder: Sentence encoder; None for MiniLM, loaded when first needed.
        name: Name in tables.
        unit: Unit of the scores.

    Example:
        >>> PoleSimilarity(("happy",), ("sad",)).score(["How are you?"], ["I am so glad!"])  # doctest: +SKIP
        array([0.13])
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    embedder: Embedder | None = None
    name: str = "embedding"
    unit: str = "difference of cosines, −2 to 2"

    def __post_init__(self) -> None:
        if not self.positive or not self.negative:
            raise EvaluationError("a pole has no description", fix="give each pole at least one")

    def score(self, questions: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
        """Return one number an answer, ``[answer]``: above 0 it is nearer to the positive pole.

        Raises:
            MissingDependencyError: No embedder was given, and MiniLM is not installed.
        """
        if not answers:
            return np.empty(0)
        embedder = self.embedder or load_embedder()
        centre = [embedder.embed(pole).astype(np.float64).mean(axis=0) for pole in (self.positive, self.negative)]
        return _blank_is_nan(answers, embedder.embed(answers).astype(np.float64) @ (centre[0] - centre[1]))


def pole_similarity(behaviour: Behaviour, *, embedder: Embedder | None = None) -> PoleSimilarity:
    """Return the similarity to a behaviour's poles, described by their labels and personas."""
    return PoleSimilarity(_descriptions(behaviour.positive), _descriptions(behaviour.negative), embedder)


def _descriptions(pole: Pole) -> tuple[str, ...]:
    return tuple(dict.fromkeys((pole.label, *pole.personas)))


def relevance(embedder: Embedder, questions: Sequence[str], answers: Sequence[str]) -> NDArray[np.float64]:
    """Return the cosine of each question's embedding with its answer's, ``[answer]``; NaN for a blank answer.

    Raises:
        EvaluationError: There are not as many answers as questions.
    """
    if len(questions) != len(answers):
        raise EvaluationError(f"{len(answers)} answers to {len(questions)} questions", fix="give one for each")
    if not answers:
        return np.empty(0)
    vectors = embedder.embed([*questions, *answers]).astype(np.float64)
    return _blank_is_nan(answers, (vectors[: len(questions)] * vectors[len(questions) :]).sum(axis=1))


def _blank_is_nan(answers: Sequence[str], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where([bool(answer.strip()) for answer in answers], scores, np.nan)
