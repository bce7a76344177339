"""Prompts read as a tree before decoding begins: the answers equal those of each prompt alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from by_hand import greedily, traces_in
from tiny_models import BY_NAME, RECURRENT, Family, vector_for
from trimtab.engines.prefix_tree import CPU, Cost
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.decode.sampling import shared_prefill
from trimtab.vectors import ControlVector

Make = Callable[..., TransformersEngine]

SHARED = "<bos>The keeper of the light"  # longer than the window of the families that have one
SHARING = [
    SHARED,
    "<bos>The keeper of the sheep sat down",
    f"{SHARED}house counted the ships that came by",
    "<bos>The",
    SHARED,
    "<bos>A ship",
]
SHORT = ["<bos>A ship", "<bos>A sheep", "<bos>A shi", "<bos>Ah"]  # within it


def terms_of(engine: TransformersEngine, strength: float) -> list[tuple[ControlVector, float]]:
    return [(vector_for(engine, layers=[1, 2]), strength)] if strength else []


@pytest.fixture
def prefills(always_walking: None, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Prompts are read as a tree wherever the model allows it; for each batch from here on, whether they were."""
    seen: list[bool] = []

    def noting(*args: Any, cost: Cost, **kwargs: Any) -> Any:
        prefilled = shared_prefill(*args, cost=replace(cost, launch=0.0), **kwargs)
        seen.append(prefilled is not None)
        return prefilled

    monkeypatch.setattr("trimtab.engines.transformers.decode.answer.shared_prefill", noting)
    return seen


@pytest.mark.parametrize("prompts", [SHARING, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("strength", [0.0, -2.0])
def test_shared_prefill_equals_single_answers(
    family: Family, engine: TransformersEngine, strength: float, prompts: list[str], prefills: list[bool]
) -> None:
    """They are read as one tree first, the families with a window only up to it."""
    terms = terms_of(engine, strength)
    together = engine.generate(prompts, steering=terms, max_new_tokens=14, raw=True)
    windowed = family.name in {"gemma3", "mistral"} and prompts is SHARING
    assert prefills == [family.name != "falcon_alibi" and not windowed]
    blocks = family.blocks(engine.model)
    for prompt, completion in zip(prompts, together, strict=True):
        alone = engine.generate(prompt, steering=terms, max_new_tokens=14, raw=True)
        assert completion.tokens == alone.tokens
        assert completion.tokens == greedily(engine, blocks, engine.encode(prompt), 14, *terms)
        assert completion.logprob == pytest.approx(alone.logprob, abs=1e-3)
        assert completion.receipt.tokens == alone.receipt.tokens
    assert traces_in(engine.model) == []


@pytest.mark.parametrize("strength", [0.0, 1.5])
def test_shared_prefill_in_many_passes_equals_single_answers(
    llama: TransformersEngine, strength: float, prefills: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    terms = terms_of(llama, strength)
    alone = [llama.generate(prompt, steering=terms, max_new_tokens=8, raw=True) for prompt in SHARING]
    monkeypatch.setattr("trimtab.engines.transformers.forward.run.CPU", replace(CPU, max_tokens=5))
    together = llama.generate(SHARING, steering=terms, max_new_tokens=8, raw=True)
    assert prefills == [False] * len(SHARING) + [True]
    assert [c.tokens for c in together] == [c.tokens for c in alone]
    sampled = llama.generate(SHARING, steering=terms, max_new_tokens=8, raw=True, temperature=1.0, seed=3)
    assert (
        sampled[0].tokens
        == llama.generate(SHARING[0], steering=terms, max_new_tokens=8, raw=True, temperature=1.0, seed=3).tokens
    )
    with llama.steered(terms):
        scoped = llama.generate(SHARING, max_new_tokens=8, raw=True)
    assert [c.tokens for c in scoped] == [c.tokens for c in alone]


@pytest.mark.parametrize("name", [family.name for family in RECURRENT])
def test_recurrent_models_have_no_shared_prefill(tiny: Make, name: str, prefills: list[bool]) -> None:
    """That a tree does not suit them is found out in the middle of a pass, under steering."""
    engine = tiny(name)
    terms = terms_of(tiny(name), 1.0)
    together = engine.generate(SHORT, steering=terms, max_new_tokens=6, raw=True)
    assert prefills == [False]
    blocks = BY_NAME[name].blocks(engine.model)
    for prompt, completion in zip(SHORT, together, strict=True):
        assert completion.tokens == greedily(engine, blocks, engine.encode(prompt), 6, *terms)
    assert traces_in(engine.model) == []
