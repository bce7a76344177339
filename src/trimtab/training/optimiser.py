"""Gradient descent on one vector per layer: torch optimisers in float64, saved between steps.

Vectors are in units of each layer's mean hidden-state norm: norms differ twentyfold between layers, and an optimiser
with one learning rate would otherwise barely move the lowest layers, or throw the highest far off. The learning rate
rises linearly for a few steps, while moments are estimated from little, then falls on half a cosine to 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from trimtab.arrays import F32, F64

ADAM_DECAY = (0.9, 0.95)
SOAP_DECAY = (0.6, 0.95)  # a longer mean of gradients overshoots within the hundred steps that are taken
SOAP_MEMORY = 0.9  # of the products of layers' gradients
EPSILON = 1e-12


@final
@dataclass(frozen=True, eq=False)
class LayerUnits:
    """Vectors of several layers as one array ``[layer, hidden]`` in units of the layers' norms.

    Attributes:
        layers: Ascending.
        norms: Mean hidden-state norm of each layer, ``[layer, 1]``.
    """

    layers: tuple[int, ...]
    norms: F64

    @classmethod
    def of(cls, norms: Mapping[int, float]) -> LayerUnits:
        """Order the layers."""
        layers = tuple(sorted(norms))
        return cls(layers, np.array([norms[layer] for layer in layers])[:, None])

    def point(self, additions: Mapping[int, F32]) -> F64:
        """Return additions in these units."""
        return self._stacked(additions) / self.norms

    def additions(self, point: F64) -> dict[int, F32]:
        """Return the additions of a point."""
        return {layer: (point[n] * self.norms[n]).astype(np.float32) for n, layer in enumerate(self.layers)}

    def gradient(self, by_layer: Mapping[int, F32]) -> F64:
        """Return the gradient with respect to the point, by the chain rule, of one with respect to additions."""
        return self._stacked(by_layer) * self.norms

    def _stacked(self, by_layer: Mapping[int, F32]) -> F64:
        return np.stack([by_layer[layer] for layer in self.layers]).astype(np.float64)


@final
class Descent:
    """A point ``[layer, hidden]`` and the torch optimiser that moves it.

    Example:
        >>> descent = adam(np.array([[1.0]]))
        >>> descent.downhill(np.array([[9.0]]), rate=0.25)
        >>> descent.at
        array([[0.75]])
    """

    def __init__(self, point: torch.nn.Parameter, optimiser: torch.optim.Optimizer) -> None:
        self._point = point
        self._optimiser = optimiser

    @property
    def at(self) -> F64:
        """Return the point."""
        at: F64 = self._point.detach().numpy().copy()
        return at

    @property
    def step(self) -> int:
        """Return the number of steps taken."""
        return int(self._optimiser.state[self._point].get("step", 0))

    def downhill(self, gradient: F64, *, rate: float) -> None:
        """Take one step with a learning rate."""
        self._point.grad = torch.from_numpy(gradient.copy())
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.step()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything that going on needs, to be saved."""
        state = self._optimiser.state[self._point]
        return {"at": self.at} | {f"state_{name}": value.numpy().copy() for name, value in state.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]] | None) -> bool:
        """Go on from saved arrays; return False, and change nothing, if there are none of this shape."""
        if arrays is None or "state_step" not in arrays or arrays["at"].shape != tuple(self._point.shape):
            return False
        saved = {name.removeprefix("state_"): array for name, array in arrays.items() if name.startswith("state_")}
        with torch.no_grad():
            self._point.copy_(torch.from_numpy(arrays["at"]))
        self._optimiser.state[self._point] = {name: torch.tensor(array) for name, array in saved.items()}
        return True


def adam(start: F64, *, shrink: float = 0.0) -> Descent:
    """Begin Adam at a point; before each step, the point shrinks by ``rate * shrink`` of itself (AdamW)."""
    point = torch.nn.Parameter(torch.from_numpy(start.copy()))
    return Descent(point, torch.optim.AdamW([point], betas=ADAM_DECAY, eps=EPSILON, weight_decay=shrink))


def soap(start: F64, *, shrink: float = 0.0) -> Descent:
    """Begin ``LayerSoap`` at a point."""
    point = torch.nn.Parameter(torch.from_numpy(start.copy()))
    return Descent(point, LayerSoap(point, shrink=shrink))


@final
class LayerSoap(torch.optim.Optimizer):
    """SOAP over the layer axis: Adam along the directions in which the gradients of the layers move together.

    What is added at one layer acts on all later ones, so the gradients of neighbouring layers are nearly equal. Adam,
    which scales each layer independently, takes the same step many times over. With gradients ``G``::

        C ← β C + (1 - β) G Gᵀ            [layer, layer], with eigenvectors Q; G is [layer, hidden]
        M ← β₁ M + (1 - β₁) G             first moment, kept in layer coordinates
        V ← β₂ V + (1 - β₂) (Qᵀ G)²       second moment along the eigenvectors
        point ← point - rate · Q (Qᵀ M / √V), both moments corrected for their start at 0

    Source: Vyas et al. 2024, arXiv:2409.11321, algorithm 3, one-sided. Published implementations
    (pytorch-optimizer's among them) skip the first step, update the eigenvectors by power iteration after the step, and
    leave second moments in the axes of the step before. With a hundred steps over some thirty layers the exact
    decomposition costs nothing, and every step counts; so second moments here turn with the eigenvectors as well:
    ``V ← (Qᵀ Q_before)² V``, which is exact for uncorrelated axes.
    """

    def __init__(self, point: torch.nn.Parameter, *, shrink: float = 0.0) -> None:
        super().__init__([point], {"lr": 0.0, "shrink": shrink})

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the point."""
        with torch.no_grad():
            for group in self.param_groups:
                for point in group["params"]:
                    self._move(point, rate=group["lr"], shrink=group["shrink"])

    def _move(self, point: torch.nn.Parameter, *, rate: float, shrink: float) -> None:
        gradient, state = point.grad, self.state[point]
        if gradient is None:
            return
        if not state:
            layers = len(point)
            state["step"] = torch.tensor(0.0)
            state["first"] = torch.zeros_like(point)
            state["second"] = torch.zeros_like(point)
            state["products"] = point.new_zeros(layers, layers)
            state["axes"] = torch.eye(layers, dtype=point.dtype)
        step = int(state["step"]) + 1
        state["products"] = SOAP_MEMORY * state["products"] + (1 - SOAP_MEMORY) * gradient @ gradient.T
        axes = torch.linalg.eigh(state["products"]).eigenvectors
        turned = (axes.T @ state["axes"]) ** 2 @ state["second"]
        state["second"] = SOAP_DECAY[1] * turned + (1 - SOAP_DECAY[1]) * (axes.T @ gradient) ** 2
        state["first"] = SOAP_DECAY[0] * state["first"] + (1 - SOAP_DECAY[0]) * gradient
        state["axes"] = axes
        state["step"] = state["step"] + 1
        first = axes.T @ state["first"] / (1 - SOAP_DECAY[0] ** step)
        second = state["second"] / (1 - SOAP_DECAY[1] ** step)
        point.mul_(1 - rate * shrink).sub_(rate * axes @ (first / (second.sqrt() + EPSILON)))


def warmed_cosine(step: int, steps: int, *, warmup: int) -> float:
    """Return the part of the highest learning rate that holds at a step, counted from 0."""
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))


def batches(count: int, *, steps: int, size: int, seed: int) -> list[list[int]]:
    """Return the items of each step: all of them in a random order, then all again in another."""
    generator = np.random.default_rng(seed)
    size = min(size, count)
    rounds = -(-steps * size // count)
    order = np.concatenate([generator.permutation(count) for _ in range(max(rounds, 1))])
    return [order[n * size : (n + 1) * size].tolist() for n in range(steps)]
