"""Calibration: the layers that move the model most for a KL budget, and the scale that spends it.

Everything is measured on questions that are asked and answered once, for any number of directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np

from trimtab.behaviours import Behaviour, neutral_prompts
from trimtab.defaults import BUDGET
from trimtab.engines.protocol import RatioGradients, Trains
from trimtab.errors import CalibrationError, ModelError, SteeringError, VectorError
from trimtab.steering import Steering, SteeringLike
from trimtab.steering.budget import predicted_kl_or_none
from trimtab.steering.compiled import Change, LayerAdd, LayerRotate
from trimtab.steering.operators import CALIBRATED
from trimtab.training.controls import check_held_out
from trimtab.training.neutral import add_neutral
from trimtab.training.progress import ChosenLayers, OnProgress, Progress, ignore
from trimtab.training.questions import (
    ANSWER_TOKENS,
    EFFECT_QUESTIONS,
    HELD_OUT_QUESTIONS,
    KL_QUESTIONS,
    CalibrationSet,
    KlSet,
    ask,
)
from trimtab.training.refine import PERSONAS_PHASE, contrasts, persona_directions, refine
from trimtab.training.search import (
    SIGNS,
    SWEEP_TOLERANCE,
    Steerable,
    band_layers,
    chosen_layers,
    find_scale,
    find_scales,
    first_guess,
    rank_layers,
)
from trimtab.vectors import Calibration, Candidate, ControlVector

TOLERANCE = 0.03  # of the budget; the promise is 5 %
DISTILLED = "distilled"  # method without an estimate
HALVINGS = 2
SLOPE_QUESTIONS = 16  # of the gradient at which steps uphill begin
STRENGTH_PHASE = "Calibrating the strength"
REFINE_PHASE = "Refining the directions"
UNREFINED = "no steps uphill are taken"


def calibrate(
    model: Trains,
    vector: ControlVector,
    *,
    operator: str = "add",
    behaviour: Behaviour | None = None,
    layers: str | Sequence[int] | None = None,
    budget: float = BUDGET,
    seed: int = 0,
    check: bool = True,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Give the strength of any vector its unit: one that was imported, mixed, or trained without calibration.

    What neutral chats read on its directions is measured too. With another operator than adding, its
    ``operator_scales`` get that operator's scale and nothing else changes.

    Args:
        model: The engine of the vector's model.
        vector: What to calibrate; its directions are kept, its norms are measured again where layers are given.
        operator: What strength is to mean the dial of: ``"add"``, ``"add_preserving_norm"`` or ``"rotate"``. The last
            two take the vector's own layers and weights, and no behaviour.
        behaviour: With it, effects are measured too (with ``check``), and ``layers="auto"`` can rank.
        layers: None keeps the vector's own layers and their weights.
        budget: Mean per-token KL(base ‖ steered) at strength ±1, in nats.
        seed: Of the random directions in the comparison.
        check: Also measure the safe range, and effects on held-out prompts.
        progress: Called with each step of the work.

    Raises:
        VectorMismatchError: The vector belongs to another model.
        VectorError: The vector steers no layer.
        CalibrationError: No strength spends the budget, layers cannot be ranked without a behaviour, or the operator
            has no strength or takes no layers.

    Example:
        >>> happy = calibrate(model, happy, operator="rotate")  # doctest: +SKIP
        >>> model.generate("How was your day?", steering="rotate(happy):1").text  # doctest: +SKIP
    """
    model.check_unsteered("calibration")
    vector.check_model(model.info)
    check_budget(budget)
    check_operator(operator)
    if not vector.layers:
        raise VectorError("the vector steers no layer", fix="give one with non-zero weights")
    if operator != "add":
        if layers is not None or behaviour is not None:
            raise CalibrationError(
                f"{operator} is calibrated at the vector's own layers", fix="leave layers and behaviour out"
            )
        return calibrate_operator(model, vector, operator=operator, budget=budget, progress=progress)
    if layers == "auto" and (behaviour is None or not behaviour.positive.personas):
        raise CalibrationError(
            "layers cannot be ranked without a behaviour's personas", fix="pass behaviour=, or layers"
        )
    candidates = None if layers is None else chosen_layers(model.info.layers, layers)
    missing = {layer for candidate in candidates or () for layer in candidate} - set(vector.directions)
    if missing:
        raise VectorError(f"the vector has no direction for layers {sorted(missing)}", fix="choose among its own")
    personas = EFFECT_QUESTIONS if candidates is not None and len(candidates) > 1 else 0
    asked = CalibrationSet.prepare(
        model, behaviour, personas=personas, held_out=HELD_OUT_QUESTIONS if check else 0, progress=progress
    )
    if candidates is not None:  # what was measured at other layers is no longer valid
        fits = vector.fits if vector.reader is not None else ()
        vector = replace(vector, norms=asked.norms(vector.directions), operator_scales={}, fits=fits)
    return calibrated(asked, vector, candidates, budget=budget, refine_steps=0, seed=seed, progress=progress)


def calibrated(
    asked: CalibrationSet,
    vector: ControlVector,
    candidates: Sequence[tuple[int, ...]] | None,
    *,
    budget: float,
    refine_steps: int,
    halvings: int = HALVINGS,
    seed: int,
    progress: OnProgress,
) -> ControlVector:
    """Return the vector at the layers that win, with the scale at which they spend the budget.

    Args:
        asked: Questions and answers, on which all is measured.
        vector: Directions and norms of all layers.
        candidates: Choices of layers; None keeps the vector's own layers and weights.
        budget: Nats per token.
        refine_steps: Steps uphill, which are taken where the engine has gradients and there are persona answers.
        halvings: Of the strengths from 0 to 1 in the search for the safe range.
        seed: Of random directions and of the order of questions.
        progress: Called with each step of the work.
    """
    ranked: tuple[Candidate, ...] = ()
    steerable = Steerable(vector.directions, vector.norms)
    if candidates is not None and len(candidates) > 1 and asked.rounds:
        ranked = rank_layers(asked, steerable, candidates, budget=budget, progress=progress)
    if candidates is None:
        layers, steerable = vector.layers, Steerable.of(vector, vector.directions)
    elif ranked:
        layers = ranked[0].layers
    else:
        layers = candidates[0] if len(candidates) == 1 else band_layers(vector.model.layers)
    guess: Mapping[str, float] = ranked[0].scale if ranked else dict.fromkeys(SIGNS, first_guess(len(layers)))
    if refine_steps and asked.behaviour is not None and asked.behaviour.positive.personas:
        refined = _refined(
            asked,
            steerable,
            vector.norms,
            layers,
            guess,
            halfway=vector.method != DISTILLED,
            budget=budget,
            steps=refine_steps,
            seed=seed,
            progress=progress,
        )
        if refined is not None:
            steerable, guess = refined
            vector = replace(vector, method=f"{vector.method}+refined")
    progress(Progress(STRENGTH_PHASE, 0, 1))
    points = find_scales(asked.kl, steerable, layers, budget=budget, guess=guess, tolerance=TOLERANCE)
    if candidates is not None:
        weights = dict.fromkeys(vector.directions, 0.0)
        weights |= {layer: steerable.norms[layer] / vector.norms[layer] for layer in layers}
        vector = replace(vector, directions=steerable.directions, weights=weights)
    largest = max(abs(steerable.norms[layer]) for layer in layers)
    shares = {layer: abs(steerable.norms[layer]) / largest for layer in layers}
    progress(Progress(STRENGTH_PHASE, 1, 1, finding=ChosenLayers(shares, tried=len(ranked))))
    vector = add_neutral(asked, vector, progress=progress)
    record = Calibration(
        budget=budget,
        kl={key: point.kl for key, point in points.items()},
        prompts=len(asked.kl),
        effect=None,
        candidates=ranked,
        held_out=None,
    )
    vector = replace(vector, scale={key: point.scale for key, point in points.items()}, safe=None, calibration=record)
    if not asked.held_out:
        return vector
    return check_held_out(asked, vector, halvings=halvings, seed=seed, progress=progress)


def _refined(
    asked: CalibrationSet,
    steerable: Steerable,
    norms: Mapping[int, float],
    layers: Sequence[int],
    guess: Mapping[str, float],
    *,
    halfway: bool,
    budget: float,
    steps: int,
    seed: int,
    progress: OnProgress,
) -> tuple[Steerable, dict[str, float]] | None:
    """Take steps uphill at the budget; return what they lead to, with about the scale of each sign.

    With ``halfway`` they begin at the bisectors of the directions and the gradient at zero: the estimate says where the
    poles differ, the gradient which way answers are moved. None where there are no gradients.
    """
    assert asked.behaviour is not None
    items = contrasts(asked.model, asked.behaviour, asked.calibration)
    gradients = asked.model.gradients
    if gradients is None or not items:
        progress(Progress(REFINE_PHASE, steps, steps, note=f"{UNREFINED}: the model has no gradients"))
        return None
    done = count(1)
    try:
        ratios = gradients.ratio_gradients(items, bf16=True)
        if halfway:
            steerable = _bisected(asked, ratios, steerable, layers, questions=len(items), progress=progress)
        points = find_scales(asked.sweep_kl, steerable, layers, budget=budget, guess=guess, tolerance=SWEEP_TOLERANCE)
        scale = {key: point.at(budget) for key, point in points.items()}
        middle = float(np.mean(list(scale.values())))
        progress(Progress(REFINE_PHASE, 0, steps))
        refined, factors = refine(
            ratios,
            steerable.additions(layers, middle),
            {layer: norms[layer] for layer in layers},
            factors={key: each / middle for key, each in scale.items()},
            budget=budget,
            questions=len(items),
            steps=steps,
            seed=seed,
            checkpoint=asked.checkpoint,
            on_step=lambda: progress(Progress(REFINE_PHASE, next(done), steps)),
        )
    except ModelError as error:
        progress(Progress(REFINE_PHASE, steps, steps, note=f"{UNREFINED}: {error.problem}"))
        return None
    progress(Progress(REFINE_PHASE, steps, steps))
    lengths = {layer: float(np.linalg.norm(added)) for layer, added in refined.items()}
    directions = {layer: (refined[layer] / lengths[layer]).astype(np.float32) for layer in layers}
    shares = {layer: length / middle for layer, length in lengths.items()}
    better = Steerable({**steerable.directions, **directions}, {**steerable.norms, **shares})
    return better, {key: middle * factor for key, factor in factors.items()}


def _bisected(
    asked: CalibrationSet,
    ratios: RatioGradients,
    steerable: Steerable,
    layers: Sequence[int],
    *,
    questions: int,
    progress: OnProgress,
) -> Steerable:
    """Return the bisectors of some layers' directions and the gradient at zero; the same where that is none."""
    try:
        slopes = persona_directions(
            ratios,
            questions=min(questions, SLOPE_QUESTIONS),
            layers=layers,
            width=asked.model.info.hidden_size,
            checkpoint=asked.checkpoint,
            progress=progress,
        )
    except CalibrationError as error:  # personas that change nothing are no reason to give up
        progress(Progress(PERSONAS_PHASE, 1, 1, note=f"steps begin at the estimate: {error.problem}"))
        return steerable
    sums = {layer: steerable.directions[layer] + slopes[layer] for layer in layers}
    bisectors = {layer: (total / np.linalg.norm(total)).astype(np.float32) for layer, total in sums.items()}
    return replace(steerable, directions={**steerable.directions, **bisectors})


def check_budget(budget: float) -> None:
    """Refuse a budget that is no positive number of nats.

    Raises:
        CalibrationError: It is none.
    """
    if not (np.isfinite(budget) and 0 < budget <= 5):
        raise CalibrationError(f"a budget of {budget} nat makes no sense", fix="give a number such as 0.4")


PHASE = "Calibrating the operator"


def calibrate_operator(
    model: Trains, vector: ControlVector, *, operator: str, budget: float, progress: OnProgress
) -> ControlVector:
    """Return the vector with ``operator_scales[operator]``; its layers, weights and all else stay.

    Each sign is found by the same root finding as for adding, on the model's own answers to neutral prompts.

    Args:
        model: The engine of the vector's model.
        vector: Steers its own layers with its own weights.
        operator: ``"rotate"`` or ``"add_preserving_norm"``.
        budget: Mean per-token KL(base ‖ steered) at strength ±1, in nats.
        progress: Called with the signs done.

    Raises:
        CalibrationError: No strength spends the budget; turning moves a state no further than onto the direction.
    """
    texts = neutral_prompts().calibration[:KL_QUESTIONS]
    kl = KlSet(model, ask(model, texts, None, personas=0, max_new_tokens=ANSWER_TOKENS, progress=progress))
    guess = vector.scale or dict.fromkeys(SIGNS, first_guess(len(vector.layers)))

    def kl_at(sign: float, scale: float) -> float:
        return kl.measure(changes_of(vector, operator, sign * scale))

    scale: dict[str, float] = {}
    for key, sign in SIGNS.items():
        progress(Progress(PHASE, len(scale), len(SIGNS)))
        point = find_scale(partial(kl_at, sign), budget=budget, guess=guess[key], tolerance=TOLERANCE)
        scale[key] = point.scale
    progress(Progress(PHASE, len(SIGNS), len(SIGNS)))
    scales: Mapping[str, Mapping[str, float]] = {**vector.operator_scales, operator: scale}
    return replace(vector, operator_scales=scales)


def changes_of(vector: ControlVector, operator: str, coefficient: float) -> dict[int, Sequence[Change]]:
    """Return what an operator does to each steered layer at a coefficient: negative is away from the positive pole.

    For turning, a layer's angle is the coefficient times its weight, in radians; its norm plays no part.
    """
    multipliers = vector.multipliers(coefficient=coefficient)
    if operator == "rotate":
        return {layer: (LayerRotate(vector.directions[layer], angle),) for layer, angle in multipliers.items()}
    return {
        layer: (LayerAdd(np.float32(multiplier * vector.norms[layer]) * vector.directions[layer], preserve_norm=True),)
        for layer, multiplier in multipliers.items()
    }


def check_operator(operator: str) -> None:
    """Refuse operators that have no strength.

    Raises:
        CalibrationError: It is unknown, or takes bounds and no strength.
    """
    if operator not in CALIBRATED:
        raise CalibrationError(
            f"there is no strength to calibrate for {operator!r}", fix=f"use one of {', '.join(CALIBRATED)}"
        )


PROMPTS = 12


@dataclass(frozen=True)
class Spending:
    """The KL of a mix, in nats per token.

    Attributes:
        measured: Mean KL(base ‖ steered) along the model's own answers to neutral prompts.
        predicted: What the mixing meter says; None where a term was never calibrated for what it does.
        prompts: How many prompts.
    """

    measured: float
    predicted: float | None
    prompts: int


def measure_spending(
    model: Trains, steering: SteeringLike, *, prompts: int = PROMPTS, progress: OnProgress = ignore
) -> Spending:
    """Measure what a steering of all tokens spends on held-out neutral prompts.

    Args:
        model: The engine.
        steering: What to measure.
        prompts: How many prompts.
        progress: Called with each step of the work.

    Raises:
        SteeringError: It has token scopes or conditions, so what it spends depends on the request;
            ``generate(..., measure_kl=True)`` measures that.

    Example:
        >>> measure_spending(model, [(happy, 0.5), (formal, 0.5)]).measured  # doctest: +SKIP
        0.29
    """
    model.check_unsteered("measuring KL")
    chosen = Steering.of(steering)
    if any(not term.tokens.is_all or term.condition is not None for term in chosen.terms):
        raise SteeringError(
            "what token scopes and conditions spend depends on the request", fix="use generate(..., measure_kl=True)"
        )
    changes = chosen.compile(model.info).changes
    texts = neutral_prompts().held_out[:prompts]
    questions = ask(model, texts, None, personas=0, max_new_tokens=ANSWER_TOKENS, progress=progress)
    return Spending(KlSet(model, questions).measure(changes), predicted_kl_or_none(chosen.terms), len(texts))
