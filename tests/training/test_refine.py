"""Directions refined by gradient."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.engines.protocol import PreferenceGradient
from trimtab.training.checkpoint import Checkpoint
from trimtab.training.refine import price_of, refine

NORMS = {2: 10.0, 5: 200.0}


class Hill:
    """Preference along one direction of each layer; KL as the square of what is added, in norms of the layer."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        self.best = {layer: unit(generator.standard_normal(16)) for layer in NORMS}
        self.asked: list[tuple[int, ...]] = []

    def at(self, additions, numbers, *, price):
        self.asked.append(tuple(numbers))
        scaled = {layer: added / NORMS[layer] for layer, added in additions.items()}
        preference = sum(float(scaled[layer] @ self.best[layer]) for layer in scaled)
        kl = sum(float(push @ push) for push in scaled.values())
        gradient = {layer: (self.best[layer] - 2 * price * scaled[layer]) / NORMS[layer] for layer in scaled}
        return PreferenceGradient(preference, kl, gradient)


def unit(vector):
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def start(hill):
    generator = np.random.default_rng(1)
    return {
        layer: (0.1 * NORMS[layer] * unit(hill.best[layer] + 0.3 * generator.standard_normal(16))).astype(np.float32)
        for layer in NORMS
    }


def refined(hill, *, steps=40, checkpoint=None, seed=0, questions=6):
    reported = []
    outcome = refine(
        hill,
        start(hill),
        NORMS,
        questions=questions,
        price=5.0,
        steps=steps,
        seed=seed,
        checkpoint=Checkpoint() if checkpoint is None else checkpoint,
        on_step=lambda: reported.append(1),
    )
    return outcome, len(reported)


def test_refine_turns_every_layer_to_the_preference():
    hill = Hill()
    outcome, reported = refined(hill)
    assert reported == 40
    for layer, began in start(hill).items():
        assert unit(outcome[layer]) @ hill.best[layer] > unit(began) @ hill.best[layer] + 0.05


def test_refine_few_steps_stay_near_the_start():
    hill = Hill()
    outcome, _ = refined(hill, steps=10)
    for layer, began in start(hill).items():
        assert 0 < np.linalg.norm(outcome[layer] - began) < 0.4 * np.linalg.norm(began)


def test_refine_uses_all_questions_before_repeating():
    hill = Hill()
    refined(hill, steps=6)
    asked = [n for numbers in hill.asked for n in numbers]
    assert sorted(asked[:6]) == sorted(asked[6:]) == list(range(6))


def test_refine_works_with_one_question():
    hill = Hill()
    refined(hill, steps=3, questions=1)
    assert hill.asked == [(0,)] * 3


def test_refine_order_depends_on_the_seed_only():
    first, again, other = Hill(), Hill(), Hill()
    assert np.array_equal(refined(first)[0][5], refined(again)[0][5])
    refined(other, seed=1)
    assert first.asked == again.asked != other.asked


def test_refine_interrupted_resumes_to_the_same_end(tmp_path):
    class StoppedError(Exception):
        pass

    class Stopping(Hill):
        def at(self, additions, numbers, *, price):
            if len(self.asked) == 25:
                raise StoppedError
            return super().at(additions, numbers, price=price)

    whole, _ = refined(Hill())
    checkpoint = Checkpoint(tmp_path / "notes.sqlite", job="refining")
    with pytest.raises(StoppedError):
        refined(Stopping(), checkpoint=checkpoint)
    rest, reported = refined(Hill(), checkpoint=checkpoint)
    assert reported == 20  # from the last note, after 20 steps
    assert all(np.array_equal(rest[layer], whole[layer]) for layer in NORMS)


def test_price_makes_the_budget_the_optimum():
    budget, preference = 0.4, 0.3
    price = price_of(preference, budget)
    scales = np.linspace(0.5, 1.5, 1001)
    gain = preference * scales - price * budget * scales**1.75
    assert scales[gain.argmax()] == pytest.approx(1.0, abs=2e-3)
    assert price_of(-0.1, budget) == 0.0
