"""Random mixes, each row its own: every row is answered as if it were alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from by_hand import traces_in
from tiny_models import vector_for
from trimtab.engines import Completion
from trimtab.engines.transformers import TransformersEngine
from trimtab.steering import Ablate, Add, Bound, Cap, Clamp, Floor, Rotate, Scope, Steering, Term

ROWS = 16
PROMPTS: tuple[Any, ...] = (
    "Hi",
    "How was your day?",
    [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why the sea?"}],
    [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "Go on."},
    ],
)
SCOPES = ("", "prompt", "generated", "system", "user", "assistant", 'after:"sea"', 'before:"e"', 'after:"o"', "first 2")
MORE = ("from 2", "decay 3", "half-life 2", "generated, first 3, half-life 4", "answer")


class Mixes:
    """Draws steerings for one engine, of a few vectors on various layers."""

    def __init__(self, engine: TransformersEngine, seed: int, *, layers: int) -> None:
        self._noise = np.random.default_rng(seed)
        depth = range(engine.info.layers)
        self._vectors = [
            vector_for(engine, seed=n, layers=sorted(self._noise.choice(depth, layers, replace=False)))
            for n in range(4)
        ]

    def _operator(self, size: float) -> tuple[Any, float | None]:
        low, high = sorted(self._noise.uniform(-0.3, 0.3, 2) * size)
        return [
            (Add(), self._noise.uniform(-0.6, 0.6)),
            (Add(), self._noise.uniform(-0.6, 0.6)),
            (Add(preserve_norm=True), self._noise.uniform(-0.8, 0.8)),
            (Rotate(), self._noise.uniform(-0.8, 0.8)),
            (Rotate(float(self._noise.uniform(-60, 60))), None),
            (Ablate(), None),
            (Floor(Bound(low)), None),
            (Cap(Bound(high)), None),
            (Clamp(Bound(low), Bound(high)), None),
        ][self._noise.integers(9)]

    def term(self) -> Term:
        vector = self._vectors[self._noise.integers(len(self._vectors))]
        operator, coefficient = self._operator(float(np.mean(list(vector.norms.values()))))
        scope = (*SCOPES, *MORE)[self._noise.integers(len(SCOPES) + len(MORE))]
        own = vector.layers if self._noise.random() < 0.5 else vector.layers[:1]
        return Term(
            vector, None, coefficient, operator=operator, layers=own, tokens=Scope.of(scope) if scope else Scope()
        )

    def rows(self) -> list[Steering]:
        """A few rows share a steering, some have none."""
        steerings = [Steering(tuple(self.term() for _ in range(n % 5))) for n in range(12)]
        return [steerings[n] for n in self._noise.integers(0, len(steerings), ROWS)]


def assert_rows_are_as_alone(engine: TransformersEngine, prompts: list[Any], rows: list[Steering], count: int) -> None:
    together = engine.generate(prompts, steering=rows, max_new_tokens=count)
    for prompt, steering, found in zip(prompts, rows, together, strict=True):
        assert_same(found, engine.generate([prompt], steering=steering, max_new_tokens=count)[0])
    assert traces_in(engine.model) == []


def assert_same(found: Completion, alone: Completion) -> None:
    assert found.tokens == alone.tokens
    assert found.logprob == pytest.approx(alone.logprob, abs=1e-3)
    mine, theirs = found.receipt, alone.receipt
    assert (mine.steering, mine.layers, mine.tokens) == (theirs.steering, theirs.layers, theirs.tokens)
    assert [(t.term, t.layers, t.tokens) for t in mine.terms] == [(t.term, t.layers, t.tokens) for t in theirs.terms]
    for one, other in zip(mine.terms, theirs.terms, strict=True):
        assert (one.shift is None) == (other.shift is None) == (not one.tokens)
        if one.shift is not None:
            assert one.shift == pytest.approx(other.shift, rel=1e-2, abs=1e-5)


@settings(max_examples=13)
@given(st.integers(0, 2**32))
def test_random_mixes_equal_single_rows(llama: TransformersEngine, seed: int) -> None:
    mixes = Mixes(llama, seed, layers=2)
    prompts = [("Again " * (n // 4)) + p if isinstance(p := PROMPTS[n % 4], str) else p for n in range(ROWS)]
    assert_rows_are_as_alone(llama, prompts, mixes.rows(), 5)


def test_random_mixes_of_default_model_equal_single_rows(smollm2: TransformersEngine) -> None:
    rows = Mixes(smollm2, 3, layers=3).rows()
    prompts = ["Hi", "Name one fruit."] * (ROWS // 2)
    together = smollm2.generate(prompts, steering=rows, max_new_tokens=6)
    for n in (1, 6, 11):  # the others would take long
        assert_same(together[n], smollm2.generate([prompts[n]], steering=rows[n], max_new_tokens=6)[0])
    assert len({completion.tokens for completion in together}) > 4
