"""Adam: steps whose length hangs on how steady a gradient is, not on how large.

Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1; shrinking is apart from the gradient as in AdamW (Loshchilov
and Hutter 2019, arXiv:1711.05101, algorithm 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

DECAY = (0.9, 0.95)
EPSILON = 1e-12

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Adam:
    """Where steps have led so far; all arrays are of one shape.

    Attributes:
        step: How many were taken.
        at: The point.
        first: Running mean of gradients.
        second: Running mean of their squares.
    """

    step: int
    at: Floats
    first: Floats
    second: Floats

    @classmethod
    def beginning(cls, at: Floats) -> Adam:
        """Before the first step.

        Example:
            >>> Adam.beginning(np.array([1.0])).downhill(np.array([9.0]), rate=0.25).at
            array([0.75])
        """
        return cls(0, at, np.zeros_like(at), np.zeros_like(at))

    def downhill(self, gradient: Floats, *, rate: float, shrink: float = 0.0) -> Adam:
        """One step down; before it, the point shrinks by ``rate * shrink`` of itself."""
        step = self.step + 1
        first = DECAY[0] * self.first + (1 - DECAY[0]) * gradient
        second = DECAY[1] * self.second + (1 - DECAY[1]) * gradient**2
        ahead = first / (1 - DECAY[0] ** step)
        spread = np.sqrt(second / (1 - DECAY[1] ** step))
        return Adam(step, self.at * (1 - rate * shrink) - rate * ahead / (spread + EPSILON), first, second)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, to be noted."""
        return {"step": np.array(self.step), "at": self.at, "first": self.first, "second": self.second}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]] | None, *, like: Floats) -> Adam | None:
        """From what ``arrays`` gave, if it is of that shape."""
        if arrays is None or arrays["at"].shape != like.shape:
            return None
        return cls(int(arrays["step"]), arrays["at"], arrays["first"], arrays["second"])
