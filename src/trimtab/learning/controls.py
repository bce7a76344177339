"""Controls: what random directions do at the same KL, and whether prompt-equivalents mean anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.engines.base import Array
from trimtab.learning.questions import EffectSet, KlSet, interval
from trimtab.learning.sweep import (
    SIGNS,
    SWEEP_TOLERANCE,
    SignedEffects,
    Steerable,
    at_budget,
    signed_effects,
    spend_both,
)
from trimtab.vectors import Effect, Interval

RANDOM_GUESS = 3.4  # a random direction spends far less than a learned one of its length
GUARD = 1.0  # what random directions do by chance must stay below one prompt-equivalent


@dataclass(frozen=True)
class RandomSwings:
    """What random directions do at the same layers and the same KL.

    Attributes:
        swings: Mean swing of each, in nats per token.
        per_prompt: Root mean square of their swings on one prompt; without an effect, their mean over ``n`` prompts
            spreads by this divided by the root of ``n``.
    """

    swings: tuple[float, ...]
    per_prompt: float

    def spread(self, prompts: int) -> float:
        """Standard deviation of a random direction's mean swing on so many prompts."""
        return self.per_prompt / math.sqrt(prompts)


def random_like(steerable: Steerable, *, seed: int) -> Steerable:
    """Random unit directions in place of the learned ones."""
    generator = np.random.default_rng(seed)
    directions: dict[int, Array] = {}
    for layer, direction in steerable.directions.items():
        draw = generator.standard_normal(direction.shape)
        directions[layer] = (draw / np.linalg.norm(draw)).astype(np.float32)
    return Steerable(directions, steerable.norms)


def random_swings(
    kl: KlSet,
    sets: Sequence[EffectSet],
    steerable: Steerable,
    layers: Sequence[int],
    *,
    budget: float,
    guess: float,
    count: int,
    seed: int,
) -> RandomSwings:
    """Swings of ``count`` random directions at the same layers and the same KL.

    Random directions spend alike, so each one's scale is a good guess for the next.
    """
    scale = dict.fromkeys(SIGNS, guess)
    swings = []
    for number in range(count):
        random = random_like(steerable, seed=seed + number)
        spent = spend_both(kl, random, layers, budget=budget, guess=scale, tolerance=SWEEP_TOLERANCE)
        tried = {key: point.scale for key, point in spent.items()}
        swings.append(at_budget(signed_effects(sets, random, layers, tried), spent, budget))
        scale = {key: point.at(budget) for key, point in spent.items()}
    return RandomSwings(
        swings=tuple(float(swing.mean()) for swing in swings),
        per_prompt=float(np.sqrt(np.mean([np.mean(np.square(swing)) for swing in swings]))),
    )


def effect_record(
    effects: SignedEffects, own: NDArray[np.float64], randoms: RandomSwings, *, all_own: NDArray[np.float64]
) -> Effect:
    """The effect at ±1, beside the prompts' own and that of random directions.

    Args:
        effects: Per question.
        own: The prompts' own swing on the same questions.
        randoms: Random directions at the same KL.
        all_own: The prompts' own swing on every question asked, by which the guard decides.
    """
    swing, prompt_swing = interval(effects.swing), interval(own)
    reason = why_no_equivalents(interval(all_own), randoms.spread(len(all_own)))
    return Effect(
        effect={"+": float(effects.plus.mean()), "-": float(effects.minus.mean())},
        swing=swing,
        prompt_swing=prompt_swing,
        prompt_equivalents=None if reason else swing.value / prompt_swing.value,
        reason=reason,
        random_swings=randoms.swings,
        random_spread=randoms.spread(len(own)),
        prompts=len(own),
    )


def why_no_equivalents(prompt_swing: Interval, spread: float) -> str | None:
    """Why dividing by the prompts' own swing would divide by noise; None if it would not.

    Args:
        prompt_swing: The prompts' own swing, in nats per token.
        spread: Standard deviation of a random direction's mean swing on so many prompts.
    """
    if prompt_swing.low <= 0:
        return (
            f"the model hardly follows these system prompts: their own swing is {prompt_swing.value:.3f} nat per token "
            f"(95 % interval {prompt_swing.low:.3f} to {prompt_swing.high:.3f})"
        )
    if prompt_swing.value < GUARD * spread:
        return (
            f"the system prompts' own swing, {prompt_swing.value:.3f} nat per token, is not above what random "
            f"directions do by chance (±{spread:.3f})"
        )
    return None
