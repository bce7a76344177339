"""Sums over vocabularies in parts are those over the whole."""

from __future__ import annotations

import pytest
import torch

from trimtab.engines.transformers.score import logits
from trimtab.engines.transformers.score.kl import expected_difference
from trimtab.engines.transformers.score.logits import log_normalizers


@pytest.mark.parametrize("rows", [0, 1, 3, 7, 8])
@pytest.mark.parametrize("part", [1, 3 * 4 * 50, 10**9])
def test_sums_in_parts_equal_the_whole_to_the_bit(monkeypatch, rows, part):
    monkeypatch.setattr(logits, "PART_BYTES", part)
    draw = torch.Generator().manual_seed(rows)
    one, other = (torch.randn(rows, 50, generator=draw) * 20 for _ in range(2))
    one[:, 3] = -torch.inf  # what a model never says
    assert torch.equal(log_normalizers(one), one.logsumexp(-1))

    one, weights = one.clamp(min=-90.0), one.softmax(-1)
    assert torch.equal(expected_difference(weights, one, other), torch.linalg.vecdot(weights, one - other))


def test_log_normalizers_large_vocabulary_goes_row_by_row(monkeypatch):
    monkeypatch.setattr(logits, "PART_BYTES", 8)
    values = torch.arange(24.0).reshape(4, 6)
    assert torch.equal(log_normalizers(values), values.logsumexp(-1))
