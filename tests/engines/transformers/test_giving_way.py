"""Answers beside work in batches, which gives way between its passes: neither changes the other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from by_hand import traces_in
from neutral_vectors import reader_for
from tiny_models import vector_for
from trimtab.behaviours import Behaviour
from trimtab.engines.protocol import ForcedItem, PersonaContrast
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.forward.steer import SteeringHooks
from trimtab.engines.transformers.model.context import ModelLock, model_lock
from trimtab.steering import Term
from trimtab.training.train import train

Make = Callable[..., TransformersEngine]
PROMPTS = ["Hi", "How was your day at the sea?"]
ITEMS = [ForcedItem((5, 6, n), ((7, 8, n), (n, n)), 0) for n in range(10, 40)]
TEXTS = [tuple(range(n, n + 12)) for n in range(40)]
CONTRASTS = [PersonaContrast((5, 6, n), (7, n), (8, n), ((9, n), (n,))) for n in range(24)]


def added_to(engine: TransformersEngine) -> dict[int, Any]:
    return {1: np.full(engine.info.hidden_size, 0.5, dtype=np.float32)}


def measure(engine: TransformersEngine) -> Any:
    forcing = engine.teacher_forcing(ITEMS)
    scores = forcing.measure(added_to(engine))
    return [each.tolist() for each in (*forcing.base.logprob, *scores.logprob, scores.kl)]


def gradients(engine: TransformersEngine) -> Any:
    assert engine.gradients is not None
    slopes = engine.gradients.ratio_gradients(CONTRASTS)
    made = slopes.at(added_to(engine), range(len(CONTRASTS)), factors={"+": 1.0, "-": 0.5}, prices={"+": 1.0, "-": 1})
    return made.ratio, made.kl, made.gradient[1].tolist()


WORK: dict[str, Callable[[TransformersEngine], Any]] = {
    "collect": lambda engine: engine.collect(TEXTS, max_tokens=12).states.tolist(),
    "scores": lambda engine: engine.scores(PROMPTS * 4, reader_for(engine)).tolist(),
    "teacher_forcing": measure,
    "greedy_scores": lambda engine: [each.tolist() for each in engine.greedy_scores(ITEMS, max_tokens=8).logprob],
    "gradients": gradients,
}


def answers(engine: TransformersEngine) -> list[Any]:
    mixes = [None, [Term(vector_for(engine), coefficient=0.5)]]
    asked = [engine.submit(prompt, steering=mix, max_new_tokens=24) for prompt in PROMPTS for mix in mixes]
    return [(done.tokens, done.receipt.tokens) for done in (each.result() for each in asked)]


@contextmanager
def answering(engine: TransformersEngine) -> Iterator[list[Any]]:
    """Inside, another thread asks for answers without pause."""
    done, given = threading.Event(), list[Any]()

    def ask() -> None:
        while not done.is_set():
            given.append(answers(engine))

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        try:
            yield given
        finally:
            done.set()
        asking.result(timeout=100)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether others had the model, for each time that a call gave way to them."""
    given: list[bool] = []
    give_way = ModelLock.give_way

    def counted(lock: ModelLock) -> None:
        before = lock._since
        give_way(lock)
        given.append(lock._since != before)

    monkeypatch.setattr(ModelLock, "give_way", counted)
    return given


@pytest.mark.parametrize("name", WORK)
def test_work_and_answers_beside_it_are_those_alone(tiny: Make, ways: list[bool], name: str) -> None:
    engine = tiny("llama")
    work, alone = WORK[name](engine), answers(engine)
    assert len(ways) > 1
    assert not any(ways)
    with answering(engine) as given:
        for _ in range(200):
            assert WORK[name](engine) == work
            if sum(ways) > 5:
                break
    assert sum(ways) > 5
    assert given
    assert all(each == alone for each in given)
    assert traces_in(engine.model) == []


def test_hooks_left_on_while_giving_way_change_answers(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the tests above would see it."""
    engine = tiny("llama")
    alone = answers(engine)
    give_way = ModelLock.give_way

    def steered(lock: ModelLock) -> None:
        with SteeringHooks(engine.blocks, added_to(engine), sink=True):
            give_way(lock)

    monkeypatch.setattr(ModelLock, "give_way", steered)
    with answering(engine) as given:
        for _ in range(200):
            WORK["collect"](engine)
            if any(each != alone for each in given):
                return
    assert any(each != alone for each in given)


def test_training_beside_answers_makes_the_same_vector(tiny_llama: TransformersEngine, ways: list[bool]) -> None:
    def trained() -> Any:
        made = train(tiny_llama, Behaviour.load("happy"), effort="quick", seed=0)
        return made.scale, {layer: direction.tolist() for layer, direction in made.directions.items()}

    vector, alone = trained(), answers(tiny_llama)
    assert not any(ways)
    with answering(tiny_llama) as given:
        assert trained() == vector
    assert any(ways)
    assert all(each == alone for each in given)
    assert traces_in(tiny_llama.model) == []


def test_model_in_training_mode_is_not_given_away(tiny: Make, ways: list[bool]) -> None:
    engine = tiny("llama")
    engine.model.train()
    WORK["collect"](engine)
    assert ways == []
    assert engine.model.training
    assert not model_lock(engine.model).held
