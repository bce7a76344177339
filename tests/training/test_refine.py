"""Directions refined by gradient."""

from __future__ import annotations

import numpy as np
import pytest

from trimtab.engines.protocol import RatioGradient
from trimtab.training.checkpoint import Checkpoint
from trimtab.training.refine import refine

NORMS = {2: 10.0, 5: 200.0}
SIGNS = {"+": 1.0, "-": -1.0}
BUDGET = 0.4


class Hill:
    """Ratio along one direction of each layer; KL as the square of what is added, in norms of the layer."""

    def __init__(self, steepness=1.0) -> None:
        generator = np.random.default_rng(0)
        self.best = {layer: unit(generator.standard_normal(16)) for layer in NORMS}
        self.asked: list[tuple[int, ...]] = []
        self.steepness = steepness

    def kl(self, additions, factor):
        return self.steepness * sum(
            float(np.square(factor * added / NORMS[layer]).sum()) for layer, added in additions.items()
        )

    def at(self, additions, numbers, *, factors, prices):
        self.asked.append(tuple(numbers))
        scaled = {layer: added / NORMS[layer] for layer, added in additions.items()}
        along = sum(float(scaled[layer] @ self.best[layer]) for layer in scaled)
        gradient = {layer: np.zeros(16) for layer in scaled}
        for key, factor in factors.items():
            for layer in scaled:
                slope = factor * self.best[layer] - 2 * self.steepness * prices[key] * factor**2 * scaled[layer]
                gradient[layer] += slope / NORMS[layer] / len(factors)
        return RatioGradient(
            {key: SIGNS[key] * factor * along for key, factor in factors.items()},
            {key: self.kl(additions, factor) for key, factor in factors.items()},
            gradient,
        )


def unit(vector):
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def start(hill):
    generator = np.random.default_rng(1)
    return {
        layer: (0.3 * NORMS[layer] * unit(hill.best[layer] + 0.3 * generator.standard_normal(16))).astype(np.float32)
        for layer in NORMS
    }


def refined(hill, *, steps=40, checkpoint=None, seed=0, questions=6, factors=None):
    reported = []
    outcome = refine(
        hill,
        start(hill),
        NORMS,
        factors={"+": 1.0, "-": 1.5} if factors is None else factors,
        budget=BUDGET,
        questions=questions,
        steps=steps,
        seed=seed,
        checkpoint=Checkpoint() if checkpoint is None else checkpoint,
        on_step=lambda: reported.append(1),
    )
    return *outcome, len(reported)


def test_refine_turns_every_layer_to_the_ratio():
    hill = Hill()
    outcome, _, reported = refined(hill)
    assert reported == 40
    for layer, began in start(hill).items():
        assert unit(outcome[layer]) @ hill.best[layer] > unit(began) @ hill.best[layer] + 0.05


@pytest.mark.parametrize("steepness", [0.2, 1.0, 5.0])
def test_refine_brings_both_signs_to_the_budget(steepness):
    hill = Hill(steepness)
    outcome, factors, _ = refined(hill, steps=60)
    for factor in factors.values():
        assert hill.kl(outcome, factor) == pytest.approx(BUDGET, rel=0.2)


def test_refine_few_steps_stay_near_the_start():
    hill = Hill()
    outcome, _, _ = refined(hill, steps=10)
    for layer, began in start(hill).items():
        assert 0 < np.linalg.norm(outcome[layer] - began) < 0.4 * np.linalg.norm(began)


def test_refine_uses_all_questions_before_repeating():
    hill = Hill()
    refined(hill, steps=6)
    asked = [n for numbers in hill.asked for n in numbers]
    size = len(hill.asked[0])
    assert sorted(asked[:6]) == list(range(6))
    assert len(asked) == 6 * size


def test_refine_works_with_one_question():
    hill = Hill()
    refined(hill, steps=3, questions=1)
    assert hill.asked == [(0,)] * 3


def test_refine_without_steps_keeps_the_start():
    hill = Hill()
    outcome, factors, _ = refined(hill, steps=0)
    assert factors == {"+": 1.0, "-": 1.5}
    assert all(np.allclose(outcome[layer], began, rtol=1e-6) for layer, began in start(hill).items())


def test_refine_order_depends_on_the_seed_only():
    first, again, other = Hill(), Hill(), Hill()
    assert np.array_equal(refined(first)[0][5], refined(again)[0][5])
    refined(other, seed=1)
    assert first.asked == again.asked != other.asked


def test_refine_interrupted_resumes_to_the_same_end(tmp_path):
    class StoppedError(Exception):
        pass

    class Stopping(Hill):
        def at(self, additions, numbers, *, factors, prices):
            if len(self.asked) == 25:
                raise StoppedError
            return super().at(additions, numbers, factors=factors, prices=prices)

    whole, factors, _ = refined(Hill())
    checkpoint = Checkpoint(tmp_path / "notes.sqlite", job="refining")
    with pytest.raises(StoppedError):
        refined(Stopping(), checkpoint=checkpoint)
    rest, again, reported = refined(Hill(), checkpoint=checkpoint)
    assert reported == 16  # from the last note, after 24 steps
    assert again == factors
    assert all(np.array_equal(rest[layer], whole[layer]) for layer in NORMS)
