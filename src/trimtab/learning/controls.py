"""Controls: what random directions do at the same KL, and whether prompt-equivalents mean anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trimtab.engines.base import Array
from trimtab.learning.questions import QuestionSet, interval
from trimtab.learning.sweep import SIGNS, Steerable, measure_spent, spend_both, swing_at
from trimtab.vectors import Effect, Interval

GUARD = 2.0  # the prompts' own swing must stand so many standard deviations above what random directions do


def random_like(steerable: Steerable, *, seed: int) -> Steerable:
    """Random unit directions in place of the learned ones."""
    generator = np.random.default_rng(seed)
    directions: dict[int, Array] = {}
    for layer, direction in steerable.directions.items():
        draw = generator.standard_normal(direction.shape)
        directions[layer] = (draw / np.linalg.norm(draw)).astype(np.float32)
    return Steerable(directions, steerable.norms)


def random_swings(
    sets: Sequence[QuestionSet],
    steerable: Steerable,
    layers: Sequence[int],
    *,
    budget: float,
    guess: float,
    count: int,
    seed: int,
) -> tuple[float, ...]:
    """Mean swing (nats per token) of ``count`` random directions at the same layers and the same KL.

    Random directions spend alike, so one of them finds the scale on the first set, and all start from there.
    """
    found = spend_both(
        sets[:1],
        random_like(steerable, seed=seed),
        layers,
        budget=budget,
        guess=dict.fromkeys(SIGNS, guess),
        tolerance=0.2,
    )
    scale = {key: point.scale for key, point in found.items()}
    swings = []
    for number in range(count):
        random = random_like(steerable, seed=seed + number)
        spent = spend_both(sets, random, layers, budget=budget, guess=scale, tolerance=0.3)
        scale = {key: point.scale * (budget / point.kl) ** 0.5 for key, point in spent.items()}
        swings.append(float(swing_at(spent, budget).mean()))
    return tuple(swings)


def effect_of(
    sets: Sequence[QuestionSet],
    steerable: Steerable,
    layers: Sequence[int],
    scale: dict[str, float],
    *,
    prompt_swing: Interval,
    randoms: tuple[float, ...],
) -> Effect:
    """The effect at ±1, beside the prompts' own and that of random directions."""
    per_sign = {
        key: measure_spent(sets, steerable, layers, sign=sign)(scale[key]).measured.effect
        for key, sign in SIGNS.items()
    }
    swing = interval(per_sign["+"] - per_sign["-"])
    reason = why_no_equivalents(prompt_swing, randoms)
    return Effect(
        effect={key: float(values.mean()) for key, values in per_sign.items()},
        swing=swing,
        prompt_swing=prompt_swing,
        prompt_equivalents=None if reason else swing.value / prompt_swing.value,
        reason=reason,
        random_swings=randoms,
        prompts=len(per_sign["+"]),
    )


def why_no_equivalents(prompt_swing: Interval, randoms: Sequence[float]) -> str | None:
    """Why dividing by the prompts' own swing would divide by noise; None if it would not."""
    if prompt_swing.low <= 0:
        return (
            f"the model hardly follows these system prompts: their own swing is {prompt_swing.value:.3f} nat per token "
            f"(95 % interval {prompt_swing.low:.3f} to {prompt_swing.high:.3f})"
        )
    spread = float(np.sqrt(np.mean(np.square(randoms)))) if randoms else 0.0
    if prompt_swing.value < GUARD * spread:
        return (
            f"the system prompts' own swing, {prompt_swing.value:.3f} nat per token, is not clearly above what random "
            f"directions do ({spread:.3f})"
        )
    return None
