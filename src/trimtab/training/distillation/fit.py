"""Learning to predict what a teacher predicts: one vector per layer, by gradient.

Vectors are in units of each layer's mean hidden-state norm, since layers differ twentyfold; steps are SOAP's, after a
warm-up on half a cosine. The best point on questions that are not learned from is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32
from trimtab.engines.protocol import DistillationLoss
from trimtab.errors import DistillError
from trimtab.training.checkpoint import Checkpoint, get_arrays, put_arrays
from trimtab.training.refine import EPSILON, Floats

DECAY = (0.6, 0.95)  # a long memory of gradients leads past the goal: a hundred steps are few
MEMORY = 0.9  # of how layers move together


@final
@dataclass(frozen=True, eq=False)
class Soap:
    """Where steps have led so far.

    Attributes:
        step: How many were taken.
        at: The point, ``[layer, hidden]``.
        first: Running mean of gradients, likewise.
        second: Running mean of their squares along ``axes``, ``[axis, hidden]``.
        together: Running mean of the products of layers' gradients, ``[layer, layer]``.
        axes: Its eigenvectors, one a column.
    """

    step: int
    at: Floats
    first: Floats
    second: Floats
    together: Floats
    axes: Floats

    @classmethod
    def beginning(cls, at: Floats) -> Soap:
        """Before the first step.

        Example:
            >>> Soap.beginning(np.array([[1.0]])).downhill(np.array([[9.0]]), rate=0.25).at
            array([[0.75]])
        """
        layers = len(at)
        return cls(0, at, np.zeros_like(at), np.zeros_like(at), np.zeros((layers, layers)), np.eye(layers))

    def downhill(self, gradient: Floats, *, rate: float, shrink: float = 0.0) -> Soap:
        """One step down; before it, the point shrinks by ``rate * shrink`` of itself."""
        step = self.step + 1
        together = MEMORY * self.together + (1 - MEMORY) * gradient @ gradient.T
        axes = np.linalg.eigh(together).eigenvectors
        carried = (axes.T @ self.axes) ** 2 @ self.second  # squares, as far as the new axes lie along the old ones
        second = DECAY[1] * carried + (1 - DECAY[1]) * (axes.T @ gradient) ** 2
        first = DECAY[0] * self.first + (1 - DECAY[0]) * gradient
        ahead = axes.T @ first / (1 - DECAY[0] ** step)
        spread = np.sqrt(second / (1 - DECAY[1] ** step))
        moved = self.at * (1 - rate * shrink) - rate * axes @ (ahead / (spread + EPSILON))
        return Soap(step, moved, first, second, together, axes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, to be noted."""
        return {
            "step": np.array(self.step),
            "at": self.at,
            "first": self.first,
            "second": self.second,
            "together": self.together,
            "axes": self.axes,
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]] | None, *, like: Floats) -> Soap | None:
        """From what ``arrays`` gave, if it is of that shape."""
        if arrays is None or arrays["at"].shape != like.shape:
            return None
        names = ("at", "first", "second", "together", "axes")
        return cls(int(arrays["step"]), *(arrays[name] for name in names))


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

    steps: int = 85
    batch: int = 6
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
    layers = sorted(norms)
    unit = np.array([norms[layer] for layer in layers])[:, None]

    def additions(at: Floats) -> dict[int, F32]:
        own = {layer: (at[n] * unit[n]).astype(np.float32) for n, layer in enumerate(layers)}
        return together(own, active)

    start = np.zeros((len(layers), width))  # [layer, hidden], in norms
    kept = get_arrays(journal, KEY)
    state = Soap.of_arrays(kept, like=start)
    if state is None or kept is None:
        state, track = Soap.beginning(start), _Track((_look(others, 0, additions(start)),), (), start, 0)
    else:
        track = _Track.of_arrays(kept)
    order = _order(count, schedule, seed)
    on_step(state.step, track.best.kl)
    for number in range(state.step, schedule.steps):
        gap = lessons.at(additions(state.at), order[number], halfway=schedule.halfway * track.looks[0].kl)
        gradient = np.stack([gap.gradient[layer] for layer in layers]).astype(np.float64) * unit
        length = float(np.linalg.norm(gradient))
        if not (math.isfinite(gap.kl) and math.isfinite(length)):
            raise DistillError(
                f"the loss is not a number any more at step {number + 1}", fix="take shorter steps, or load in float32"
            )
        track = track.felt(length)
        gradient *= min(1.0, schedule.clip * track.usual / length) if length > 0 else 1.0
        state = state.downhill(gradient, rate=_rate(schedule, number, width), shrink=schedule.shrink)
        if state.step % schedule.check_every == 0 or state.step == schedule.steps:
            track = track.seen(_look(others, state.step, additions(state.at)), state.at)
        if state.step % KEEP_EVERY == 0:
            put_arrays(journal, KEY, {**state.arrays(), **track.arrays()})
        on_step(state.step, track.looks[-1].kl)
        if track.stale(schedule.patience):
            break
    own = {layer: (track.at[n] * unit[n]).astype(np.float32) for n, layer in enumerate(layers)}
    return Learned(own, track.looks, track.best)


def together(own: Mapping[int, F32], active: Mapping[int, F32]) -> dict[int, F32]:
    """What is added to each layer in all: something of one's own, on top of what is active."""
    total = {layer: np.array(added) for layer, added in active.items()}
    for layer, added in own.items():
        total[layer] = total[layer] + added if layer in total else added
    return total


def _look(others: DistillationLoss, step: int, additions: Mapping[int, F32]) -> Look:
    return Look(step, float(np.mean([each.mean() for each in others.measure(additions)])))


def _rate(schedule: Schedule, number: int, width: int) -> float:
    warm = min(1.0, (number + 1) / schedule.warmup)
    return schedule.stride / math.sqrt(width) * warm * 0.5 * (1 + math.cos(math.pi * number / schedule.steps))


def _order(count: int, schedule: Schedule, seed: int) -> list[list[int]]:
    """The lessons of each step: all of them in a new order, again and again."""
    generator = np.random.default_rng(seed)
    batch = min(schedule.batch, count)
    rounds = -(-schedule.steps * batch // count)
    numbers = np.concatenate([generator.permutation(count) for _ in range(max(rounds, 1))])
    return [numbers[n * batch : (n + 1) * batch].tolist() for n in range(schedule.steps)]


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
    at: Floats
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

    def seen(self, look: Look, at: Floats) -> _Track:
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
