"""Adam along the axes in which layers move together.

What is added at one layer is still there at all later ones, so the gradients of neighbouring layers are much alike, and
Adam, which looks at every number alone, steps in one common direction again and again. Turned to where gradients of
layers are uncorrelated, each axis gets a step of its own length.

Source: SOAP (Vyas et al. 2024, arXiv:2409.11321, algorithm 3), with the turn on the side of the layers alone: they are
few, so that the axes are computed anew at every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from trimtab.learning.adam import EPSILON, Floats

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
