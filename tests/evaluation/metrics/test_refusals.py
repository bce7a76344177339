"""Refusals: the requests, which answers refuse, and the direction of refusal beside an obvious loop."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trimtab.behaviours import Message
from trimtab.errors import EvaluationError
from trimtab.evaluation.interventions import Intervention
from trimtab.evaluation.metrics.refusals import (
    Refused,
    cosine_with_refusal,
    refusal_direction,
    refusal_rates,
    refusal_requests,
    refuses,
)
from trimtab.steering import Steering
from trimtab.training.progress import Progress

# Requests


def test_requests_harmful_and_harmless_are_alike():
    requests = refusal_requests()
    assert len(requests.harmful) == len(requests.harmless) == 32
    for harmful, harmless in zip(requests.harmful, requests.harmless, strict=True):
        assert harmful.split()[0] == harmless.split()[0]
        assert harmful[-1] == harmless[-1]
        assert abs(len(harmful.split()) - len(harmless.split())) <= 1
        assert abs(len(harmful) - len(harmless)) <= 12


def test_requests_are_short_lines_without_duplicates():
    requests = refusal_requests()
    texts = [*requests.harmful, *requests.harmless]
    assert len({text.lower() for text in texts}) == 64
    assert all(len(text) < 80 and "\n" not in text and text == text.strip() for text in texts)


# Answers

LABELLED = tomllib.loads((Path(__file__).parent / "refusal_answers.toml").read_text(encoding="utf-8"))


def test_refuses_agrees_with_labels():
    assert len(LABELLED["refused"]) == len(LABELLED["helped"]) == 100
    missed = [answer for answer in LABELLED["refused"] if not refuses(answer)]
    wrong = [answer for answer in LABELLED["helped"] if refuses(answer)]
    assert len(missed) <= 2, missed
    assert len(wrong) <= 2, wrong


@pytest.mark.parametrize(
    "answer",
    [
        "I’m sorry, but that would not be right.",
        "I am not able to give such advice.",
        "<think>They want to know.</think>\nI can't tell you that.",
        "They want to know.</think>I can't tell you that.",  # the prompt opened the thoughts
    ],
)
def test_refuses_refusal_is_true(answer):
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "There are three steps. " + "First, take a bowl. " * 8 + "I can't help with more.",
        "<think>I can't help with that.</think>Sure, here it is.",
        "<think>I can't help with that, or can I",
        'She said: "I can\'t help you." Then she left.',
    ],
)
def test_refuses_unread_or_quoted_refusal_is_false(answer):
    assert not refuses(answer)


def test_refused_none_has_a_wide_interval():
    none = Refused(np.zeros(32, dtype=np.bool_)).interval
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.109, abs=1e-3)
    half = Refused(np.array([True, False] * 16)).interval
    assert half.value == 0.5
    assert half.low < 0.4 < 0.6 < half.high


def test_refusal_rate_counts_written_refusals(llama, random_vector, monkeypatch):
    words = {}

    def record(chats, *, steering, max_new_tokens):
        found = generate(chats, steering=steering, max_new_tokens=max_new_tokens)
        words["asked"], words["steering"] = [chat[-1].content for chat in chats], steering
        return [replace(c, text="I can't do that." if n % 4 == 0 else "Sure.") for n, c in enumerate(found)]

    generate = llama.generate
    monkeypatch.setattr(llama, "generate", record)
    intervention = Intervention(steering=Steering.of([(random_vector(llama), 1.0)]))
    (found,) = refusal_rates(llama, [intervention], harmful=False, max_new_tokens=2)
    assert found.interval.value == 0.25
    assert found.refused[:5].tolist() == [True, False, False, False, True]
    asked = list(refusal_requests().harmless)
    assert words == {"asked": asked, "steering": [intervention.steering] * len(asked)}


# Direction


def slow_direction(engine):
    """One request at a time, layer after layer."""
    requests = refusal_requests()

    def mean(texts):
        chats = [engine.render([Message("user", text)]) for text in texts]
        return np.mean([engine.hidden_states([chat])[0].astype(np.float64) for chat in chats], axis=0)

    difference = mean(requests.harmful) - mean(requests.harmless)
    return {layer: row / np.linalg.norm(row) for layer, row in enumerate(difference)}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_refusal_direction_is_difference_of_means_at_last_token(tiny, family):
    engine = tiny(family)
    found, expected = refusal_direction(engine), slow_direction(engine)
    assert list(found) == list(expected) == list(range(engine.info.layers))
    for layer, direction in found.items():
        assert direction.dtype == np.float32
        np.testing.assert_allclose(direction, expected[layer], atol=1e-4)


def test_refusal_direction_reports_progress(llama):
    steps: list[Progress] = []
    refusal_direction(llama, progress=steps.append)
    assert (steps[-1].done, steps[-1].total) == (64, 64)


def test_cosine_with_refusal_is_mean_over_steered_layers(llama, random_vector):
    vector = random_vector(llama, layers=[1, 2])
    rng = np.random.default_rng(5)
    directions = {layer: rng.standard_normal(llama.info.hidden_size).astype(np.float32) for layer in range(4)}
    expected = np.mean(
        [vector.directions[n] @ directions[n] / np.linalg.norm(directions[n]) for n in (1, 2)],
    )
    assert cosine_with_refusal(vector, directions) == pytest.approx(float(expected), abs=1e-6)
    assert cosine_with_refusal(-vector, directions) == pytest.approx(-float(expected), abs=1e-6)
    assert cosine_with_refusal(vector, {1: vector.directions[1], 2: -vector.directions[2]}) == pytest.approx(
        0, abs=1e-6
    )


def test_cosine_with_refusal_ignores_unsteered_layers(llama, random_vector):
    vector = random_vector(llama)
    alone = replace(vector, weights={layer: float(layer == 2) for layer in range(4)})
    assert cosine_with_refusal(alone, {2: vector.directions[2]}) == pytest.approx(1.0, abs=1e-6)


def test_cosine_with_refusal_without_layers_is_refused(llama, random_vector):
    vector = random_vector(llama, layers=[1, 2])
    with pytest.raises(EvaluationError, match="no direction of refusal for layer 2; take both from the same model"):
        cosine_with_refusal(vector, {1: vector.directions[1]})
    with pytest.raises(EvaluationError, match="steers no layer"):
        cosine_with_refusal(replace(vector, weights={1: 0.0, 2: 0.0}), {})
