"""Vectors to read by, readings of texts, and thresholds, beside obvious loops over texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trimtab
from trimtab import Behaviour, ControlVector
from trimtab.behaviours import ContrastiveText, Message
from trimtab.errors import PromptError, SteeringError, VectorError, VectorMismatchError
from trimtab.evaluation.metrics.refusals import refusal_requests
from trimtab.reading import auroc
from trimtab.steering import Comparison, Steering, Term
from trimtab.training import readers
from trimtab.training.neutral import measure_neutral
from trimtab.training.progress import Progress
from trimtab.training.readers import FOLDS, LEAST, fit_reader, fit_threshold, readings
from trimtab.vectors import Reader
from trimtab.vectors.records import MOST_READINGS


def texts(kind: str, count: int, *, seed: int = 0) -> list[str]:
    """Words of capitals and digits, or of small letters; some of each are of the other kind."""
    random = np.random.default_rng([seed, kind == "loud"])
    loud, quiet = "ABCDEFG0123456789", "hijklmnopqrs"
    drawn = []
    for _ in range(count):
        mine, other = (loud, quiet) if kind == "loud" else (quiet, loud)
        drawn.append("".join(random.choice(list(mine if random.random() < 0.85 else other)) for _ in range(20)))
    return drawn


LOUD, QUIET = texts("loud", 30), texts("quiet", 40)
CHAT = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "first question"},
    {"role": "assistant", "content": "an answer"},
    {"role": "user", "content": "SECOND 123"},
]


@pytest.fixture(scope="module")
def loud(tiny_llama) -> ControlVector:
    return fit_reader(tiny_llama, LOUD, QUIET, name="loud")


def slow_scores(engine, vector, prompts, *, pool="mean", role=None):
    """Text after text, layer after layer."""
    scores = []
    for prompt in prompts:
        marked = engine.marked(prompt)
        states = engine.hidden_states([marked.tokens], position="all")[0].astype(np.float64)
        wanted = [n for n, word in enumerate(marked.words) if word]
        if role:
            last = [turn for turn in marked.turns if turn.role == role][-1]
            wanted = [n for n in wanted if last.start <= n < last.stop]
        if pool == "last":
            wanted = [len(marked.tokens) - 1]
        spread = vector.neutral.spread(pool)
        z = [
            (np.mean([states[n, layer] @ vector.directions[layer] for n in wanted]) - spread.mean[layer])
            / spread.deviation[layer]
            for layer in vector.reading_layers
        ]
        scores.append(float(np.mean(z)))
    return scores


def test_reader_separates_unseen_texts(tiny_llama, loud):
    positive, negative = texts("loud", 20, seed=1), texts("quiet", 20, seed=1)
    measured = auroc(tiny_llama.scores(positive, loud), tiny_llama.scores(negative, loud))
    assert measured > 0.9
    assert loud.reader.auroc > 0.9
    assert loud.reader.auroc == pytest.approx(measured, abs=0.1)


def test_reader_records_texts_and_has_no_strength(tiny_llama, loud, tmp_path):
    assert loud.method == "probe"
    assert loud.behaviour.name == "loud"
    assert loud.scale is None
    assert loud.layers == loud.reading_layers == loud.reader.layers
    assert (loud.reader.positives, loud.reader.negatives) == (30, 40)
    assert list(loud.directions) == list(loud.reader.auroc_by_layer) == list(range(tiny_llama.info.layers))
    assert loud.neutral == measure_neutral(tiny_llama, loud.directions)
    back = ControlVector.load(loud.save(tmp_path / "loud.safetensors"))
    assert back.reader == loud.reader
    assert back.neutral == loud.neutral


def described(*pairs: tuple[list[Message], list[Message]]) -> Behaviour:
    """A behaviour with these pairs, and no personas that its effect could be measured with."""
    happy, chats = Behaviour.load("happy"), tuple(ContrastiveText(tuple(plus), tuple(minus)) for plus, minus in pairs)
    poles = (replace(pole, personas=()) for pole in (happy.positive, happy.negative))
    return replace(happy, **dict(zip(("positive", "negative"), poles, strict=True)), pairs=chats)


def user(text: str) -> list[Message]:
    return [Message("user", text)]


REQUESTS = described(*((user(loud), user(quiet)) for loud, quiet in zip(LOUD, QUIET, strict=False)))


@pytest.fixture(scope="module")
def trained(tiny_llama) -> ControlVector:
    return trimtab.train(tiny_llama, REQUESTS, calibrate=False, layers=[2])


def test_training_on_requests_reads_exactly_as_fit_reader(tiny_llama, trained, tmp_path):
    fitted = fit_reader(tiny_llama, LOUD, QUIET[: len(LOUD)], name="loud")
    assert trained.layers == (2,)
    assert trained.reader == replace(fitted.reader, neutral=fitted.neutral)
    loaded = ControlVector.load(trained.save(tmp_path / "trained.safetensors"))
    unseen = [*texts("loud", 3, seed=1), *texts("quiet", 3, seed=1), CHAT]
    for vector in (trained, loaded):
        for at in ("prompt", "last-user-turn"):
            np.testing.assert_array_equal(
                tiny_llama.scores(unseen, vector, at=at), tiny_llama.scores(unseen, fitted, at=at)
            )
        for text in unseen:
            mine, other = tiny_llama.read(text, [vector])[0], tiny_llama.read(text, [fitted])[0]
            assert (mine.score, mine.reading_layers, mine.pool) == (other.score, other.reading_layers, other.pool)
            np.testing.assert_array_equal(mine.z, other.z)


def test_training_on_requests_steers_by_the_mean_difference(tiny_llama, trained):
    texts_of = [[tiny_llama.render(text) for text in side] for side in (LOUD, QUIET[: len(LOUD)])]
    last = [tiny_llama.hidden_states(side, position="last")[:, 2].astype(np.float64) for side in texts_of]
    difference = last[0].mean(axis=0) - last[1].mean(axis=0)
    np.testing.assert_allclose(trained.directions[2], difference / np.linalg.norm(difference), atol=1e-4)
    assert abs(float(trained.directions[2] @ trained.probes[2])) < 0.99


def test_stream_and_condition_use_probes(tiny_llama, trained):
    fitted = fit_reader(tiny_llama, LOUD, QUIET[: len(LOUD)], name=trained.behaviour.name)
    answers = [tiny_llama.generate(LOUD[0], read=[vector], max_new_tokens=3) for vector in (trained, fitted)]
    mine, other = (next(iter(answer.readings.values())) for answer in answers)
    np.testing.assert_array_equal(mine, other)
    prompts = [LOUD[0], QUIET[0]]
    between = float(tiny_llama.scores(prompts, fitted).mean())
    readings_of = []
    for vector in (trained, fitted):
        term = Term(trained, coefficient=0.1, condition=Comparison(vector, "above", between))
        answers = tiny_llama.generate(prompts, steering=Steering((term,)), max_new_tokens=2)
        assert [answer.receipt.terms[0].fired for answer in answers] == [True, False]
        readings_of.append([answer.receipt.terms[0].readings for answer in answers])
    assert readings_of[0] == readings_of[1]


@pytest.mark.parametrize(
    "pairs",
    [
        [
            ([Message("system", "Be loud."), *user(text)], [Message("system", "Be quiet."), *user(text)])
            for text in LOUD
        ],
        [([*user(text), Message("assistant", "YES")], [*user(text), Message("assistant", "no")]) for text in LOUD],
    ],
    ids=["personas", "answers"],
)
def test_training_on_other_pairs_reads_along_steered_directions(tiny_llama, pairs):
    vector = trimtab.train(tiny_llama, described(*pairs), calibrate=False, layers=[2])
    assert vector.reader is None
    assert not vector.probes
    assert vector.reading_layers == (2,)


def test_training_on_few_requests_notes_that_there_is_no_reader(tiny_llama):
    steps: list[Progress] = []
    few = replace(REQUESTS, pairs=REQUESTS.pairs[: LEAST - 1])
    vector = trimtab.train(tiny_llama, few, calibrate=False, layers=[2], progress=steps.append)
    assert vector.reader is None
    assert any(f"{LEAST - 1} different positive texts" in step.note for step in steps)


@pytest.mark.slow
def test_users_path_reads_held_out_requests_as_well_as_reader(smollm2):
    behaviour, requests = Behaviour.load("harmful"), refusal_requests()
    trained = trimtab.train(smollm2, behaviour, calibrate=False)
    sides = zip(*((pair.positive[0].content, pair.negative[0].content) for pair in behaviour.pairs), strict=True)
    fitted = fit_reader(smollm2, *map(list, sides), name="harmful")
    vectors = [trained, fitted, replace(trained, reader=None, probes={})]
    scores = [
        np.array([[each.score for each in smollm2.read(text, vectors)] for text in kind])
        for kind in (requests.harmful, requests.harmless)
    ]
    by_train, by_reader, by_steering = (auroc(scores[0][:, n], scores[1][:, n]) for n in range(3))
    assert by_train == by_reader > 0.97
    assert by_train > by_steering


def test_fitting_twice_gives_the_same_reader(tiny_llama, loud):
    again = fit_reader(tiny_llama, LOUD, QUIET, name="loud")
    assert again.reader == loud.reader
    for layer, direction in again.directions.items():
        np.testing.assert_array_equal(direction, loud.directions[layer])


def test_left_out_scores_use_directions_of_other_folds(monkeypatch):
    random = np.random.default_rng(0)
    states = random.standard_normal((30, 6)).astype(np.float32)
    neutral = random.standard_normal((12, 6)).astype(np.float32)
    labels = np.arange(30) < 13
    folds = readers._folds(labels, seed=3)
    counts = [np.bincount(folds[kind], minlength=FOLDS) for kind in (labels, ~labels)]
    assert all(count.max() - count.min() <= 1 for count in counts)
    measured = readers._left_out_scores(states, neutral, labels, folds)
    for n in range(30):
        rest = folds != folds[n]
        direction = readers.fisher(states[labels & rest], states[~labels & rest]).astype(np.float64)
        ordinary = neutral @ direction
        assert measured[n] == pytest.approx((states[n] @ direction - ordinary.mean()) / ordinary.std(ddof=1), abs=1e-5)


def test_best_layers_are_averaged():
    random = np.random.default_rng(1)
    labels = np.arange(200) < 100
    z = random.standard_normal((200, 4))
    z[:, 1] += 2.0 * labels
    z[:, 3] += 2.0 * labels
    choice = readers._best_layers("mean", z, labels)
    assert choice.layers == (1, 3)
    assert choice.auroc > max(choice.auroc_by_layer.values())


@given(
    layers=st.integers(2, 24),
    pool=st.sampled_from(["mean", "last"]),
    seed=st.integers(0, 9),
    informative=st.data(),
)
@settings(max_examples=20)
def test_choice_takes_layers_and_pool_that_separate(layers, pool, seed, informative):
    most = min(readers.LAYERS, layers // 2)
    chosen = informative.draw(st.sets(st.integers(0, layers - 1), min_size=1, max_size=most))
    random = np.random.default_rng(seed)
    labels = np.arange(40) < 20
    noise = random.standard_normal((2, 40, layers, 3)).astype(np.float32)
    shifted = noise.copy()
    shifted[["mean", "last"].index(pool), :, sorted(chosen)] += 6.0 * labels[:, None].astype(np.float32)
    pooled = readers.Pooled(*shifted, np.ones(layers))
    neutral = readers.Pooled(*noise[:, :10], np.ones(layers))
    reader = readers._choose(pooled, neutral, labels, seed=seed, progress=lambda _: None)
    assert reader.pool == pool
    assert set(reader.layers) >= chosen
    assert reader.layers == tuple(sorted(reader.layers))
    assert all(reader.auroc_by_layer[layer] > 0.95 for layer in chosen)


@pytest.mark.parametrize(("words", "last", "pool"), [(3.0, 0.0, "mean"), (0.0, 3.0, "last"), (3.0, 3.1, "mean")])
def test_last_token_pool_needs_clearly_higher_auroc(words, last, pool):
    random = np.random.default_rng(2)
    labels = np.arange(60) < 30
    noise = random.standard_normal((60, 2, 5)).astype(np.float32)
    shifted = [noise + much * labels[:, None, None].astype(np.float32) for much in (words, last)]
    neutral = readers.Pooled(noise[:20], noise[:20], np.ones(2))
    pooled = readers.Pooled(*shifted, np.ones(2))
    assert readers._choose(pooled, neutral, labels, seed=0, progress=lambda _: None).pool == pool


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_scores_of_prompts_equal_those_of_a_loop_over_texts(tiny_llama, loud, pool):
    vector = replace(loud, reader=Reader(layers=(1, 3), pool=pool))
    prompts = [*LOUD[:3], CHAT, "x"]
    measured = tiny_llama.scores(prompts, vector)
    np.testing.assert_allclose(measured, slow_scores(tiny_llama, vector, prompts, pool=pool), atol=1e-3)


def test_scores_at_last_user_turn_use_its_words_only(tiny_llama, loud):
    vector = replace(loud, reader=Reader(layers=(2,), pool="last"))
    measured = tiny_llama.scores([CHAT, "only one"], vector, at="last-user-turn")
    np.testing.assert_allclose(measured, slow_scores(tiny_llama, vector, [CHAT, "only one"], role="user"), atol=1e-3)


def test_scores_equal_reading_of_text(tiny_llama, loud):
    for prompt in (QUIET[0], CHAT):
        marked = tiny_llama.marked(prompt)
        read = tiny_llama.read(prompt, [loud])[0]
        assert tiny_llama.scores([prompt], loud)[0] == pytest.approx(read.score, abs=1e-3)
        tokens = readings(tiny_llama, loud, [prompt], at="token")[0]
        np.testing.assert_allclose(tokens, read.token_scores[np.array(marked.words)], atol=1e-3)


def test_readings_without_reader_use_words_at_steered_layers(tiny_llama, random_vector):
    vector = random_vector(tiny_llama, layers=[1, 2])
    vector = replace(vector, neutral=measure_neutral(tiny_llama, vector.directions))
    measured = tiny_llama.scores(QUIET[:2], vector)
    np.testing.assert_allclose(measured, slow_scores(tiny_llama, vector, QUIET[:2]), atol=1e-3)


def test_fitted_threshold_matches_rate(tiny_llama, loud):
    ordinary = texts("quiet", 100, seed=5)
    fitted = fit_threshold(tiny_llama, loud, ordinary)
    scores = tiny_llama.scores(ordinary, loud)
    assert fitted.fits[0].texts == 100
    np.testing.assert_array_equal(fitted.fits[0].readings, np.sort(scores))
    for rate in (0.02, 0.1):
        assert (scores > fitted.fitted_threshold(rate, at="prompt")).mean() == pytest.approx(rate, abs=0.03)
        assert (scores < fitted.fitted_threshold(rate, at="prompt", above=False)).mean() == pytest.approx(
            rate, abs=0.03
        )
    with pytest.raises(SteeringError, match="too few for a rate"):
        fitted.fitted_threshold(0.005, at="prompt")


def test_fit_threshold_again_replaces_fit_of_same_place_only(tiny_llama, loud):
    fitted = fit_threshold(tiny_llama, loud, QUIET)
    fitted = fit_threshold(tiny_llama, fitted, QUIET[:5], at="last-user-turn")
    fitted = fit_threshold(tiny_llama, fitted, QUIET[:7])
    assert [(fit.at, fit.texts) for fit in fitted.fits] == [("last-user-turn", 5), ("prompt", 7)]


def test_token_fit_keeps_even_sample_of_readings(tiny_llama, loud):
    fit = fit_threshold(tiny_llama, loud, QUIET, at="token").fits[0]
    words = np.concatenate(readings(tiny_llama, loud, QUIET, at="token"))
    assert len(words) == sum(sum(tiny_llama.marked(text).words) for text in QUIET) > MOST_READINGS
    assert fit.texts == len(QUIET)
    assert len(fit.readings) == MOST_READINGS
    assert list(fit.readings) == sorted(fit.readings)
    assert (fit.readings[0], fit.readings[-1]) == (words.min(), words.max())
    for quantile in (0.1, 0.5, 0.98):
        assert np.quantile(fit.readings, quantile) == pytest.approx(np.quantile(words, quantile), abs=0.05)


def test_condition_uses_fitted_threshold(tiny_llama, loud):
    from trimtab.steering import Comparison, FalsePositives

    fitted = fit_threshold(tiny_llama, loud, texts("quiet", 50, seed=5))
    condition = Comparison(fitted, "above", FalsePositives(0.02))
    assert condition.level == fitted.fitted_threshold(0.02, at="prompt")


def test_calibrate_keeps_fits_neutral_and_reader(tiny_llama, loud):
    fitted = fit_threshold(tiny_llama, loud, QUIET)
    calibrated = trimtab.calibrate(tiny_llama, fitted, check=False, budget=0.2)
    assert calibrated.fits == fitted.fits
    assert calibrated.neutral == fitted.neutral
    assert calibrated.reader == fitted.reader


def test_fit_refuses_too_few_or_shared_texts(tiny_llama):
    with pytest.raises(VectorError, match=f"there are {LEAST - 1} different positive texts"):
        fit_reader(tiny_llama, LOUD[: LEAST - 1], QUIET, name="x")
    with pytest.raises(VectorError, match="there are 1 different negative texts"):
        fit_reader(tiny_llama, LOUD, ["same"] * 50, name="x")
    with pytest.raises(VectorError, match="1 of the texts are positive and negative"):
        fit_reader(tiny_llama, [*LOUD, QUIET[3]], QUIET, name="x")
    with pytest.raises(VectorError, match="needs texts"):
        fit_threshold(tiny_llama, None, [])


def test_unreadable_input_raises(tiny_llama, tiny, loud, random_vector, monkeypatch):
    with pytest.raises(VectorError, match="no neutral statistics"):
        tiny_llama.scores(["x"], random_vector(tiny_llama))
    with pytest.raises(VectorMismatchError):
        tiny("llama", seed=5).scores(["x"], loud)
    with pytest.raises(PromptError, match="has no words"):
        tiny_llama.scores([[{"role": "user", "content": ""}]], loud)
    with pytest.raises(PromptError, match="no user message"):
        tiny_llama.scores([CHAT[:1]], loud, at="last-user-turn")
    with pytest.raises(PromptError, match="cannot be scored at 'token'"):
        tiny_llama.scores(["x"], loud, at="token")
    with pytest.raises(PromptError, match="cannot read at 'end'"):
        fit_threshold(tiny_llama, loud, ["x"], at="end")
    nowhere = replace(loud, reader=None, weights=dict.fromkeys(loud.directions, 0.0))
    with pytest.raises(VectorError, match="no layers to be read at"):
        tiny_llama.scores(["x"], nowhere)
    monkeypatch.setattr(tiny_llama, "has_encoder", True)
    with pytest.raises(VectorError, match="has an encoder"):
        fit_reader(tiny_llama, LOUD, QUIET, name="x")
    with pytest.raises(VectorError, match="has an encoder"):
        tiny_llama.scores(["x"], loud)


def test_progress_ends_every_phase(tiny_llama):
    steps: list[Progress] = []
    fit_reader(tiny_llama, LOUD[:12], QUIET[:12], name="x", progress=steps.append)
    last = {step.phase: step for step in steps}
    assert len(last) == 3
    assert all(step.done == step.total for step in last.values())
