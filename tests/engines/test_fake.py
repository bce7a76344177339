"""Fake engine: the contract of a real one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from threading import Barrier, Thread

import numpy as np
import pytest

from sample_vectors import make_vector, safe_range
from trimtab.behaviours import Behaviour
from trimtab.engines import compare_answers, opposite_steering
from trimtab.engines.fake import END, FakeEngine, changed
from trimtab.engines.protocol import ForcedItem
from trimtab.errors import CancelledGenerationError, PromptError, SteeringError
from trimtab.steering import Steering, Term
from trimtab.steering.operators import Rotate
from trimtab.training.train import train


@pytest.fixture(scope="module")
def engine():
    return FakeEngine()


@pytest.fixture(scope="module")
def vector(engine):
    return train(engine, Behaviour.load("happy"), refine=0, max_pairs=24, check=False)


def test_import_needs_no_torch():
    code = "import trimtab.engines.fake, sys; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_encode_then_decode_returns_text(engine):
    assert engine.decode(engine.encode("Hello, you!\n")) == "Hello, you!\n"
    assert engine.decode(engine.encode("né")) == "n?"


def test_marked_chat_counts_users_words_only(engine):
    marked = engine.marked([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi you"}])
    words = "".join(c for c, counts in zip(marked.text, marked.words[1:], strict=True) if counts)
    assert words == "Hi you"
    turn = marked.turns[1]
    assert engine.decode(marked.tokens[turn.start : turn.stop]) == "Hi you"
    assert marked.text[marked.opening :] == "assistant: "


def test_hidden_states_depend_on_nothing_after_them(engine):
    short, long = (engine.collect([text], position="all").states for text in ("Hello", "Hello there"))
    np.testing.assert_array_equal(long[: len(short)], short)


def test_hidden_states_at_positions_agree_with_all_of_them(engine):
    every = engine.collect(["Hello there"], position="all").states
    np.testing.assert_array_equal(engine.collect(["Hello there"]).states[0], every[-1])
    np.testing.assert_array_equal(engine.collect(["Hello there"], position=3, layers=[1]).states[0, 0], every[3, 1])
    mean = engine.collect(["Hello there"], position="mean", span=(1, 5)).states[0]
    np.testing.assert_allclose(mean, every[1:5].mean(axis=0), atol=1e-6)


def test_greedy_logprob_equals_forced_one(engine, vector):
    for steering in (None, [(vector, 0.7)]):
        [completion] = engine.generate(["Hello"], steering=steering, max_new_tokens=8)
        prompt = engine.marked("Hello").tokens
        forcing = engine.teacher_forcing([ForcedItem(prompt, (completion.tokens,), 0)])
        scores = forcing.measure(Steering.of(steering).compile(engine.info).changes)
        assert scores.logprob[0][0] == pytest.approx(completion.logprob)
        assert (scores.mean_kl > 0) == (steering is not None)


def test_base_scores_have_no_kl(engine):
    base = engine.teacher_forcing([ForcedItem(engine.encode("Hi"), (engine.encode("you")[1:],), 0)]).base
    assert base.mean_kl == 0
    assert base.kl_tokens.tolist() == [3]


def test_generate_rows_have_separate_steering(engine, vector):
    rows = [None, [(vector, 1.0)], [(vector, -1.0)]]
    batch = engine.generate(["Hello"] * 3, steering=rows, max_new_tokens=8)
    alone = [engine.generate(["Hello"], steering=row, max_new_tokens=8)[0] for row in rows]
    assert [c.tokens for c in batch] == [c.tokens for c in alone]
    assert [c.receipt.tokens > 0 for c in batch] == [False, True, True]
    assert batch[1].receipt.terms[0].shift > 0


def test_sampling_repeats_with_its_seed(engine):
    first, second, other = (
        engine.generate(["Hello"], temperature=1.0, seed=seed, max_new_tokens=12)[0].tokens for seed in (1, 1, 2)
    )
    assert first == second != other
    twice = engine.generate(["Hello"] * 2, temperature=1.0, seed=1, max_new_tokens=12)
    assert twice[0].tokens == first != twice[1].tokens


def test_answer_stops_at_its_end():
    engine = FakeEngine()
    ended = [engine.generate(["Hi"], temperature=20.0, seed=seed, max_new_tokens=60)[0] for seed in range(20)]
    assert any(c.finish_reason == "stop" for c in ended)
    for completion in ended:
        assert (completion.tokens[-1] == END) == (completion.finish_reason == "stop")
        assert END not in completion.tokens[:-1]


def test_scope_steers_its_own_thread_only(engine, vector):
    plain = engine.generate(["Hello"], max_new_tokens=8)[0].tokens
    barrier, answers = Barrier(2), {}

    def steered():
        with engine.steered([(vector, 2.0)]):
            barrier.wait()
            answers["steered"] = engine.generate(["Hello"], max_new_tokens=8)[0]
            barrier.wait()

    def unsteered():
        barrier.wait()
        answers["plain"] = engine.generate(["Hello"], max_new_tokens=8)[0]
        barrier.wait()

    threads = [Thread(target=steered), Thread(target=unsteered)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers["plain"].tokens == plain != answers["steered"].tokens
    assert answers["plain"].receipt.tokens == 0 < answers["steered"].receipt.tokens


def test_steering_it_cannot_do_is_refused(engine, vector):
    with pytest.raises(SteeringError, match="steers all tokens"):
        engine.generate(["Hi"], steering=[Term(vector, 1.0, tokens="generated")])


def test_vector_of_another_model_is_refused(engine):
    with pytest.raises(Exception, match="is for"):
        engine.generate(["Hi"], steering=[(make_vector(), 1.0)])


def test_rotation_keeps_length_and_stops_at_direction(engine, vector):
    rotate = Term(vector, coefficient=10.0, operator=Rotate())
    [compiled] = Steering((rotate,)).compile(engine.info).terms
    layer, change = next(iter(compiled.changes.items()))
    hidden = np.random.default_rng(0).standard_normal((5, engine.info.hidden_size))
    moved = changed(hidden, change)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.linalg.norm(hidden, axis=1))
    along = moved @ vector.directions[layer].astype(np.float64)
    np.testing.assert_allclose(along, np.linalg.norm(hidden, axis=1), rtol=1e-6)


def test_training_twice_gives_same_vector(engine, vector):
    again = train(engine, Behaviour.load("happy"), refine=0, max_pairs=24, check=False)
    for layer, direction in vector.directions.items():
        np.testing.assert_array_equal(again.directions[layer], direction)
    assert again.scale == vector.scale
    assert vector.calibration.kl["+"] == pytest.approx(0.4, rel=0.05)


def test_prompt_longer_than_window_is_refused():
    with pytest.raises(PromptError, match="shorten"):
        FakeEngine(context_window=5).generate(["Hello, you"])


# Receipts beyond the safe range, and opposite steerings


def test_receipt_says_what_is_beyond_safe_range(engine, vector):
    safe = replace(vector, safe=safe_range())
    answer = engine.generate(["Hi"], steering=[(safe, 1.0), (safe, 0.5)], max_new_tokens=2)[0]
    beyond, inside = answer.receipt.terms
    assert (beyond.beyond_safe.limit, inside.beyond_safe) == ("relevance", None)
    written = json.loads(json.dumps(answer.to_json()))["receipt"]["terms"]
    assert written[0]["beyond_safe"] == {"strength": 1.0, "low": -0.5, "high": 0.75, "limit": "relevance"}
    assert written[1]["beyond_safe"] is None
    assert "happy:1 is beyond its safe range (-0.5 to +0.75): answers leave the question" in answer._repr_html_()
    assert "limit='relevance'" in repr(answer.receipt)


@pytest.mark.parametrize(
    ("safe", "plus", "minus"),
    [
        (None, "happy:0.5", "happy:-0.5"),
        (safe_range(-0.25, 1.0), "happy:0.5", "happy:-0.25"),
        (safe_range(-0.75, 0.25), "happy:0.25", "happy:-0.5"),
        (safe_range(0.0, 1.0), "happy:0.5", "happy:-0.5"),  # no negative strength is safe
    ],
    ids=["unmeasured", "narrow -", "narrow +", "no -"],
)
def test_compare_answers_has_default_of_each_sign(engine, vector, safe, plus, minus):
    compared = compare_answers(engine, ["Hi"], replace(vector, safe=safe), max_new_tokens=2)
    assert (compared.steering, compared.opposite) == (plus, minus)
    assert [answer.receipt.steering for _, answers in compared.rows() for answer in answers] == ["none", plus, minus]


@pytest.mark.parametrize(
    ("text", "opposite"),
    {
        "happy:-0.25": "happy:0.5",
        "happy:0.75": "happy:-0.75",
        "happy:0.5 + happy:1": "happy:-0.25 + happy:-1",
        "happy:coefficient=0.1": "happy:coefficient=-0.1",
        "ablate(happy)": "ablate(happy)",
    }.items(),
)
def test_opposite_steering_keeps_given_strengths(text, opposite):
    vector = make_vector(safe=safe_range(-0.25, 1.0))
    assert str(opposite_steering(Steering.of(text, find=lambda _: vector))) == opposite


def test_submit_streams_what_the_completion_has(engine):
    handle = engine.submit("Hello", max_new_tokens=12, logprobs=2)
    tokens = list(handle)
    completion = handle.result(10)
    assert "".join(token.text for token in tokens) == completion.text
    assert [token.token for token in tokens] == list(completion.tokens)
    assert completion.tokens == engine.generate(["Hello"], max_new_tokens=12)[0].tokens
    assert all(token.logprob.alternatives[0].token == token.token for token in tokens)


def test_submit_with_stop_string_holds_it_back(engine):
    text = engine.submit("Hello", max_new_tokens=20).result(10).text
    handle = engine.submit("Hello", max_new_tokens=20, stop=[text[5:8]])
    assert "".join(token.text for token in handle) == text[: text.index(text[5:8])]
    assert handle.result(10).stopped_by == text[5:8]


def test_submit_with_choices_writes_the_likeliest(engine, vector):
    completion = engine.submit("Hello", constraint={"choice": ["yes", "no"]}, steering=[(vector, 1.0)]).result(10)
    (choices,) = engine.choose(["Hello"], ["yes", "no"])
    assert completion.text == choices.best
    assert completion.receipt.reason == "constrained"
    assert completion.receipt.tokens == 0


def test_cancelled_submit_raises(engine):
    handle = engine.submit("Hello", max_new_tokens=2000, ignore_eos=True)
    handle.cancel()
    with pytest.raises(CancelledGenerationError):
        handle.result(10)
