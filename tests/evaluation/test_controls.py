"""Controls: brought to the vector's KL, the same for a seed, and without anything of the behaviour left in them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import trimtab
from trimtab import Behaviour
from trimtab.behaviours import neutral_prompts
from trimtab.behaviours.pairs import build_pairs
from trimtab.errors import CalibrationError
from trimtab.evaluation.comparison import (
    chance_of,
    random_seeds,
    report_control,
    shuffled_directions,
    try_directions,
)
from trimtab.stats import mean_interval
from trimtab.training.controls import Trial, random_directions, rms_swing, try_at_budget, try_randoms
from trimtab.training.progress import ignore
from trimtab.training.questions import EffectSet, KlSet, ask
from trimtab.training.search import SIGNS, Steerable

LAYERS = (1, 2)
BUDGET = 0.3
GUESS = {"+": 0.2, "-": 0.2}
CLOSE = 0.1  # of the budget: from where it was measured, KL is taken to grow as it usually does


@pytest.fixture(scope="module")
def questions(tiny_llama):
    texts = neutral_prompts().held_out[:4]
    return ask(tiny_llama, texts, Behaviour.load("happy"), personas=4, max_new_tokens=6, progress=ignore)


@pytest.fixture(scope="module")
def kl(tiny_llama, questions) -> KlSet:
    return KlSet(tiny_llama, questions)


@pytest.fixture(scope="module")
def effects(tiny_llama, questions) -> EffectSet:
    return EffectSet(tiny_llama, questions)


@pytest.fixture(scope="module")
def steerable(tiny_llama, kl) -> Steerable:
    noise = np.random.default_rng(9)
    drawn = {layer: noise.standard_normal(tiny_llama.info.hidden_size) for layer in LAYERS}
    directions = {layer: (d / np.linalg.norm(d)).astype(np.float32) for layer, d in drawn.items()}
    return Steerable(directions, {layer: float(kl.norms[layer]) for layer in LAYERS})


def randoms(kl, effects, steerable, *, seed=0, count=3, on_one=lambda: None):
    seeds = random_seeds(count, seed=seed)
    return try_randoms(kl, [effects], steerable, LAYERS, budget=BUDGET, guess=0.3, seeds=seeds, on_one=on_one)


def trial(plus, minus) -> Trial:
    return Trial({"+": np.array(plus, float), "-": np.array(minus, float)}, {"+": 1.0, "-": 1.0})


def check_at_budget(kl, effects, steerable, found: Trial) -> None:
    for key, sign in SIGNS.items():
        additions = steerable.additions(LAYERS, sign * found.scale[key])
        assert kl.measure(additions) == pytest.approx(BUDGET, rel=CLOSE)
        straight = effects.measure(additions)
        assert np.linalg.norm(found.effects[key] - straight) < 0.2 * np.linalg.norm(straight)


# Brought to the budget


@pytest.mark.parametrize("guess", [0.05, 0.2, 1.5])
def test_trial_any_start_spends_budget_at_both_signs(kl, effects, steerable, guess):
    found = try_at_budget(kl, [effects], steerable, LAYERS, budget=BUDGET, guess=dict.fromkeys(SIGNS, guess))
    check_at_budget(kl, effects, steerable, found)


def test_trial_control_has_intervals_over_questions():
    found = trial([0.1, 0.3, 0.2], [-0.1, 0.0, 0.1])
    np.testing.assert_allclose(found.swing, [0.2, 0.3, 0.1])
    control = report_control(found, seed=4)
    assert control.effect == {key: mean_interval(found.effects[key], seed=4) for key in SIGNS}
    assert control.swing == mean_interval(found.swing, seed=4)


def test_try_directions_missing_or_weak_returns_none(kl, effects, steerable):
    def tried(directions):
        return try_directions(kl, effects, steerable, directions, LAYERS, budget=BUDGET, guess=GUESS)

    assert tried(None) is None
    nothing = {layer: np.zeros_like(direction) for layer, direction in steerable.directions.items()}
    with pytest.raises(CalibrationError):
        try_at_budget(kl, [effects], Steerable(nothing, steerable.norms), LAYERS, budget=BUDGET, guess=GUESS)
    assert tried(nothing) is None
    other = random_directions(steerable, seed=5)
    found = tried(other.directions)
    assert found is not None
    check_at_budget(kl, effects, other, found)


# Random directions


def test_randoms_differ_and_repeat_with_their_seed(kl, effects, steerable):
    steps = []
    first = randoms(kl, effects, steerable, on_one=lambda: steps.append(1))
    again = randoms(kl, effects, steerable)
    other = randoms(kl, effects, steerable, seed=1)
    assert len(steps) == len(first) == 3
    for one, two in zip(first, again, strict=True):
        assert dict(one.scale) == dict(two.scale)
        for key in SIGNS:
            np.testing.assert_array_equal(one.effects[key], two.effects[key])
    swings = [tuple(found.swing) for found in (*first, *other)]
    assert len(set(swings)) == 6


def test_randoms_more_of_them_begin_with_the_same(kl, effects, steerable):
    few, many = (randoms(kl, effects, steerable, count=count) for count in (1, 2))
    np.testing.assert_array_equal(few[0].swing, many[0].swing)


def test_randoms_each_spends_the_budget(kl, effects, steerable):
    for number, found in enumerate(randoms(kl, effects, steerable, seed=2, count=2)):
        check_at_budget(kl, effects, random_directions(steerable, seed=3000 + number), found)


# Chance

effect_lists = st.integers(1, 5).flatmap(
    lambda size: st.lists(
        st.tuples(*2 * (arrays(np.float64, size, elements=st.floats(-3.0, 3.0)),)), min_size=1, max_size=6
    )
)


@given(effect_lists)
def test_chance_counts_both_signs_of_a_direction(pairs):
    trials = [trial(plus, minus) for plus, minus in pairs]
    chance = chance_of(trials)
    turned = chance_of([trial(minus, plus) for plus, minus in pairs])
    assert (turned.low, turned.high) == (pytest.approx(chance.low), pytest.approx(chance.high))
    mirrored = chance_of([trial(-plus, -minus) for plus, minus in pairs])
    assert (-mirrored.high, -mirrored.low) == (pytest.approx(chance.low), pytest.approx(chance.high))
    reached = [float(effects.mean()) for pair in pairs for effects in pair]
    assert chance.low <= min(reached)
    assert max(reached) <= chance.high


def test_chance_reaches_at_least_two_deviations():
    chance = chance_of([trial([0.1], [-0.1]), trial([0.1], [-0.1])])
    assert chance.high == pytest.approx(2 * np.std([0.1, -0.1, 0.1, -0.1], ddof=1))
    assert chance.low == pytest.approx(-chance.high)


def test_chance_one_outlier_sets_the_bound():
    chance = chance_of([*9 * [trial([0.0], [0.0])], trial([1.0], [0.0])])
    assert chance.high == 1.0
    assert chance.low < 0.0


def test_chance_without_randoms_is_none():
    assert chance_of([]) is None
    assert rms_swing([]) == 0.0


def test_rms_swing_equals_root_mean_square_of_swings():
    found = rms_swing([trial([0.3, 0.0], [0.0, 0.4]), trial([0.1, 0.1], [-0.1, 0.1])])
    assert found == pytest.approx(np.sqrt((0.09 + 0.16 + 0.04 + 0.0) / 4))


# Shuffled labels


class SeparatedPairs:
    """An engine in which each pair differs by one axis that all share, and by one that is unique."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs

    def render(self, messages, *, continuation=""):
        return messages[-1].content

    def collect(self, texts, *, layers):
        states = np.zeros((len(texts), len(layers), self.pairs + 1), np.float32)
        for row, text in enumerate(texts):
            kind, number = text.split()
            states[row, :, self.pairs] = kind == "up"
            states[row, :, int(number)] = kind == "up"
        return SimpleNamespace(states=states)


def paired(tmp_path, pairs: int) -> Behaviour:
    path = tmp_path / "up.toml"
    text = 'name = "up"\n[positive]\nlabel = "up"\n[negative]\nlabel = "down"\n'
    text += "".join(f'[[pairs]]\npositive = "up {n}"\nnegative = "down {n}"\n' for n in range(pairs))
    path.write_text(text)
    return Behaviour.load(path)


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_directions_cancel_the_shared_difference(tmp_path, seed):
    found = shuffled_directions(SeparatedPairs(6), paired(tmp_path, 6), (0, 3), pairs=96, seed=seed)
    assert set(found) == {0, 3}
    for direction in found.values():
        assert direction[6] == 0.0
        np.testing.assert_allclose(np.abs(direction[:6]), np.full(6, 6**-0.5), rtol=1e-6)
        assert direction[:6].sum() == pytest.approx(0.0, abs=1e-6)


def test_shuffled_directions_depend_on_the_seed(tmp_path):
    behaviour = paired(tmp_path, 8)
    found = [shuffled_directions(SeparatedPairs(8), behaviour, (0,), pairs=96, seed=seed)[0] for seed in (0, 0, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert len({tuple(direction) for direction in found}) == 3


def test_shuffled_directions_odd_pairs_keep_one(tmp_path):
    direction = shuffled_directions(SeparatedPairs(5), paired(tmp_path, 5), (0,), pairs=96, seed=0)[0]
    own = direction[:5] / np.abs(direction[0])
    assert sorted(np.abs(own)) == pytest.approx([1.0] * 5)
    assert own.sum() == pytest.approx(1.0)  # oriented, so that what is left of the axis points up
    assert direction[5] == pytest.approx(abs(direction[0]))


def test_shuffled_directions_keep_no_behaviour(tiny_llama):
    behaviour, layers = Behaviour.load("happy"), range(tiny_llama.info.layers)
    shuffled = shuffled_directions(tiny_llama, behaviour, layers, pairs=96, seed=0)
    pairs = build_pairs(behaviour, tiny_llama, max_pairs=96)
    up, down = (tiny_llama.collect([getattr(p, k) for p in pairs]).states for k in ("positive", "negative"))
    cosines = []
    for layer in layers:
        true = (up - down)[:, layer].mean(axis=0)
        assert np.linalg.norm(shuffled[layer]) == pytest.approx(1.0, abs=1e-5)
        cosines.append(abs(float(true @ shuffled[layer]) / np.linalg.norm(true)))
    assert np.mean(cosines) < 0.4  # two random directions of so few dimensions: 0.14
    assert max(cosines) < 0.5
    true = trimtab.train(tiny_llama, behaviour, max_pairs=96, calibrate=False)
    for layer, cosine in zip(layers, cosines, strict=True):
        assert abs(float(true.directions[layer] @ shuffled[layer])) == pytest.approx(cosine, abs=1e-3)


def test_shuffled_directions_without_pairs_returns_none(tmp_path, tiny_llama):
    assert shuffled_directions(SeparatedPairs(2), paired(tmp_path, 2), (0,), pairs=1, seed=0) is None
    alike = SeparatedPairs(2)
    alike.collect = lambda texts, layers: SimpleNamespace(states=np.ones((len(texts), len(layers), 3)))
    assert shuffled_directions(alike, paired(tmp_path, 2), (0,), pairs=96, seed=0) is None
