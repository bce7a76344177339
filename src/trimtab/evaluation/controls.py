"""Controls: directions that should do nothing, at the vector's KL and on its questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trimtab.arrays import F32, F64
from trimtab.behaviours import Behaviour
from trimtab.behaviours.pairs import build_pairs
from trimtab.engines import Engine
from trimtab.errors import CalibrationError, TrimtabError, VectorError
from trimtab.evaluation.records import Chance, Control
from trimtab.stats import mean_interval
from trimtab.training.check import random_like
from trimtab.training.directions import orient
from trimtab.training.questions import EffectSet, KlSet
from trimtab.training.search import SIGNS, SWEEP_TOLERANCE, Steerable, signed_effects, spend_both

DEVIATIONS = 2.0


@dataclass(frozen=True)
class Trial:
    """Effects per question of one control, by sign, and the scales at which it spent the budget."""

    effects: Mapping[str, F64]
    scale: Mapping[str, float]

    @property
    def swing(self) -> F64:
        """Effect at + minus effect at -, per question."""
        swing: F64 = self.effects["+"] - self.effects["-"]
        return swing

    def control(self, *, seed: int) -> Control:
        """Return the record of the report."""
        effect = {key: mean_interval(values, seed=seed) for key, values in self.effects.items()}
        return Control(effect, mean_interval(self.swing, seed=seed))


def try_at_budget(
    kl: KlSet,
    effects: EffectSet,
    steerable: Steerable,
    layers: Sequence[int],
    *,
    budget: float,
    guess: Mapping[str, float],
) -> Trial:
    """Measure the effects of directions when each sign spends the budget.

    Scales are fitted coarsely, and scales and effects then extrapolated to the exact budget by the usual growth of KL.

    Raises:
        CalibrationError: No scale spends the budget.
    """
    spent = spend_both(kl, steerable, layers, budget=budget, guess=guess, tolerance=SWEEP_TOLERANCE)
    measured = signed_effects([effects], steerable, layers, {key: point.scale for key, point in spent.items()})
    scale = {key: point.at(budget) for key, point in spent.items()}
    raw = {"+": measured.plus, "-": measured.minus}
    return Trial({key: raw[key] * (scale[key] / spent[key].scale) for key in SIGNS}, scale)


def try_randoms(
    kl: KlSet,
    effects: EffectSet,
    steerable: Steerable,
    layers: Sequence[int],
    *,
    budget: float,
    guess: float,
    count: int,
    seed: int,
    on_one: Callable[[], None],
) -> tuple[Trial, ...]:
    """Measure random directions on the same layers; each scale is the first guess for the next."""
    scale: Mapping[str, float] = dict.fromkeys(SIGNS, guess)
    trials = []
    for number in range(count):
        random = random_like(steerable, seed=1000 * (seed + 1) + number)
        trial = try_at_budget(kl, effects, random, layers, budget=budget, guess=scale)
        scale = trial.scale
        trials.append(trial)
        on_one()
    return tuple(trials)


def chance_of(trials: Sequence[Trial]) -> Chance | None:
    """Return the range of random effects; the - side of a random direction counts as a random direction too."""
    effects = [float(trial.effects[key].mean()) for trial in trials for key in SIGNS]
    if not effects:
        return None
    middle, deviation = float(np.mean(effects)), float(np.std(effects, ddof=1))
    return Chance(
        low=min(min(effects), middle - DEVIATIONS * deviation), high=max(max(effects), middle + DEVIATIONS * deviation)
    )


def rms_swing(trials: Sequence[Trial]) -> float:
    """Return the root mean square of random swings on one question, in nats per token."""
    return float(np.sqrt(np.mean([np.mean(np.square(trial.swing)) for trial in trials]))) if trials else 0.0


def shuffled_directions(
    engine: Engine, behaviour: Behaviour, layers: Sequence[int], *, pairs: int, seed: int
) -> dict[int, F32] | None:
    """Return mean differences of the behaviour's pairs with half of their labels swapped: nothing is left to learn.

    Returns:
        Layer to unit direction; None where the behaviour makes too few pairs, or its pairs are all alike.
    """
    try:
        made = build_pairs(behaviour, engine, max_pairs=pairs)
    except TrimtabError:
        return None
    texts = [pair.positive for pair in made] + [pair.negative for pair in made]
    states = engine.collect(texts, layers=layers).states.astype(np.float64)
    signs = np.where(np.arange(len(made)) % 2 == 0, 1.0, -1.0)
    np.random.default_rng(seed).shuffle(signs)
    shift = (signs[:, None, None] * (states[: len(made)] - states[len(made) :])).mean(axis=0)
    try:
        return {layer: orient(shift[n], shift[n]) for n, layer in enumerate(layers)}
    except VectorError:  # the shuffled difference is 0
        return None


def try_directions(
    kl: KlSet,
    effects: EffectSet,
    steerable: Steerable,
    directions: Mapping[int, F32] | None,
    layers: Sequence[int],
    *,
    budget: float,
    guess: Mapping[str, float],
) -> Trial | None:
    """Return ``try_at_budget`` of other directions; None where there are none or they cannot spend the budget."""
    if directions is None:
        return None
    try:
        return try_at_budget(kl, effects, replace(steerable, directions=directions), layers, budget=budget, guess=guess)
    except CalibrationError:
        return None
