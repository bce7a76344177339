"""Controls: directions that should do nothing, at the vector's KL and on its questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from trimtab.arrays import F32
from trimtab.behaviours import Behaviour
from trimtab.behaviours.pairs import build_pairs
from trimtab.engines import Engine
from trimtab.errors import CalibrationError, TrimtabError, VectorError
from trimtab.evaluation.records import Chance, Control
from trimtab.stats import mean_interval
from trimtab.training.controls import Trial, try_at_budget
from trimtab.training.directions import orient
from trimtab.training.questions import EffectSet, KlSet
from trimtab.training.search import SIGNS, Steerable

DEVIATIONS = 2.0


def report_control(trial: Trial, *, seed: int) -> Control:
    """Return a trial as it is reported, with intervals over questions."""
    effect = {key: mean_interval(values, seed=seed) for key, values in trial.effects.items()}
    return Control(effect, mean_interval(trial.swing, seed=seed))


def random_seeds(count: int, *, seed: int) -> list[int]:
    """Return the seeds of random directions; those of different evaluations do not overlap."""
    return [1000 * (seed + 1) + number for number in range(count)]


def chance_of(trials: Sequence[Trial]) -> Chance | None:
    """Return the range of random effects; the - side of a random direction counts as a random direction too."""
    effects = [float(trial.effects[key].mean()) for trial in trials for key in SIGNS]
    if not effects:
        return None
    middle, deviation = float(np.mean(effects)), float(np.std(effects, ddof=1))
    return Chance(
        low=min(min(effects), middle - DEVIATIONS * deviation), high=max(max(effects), middle + DEVIATIONS * deviation)
    )


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
        other = replace(steerable, directions=directions)
        return try_at_budget(kl, [effects], other, layers, budget=budget, guess=guess)
    except CalibrationError:
        return None
