"""Uses that once went wrong in silence: fading, scopes of others, broken weights, switched modes, padded batches."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import trimtab
from architectures.building import build, every_architecture, quietly
from tiny_models import byte_tokenizer, vector_for
from trimtab import Behaviour
from trimtab.engines.fake import FakeEngine
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.doctor.checks import try_out
from trimtab.errors import ModelError, PromptError, SteeringError
from trimtab.steering import Steering, Term
from trimtab.training.readers import fit_reader, fit_threshold

# Fading


@pytest.mark.parametrize("schedule", ["from 60, half-life 2", "generated, half-life 1", "first 80, half-life 0.5"])
def test_faded_steering_is_no_error(tiny: Callable[..., TransformersEngine], schedule: str) -> None:
    engine = tiny("llama", max_position_embeddings=512)
    vector = vector_for(engine, layers=[1, 2])
    answer = engine.generate("Hi", steering=Steering((Term(vector, 1.0, tokens=schedule),)), max_new_tokens=90)
    assert answer.finish_reason == "stop" or len(answer.tokens) == 90


def test_steering_too_small_at_full_strength_still_raises(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama", dtype=torch.bfloat16)
    faint = Term(vector_for(engine, layers=[1]), coefficient=1e-12)
    for term in (faint, replace(faint, tokens="generated, half-life 3")):
        with pytest.raises(SteeringError, match="too small"):
            engine.generate("Hi", steering=Steering((term,)), max_new_tokens=8)


# Scopes


@pytest.fixture
def pair(tiny: Callable[..., TransformersEngine]) -> tuple[TransformersEngine, TransformersEngine]:
    """Two engines over one model."""
    first = tiny("llama", max_position_embeddings=8192)
    return first, TransformersEngine(first.model, first.tokenizer, name="second")


LEARNING: dict[str, Callable[[Any, Any], object]] = {
    "train": lambda model, vector: trimtab.train(model, Behaviour.load("happy"), max_pairs=4, refine=0),
    "calibrate": trimtab.calibrate,
    "measure_spending": lambda model, vector: trimtab.measure_spending(model, [(vector, 1.0)]),
    "distill": lambda model, vector: trimtab.distill(model, "You are a pirate."),
    "evaluate": lambda model, vector: trimtab.evaluate(model, vector, behaviour=Behaviour.load("happy")),
    "fit_reader": lambda model, vector: fit_reader(model, ["a b c"] * 4, ["d e f"] * 4, name="x"),
    "fit_threshold": lambda model, vector: fit_threshold(model, vector, ["a b c"] * 4),
}


@pytest.mark.parametrize("learn", LEARNING.values(), ids=LEARNING)
@pytest.mark.parametrize("by", [0, 1], ids=["own scope", "scope of another engine"])
def test_learning_inside_steering_is_refused(
    pair: tuple[TransformersEngine, TransformersEngine], learn: Any, by: int
) -> None:
    vector = vector_for(pair[0], layers=[1])
    with (
        pair[by].steered([(vector, 1.0)]),
        pytest.raises(SteeringError, match=r"inside steered\('random:1'\)"),
    ):
        learn(pair[0], vector)
    pair[0].check_unsteered("work")


def test_fake_engine_learning_inside_steering_is_refused() -> None:
    engine = FakeEngine()
    vector = trimtab.train(engine, Behaviour.load("happy"), max_pairs=8, refine=0)
    with engine.steered([(vector, 0.5)]), pytest.raises(SteeringError, match="training inside steered"):
        trimtab.train(engine, Behaviour.load("happy"), max_pairs=8, refine=0)


def test_scope_of_another_engine_is_counted(pair: tuple[TransformersEngine, TransformersEngine]) -> None:
    first, second = pair
    vector = vector_for(first, layers=[1, 2], size=2.0)
    expected = first.generate("Hi", steering=[(vector, 1.0)], max_new_tokens=6)
    with first.steered([(vector, 1.0)]):
        inside = second.generate("Hi", max_new_tokens=6)
    assert inside.tokens == expected.tokens
    assert inside.receipt.tokens == expected.receipt.tokens > 0
    assert inside.receipt.steering == expected.receipt.steering
    assert second.generate("Hi", max_new_tokens=6).receipt.tokens == 0


# Modes that were switched on after loading


def test_training_mode_changes_nothing_and_is_kept(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("gpt2", resid_pdrop=0.5, embd_pdrop=0.5)
    vector = vector_for(engine, layers=[1])

    def results() -> list[Any]:
        answer = engine.generate("Hi", steering=[(vector, 1.0)], max_new_tokens=4)
        streamed = [token.text for token in engine.stream("Hi", max_new_tokens=4)]
        return [engine.hidden_states(["abc"]).tobytes(), answer.tokens, streamed]

    before = results()
    engine.model.train()
    engine.model.gradient_checkpointing_enable()
    assert results() == before
    assert all(module.training for module in engine.model.modules())


def test_tuples_in_config_are_refused(tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny("llama")
    engine.model.config.return_dict = False
    for use in (lambda: engine.hidden_states(["a"]), lambda: engine.generate("a", max_new_tokens=1)):
        with pytest.raises(ModelError, match="return_dict"):
            use()
    with pytest.raises(ModelError, match="return_dict"):
        TransformersEngine(engine.model, engine.tokenizer, name="x")


@pytest.mark.parametrize("send", [pickle.dumps, copy.deepcopy])
def test_engine_is_not_copied(llama: TransformersEngine, send: Callable[[Any], object]) -> None:
    with pytest.raises(ModelError, match=r"call trimtab\.load there"):
        send(llama)


# Numbers that are none


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_named(tiny: Callable[..., TransformersEngine], value: float) -> None:
    engine = tiny("llama", max_position_embeddings=8192)
    vector = vector_for(engine, layers=[1])
    with torch.no_grad():
        engine.model.model.layers[1].mlp.down_proj.weight[0, 0] = value
    uses: list[Callable[[], object]] = [
        lambda: engine.hidden_states(["abc"]),
        lambda: engine.read("a friend", [vector]),
        lambda: engine.generate("Hi", max_new_tokens=2),
        lambda: engine.generate("Hi", max_new_tokens=2, temperature=1.0),
        lambda: trimtab.train(engine, Behaviour.load("happy"), max_pairs=4, refine=0),
    ]
    for use in uses:
        with pytest.raises(ModelError, match=r"not finite from layer 1 on|are not numbers"):
            use()


# Prompts of every kind


def test_iterables_of_prompts_are_taken(llama: TransformersEngine) -> None:
    expected = [answer.text for answer in llama.generate(["a", "b"], max_new_tokens=2)]

    def generated() -> Iterator[str]:
        yield from ("a", "b")

    for prompts in (("a", "b"), generated(), np.array(["a", "b"]), {"a": 1, "b": 2}.keys()):
        assert [answer.text for answer in llama.generate(prompts, max_new_tokens=2)] == expected  # type: ignore[arg-type,union-attr]
    states = llama.hidden_states(text for text in ("a", "b"))  # type: ignore[arg-type]
    assert np.array_equal(states, llama.hidden_states(["a", "b"]))


@pytest.mark.parametrize("prompts", [None, 5, b"Hi", {"role": "user", "content": "Hi"}, [None], [5], [b"Hi"], [[]]])
def test_other_prompts_are_refused(llama: TransformersEngine, prompts: Any) -> None:
    with pytest.raises(PromptError, match=r"is not a prompt|no messages"):
        llama.generate(prompts, max_new_tokens=1)


# Models whose batches differ from single answers

PADDING = ("BartForCausalLM", "RwkvForCausalLM", "RecurrentGemmaForCausalLM", "XLMWithLMHeadModel")


@pytest.mark.parametrize("name", [*PADDING, "LlamaForCausalLM"])
def test_rows_of_a_batch_equal_single_answers(name: str) -> None:
    architecture = next(a for a in every_architecture() if a.name == name)
    with quietly():
        engine = TransformersEngine(build(architecture), byte_tokenizer(), name=name)
        prompts = ["ab", "the quick brown fox jumps over", "hello you"]
        for steering in (None, [(vector_for(engine, layers=[1]), 0.3)]):
            together = engine.generate(prompts, steering=steering, max_new_tokens=6, raw=True)
            alone = [engine.generate(prompt, steering=steering, max_new_tokens=6, raw=True) for prompt in prompts]
            assert [answer.tokens for answer in together] == [answer.tokens for answer in alone]
            assert [answer.receipt.tokens for answer in together] == [answer.receipt.tokens for answer in alone]


def test_doctor_says_that_prompts_are_answered_one_by_one() -> None:
    architecture = next(a for a in every_architecture() if a.name == PADDING[0])
    with quietly():
        engine = TransformersEngine(build(architecture), byte_tokenizer(), name=PADDING[0])
        checks = try_out(engine)
    assert checks.state_of("batches") == "slow"
