"""Layers by sweep at equal KL: every candidate spends the same budget, and the one that moves the model most wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32
from trimtab.errors import CalibrationError, SteeringError
from trimtab.stats import mean_interval
from trimtab.training.questions import EffectSet, KlSet
from trimtab.vectors import Candidate, ControlVector

MAX_STEPS = 12
EXPONENT = 1.75  # KL grows as the square of a small scale, and a little less steeply around the usual budgets
EXPONENTS = (0.8, 5.0)
MAX_STEP = 8.0


@dataclass(frozen=True)
class Spent:
    """A scale, and the mean per-token KL (nats) that it spends."""

    scale: float
    kl: float

    def at(self, budget: float) -> float:
        """The scale that spends ``budget``, if KL goes on from here as it usually does."""
        return self.scale * float((budget / self.kl) ** (1.0 / EXPONENT))


def spend(kl_at: Callable[[float], float], *, budget: float, guess: float, tolerance: float) -> Spent:
    """The scale at which ``kl_at(scale)`` is within ``tolerance`` (relative) of ``budget``.

    The secant runs on log KL over log scale, where KL is nearly a straight line; it is kept inside the bracket that
    the points so far give.

    Raises:
        CalibrationError: No scale was found: the steering moves the model too little, or breaks it at once.
    """
    scale, low, high = guess, 0.0, math.inf
    before: Spent | None = None
    for _ in range(MAX_STEPS):
        point = Spent(scale, kl_at(scale))
        if math.isfinite(point.kl) and abs(point.kl / budget - 1.0) <= tolerance:
            return point
        if not math.isfinite(point.kl) or point.kl > budget:
            high = min(high, scale)
        else:
            low = max(low, scale)
        scale = _next(point, before, budget)
        if not low < scale < high:
            scale = math.sqrt(low * high) if low > 0 and math.isfinite(high) else (high / 2 if low == 0 else low * 2)
        before = point
    raise CalibrationError(
        f"no strength spends {budget:g} nat (scale {point.scale:.3g} gave {point.kl:.3g} after {MAX_STEPS} steps)",
        fix="try other layers, another method, or another budget",
    )


def _next(point: Spent, before: Spent | None, budget: float) -> float:
    if not math.isfinite(point.kl):
        return point.scale / 4.0
    if point.kl <= 0.0:
        return point.scale * MAX_STEP
    exponent = EXPONENT
    if before is not None and math.isfinite(before.kl) and before.kl > 0 and before.scale != point.scale:
        slope = math.log(point.kl / before.kl) / math.log(point.scale / before.scale)
        if math.isfinite(slope):
            exponent = min(max(slope, EXPONENTS[0]), EXPONENTS[1])
    step: float = (budget / point.kl) ** (1.0 / exponent)
    return point.scale * min(max(step, 1.0 / MAX_STEP), MAX_STEP)


SIGNS: Mapping[str, float] = {"+": 1.0, "-": -1.0}
SWEEP_TOLERANCE = 0.25  # scales and effects are then brought to the exact budget; final calibration is tighter
FIRST_GUESS = 0.25  # of the layer's norm, for one layer
CAUTION = 1.2  # a band spends a little less than its layers together
SINGLES = (0.6, 0.8)
BANDS = ((0.27, 0.83), (0.33, 0.9), (0.4, 0.83), (0.47, 0.8), (0.6, 0.9))
DEFAULT_BAND = (0.47, 0.8)
DOUBT = 1.96  # standard errors within which a candidate is not clearly worse than another


@dataclass(frozen=True)
class Steerable:
    """Directions and norms of all layers: whatever is needed to make an addition.

    Attributes:
        directions: Layer to unit direction ``[hidden]``.
        norms: Layer to mean hidden-state norm.
    """

    directions: Mapping[int, F32]
    norms: Mapping[int, float]

    @classmethod
    def of(cls, vector: ControlVector, layers: Iterable[int]) -> Steerable:
        """What a vector adds at a coefficient of 1, as far as it concerns ``layers``: norms with its weights."""
        chosen = tuple(layers)
        norms = {layer: vector.weights[layer] * vector.norms[layer] for layer in chosen}
        return cls({layer: vector.directions[layer] for layer in chosen}, norms)

    def additions(self, layers: Sequence[int], coefficient: float) -> dict[int, F32]:
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


@dataclass(frozen=True)
class SignedEffects:
    """Effects per question (nats per token) at strength +1 and at strength -1."""

    plus: NDArray[np.float64]
    minus: NDArray[np.float64]

    @property
    def swing(self) -> NDArray[np.float64]:
        """Effect at + minus effect at -, per question."""
        return self.plus - self.minus


def spend_both(
    kl: KlSet,
    steerable: Steerable,
    layers: Sequence[int],
    *,
    budget: float,
    guess: Mapping[str, float],
    tolerance: float,
) -> dict[str, Spent]:
    """Bring each sign of one choice of layers to the budget."""
    return {
        key: spend(partial(_kl_at, kl, steerable, layers, sign), budget=budget, guess=guess[key], tolerance=tolerance)
        for key, sign in SIGNS.items()
    }


def _kl_at(kl: KlSet, steerable: Steerable, layers: Sequence[int], sign: float, coefficient: float) -> float:
    return kl.measure(steerable.additions(layers, sign * coefficient))


def signed_effects(
    sets: Sequence[EffectSet], steerable: Steerable, layers: Sequence[int], scale: Mapping[str, float]
) -> SignedEffects:
    """Effects at the scale of each sign, on several sets of questions together."""
    plus, minus = (
        np.concatenate([part.measure(steerable.additions(layers, sign * scale[key])) for part in sets])
        for key, sign in SIGNS.items()
    )
    return SignedEffects(plus, minus)


def at_budget(effects: SignedEffects, spent: Mapping[str, Spent], budget: float) -> NDArray[np.float64]:
    """Swing per question, each sign brought to the exact budget (effects grow as the scale does)."""
    plus, minus = (spent[key].at(budget) / spent[key].scale for key in SIGNS)
    swing: NDArray[np.float64] = plus * effects.plus - minus * effects.minus
    return swing


@dataclass(frozen=True)
class Round:
    """One round of the sweep: the questions that it adds, and how many of the best candidates enter it."""

    questions: EffectSet
    enter: int


def sweep(
    kl: KlSet,
    rounds: Sequence[Round],
    steerable: Steerable,
    candidates: Sequence[tuple[int, ...]],
    *,
    budget: float,
    on_candidate: Callable[[], None],
) -> tuple[Candidate, ...]:
    """Rank choices of layers by swing at equal KL, in rounds: few questions for all, more for the best.

    The widest choice that is not clearly worse than the best comes first. Few questions tell near-equals apart badly,
    and what wins by luck loses elsewhere; many layers, each pushed a little, are the safer choice. (The one-standard-
    error rule of Breiman et al. 1984, section 3.4.3, with two, paired by question.)

    Args:
        kl: Where KL is measured.
        rounds: The questions that each round adds, and how many candidates enter it.
        steerable: Directions and norms.
        candidates: Choices of layers.
        budget: Nats per token.
        on_candidate: Called after each candidate of each round.

    Returns:
        All candidates that can spend the budget: the chosen one, the others by swing, and those dropped early last.

    Raises:
        CalibrationError: None of them can.
    """
    alive = _brought_to_budget(kl, steerable, candidates, budget=budget)
    dropped: list[_Entry] = []
    for part in rounds:
        alive, dropped = alive[: part.enter], [*alive[part.enter :], *dropped]
        tried = []
        for entry in alive:
            effects = signed_effects([part.questions], steerable, entry.layers, entry.tried)
            swing = np.concatenate([entry.swing, at_budget(effects, entry.spent, budget)])
            tried.append(replace(entry, swing=swing))
            on_candidate()
        alive = _safest_first(tried)
    return tuple(entry.candidate(budget) for entry in [*alive, *dropped])


@dataclass(frozen=True)
class _Entry:
    """One choice of layers on its way through the rounds."""

    layers: tuple[int, ...]
    spent: Mapping[str, Spent]
    swing: NDArray[np.float64]

    @property
    def tried(self) -> dict[str, float]:
        """The scales at which KL and effects were measured."""
        return {key: point.scale for key, point in self.spent.items()}

    def scale(self, budget: float) -> dict[str, float]:
        """The scales that spend the budget, from those next to them."""
        return {key: point.at(budget) for key, point in self.spent.items()}

    def candidate(self, budget: float) -> Candidate:
        return Candidate(self.layers, self.scale(budget), mean_interval(self.swing), len(self.swing))


def _safest_first(entries: Sequence[_Entry]) -> list[_Entry]:
    """By swing, but the widest of those not clearly worse than the best before all others."""
    ranked = sorted(entries, key=lambda entry: -float(entry.swing.mean()))

    def clearly_worse(entry: _Entry) -> bool:
        behind = ranked[0].swing - entry.swing
        if len(behind) < 2:
            return False
        return float(behind.mean()) > DOUBT * float(behind.std(ddof=1)) / math.sqrt(len(behind))

    safest = max((entry for entry in ranked if not clearly_worse(entry)), key=lambda entry: len(entry.layers))
    return [safest, *(entry for entry in ranked if entry is not safest)]


def _brought_to_budget(
    kl: KlSet, steerable: Steerable, candidates: Sequence[tuple[int, ...]], *, budget: float
) -> list[_Entry]:
    """Every choice of layers that can spend the budget, with the scales at which it does."""
    guesses = _Guesses()
    entries = []
    problem: CalibrationError | None = None
    for layers in candidates:
        try:
            spent = spend_both(
                kl, steerable, layers, budget=budget, guess=guesses.of(layers), tolerance=SWEEP_TOLERANCE
            )
        except CalibrationError as error:
            problem = error
            continue
        entry = _Entry(layers, spent, np.zeros(0))
        guesses.learn(layers, entry.scale(budget))
        entries.append(entry)
    if not entries and problem is not None:
        raise problem
    return entries


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
