"""Neutral statistics beside an obvious loop over chats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import trimtab
from tiny_models import vector_for
from trimtab import Behaviour, ControlVector
from trimtab.behaviours import neutral_prompts
from trimtab.errors import VectorError
from trimtab.training.checkpoint import Checkpoint
from trimtab.training.neutral import GROUP, add_neutral, measure_neutral
from trimtab.training.progress import Progress, ignore
from trimtab.training.questions import CalibrationSet, Question
from trimtab.vectors import PERCENTS

HALVES = neutral_prompts()
CHATS = (*HALVES.calibration, *HALVES.held_out)


@pytest.fixture(scope="module")
def directions(tiny_llama, random_vector):
    return random_vector(tiny_llama, layers=[1, 3]).directions


@pytest.fixture(scope="module")
def questions(tiny_llama) -> list[Question]:
    """Answers to three neutral prompts, one of which ends with the token that ends a turn; and to another prompt."""
    stop = tiny_llama.stop_tokens[0]
    answers = {CHATS[0]: (40, 41, 42, stop), CHATS[50]: (50, 51), CHATS[7]: (60,), "Are you glad?": (70, 71)}
    return [Question(text, tiny_llama.marked(text).tokens, answer) for text, answer in answers.items()]


@pytest.fixture(scope="module")
def slow(tiny_llama, directions, questions):
    """Projections of single tokens, means and last tokens, chat after chat."""
    answers = {question.text: question.answer for question in questions}
    tokens, means, lasts = [], [], []
    along = np.stack([directions[layer] for layer in (1, 3)]).astype(np.float64)
    for chat in CHATS:
        marked = tiny_llama.marked(chat)
        answer = tuple(t for t in answers.get(chat, ()) if t not in tiny_llama.stop_tokens)
        states = tiny_llama.hidden_states([marked.tokens + answer], layers=[1, 3], position="all")[0]
        projected = np.array([[state[n].astype(np.float64) @ along[n] for n in (0, 1)] for state in states])
        prompt, replies = projected[: len(marked.tokens)], projected[len(marked.tokens) :]
        words = prompt[np.array(marked.words)]
        tokens += [*words, *replies]
        means.append(words.mean(axis=0))
        lasts.append(prompt[-1])
    return np.array(tokens), np.array(means), np.array(lasts)


@pytest.mark.parametrize("group", [GROUP, 1])
def test_neutral_equals_loop_over_chats(tiny_llama, directions, questions, slow, monkeypatch, group):
    monkeypatch.setattr("trimtab.training.neutral.GROUP", group)
    neutral = measure_neutral(tiny_llama, directions, questions=questions)
    tokens, means, lasts = slow
    assert neutral.prompts == len(CHATS)
    assert neutral.tokens == len(tokens)
    for pool, values in (("token", tokens), ("mean", means), ("last", lasts)):
        spread = neutral.spread(pool)
        for n, layer in enumerate((1, 3)):
            assert spread.mean[layer] == pytest.approx(values[:, n].mean(), abs=1e-4)
            assert spread.deviation[layer] == pytest.approx(values[:, n].std(ddof=1), rel=1e-3)
    for n, layer in enumerate((1, 3)):
        np.testing.assert_allclose(neutral.percentiles[layer], np.percentile(tokens[:, n], PERCENTS), atol=1e-3)


def test_neutral_without_answers_counts_prompt_words_only(tiny_llama, directions, questions):
    alone = measure_neutral(tiny_llama, directions)
    answered = measure_neutral(tiny_llama, directions, questions=questions)
    assert answered.tokens - alone.tokens == 3 + 2 + 1
    assert alone.tokens == sum(sum(tiny_llama.marked(chat).words) for chat in CHATS)
    assert alone.mean.mean[1] == pytest.approx(answered.mean.mean[1], abs=1e-5)


def test_neutral_excludes_default_system_prompt(smollm2):
    direction = np.zeros(smollm2.info.hidden_size, np.float32)
    direction[0] = 1.0
    neutral = measure_neutral(smollm2, {3: direction})
    marked = [smollm2.marked(chat) for chat in CHATS]
    asked = [turn for chat in marked for turn in chat.turns if turn.role == "user"]
    assert neutral.tokens == sum(turn.stop - turn.start for turn in asked)
    assert neutral.prompts == len(asked) == len(CHATS)


def test_neutral_constant_direction_has_positive_spread(tiny_llama, monkeypatch):
    collect = type(tiny_llama).collect

    def constant(self, texts, **options):
        collected = collect(self, texts, **options)
        collected.states[:] = 2.0
        return collected

    monkeypatch.setattr(type(tiny_llama), "collect", constant)
    direction = np.eye(tiny_llama.info.hidden_size, dtype=np.float32)[0]
    neutral = measure_neutral(tiny_llama, {0: direction})
    for pool in ("token", "mean", "last"):
        assert neutral.spread(pool).mean[0] == pytest.approx(2.0)
        assert 0 < neutral.spread(pool).deviation[0] < 1e-4


def test_neutral_non_finite_states_are_refused(tiny_llama, directions, monkeypatch):
    collect = type(tiny_llama).collect

    def broken(self, texts, **options):
        collected = collect(self, texts, **options)
        collected.states[-1] = np.inf
        return collected

    monkeypatch.setattr(type(tiny_llama), "collect", broken)
    with pytest.raises(VectorError, match="not finite"):
        measure_neutral(tiny_llama, directions)


def test_neutral_without_token_states_is_none(tiny_llama, directions, monkeypatch):
    monkeypatch.setattr(tiny_llama, "has_encoder", True)
    assert measure_neutral(tiny_llama, directions) is None
    assert measure_neutral(tiny_llama, {}) is None


def test_neutral_resumes_from_checkpoint(tiny_llama, directions, tmp_path, monkeypatch):
    store = Checkpoint(tmp_path / "x.sqlite", job="")
    asked = CalibrationSet.prepare(tiny_llama, None, held_out=0, checkpoint=store, progress=ignore)
    layers = dict.fromkeys(directions, 1.0)
    vector = replace(vector_for(tiny_llama), directions=directions, norms=layers, weights=layers)
    first = add_neutral(asked, vector, progress=ignore).neutral
    monkeypatch.setattr(type(tiny_llama), "collect", None)
    assert add_neutral(asked, vector, progress=ignore).neutral == first
    assert first is not None


def test_progress_counts_chats(tiny_llama, directions):
    steps: list[Progress] = []
    measure_neutral(tiny_llama, directions, progress=steps.append)
    assert steps[0].done == 0
    assert steps[-1].done == steps[-1].total == len(CHATS)


@pytest.mark.parametrize("calibrate", [True, False])
def test_train_measures_neutral(tiny_llama, calibrate, tmp_path):
    vector = trimtab.train(
        tiny_llama, Behaviour.load("happy"), max_pairs=8, layers=[2], calibrate=calibrate, check=False
    )
    assert sorted(vector.neutral.token.mean) == [0, 1, 2, 3]
    assert vector.neutral.prompts == len(CHATS)
    assert vector.neutral.tokens > measure_neutral(tiny_llama, vector.directions).tokens  # there were answers
    assert ControlVector.load(vector.save(tmp_path / "v.safetensors")).neutral == vector.neutral


def test_calibrate_measures_neutral(tiny_llama, random_vector):
    vector = random_vector(tiny_llama, layers=[1, 2])
    assert vector.neutral is None
    calibrated = trimtab.calibrate(tiny_llama, vector, check=False)
    assert sorted(calibrated.neutral.token.mean) == [1, 2]
