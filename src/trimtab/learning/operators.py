"""Strength for operators other than adding: the scale of each sign at which strength 1 spends the budget under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from trimtab.behaviours import neutral_prompts
from trimtab.engines import Engine
from trimtab.errors import CalibrationError
from trimtab.learning.progress import OnProgress, Progress
from trimtab.learning.questions import KlSet, ask
from trimtab.learning.secant import spend
from trimtab.learning.sweep import SIGNS, first_guess
from trimtab.steering.operators import CALIBRATED
from trimtab.steering.plan import Change, Push, Turned
from trimtab.vectors import ControlVector

PHASE = "Calibrating the operator"


def changes_of(vector: ControlVector, operator: str, coefficient: float) -> dict[int, Sequence[Change]]:
    """What an operator does to each steered layer at a coefficient: negative is away from the positive pole.

    For turning, a layer's angle is the coefficient times its weight, in radians; its norm plays no part.
    """
    multipliers = vector.multipliers(coefficient=coefficient)
    if operator == "rotate":
        return {layer: (Turned(vector.directions[layer], angle),) for layer, angle in multipliers.items()}
    return {
        layer: (Push(np.float32(multiplier * vector.norms[layer]) * vector.directions[layer], preserve_norm=True),)
        for layer, multiplier in multipliers.items()
    }


def calibrate_operator(
    model: Engine,
    vector: ControlVector,
    *,
    operator: str,
    budget: float,
    prompts: int,
    answer_tokens: int,
    tolerance: float,
    progress: OnProgress,
) -> ControlVector:
    """The vector with ``operator_scales[operator]``; its layers, weights and all else stay.

    Each sign is found by the same secant as for adding, on the model's own answers to neutral prompts.

    Args:
        model: The engine of the vector's model.
        vector: Steers its own layers with its own weights.
        operator: ``"rotate"`` or ``"add_preserving_norm"``.
        budget: Mean per-token KL(base ‖ steered) at strength ±1, in nats.
        prompts: How many neutral prompts.
        answer_tokens: Length of the model's answers.
        tolerance: Of the budget, relative.
        progress: Called with the signs done.

    Raises:
        CalibrationError: No strength spends the budget; turning moves a state no further than onto the direction.
    """
    questions = ask(
        model,
        neutral_prompts().calibration[:prompts],
        None,
        in_character=0,
        max_new_tokens=answer_tokens,
        progress=progress,
    )
    kl = KlSet(model, questions)
    guess = vector.scale or dict.fromkeys(SIGNS, first_guess(len(vector.layers)))
    scale: dict[str, float] = {}
    for key, sign in SIGNS.items():
        progress(Progress(PHASE, len(scale), len(SIGNS)))
        scale[key] = _spending(kl, vector, operator, sign, budget=budget, guess=guess[key], tolerance=tolerance)
    progress(Progress(PHASE, len(SIGNS), len(SIGNS)))
    scales: Mapping[str, Mapping[str, float]] = {**vector.operator_scales, operator: scale}
    return replace(vector, operator_scales=scales)


def check_operator(operator: str) -> None:
    """Refuse operators that have no strength.

    Raises:
        CalibrationError: It is unknown, or takes bounds and no strength.
    """
    if operator not in CALIBRATED:
        raise CalibrationError(
            f"there is no strength to calibrate for {operator!r}", fix=f"use one of {', '.join(CALIBRATED)}"
        )


def _spending(
    kl: KlSet, vector: ControlVector, operator: str, sign: float, *, budget: float, guess: float, tolerance: float
) -> float:
    def kl_at(scale: float) -> float:
        return kl.measure(changes_of(vector, operator, sign * scale))

    return spend(kl_at, budget=budget, guess=guess, tolerance=tolerance).scale
