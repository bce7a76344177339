"""Learning from a teacher by gradient, on losses whose lowest point is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trimtab.engines.protocol import LossGradient
from trimtab.errors import DistillError
from trimtab.training.checkpoint import Checkpoint
from trimtab.training.distillation.fit import Schedule, Validation, fit

NORMS = {2: 10.0, 5: 200.0}
WIDTH = 16
QUICK = Schedule(steps=60, batch=2, stride=0.05, check_every=5, patience=99)


class Bowl:
    """Lessons whose loss is a squared distance from points, in norms of the layer."""

    def __init__(self, *, lessons=6, seed=0, spread=0.02, centre=None):
        generator = np.random.default_rng(seed)
        self.centre = centre or {layer: 0.3 * unit(generator.standard_normal(WIDTH)) for layer in NORMS}
        self.points = [
            {layer: centre + spread * generator.standard_normal(WIDTH) for layer, centre in self.centre.items()}
            for _ in range(lessons)
        ]
        self.asked: list[tuple[int, ...]] = []
        self.saw: list[dict[int, np.ndarray]] = []
        self.halfway: list[float] = []

    def losses(self, additions):
        return np.array(
            [sum(((additions[n] / NORMS[n] - point[n]) ** 2).sum() for n in NORMS) for point in self.points]
        )

    def at(self, additions, numbers, *, halfway):
        self.asked.append(tuple(numbers))
        self.halfway.append(halfway)
        self.saw.append(dict(additions))
        slope = {
            n: np.mean([2 * (additions[n] / NORMS[n] - self.points[k][n]) for k in numbers], axis=0) / NORMS[n]
            for n in NORMS
        }
        return LossGradient(float(self.losses(additions)[list(numbers)].mean()), slope)

    def measure(self, additions):
        return [np.array([loss - 0.1, loss + 0.1]) for loss in self.losses(additions)]


def unit(vector):
    return vector / np.linalg.norm(vector)


def learn(bowl, others=None, *, schedule=QUICK, checkpoint=None, seed=0, active=None, on_step=lambda *_: None):
    return fit(
        bowl,
        others or bowl,
        NORMS,
        count=len(bowl.points),
        width=WIDTH,
        schedule=schedule,
        active=active or {},
        seed=seed,
        checkpoint=Checkpoint() if checkpoint is None else checkpoint,
        on_step=on_step,
    )


def test_fit_reaches_the_optimum_at_any_layer_norm():
    bowl = Bowl()
    outcome = learn(bowl)
    for layer, centre in bowl.centre.items():
        assert np.linalg.norm(outcome.additions[layer] / NORMS[layer] - centre) < 0.06
    assert outcome.validations[0] == Validation(
        0, pytest.approx(float(bowl.losses({n: np.zeros(WIDTH) for n in NORMS}).mean()))
    )
    assert outcome.best.kl == pytest.approx(float(bowl.losses(outcome.additions).mean()), rel=1e-3)
    assert outcome.best.kl < 0.1 * outcome.validations[0].kl


def test_fit_halfway_is_relative_to_the_initial_kl():
    bowl = Bowl()
    outcome = learn(bowl, schedule=replace(QUICK, halfway=3.0))
    assert set(bowl.halfway) == {3.0 * outcome.validations[0].kl}


def test_fit_uses_all_examples_before_repeating():
    bowl = Bowl(lessons=5)
    learn(bowl, schedule=replace(QUICK, steps=10))
    assert all(len(numbers) == 2 for numbers in bowl.asked)
    flat = [n for numbers in bowl.asked for n in numbers]
    assert all(sorted(flat[start : start + 5]) == [0, 1, 2, 3, 4] for start in range(0, 20, 5))


def test_fit_keeps_the_best_point_and_stops_early():
    bowl = Bowl(spread=0.0)
    nearer = Bowl(centre={layer: 0.3 * centre for layer, centre in bowl.centre.items()}, spread=0.0)
    schedule = replace(QUICK, steps=200, patience=3, check_every=2, warmup=1)
    outcome = learn(bowl, nearer, schedule=schedule)
    assert outcome.validations[-1].step < 200
    assert [each.kl for each in outcome.validations[-3:]] > [outcome.best.kl] * 3
    assert outcome.best == min(outcome.validations, key=lambda each: each.kl)
    assert outcome.best.kl == pytest.approx(float(nearer.losses(outcome.additions).mean()), rel=1e-4)


def test_fit_active_additions_are_not_learned():
    bowl = Bowl(spread=0.0)
    active = {2: (0.5 * NORMS[2] * bowl.centre[2]).astype(np.float32), 5: np.zeros(WIDTH, np.float32)}
    outcome = learn(bowl, active=active)
    assert np.allclose(bowl.saw[0][2], active[2])
    assert np.linalg.norm(outcome.additions[2] / NORMS[2] - 0.5 * bowl.centre[2]) < 0.04


def test_fit_layer_with_only_active_additions_stays():
    bowl = Bowl(spread=0.0)
    seen = []
    measure = bowl.measure
    bowl.measure = lambda additions: seen.append(sorted(additions)) or measure(additions)
    learn(bowl, active={7: np.ones(WIDTH, np.float32)}, schedule=replace(QUICK, steps=2))
    assert seen[0] == [2, 5, 7]


def test_fit_outlier_gradient_is_clipped():
    bowl, odd = Bowl(spread=0.0), Bowl(spread=0.0)
    at = odd.at

    def struck(additions, numbers, **options):
        gap = at(additions, numbers, **options)
        factor = 1e6 if len(odd.asked) == 30 else 1.0
        return LossGradient(gap.kl, {layer: factor * slope for layer, slope in gap.gradient.items()})

    odd.at = struck
    for layer, added in learn(bowl).additions.items():
        assert np.linalg.norm(learn(odd).additions[layer] - added) < 0.2 * np.linalg.norm(added)


def test_fit_shrink_gives_shorter_vectors():
    lengths = [
        np.linalg.norm(learn(Bowl(), schedule=replace(QUICK, shrink=shrink)).additions[5]) for shrink in (0.0, 20.0)
    ]
    assert lengths[1] < 0.9 * lengths[0]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_fit_loss_not_finite_is_an_error(broken):
    bowl = Bowl()
    at = bowl.at

    def breaking(additions, numbers, **options):
        gap = at(additions, numbers, **options)
        return gap if len(bowl.asked) < 5 else replace(gap, kl=broken)

    bowl.at = breaking
    with pytest.raises(DistillError, match="not a number any more at step 5"):
        learn(bowl)


def test_fit_interrupted_resumes_to_the_same_end(tmp_path):
    whole = learn(Bowl())
    path = tmp_path / "notes"

    def stop(step, kl):
        if step == 37:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(path, job="it")
    with pytest.raises(KeyboardInterrupt):
        learn(Bowl(), checkpoint=checkpoint, on_step=stop)
    checkpoint.close()
    steps = []
    again = learn(Bowl(), checkpoint=Checkpoint(path, job="it"), on_step=lambda step, kl: steps.append(step))
    assert steps[0] == 30
    assert again.validations == whole.validations
    for layer, added in whole.additions.items():
        assert again.additions[layer].tobytes() == added.tobytes()


def test_fit_reports_steps_with_the_kl():
    reported = []
    learn(Bowl(), on_step=lambda step, kl: reported.append((step, kl)))
    assert [step for step, _ in reported] == list(range(61))
    assert reported[-1][1] < 0.2 * reported[0][1]
