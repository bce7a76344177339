"""Fit one vector per layer by gradient, so that the student predicts what the teacher predicts.

Steps are ``LayerSoap``'s, in units of each layer's mean hidden-state norm, with a warm-up and half a cosine. The point
with the lowest KL on held-out examples is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32, F64
from trimtab.defaults import DISTILL_BATCH, DISTILL_STEPS
from trimtab.engines.protocol import DistillationLoss
from trimtab.errors import DistillError
from trimtab.training.checkpoint import Checkpoint

KEY = "distilling"
KEEP_EVERY = 10


@dataclass(frozen=True)
class Schedule:
    """Schedule of the steps.

    Attributes:
        steps: Number of steps, at most.
        batch: Examples per step.
        stride: Longest step of a layer's vector, in norms of the layer.
        warmup: Steps until it is reached.
        shrink: Weight decay, per ``stride``.
        halfway: KL of a token, as a multiple of the mean KL before the first step, at which its weight in the gradient
            is halved. Tokens that far off are mostly words that occur in this answer only.
        clip: Upper bound on a gradient's length, as a multiple of the median so far, against outliers.
        check_every: Steps between validations.
        patience: Validations without improvement after which fitting stops.
    """

    steps: int = DISTILL_STEPS
    batch: int = DISTILL_BATCH
    stride: float = 0.005
    warmup: int = 8
    shrink: float = 0.0
    halfway: float = 2.0
    clip: float = 3.0
    check_every: int = 20
    patience: int = 3


@dataclass(frozen=True)
class Validation:
    """KL on held-out examples after some steps.

    Attributes:
        step: Number of steps taken.
        kl: Mean KL(teacher ‖ student), in nats per token.
    """

    step: int
    kl: float


@dataclass(frozen=True, eq=False)
class Learned:
    """Result of a fit.

    Attributes:
        additions: Layer to ``[hidden]``.
        validations: KL on held-out examples; the first is before any step.
        best: The validation at which ``additions`` were the best.
    """

    additions: Mapping[int, F32]
    validations: tuple[Validation, ...]
    best: Validation

    @property
    def lengths(self) -> dict[int, float]:
        """Return by layer the length of its addition, where it is not zero."""
        lengths = {layer: float(np.linalg.norm(added)) for layer, added in self.additions.items()}
        return {layer: length for layer, length in lengths.items() if length > 0}

    @property
    def directions(self) -> dict[int, F32]:
        """Return by layer its unit direction ``[hidden]``, where the addition is not zero."""
        return {layer: (self.additions[layer] / length).astype(np.float32) for layer, length in self.lengths.items()}


def fit(
    examples: DistillationLoss,
    held_out: DistillationLoss,
    norms: Mapping[int, float],
    *,
    count: int,
    width: int,
    schedule: Schedule,
    active: Mapping[int, F32],
    seed: int,
    checkpoint: Checkpoint,
    on_step: Callable[[int, float], None],
) -> Learned:
    """Fit additions that lower the KL from teacher to student.

    Args:
        examples: Loss on the examples to learn from.
        held_out: Loss on held-out examples, by which the best point is chosen.
        norms: Layers to learn at, with the mean norm of their hidden states.
        count: Number of examples to learn from.
        width: Size of the hidden states.
        schedule: Schedule of the steps.
        active: Additions of other vectors, which stay as they are.
        seed: Seed of the order of the examples.
        checkpoint: Written every ``KEEP_EVERY`` steps.
        on_step: Called with the steps taken and the last validation's KL.

    Raises:
        DistillError: The loss is not finite.
        ModelError: The model has no gradients, or memory does not suffice for them.
    """
    from trimtab.training.optimiser import LayerUnits, batches, soap, warmed_cosine

    units = LayerUnits.of(norms)

    def additions(point: F64) -> dict[int, F32]:
        return together(units.additions(point), active)

    start = np.zeros((len(norms), width))  # [layer, hidden], in norms
    descent = soap(start, shrink=schedule.shrink)
    saved = checkpoint.get_arrays(KEY)
    if saved is not None and descent.restore(saved):
        track = _Track.of_arrays(saved)
    else:
        track = _Track([_validated(held_out, 0, additions(start))], [], start)
    order = batches(count, steps=schedule.steps, size=schedule.batch, seed=seed)
    on_step(descent.step, track.best.kl)
    for number in range(descent.step, schedule.steps):
        loss = examples.at(additions(descent.at), order[number], halfway=schedule.halfway * track.validations[0].kl)
        gradient = units.gradient(loss.gradient)
        length = float(np.linalg.norm(gradient))
        if not (math.isfinite(loss.kl) and math.isfinite(length)):
            raise DistillError(
                f"the loss is not a number any more at step {number + 1}", fix="take shorter steps, or load in float32"
            )
        track.lengths.append(length)
        gradient *= min(1.0, schedule.clip * float(np.median(track.lengths)) / length) if length > 0 else 1.0
        # Adam's steps are about 1 per number, so √width in all: the stride is the length of a layer's whole vector.
        highest = schedule.stride / math.sqrt(width)
        descent.downhill(gradient, rate=highest * warmed_cosine(number, schedule.steps, warmup=schedule.warmup))
        if descent.step % schedule.check_every == 0 or descent.step == schedule.steps:
            track.validate(_validated(held_out, descent.step, additions(descent.at)), descent.at)
        if descent.step % KEEP_EVERY == 0:
            checkpoint.put_arrays(KEY, {**descent.arrays(), **track.arrays()})
        on_step(descent.step, track.validations[-1].kl)
        if len(track.validations) - 1 - track.number >= schedule.patience:
            break
    return Learned(units.additions(track.at), tuple(track.validations), track.best)


def together(learned: Mapping[int, F32], active: Mapping[int, F32]) -> dict[int, F32]:
    """Return the sum of two sets of additions, layer by layer."""
    total = {layer: np.array(added) for layer, added in active.items()}
    for layer, added in learned.items():
        total[layer] = total[layer] + added if layer in total else added
    return total


def _validated(held_out: DistillationLoss, step: int, additions: Mapping[int, F32]) -> Validation:
    return Validation(step, float(np.mean([kl.mean() for kl in held_out.measure(additions)])))


@dataclass(eq=False)
class _Track:
    """History of a fit, saved with it.

    Attributes:
        validations: KL on held-out examples.
        lengths: Lengths of the gradients so far.
        at: The best point, ``[layer, hidden]``.
        number: Index of the best validation.
    """

    validations: list[Validation]
    lengths: list[float]
    at: F64
    number: int = 0

    @property
    def best(self) -> Validation:
        return self.validations[self.number]

    def validate(self, validation: Validation, at: F64) -> None:
        """Add a validation, which may be the best."""
        self.validations.append(validation)
        if validation.kl < self.best.kl:
            self.at, self.number = at, len(self.validations) - 1

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, to be saved."""
        return {
            "validated": np.array([validation.step for validation in self.validations]),
            "kls": np.array([validation.kl for validation in self.validations]),
            "lengths": np.array(self.lengths),
            "best": self.at,
            "number": np.array(self.number),
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> _Track:
        """Restore a history from ``arrays``."""
        steps, kls = arrays["validated"].tolist(), arrays["kls"].tolist()
        validations = [Validation(int(step), kl) for step, kl in zip(steps, kls, strict=True)]
        return cls(validations, arrays["lengths"].tolist(), arrays["best"], int(arrays["number"]))
