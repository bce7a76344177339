"""Sums over whole vocabularies, a few rows at a time: what is in between then stays in the processor's cache.

A table of logits is tens of megabytes, so on a CPU most of the time of ``logsumexp`` goes into memory for the
differences and exponentials that it puts aside. Row by row the results are the same to the bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

PART_BYTES = 2 * 1024**2


def totals(logits: Tensor) -> Tensor:
    """Log Σ exp over the last dimension of ``[row, vocabulary]``."""
    return torch.cat([part.logsumexp(-1) for part in torch.split(logits, _rows(logits))])


def weighted_gaps(weights: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Σ weights · (one - other) over the last dimension of tables ``[row, vocabulary]``."""
    parts = zip(*(torch.split(table, _rows(one)) for table in (weights, one, other)), strict=True)
    return torch.cat([torch.linalg.vecdot(weight, this - that) for weight, this, that in parts])


def _rows(table: Tensor) -> int:
    """How many rows at a time: all on an accelerator, which is slowed by many small steps."""
    rows = len(table)
    if table.device.type == "cpu":
        rows = PART_BYTES // (table.shape[-1] * table.element_size())
    return max(rows, 1)
