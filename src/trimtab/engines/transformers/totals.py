"""Sums over whole vocabularies, a few rows at a time: what is in between then stays in the processor's cache.

A table of logits is tens of megabytes, so on a CPU most of the time of ``logsumexp`` goes into memory for the
differences and exponentials that it puts aside. Row by row the results are the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

PART_BYTES = 2 * 1024**2


def totals(logits: Tensor) -> Tensor:
    """Log Σ exp over the last dimension of ``[row, vocabulary]``."""
    return torch.cat([logits[part].logsumexp(-1) for part in _parts(logits)])


def weighted_gaps(weights: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Σ weights · (one - other) over the last dimension of tables ``[row, vocabulary]``."""
    return torch.cat([torch.linalg.vecdot(weights[p], one[p] - other[p]) for p in _parts(one)])


def _parts(table: Tensor) -> Iterator[slice]:
    """Slices of rows; one of all rows on an accelerator, which is slowed by many small steps."""
    rows = len(table)
    if table.device.type == "cpu":
        rows = max(PART_BYTES // max(table.shape[-1] * table.element_size(), 1), 1)
    for first in range(0, max(len(table), 1), max(rows, 1)):
        yield slice(first, first + rows)
