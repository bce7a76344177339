"""Progress of long work, and the seconds of its phases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeAlias, final


@dataclass(frozen=True)
class PairAgreement:
    """Agreement of the contrastive pairs, over the middle layers.

    Attributes:
        pairs: Number of pairs.
        cosine: Mean cosine between the differences of two pairs.
        separation: Share of pairs whose positive side projects further along the direction.
    """

    pairs: int
    cosine: float
    separation: float
    kind: Literal["agreement"] = "agreement"


@dataclass(frozen=True)
class PoleAnswers:
    """Answers to one question under the system prompts of both poles."""

    question: str
    positive: str
    negative: str
    kind: Literal["answers"] = "answers"


@dataclass(frozen=True)
class ChosenLayers:
    """Layers that are steered.

    Attributes:
        shares: By layer, its part of the addition, relative to that of the strongest layer.
        tried: How many choices of layers were compared; 0 where a usual band was taken.
    """

    shares: Mapping[int, float]
    tried: int
    kind: Literal["layers"] = "layers"


Finding: TypeAlias = PairAgreement | PoleAnswers | ChosenLayers
"""Intermediate result that is worth showing while the work goes on."""


@dataclass(frozen=True)
class Progress:
    """One step of long work.

    Attributes:
        phase: What is being done, in words for people.
        done: Units of this phase done.
        total: All its units.
        status: Further state to show, such as a loss.
        note: Message to the user, such as that memory ran out and the work continues in smaller pieces.
        finding: Intermediate result of this step.
    """

    phase: str
    done: int
    total: int
    note: str = ""
    status: str = ""
    finding: Finding | None = None


OnProgress: TypeAlias = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """Tell nobody."""


@final
class Phases:
    """Tells how far the work is, and keeps the seconds of each phase.

    Attributes:
        seconds: By phase, in order.
    """

    def __init__(self, progress: OnProgress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str, total: int) -> Iterator[Callable[[], None]]:
        """Run a phase of ``total`` steps in the ``with`` block; the yielded function is called after each step."""
        done = 0
        began = time.perf_counter()
        self.progress(Progress(phase, 0, total))

        def step() -> None:
            nonlocal done
            done = min(done + 1, total)
            self.progress(Progress(phase, done, total))

        yield step
        self.progress(Progress(phase, total, total))
        self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - began
