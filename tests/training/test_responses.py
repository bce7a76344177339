"""Contrast from the model's own answers in character."""

from __future__ import annotations

import numpy as np
import pytest

import trimtab
from trimtab import Behaviour
from trimtab.errors import BehaviourError, VectorError
from trimtab.training.progress import ignore
from trimtab.training.states import pair_persona_answers


def answers(engine, *, max_pairs=6, temperature=0.0, seed=0):
    return pair_persona_answers(
        engine, Behaviour.load("happy"), max_pairs=max_pairs, temperature=temperature, seed=seed, progress=ignore
    )


def test_responses_are_prompts_with_generated_answers(tiny_llama):
    pairs = answers(tiny_llama)
    assert 2 <= len(pairs) <= 6
    for pair in pairs:
        assert pair.positive != pair.negative
        for tokens, (start, stop) in zip((pair.positive, pair.negative), pair.spans, strict=True):
            assert stop is None
            asked = tiny_llama.decode(tokens[:start])
            assert "[system]" in asked
            assert asked.endswith("[assistant]")
            assert 0 < len(tokens) - start <= 32


def test_sampled_answers_depend_on_the_seed_alone(tiny_llama):
    first, again, other = (answers(tiny_llama, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_training_from_responses_averages_over_the_answers(tiny_llama):
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), source="responses", max_pairs=6, calibrate=False)
    pairs = answers(tiny_llama)
    slow = np.mean(
        [
            tiny_llama.hidden_states([p.positive], position="all")[0][p.spans[0][0] :].mean(0)
            - tiny_llama.hidden_states([p.negative], position="all")[0][p.spans[1][0] :].mean(0)
            for p in pairs
        ],
        axis=0,
    )
    for layer, direction in vector.directions.items():
        np.testing.assert_allclose(direction, slow[layer] / np.linalg.norm(slow[layer]), atol=1e-3)
    assert vector.collection.prompts == 2 * len(pairs)


def test_responses_without_personas_or_source_raise(tiny_llama, tmp_path):
    (tmp_path / "given.toml").write_text(
        'name = "given"\npairs = [{positive = "a", negative = "b"}, {positive = "c", negative = "d"}]\n'
        '[positive]\nlabel = "x"\n[negative]\nlabel = "y"\n'
    )
    with pytest.raises(BehaviourError, match="no personas"):
        trimtab.train(tiny_llama, Behaviour.load(tmp_path / "given.toml"), source="responses")
    with pytest.raises(VectorError, match="no source named 'dreams'"):
        trimtab.train(tiny_llama, Behaviour.load("happy"), source="dreams")
