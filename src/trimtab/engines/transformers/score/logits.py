"""Logits and log-probabilities at the tokens of given answers.

Two things keep this cheap. The head of a model is its largest matrix, so it runs only at the positions whose next token
is scored. And a table of logits is tens of megabytes, so on a CPU most of the time of ``logsumexp`` goes into writing
and reading the differences and exponentials in between; a few rows at a time, these stay in the processor's cache.
Neither changes a result: head and sums treat every row independently, so the values are the same to the bit.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trimtab.arrays import I64
from trimtab.engines.prefix_tree import PrefixTree, build_chains, build_tree
from trimtab.engines.protocol import ForcedItem

PART_BYTES = 2 * 1024**2


@dataclass(frozen=True)
class Targets:
    """Tokens of all answers, by the node of the prefix tree that predicts each (ascending)."""

    node: I64  # may repeat, as answers with a common prefix share nodes
    token: I64
    answer: I64  # numbered through all items
    item: I64  # number of the item if KL is measured along this answer, else -1

    def __getitem__(self, chosen: NDArray[np.bool_] | I64) -> Targets:
        return Targets(self.node[chosen], self.token[chosen], self.answer[chosen], self.item[chosen])


def answer_tree(items: Sequence[ForcedItem], *, share: bool) -> tuple[PrefixTree, Targets]:
    """Return the tree of all prompts with their answers, and the targets in it.

    Args:
        items: Prompts and answers; an empty answer has no sequence in the tree.
        share: Whether common prefixes become one node: right for a causal model.
    """
    answers = [(n, a, answer) for n, item in enumerate(items) for a, answer in enumerate(item.answers) if answer]
    build = build_tree if share else build_chains
    # The last token of an answer predicts nothing that is scored.
    tree = build([items[n].prompt + answer[:-1] for n, _, answer in answers])
    first_of_item = np.cumsum([0, *(len(item.answers) for item in items)])
    parts = [(np.zeros(0, dtype=np.int64),) * 4]
    for end, (n, a, answer) in zip(tree.ends.tolist(), answers, strict=True):
        nodes = tree.path(end)[len(items[n].prompt) - 1 :]
        measured = n if items[n].reference == a else -1
        tokens = np.array(answer, dtype=np.int64)
        parts.append((nodes, tokens, np.full(len(nodes), first_of_item[n] + a), np.full(len(nodes), measured)))
    targets = Targets(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return tree, targets[np.argsort(targets.node, kind="stable")]


@dataclass(frozen=True)
class PassTargets:
    """Targets of one pass.

    Target ``j`` is scored by number ``at[j]`` of the logits at ``[rows[i], columns[i]]``.
    """

    targets: Targets
    rows: I64
    columns: I64
    at: I64

    @classmethod
    def of(cls, targets: Targets, nodes: I64) -> PassTargets:
        """Select the targets of the nodes ``[row, column]`` that a pass computes."""
        here = targets[np.isin(targets.node, nodes)]
        distinct, at = np.unique(here.node, return_inverse=True)
        rows, columns = np.nonzero(np.isin(nodes, distinct))
        order = np.argsort(nodes[rows, columns])
        return cls(here, rows[order], columns[order], at)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Return which targets count for KL."""
        chosen: NDArray[np.bool_] = self.targets.item >= 0
        return chosen


def selects_positions(model: nn.Module) -> bool:
    """Return whether a model can run its head at chosen positions only."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def logits_at_columns(model: nn.Module, inputs: Mapping[str, Any], columns: I64) -> Tensor:
    """Run a pass with the head at some columns only.

    Args:
        model: The model.
        inputs: Its keyword arguments.
        columns: The columns, for all rows alike; a column may be given twice.

    Returns:
        ``[row, column, vocabulary]`` in the model's dtype.
    """
    selected = torch.from_numpy(columns).to(input_tokens(inputs).device)
    if selects_positions(model):
        logits: Tensor = model(**inputs, logits_to_keep=selected).logits
        return logits
    logits = model(**inputs).logits
    return logits[:, selected.to(logits.device)]


def logits_at(model: nn.Module, inputs: Mapping[str, Any], rows: I64, columns: I64) -> Tensor:
    """Run a pass and return the logits ``[prediction, vocabulary]`` at ``[rows[i], columns[i]]``."""
    # The last column is always kept: a pass may be run for its keys and values alone, and a head needs one position.
    last = input_tokens(inputs).shape[1] - 1
    selected, at = np.unique(np.append(columns, last), return_inverse=True)
    at = at[:-1]
    logits = logits_at_columns(model, inputs, selected)
    if len(logits) == 1 and np.array_equal(at, np.arange(len(at))):  # one row in order: a view instead of a copy
        return logits[0, : len(at)]
    return logits[torch.from_numpy(rows).to(logits.device), torch.from_numpy(at).to(logits.device)]


def input_tokens(inputs: Mapping[str, Any]) -> Tensor:
    """Return the token ids ``[row, column]`` that the decoder reads in a pass."""
    tokens: Tensor = inputs["decoder_input_ids"] if "decoder_input_ids" in inputs else inputs["input_ids"]
    return tokens


def token_logprobs(logits: Tensor, at: I64, targets: I64) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of target tokens: ``logit - log Σ exp(logits)``.

    Args:
        logits: ``[row, vocabulary]``.
        at: The row of each target; answers that begin alike have targets on the same row.
        targets: Token ids.

    Returns:
        ``[target]`` in nats, and the normalizer ``[row]`` of every row, which KL needs too.
    """
    normalizers = log_normalizers(logits)
    rows, tokens = (torch.from_numpy(given).to(logits.device) for given in (at, targets))
    return logits[rows, tokens] - normalizers[rows], normalizers


def log_normalizers(logits: Tensor) -> Tensor:
    """Return log Σ exp over the vocabulary of ``[row, vocabulary]``, a few rows at a time."""
    return torch.cat([part.logsumexp(-1) for part in torch.split(logits, rows_per_part(logits))])


def rows_per_part(table: Tensor) -> int:
    """Return how many rows to take at a time: all on an accelerator, which many small steps slow down."""
    rows = len(table)
    if table.device.type == "cpu":
        rows = PART_BYTES // (table.shape[-1] * table.element_size())
    return max(rows, 1)
