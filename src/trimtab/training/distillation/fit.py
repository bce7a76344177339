"""Learning to predict what a teacher predicts: one vector per layer, by gradient.

Vectors are in units of each layer's mean hidden-state norm, since layers differ twentyfold; steps are SOAP's, after a
warm-up on half a cosine. The best point on questions that are not learned from is kept.
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
    """How steps are taken.

    Attributes:
        steps: How many at most.
        batch: Lessons of a step.
        stride: Longest step of a layer's vector, in norms of the layer.
        warmup: Steps until it is reached.
        shrink: What of a vector is given up with every step, per ``stride``.
        halfway: At how many times the distance before any step a token pulls half as much as its KL would have it.
            What is so far off is mostly some word that this answer alone has.
        clip: Upper bound on a gradient's length, in times the median so far; a single odd lesson leads nowhere.
        check_every: Steps between looks at the lessons that are not learned from.
        patience: Looks without improvement after which it is enough.
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
class Look:
    """The distance from the teacher after some steps.

    Attributes:
        step: After how many.
        kl: Mean KL(teacher ‖ student) on lessons that are not learned from, in nats per token.
    """

    step: int
    kl: float


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned.

    Attributes:
        additions: Layer to ``[hidden]``.
        looks: The distance from the teacher as it fell; the first is before any step.
        best: The look at which ``additions`` were the best.
    """

    additions: Mapping[int, F32]
    looks: tuple[Look, ...]
    best: Look

    @property
    def lengths(self) -> dict[int, float]:
        """Layer to the length of what is added, where it is anything."""
        found = {layer: float(np.linalg.norm(added)) for layer, added in self.additions.items()}
        return {layer: length for layer, length in found.items() if length > 0}

    @property
    def directions(self) -> dict[int, F32]:
        """Likewise, its unit direction ``[hidden]``."""
        return {layer: (self.additions[layer] / length).astype(np.float32) for layer, length in self.lengths.items()}


def imitate(
    lessons: DistillationLoss,
    others: DistillationLoss,
    norms: Mapping[int, float],
    *,
    count: int,
    width: int,
    schedule: Schedule,
    active: Mapping[int, F32],
    seed: int,
    journal: Checkpoint,
    on_step: Callable[[int, float], None],
) -> Learned:
    """Learn additions that bring a student nearer to its teacher.

    Args:
        lessons: What is learned from.
        others: What is not, by which the best point is chosen.
        norms: Layers to learn at, with the mean norm of their hidden states.
        count: How many lessons are learned from.
        width: Of the hidden states.
        schedule: How steps are taken.
        active: What is added besides, and stays as it is.
        seed: Of the order of the lessons.
        journal: Where the state is kept now and then, and found again.
        on_step: Called with the steps taken and the last look's distance.

    Raises:
        DistillError: The loss is not a number any more.
        ModelError: The model has no gradients, or memory does not suffice for them.
    """
    from trimtab.training.optimiser import LayerUnits, batches, soap, warmed_cosine

    units = LayerUnits.of(norms)

    def additions(point: F64) -> dict[int, F32]:
        return together(units.additions(point), active)

    start = np.zeros((len(norms), width))  # [layer, hidden], in norms
    descent = soap(start, shrink=schedule.shrink)
    kept = journal.get_arrays(KEY)
    if kept is not None and descent.restore(kept):
        track = _Track.of_arrays(kept)
    else:
        track = _Track((_look(others, 0, additions(start)),), (), start, 0)
    order = batches(count, steps=schedule.steps, size=schedule.batch, seed=seed)
    on_step(descent.step, track.best.kl)
    for number in range(descent.step, schedule.steps):
        loss = lessons.at(additions(descent.at), order[number], halfway=schedule.halfway * track.looks[0].kl)
        gradient = units.gradient(loss.gradient)
        length = float(np.linalg.norm(gradient))
        if not (math.isfinite(loss.kl) and math.isfinite(length)):
            raise DistillError(
                f"the loss is not a number any more at step {number + 1}", fix="take shorter steps, or load in float32"
            )
        track = track.felt(length)
        gradient *= min(1.0, schedule.clip * track.usual / length) if length > 0 else 1.0
        # Adam's steps are about 1 per number, so √width in all: the stride is the length of a layer's whole vector.
        highest = schedule.stride / math.sqrt(width)
        descent.downhill(gradient, rate=highest * warmed_cosine(number, schedule.steps, warmup=schedule.warmup))
        if descent.step % schedule.check_every == 0 or descent.step == schedule.steps:
            track = track.seen(_look(others, descent.step, additions(descent.at)), descent.at)
        if descent.step % KEEP_EVERY == 0:
            journal.put_arrays(KEY, {**descent.arrays(), **track.arrays()})
        on_step(descent.step, track.looks[-1].kl)
        if track.stale(schedule.patience):
            break
    return Learned(units.additions(track.at), track.looks, track.best)


def together(own: Mapping[int, F32], active: Mapping[int, F32]) -> dict[int, F32]:
    """What is added to each layer in all: something of one's own, on top of what is active."""
    total = {layer: np.array(added) for layer, added in active.items()}
    for layer, added in own.items():
        total[layer] = total[layer] + added if layer in total else added
    return total


def _look(others: DistillationLoss, step: int, additions: Mapping[int, F32]) -> Look:
    return Look(step, float(np.mean([each.mean() for each in others.measure(additions)])))


@dataclass(frozen=True, eq=False)
class _Track:
    """What was seen on the way.

    Attributes:
        looks: At the lessons that are not learned from.
        lengths: Of the gradients so far.
        at: The best point, ``[layer, hidden]``.
        number: Which look that was.
    """

    looks: tuple[Look, ...]
    lengths: tuple[float, ...]
    at: F64
    number: int

    @property
    def best(self) -> Look:
        """The look at the best point."""
        return self.looks[self.number]

    @property
    def usual(self) -> float:
        """The median length of a gradient."""
        return float(np.median(self.lengths))

    def felt(self, length: float) -> _Track:
        """With one more gradient."""
        return _Track(self.looks, (*self.lengths, length), self.at, self.number)

    def seen(self, look: Look, at: F64) -> _Track:
        """With one more look, which may be the best."""
        looks = (*self.looks, look)
        if look.kl < self.best.kl:
            return _Track(looks, self.lengths, at, len(looks) - 1)
        return _Track(looks, self.lengths, self.at, self.number)

    def stale(self, patience: int) -> bool:
        """Whether the last looks were all worse than the best."""
        return len(self.looks) - 1 - self.number >= patience

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, to be noted."""
        return {
            "looked": np.array([look.step for look in self.looks]),
            "kls": np.array([look.kl for look in self.looks]),
            "lengths": np.array(self.lengths),
            "best": self.at,
            "number": np.array(self.number),
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> _Track:
        """From what ``arrays`` gave."""
        looks = tuple(Look(int(step), float(kl)) for step, kl in zip(arrays["looked"], arrays["kls"], strict=True))
        return cls(looks, tuple(arrays["lengths"].tolist()), arrays["best"], int(arrays["number"]))
