"""Collecting pairs in groups: the same directions for any memory, which does bound what is held."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab import Behaviour
from trimtab.behaviours.pairs import build_pairs
from trimtab.errors import VectorError
from trimtab.training.directions import estimate
from trimtab.training.progress import Progress, ignore
from trimtab.training.states import PairInput, collect_contrast

PAIR = 2 * 4 * 32 * 4  # bytes of one pair's states in a tiny model


@pytest.fixture(scope="module")
def pairs(tiny_llama) -> list[PairInput]:
    built = build_pairs(Behaviour.load("happy"), tiny_llama, max_pairs=23)
    return [PairInput(pair.positive, pair.negative) for pair in built]


def collected(engine, pairs, *, method="mean_difference", memory=10**9, progress=ignore):
    return collect_contrast(engine, pairs, method=method, memory=memory, progress=progress)


@pytest.mark.parametrize("method", ["mean_difference", "pca_center", "logistic"])
def test_directions_equal_those_of_states_read_one_by_one(tiny_llama, pairs, method):
    positive, negative = (
        np.concatenate([tiny_llama.hidden_states([getattr(pair, side)]) for pair in pairs])
        for side in ("positive", "negative")
    )
    contrast = collected(tiny_llama, pairs, method=method)
    for layer in range(4):
        slow = estimate(method, positive[:, layer], negative[:, layer])
        np.testing.assert_allclose(contrast.direction(method, layer), slow, atol=1e-3)
        right = float(((positive - negative)[:, layer] @ slow > 0).mean())
        assert contrast.separation(slow, layer) == pytest.approx(right)


@pytest.mark.parametrize("groups", [2, 5, 23])
def test_any_memory_gives_the_same_directions(tiny_llama, pairs, groups):
    whole = collected(tiny_llama, pairs)
    small = collected(tiny_llama, pairs, memory=-(-len(pairs) // groups) * PAIR)
    assert small.sums.pairs == whole.sums.pairs == len(pairs)
    np.testing.assert_allclose(small.sums.total, whole.sums.total, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(small.sample, whole.sample, atol=1e-4)
    assert small.collection.prompts == whole.collection.prompts == 2 * len(pairs)
    assert small.collection.distinct >= whole.collection.distinct


def test_collect_contrast_respects_memory_limit(tiny_llama, pairs, monkeypatch):
    largest = 0
    collect = type(tiny_llama).collect

    def watched(self, texts, **options):
        nonlocal largest
        found = collect(self, texts, **options)
        largest = max(largest, found.states.nbytes)
        return found

    monkeypatch.setattr(type(tiny_llama), "collect", watched)
    collected(tiny_llama, pairs, memory=5 * PAIR)
    assert largest <= 5 * PAIR


@pytest.mark.parametrize(("method", "memory"), [("logistic", 22 * PAIR), ("lda", 22 * PAIR), ("pca_center", 1000)])
def test_collect_contrast_too_large_raises_with_fix(tiny_llama, pairs, method, memory):
    with pytest.raises(VectorError, match="allow more memory"):
        collected(tiny_llama, pairs, method=method, memory=memory)


def test_pairs_with_spans_are_averaged_over_them(tiny_llama):
    given = [PairInput((1, 2, 3, 4 + n), (1, 2, 9, 8, 7 + n), ((1, None), (2, 4))) for n in range(3)]
    contrast = collected(tiny_llama, given)
    slow = sum(
        tiny_llama.hidden_states([pair.positive], position="all")[0][1:].mean(0)
        - tiny_llama.hidden_states([pair.negative], position="all")[0][2:4].mean(0)
        for pair in given
    )
    np.testing.assert_allclose(contrast.sums.total, slow, rtol=1e-3, atol=1e-4)


def test_progress_counts_prompts_over_all_groups(tiny_llama, pairs):
    steps: list[Progress] = []
    collected(tiny_llama, pairs, memory=6 * PAIR, progress=steps.append)
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert steps[-1].done == steps[-1].total == 2 * len(pairs)


def test_collect_contrast_out_of_memory_has_note(tiny_llama, pairs, monkeypatch):
    import torch

    forward = type(tiny_llama.model.model).forward

    def small(self, input_ids=None, **options):
        if input_ids.numel() > 40:
            raise torch.OutOfMemoryError("no more")
        return forward(self, input_ids=input_ids, **options)

    whole = collected(tiny_llama, pairs)
    monkeypatch.setattr(type(tiny_llama.model.model), "forward", small)
    steps: list[Progress] = []
    found = collected(tiny_llama, [PairInput(p.positive[-30:], p.negative[-30:]) for p in pairs], progress=steps.append)
    assert any("memory ran out" in step.note for step in steps)
    assert found.sums.pairs == whole.sums.pairs
