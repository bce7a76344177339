"""Weights reordered once for oneDNN, whose products are several times as fast on a CPU as those of plain weights.

PyTorch multiplies plain float32 weights by a library that is slow on many processors and at few rows. The operations
used here are those that ``torch.compile`` emits for frozen weights. Their names are internal to PyTorch, so each layer
is compared with its plain product first, and stays plain if it differs. (docs/notes/threads.md has figures.)
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, cast, final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS = 32  # for which weights are laid out; other numbers of rows gain as well
LEAST_WEIGHTS = 4 * 1024**2  # of a model; in a smaller one the calls take longer than the products
LEAST_LAYER = 32 * 1024  # weights of a layer
SPARE = 2.5  # times the copies, which must be free: gradients need a second, transposed copy
TOLERANCE = 1e-4  # relative to the largest number of a product
SAMPLE = 16  # weights by which a change is noticed

_REORDERED: WeakKeyDictionary[nn.Module, list[ReorderedLinear]] = WeakKeyDictionary()


def reorder_weights(model: nn.Module) -> int:
    """Reorder the weights of a model's linear layers; return how many layers were.

    Only for float32 on a CPU, and only where memory allows a second copy. The plain weights stay where they are, so
    saving, inspecting and adapters work as before.
    """
    layers = [
        module
        for module in model.modules()
        if type(module) is nn.Linear
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
        and module.weight.numel() >= LEAST_LAYER
        and "forward" not in module.__dict__
    ]
    weights = sum(layer.weight.numel() for layer in layers)
    memory = free_memory()
    if weights < LEAST_WEIGHTS or not _available() or memory is None or memory < SPARE * 4 * weights:
        return 0
    reordered = [each for layer in layers if (each := ReorderedLinear(layer)).matches()]
    for each in reordered:
        each.install()
    _REORDERED[model] = reordered
    return len(reordered)


def is_reordered(model: nn.Module) -> bool:
    """Return True if linear layers of a model use reordered weights."""
    return bool(_REORDERED.get(model))


def refresh_reordered(model: nn.Module) -> None:
    """Reorder again the weights that were changed since, such as by merging an adapter."""
    for each in _REORDERED.get(model, ()):
        each.refresh()


def _available() -> bool:
    operations = torch.ops.mkldnn
    named = hasattr(operations, "_reorder_linear_weight") and hasattr(operations, "_linear_pointwise")
    return named and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


@final
class ReorderedLinear:
    """Forward function of a linear layer with reordered weights.

    Args:
        layer: The layer. Its own weights are used for other inputs than float32, and where they take gradients.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer
        self._sample = self._sampled()

    def __reduce__(self) -> Any:
        # A copy of the model is an ordinary model: it may be trained, and reordered weights cannot be copied.
        return _plain_forward, (self._layer,)

    def install(self) -> None:
        """Have the layer use the reordered weights."""
        self._layer.forward = self  # type: ignore[method-assign]

    def matches(self) -> bool:
        """Return True if the product equals the plain one, for few and for many rows."""
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            rows = torch.randn(2 * ROWS, self._layer.in_features, generator=generator)
            try:
                for part in (rows[:1], rows):
                    plain = functional.linear(part, self._layer.weight, self._layer.bias)
                    if not torch.allclose(self(part), plain, rtol=0.0, atol=TOLERANCE * float(plain.abs().max())):
                        return False
            except (RuntimeError, NotImplementedError):
                return False
        return True

    def refresh(self) -> None:
        """Drop the reordered weights if the plain ones have changed."""
        sample = self._sampled()
        if not torch.equal(sample, self._sample):
            self._sample = sample
            for name in ("_forwards", "_backwards"):
                self.__dict__.pop(name, None)

    @cached_property
    def _forwards(self) -> Tensor:
        return _reordered(self._layer.weight.detach())

    @cached_property
    def _backwards(self) -> Tensor:
        return _reordered(self._layer.weight.detach().T.contiguous())

    def _sampled(self) -> Tensor:
        weights = self._layer.weight.detach().view(-1)
        return weights[:: max(len(weights) // SAMPLE, 1)].clone()

    def __call__(self, input: Tensor) -> Tensor:
        """Return ``input · weightᵀ + bias``."""
        layer = self._layer
        takes_gradients = torch.is_grad_enabled() and layer.weight.requires_grad
        plain = takes_gradients or input.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
        if plain or layer.weight.dtype != torch.float32 or input.device.type != "cpu" or torch.compiler.is_compiling():
            return functional.linear(input, layer.weight, layer.bias)
        if torch.is_grad_enabled() and input.requires_grad:
            return cast(Tensor, _Product.apply(input, self))  # type: ignore[no-untyped-call]
        return self.product(input)

    def product(self, input: Tensor) -> Tensor:
        """Return the product by the reordered weights."""
        return _linear(input, self._forwards, self._layer.bias)

    def product_of_gradient(self, gradient: Tensor) -> Tensor:
        """Return ``gradient · weight``."""
        return _linear(gradient, self._backwards, None)


class _Product(torch.autograd.Function):
    """Product whose gradient by its input is taken with reordered weights too."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, linear: ReorderedLinear) -> Tensor:
        ctx.linear = linear
        return linear.product(input)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return ctx.linear.product_of_gradient(gradients[0]), None


def _plain_forward(layer: nn.Linear) -> Any:
    return lambda input: functional.linear(input, layer.weight, layer.bias)


def _reordered(weight: Tensor) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight, ROWS))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return cast(Tensor, torch.ops.mkldnn._linear_pointwise(input.contiguous(), weight, bias, "none", [], ""))


def free_memory() -> int | None:
    """Return the bytes of available memory, or None if the system does not report them."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
