"""Phases of an evaluation: told as they go, and timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import final

from trimtab.learning.progress import OnProgress, Progress


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
        """Do one phase of so many steps in the ``with`` block; what it gives is to be called after each."""
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
