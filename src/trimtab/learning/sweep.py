"""Layers by sweep at equal KL: every candidate spends the same budget, and the one that moves the model most wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.engines.base import Array
from trimtab.errors import CalibrationError, SteeringError
from trimtab.learning.questions import Measured, QuestionSet, interval
from trimtab.learning.secant import Spent, spend
from trimtab.vectors import Candidate

SIGNS: Mapping[str, float] = {"+": 1.0, "-": -1.0}
SWEEP_TOLERANCE = 0.2  # effects are rescaled to the exact budget; final calibration is tighter
FIRST_GUESS = 0.25  # of the layer's norm, for one layer
CAUTION = 1.2  # a band spends a little less than its layers together
SINGLES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
BANDS = ((0.27, 0.83), (0.33, 0.67), (0.4, 0.83), (0.47, 0.8), (0.5, 0.67), (0.6, 0.9))
DEFAULT_BAND = (0.47, 0.8)


@dataclass(frozen=True)
class Steerable:
    """Directions and norms of all layers: whatever is needed to make an addition.

    Attributes:
        directions: Layer to unit direction ``[hidden]``.
        norms: Layer to mean hidden-state norm.
    """

    directions: Mapping[int, Array]
    norms: Mapping[int, float]

    def additions(self, layers: Sequence[int], coefficient: float) -> dict[int, Array]:
        """``coefficient · norms[l] · direction[l]`` for each of ``layers``."""
        return {
            layer: (coefficient * self.norms[layer] * self.directions[layer]).astype(np.float32) for layer in layers
        }


def candidate_layers(depth: int) -> tuple[tuple[int, ...], ...]:
    """The choices of layers worth trying for a model of ``depth`` blocks: single layers and bands in the middle."""
    at = [round(fraction * (depth - 1)) for fraction in SINGLES]
    found: list[tuple[int, ...]] = [(layer,) for layer in at]
    found += [band_layers(depth, band) for band in BANDS]
    return tuple(dict.fromkeys(found))


def band_layers(depth: int, band: tuple[float, float] = DEFAULT_BAND) -> tuple[int, ...]:
    """The blocks between two fractions of a model's depth."""
    low, high = (round(fraction * (depth - 1)) for fraction in band)
    return tuple(range(low, high + 1))


def chosen_layers(depth: int, layers: str | Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The candidates that the user's ``layers`` stands for: ``"auto"`` or the layers themselves.

    Raises:
        SteeringError: No such layers.
    """
    if layers == "auto":
        return candidate_layers(depth)
    if isinstance(layers, str):
        raise SteeringError(f"layers {layers!r} are not known", fix="use 'auto' or a list such as [14, 15, 16]")
    wanted = sorted(set(layers))
    if not wanted or not all(isinstance(layer, int) and 0 <= layer < depth for layer in wanted):
        raise SteeringError(f"layers {list(layers)} are not all layers of this model", fix=f"it has 0 to {depth - 1}")
    return (tuple(wanted),)


def measure_spent(
    sets: Sequence[QuestionSet], steerable: Steerable, layers: Sequence[int], *, sign: float
) -> Callable[[float], Spent[Measured]]:
    """What a coefficient of one sign does on several sets of questions together."""

    def measure(coefficient: float) -> Spent[Measured]:
        additions = steerable.additions(layers, sign * coefficient)
        parts = [questions.measure(additions) for questions in sets]
        weights = [len(questions) for questions in sets]
        kl = float(np.average([part.kl for part in parts], weights=weights))
        effect = np.concatenate([part.effect for part in parts])
        return Spent(coefficient, kl, Measured(kl, effect))

    return measure


def spend_both(
    sets: Sequence[QuestionSet],
    steerable: Steerable,
    layers: Sequence[int],
    *,
    budget: float,
    guess: Mapping[str, float],
    tolerance: float,
) -> dict[str, Spent[Measured]]:
    """Bring each sign of one choice of layers to the budget."""
    return {
        key: spend(
            measure_spent(sets, steerable, layers, sign=sign),
            budget=budget,
            guess=guess[key],
            tolerance=tolerance,
        )
        for key, sign in SIGNS.items()
    }


def swing_at(spent: Mapping[str, Spent[Measured]], budget: float) -> NDArray[np.float64]:
    """Per question, effect at + minus effect at -, each rescaled to the exact budget as the root of KL."""
    plus, minus = (spent[key].measured.effect * np.sqrt(budget / spent[key].kl) for key in SIGNS)
    swing: NDArray[np.float64] = plus - minus
    return swing


def sweep(
    rounds: Sequence[Sequence[QuestionSet]],
    keep: Sequence[int],
    steerable: Steerable,
    candidates: Sequence[tuple[int, ...]],
    *,
    budget: float,
    on_candidate: Callable[[], None],
) -> tuple[Candidate, ...]:
    """Rank choices of layers by swing at equal KL, in rounds: few questions for all, more for the best.

    Args:
        rounds: The question sets of each round.
        keep: How many candidates enter each later round.
        steerable: Directions and norms.
        candidates: Choices of layers.
        budget: Nats per token.
        on_candidate: Called after each candidate of each round.

    Returns:
        All candidates, best first; those of the last round come before those dropped earlier.
    """
    guesses = _Guesses()
    ranked: list[Candidate] = []
    alive = list(candidates)
    for number, sets in enumerate(rounds):
        measured: list[Candidate] = []
        for layers in alive:
            try:
                spent = spend_both(
                    sets,
                    steerable,
                    layers,
                    budget=budget,
                    guess=guesses.of(layers),
                    tolerance=SWEEP_TOLERANCE,
                )
            except CalibrationError:
                on_candidate()
                continue  # layers that cannot spend the budget are no choice
            guesses.learn(layers, {key: point.scale for key, point in spent.items()})
            swing = interval(swing_at(spent, budget))
            measured.append(
                Candidate(
                    layers=layers,
                    scale={key: point.scale for key, point in spent.items()},
                    swing=swing,
                    prompts=sum(map(len, sets)),
                )
            )
            on_candidate()
        measured.sort(key=lambda candidate: -candidate.swing.value)
        again = {candidate.layers for candidate in measured}
        ranked = measured + [candidate for candidate in ranked if candidate.layers not in again]
        if number < len(keep):
            alive = [candidate.layers for candidate in measured[: keep[number]]]
    if not ranked:
        raise CalibrationError("no choice of layers can spend the budget", fix="try another method, or another budget")
    return tuple(ranked)


def first_guess(layers: int, *, single: float = FIRST_GUESS) -> float:
    """A scale for a band of so many layers, from that of one layer."""
    return single if layers == 1 else CAUTION * single / layers


class _Guesses:
    """First guesses that get better as scales become known.

    Layers of a band push the same way, so the reciprocals of their single scales nearly add up; after that, bands
    learn from bands of like width, and single layers from their neighbours.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], dict[str, float]] = {}

    def learn(self, layers: tuple[int, ...], scale: dict[str, float]) -> None:
        self._known[layers] = scale

    def of(self, layers: tuple[int, ...]) -> dict[str, float]:
        if layers in self._known:
            return self._known[layers]
        return {key: self._guess(layers, key) for key in SIGNS}

    def _guess(self, layers: tuple[int, ...], key: str) -> float:
        alike = [(known, scale[key]) for known, scale in self._known.items() if (len(known) > 1) == (len(layers) > 1)]
        if alike and len(layers) > 1:
            _, per_layer = min((abs(len(known) - len(layers)), len(known) * scale) for known, scale in alike)
            return per_layer / len(layers)
        if alike:
            return min((abs(known[0] - layers[0]), scale) for known, scale in alike)[1]
        singles = [scale[key] for known, scale in self._known.items() if len(known) == 1]
        return first_guess(len(layers), single=float(np.median(singles)) if singles else FIRST_GUESS)
