"""Find the scale that spends a KL budget, and the layers that move the model most at equal KL."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np

from trimtab.arrays import F32, F64
from trimtab.errors import CalibrationError, SteeringError
from trimtab.stats import mean_interval
from trimtab.training.progress import OnProgress, Progress
from trimtab.training.questions import ROUNDS, CalibrationSet, EffectSet, KlSet
from trimtab.vectors import Candidate, ControlVector

SWEEP_PHASE = "Trying layers at equal KL"
MAX_STEPS = 12
EXPONENT = 1.75  # KL grows as the square of a small scale, and a little less steeply around the usual budgets
EXPONENTS = (0.8, 5.0)
MAX_STEP = 8.0


@dataclass(frozen=True)
class ScalePoint:
    """A scale and the mean per-token KL (nats) measured there."""

    scale: float
    kl: float

    def at(self, budget: float) -> float:
        """Return the scale for ``budget``, if KL grows from here as it usually does."""
        return self.scale * float((budget / self.kl) ** (1.0 / EXPONENT))


def find_scale(kl_at: Callable[[float], float], *, budget: float, guess: float, tolerance: float) -> ScalePoint:
    """Return the scale at which ``kl_at(scale)`` is within ``tolerance`` (relative) of ``budget``.

    Root finding by the secant method on ``log KL`` over ``log scale``: KL is nearly a power of the scale, so nearly a
    straight line there, and two or three measurements suffice. The next point is kept inside the bracket
    ``(low, high)`` of the points so far; where the secant leaves it, the bracket is halved geometrically.

    Raises:
        CalibrationError: No scale was found: the steering moves the model too little, or breaks it at once.
    """
    scale, low, high = guess, 0.0, math.inf
    before: ScalePoint | None = None
    for _ in range(MAX_STEPS):
        point = ScalePoint(scale, kl_at(scale))
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


def _next(point: ScalePoint, before: ScalePoint | None, budget: float) -> float:
    """Return the next scale to try: along the secant, or along the usual power where there is only one point."""
    if not math.isfinite(point.kl):
        return point.scale / 4.0
    if point.kl <= 0.0:
        return point.scale * MAX_STEP
    exponent = EXPONENT
    if before is not None and math.isfinite(before.kl) and before.kl > 0 and before.scale != point.scale:
        slope = math.log(point.kl / before.kl) / math.log(point.scale / before.scale)
        if math.isfinite(slope):
            exponent = min(max(slope, EXPONENTS[0]), EXPONENTS[1])  # noise must not turn the step round
    step: float = (budget / point.kl) ** (1.0 / exponent)
    return point.scale * min(max(step, 1.0 / MAX_STEP), MAX_STEP)


SIGNS: Mapping[str, float] = {"+": 1.0, "-": -1.0}
SWEEP_TOLERANCE = 0.25  # scales and effects are then brought to the exact budget; final calibration is tighter
FIRST_GUESS = 0.25  # of the layer's norm, for one layer
CAUTION = 1.2  # a band spends a little less than its layers together
SINGLES = (0.6, 0.8)
BANDS = ((0.27, 0.83), (0.33, 0.9), (0.4, 0.83), (0.47, 0.8), (0.6, 0.9))
DEFAULT_BAND = (0.47, 0.8)
WIDE_BAND = (0.33, 0.9)  # in which refining settles how much each layer adds
DOUBT = 1.96  # standard errors within which a candidate is not clearly worse than another


@dataclass(frozen=True)
class Steerable:
    """Directions and norms of layers, from which additions are made.

    Attributes:
        directions: Layer to unit direction ``[hidden]``.
        norms: Layer to mean hidden-state norm.
    """

    directions: Mapping[int, F32]
    norms: Mapping[int, float]

    @classmethod
    def of(cls, vector: ControlVector, layers: Iterable[int]) -> Steerable:
        """Return what a vector adds to ``layers`` at a coefficient of 1: its weights are multiplied into the norms."""
        chosen = tuple(layers)
        norms = {layer: vector.weights[layer] * vector.norms[layer] for layer in chosen}
        return cls({layer: vector.directions[layer] for layer in chosen}, norms)

    def additions(self, layers: Sequence[int], coefficient: float) -> dict[int, F32]:
        """Return ``coefficient · norms[l] · direction[l]`` for each of ``layers``."""
        return {
            layer: (coefficient * self.norms[layer] * self.directions[layer]).astype(np.float32) for layer in layers
        }


def candidate_layers(depth: int) -> tuple[tuple[int, ...], ...]:
    """Return the choices of layers worth trying in a model of ``depth`` blocks: single layers and middle bands."""
    singles = [(round(fraction * (depth - 1)),) for fraction in SINGLES]
    return tuple(dict.fromkeys([*singles, *(band_layers(depth, band) for band in BANDS)]))


def band_layers(depth: int, band: tuple[float, float] = DEFAULT_BAND) -> tuple[int, ...]:
    """Return the blocks between two fractions of a model's depth."""
    low, high = (round(fraction * (depth - 1)) for fraction in band)
    return tuple(range(low, high + 1))


def chosen_layers(depth: int, layers: str | Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return the candidates that the user's ``layers`` means: ``"auto"`` or the layers themselves.

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


def find_scales(
    kl: KlSet,
    steerable: Steerable,
    layers: Sequence[int],
    *,
    budget: float,
    guess: Mapping[str, float],
    tolerance: float,
) -> dict[str, ScalePoint]:
    """Bring each sign of one choice of layers to the budget."""

    def kl_at(sign: float, scale: float) -> float:
        return kl.measure(steerable.additions(layers, sign * scale))

    return {
        key: find_scale(partial(kl_at, sign), budget=budget, guess=guess[key], tolerance=tolerance)
        for key, sign in SIGNS.items()
    }


def measure_effects(
    sets: Sequence[EffectSet], steerable: Steerable, layers: Sequence[int], scale: Mapping[str, float]
) -> dict[str, F64]:
    """Return by sign the effects at its scale, per question (nats per token), on several sets of questions together."""
    return {
        key: np.concatenate([part.measure(steerable.additions(layers, sign * scale[key])) for part in sets])
        for key, sign in SIGNS.items()
    }


def effects_at_budget(
    sets: Sequence[EffectSet],
    steerable: Steerable,
    layers: Sequence[int],
    points: Mapping[str, ScalePoint],
    budget: float,
) -> dict[str, F64]:
    """Return by sign the effects, measured at ``points`` and taken to the exact budget: they grow as the scale does."""
    effects = measure_effects(sets, steerable, layers, {key: point.scale for key, point in points.items()})
    return {key: points[key].at(budget) / points[key].scale * effects[key] for key in SIGNS}


def rank_layers(
    calibration: CalibrationSet,
    steerable: Steerable,
    candidates: Sequence[tuple[int, ...]],
    *,
    budget: float,
    progress: OnProgress,
) -> tuple[Candidate, ...]:
    """Rank choices of layers by swing at equal KL, in rounds: few questions for all, more for the best.

    The widest choice that is not clearly worse than the best comes first. A few questions cannot separate near-equal
    choices, and what wins by luck loses elsewhere; many layers, each steered a little, are the safer choice. (The
    one-standard-error rule of Breiman et al. 1984, section 3.4.3, with two, paired by question.)

    Returns:
        All candidates that can spend the budget: the chosen one, the others by swing, and those dropped early last.

    Raises:
        CalibrationError: None of them can.
    """
    rounds = [(part, enter) for part, (_, enter) in zip(calibration.rounds, ROUNDS, strict=False)]
    total = sum(min(enter, len(candidates)) for _, enter in rounds)
    steps = count(1)
    progress(Progress(SWEEP_PHASE, 0, total))
    alive = _bring_to_budget(calibration.sweep_kl, steerable, candidates, budget=budget)
    dropped: list[_Entry] = []
    for questions, enter in rounds:
        alive, dropped = alive[:enter], [*alive[enter:], *dropped]
        measured = []
        for entry in alive:
            effects = effects_at_budget([questions], steerable, entry.layers, entry.points, budget)
            measured.append(replace(entry, swing=np.concatenate([entry.swing, effects["+"] - effects["-"]])))
            progress(Progress(SWEEP_PHASE, next(steps), total))
        alive = _safest_first(measured)
    progress(Progress(SWEEP_PHASE, total, total))  # candidates that cannot spend the budget took no step
    return tuple(
        Candidate(entry.layers, entry.scale(budget), mean_interval(entry.swing), len(entry.swing))
        for entry in [*alive, *dropped]
    )


@dataclass(frozen=True)
class _Entry:
    """A choice of layers in the sweep: by sign a point near the budget, and its swing on the questions so far."""

    layers: tuple[int, ...]
    points: Mapping[str, ScalePoint]
    swing: F64

    def scale(self, budget: float) -> dict[str, float]:
        return {key: point.at(budget) for key, point in self.points.items()}


def _safest_first(entries: Sequence[_Entry]) -> list[_Entry]:
    """Sort by swing, but put the widest of those not clearly worse than the best before all others."""
    ranked = sorted(entries, key=lambda entry: -float(entry.swing.mean()))

    def clearly_worse(entry: _Entry) -> bool:
        behind = ranked[0].swing - entry.swing  # paired: the same questions
        if len(behind) < 2:
            return False
        return float(behind.mean()) > DOUBT * float(behind.std(ddof=1)) / math.sqrt(len(behind))

    safest = max((entry for entry in ranked if not clearly_worse(entry)), key=lambda entry: len(entry.layers))
    return [safest, *(entry for entry in ranked if entry is not safest)]


def _bring_to_budget(
    kl: KlSet, steerable: Steerable, candidates: Sequence[tuple[int, ...]], *, budget: float
) -> list[_Entry]:
    """Return every choice of layers that can spend the budget, with a point near it for each sign."""
    known: dict[str, dict[tuple[int, ...], float]] = {key: {} for key in SIGNS}
    entries = []
    problem: CalibrationError | None = None
    for layers in candidates:
        guess = {key: _guess(layers, scales) for key, scales in known.items()}
        try:
            points = find_scales(kl, steerable, layers, budget=budget, guess=guess, tolerance=SWEEP_TOLERANCE)
        except CalibrationError as error:
            problem = error
            continue
        entries.append(_Entry(layers, points, np.zeros(0)))
        for key, scale in entries[-1].scale(budget).items():
            known[key][layers] = scale
    if not entries and problem is not None:
        raise problem
    return entries


def _guess(layers: tuple[int, ...], known: Mapping[tuple[int, ...], float]) -> float:
    """Guess the scale of a choice of layers from the scales that are known by now.

    The layers of a band steer the same way, so the reciprocals of their single scales nearly add up; after that, bands
    learn from bands of similar width, and single layers from their neighbours.
    """
    if layers in known:
        return known[layers]
    alike = [(other, scale) for other, scale in known.items() if (len(other) > 1) == (len(layers) > 1)]
    if alike and len(layers) > 1:
        _, per_layer = min((abs(len(other) - len(layers)), len(other) * scale) for other, scale in alike)
        return per_layer / len(layers)
    if alike:
        return min((abs(other[0] - layers[0]), scale) for other, scale in alike)[1]
    singles = [scale for other, scale in known.items() if len(other) == 1]
    return first_guess(len(layers), single=float(np.median(singles)) if singles else FIRST_GUESS)


def first_guess(layers: int, *, single: float = FIRST_GUESS) -> float:
    """Guess a scale for a band of ``layers`` layers from that of one layer."""
    return single if layers == 1 else CAUTION * single / layers
