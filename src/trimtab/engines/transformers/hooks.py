"""Add to the output of blocks in the forward pass; count what was steered; leave nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trimtab.engines.blocks import Blocks, block_output, with_block_output
from trimtab.errors import SteeringError


@final
class SteeringHooks:
    """A scope in which ``additions[layer]`` is added to every token that leaves each block.

    An addition is ``[hidden]``, the same for every row, or ``[row, hidden]``, one for each row of the passes inside.
    What the hooks saw is compared with the tokens that entered the model's embeddings: if a layer missed some, as
    happens with hooks that a compiled model ignores, ``check`` raises. A pass that broke off, as happens where memory
    runs out, counts for nothing.
    """

    def __init__(self, model: nn.Module, blocks: Blocks, additions: Mapping[int, NDArray[np.float32]]) -> None:
        self._model = model
        self._blocks = blocks
        self._vectors = {layer: torch.from_numpy(np.array(vector)) for layer, vector in additions.items()}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._pads: Tensor | None = None
        self._moved: set[int] = set()
        self._before: tuple[int, dict[int, int]] | None = None  # counts at the start of the pass under way
        self.entered = 0
        self.steered = dict.fromkeys(self._vectors, 0)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are steered."""
        return tuple(self._vectors)

    def skip_padding(self, pads: Tensor | None) -> None:
        """Leave the first ``pads[row]`` tokens of a prompt alone; None where nothing is padded."""
        self._pads = pads if pads is not None and bool(pads.any()) else None

    def __enter__(self) -> SteeringHooks:
        if self._vectors:
            body = getattr(self._model, "base_model", self._model)
            self._handles.append(body.register_forward_pre_hook(self._begin_pass))
            self._handles.append(body.register_forward_hook(self._end_pass))
            embeddings = self._model.get_input_embeddings()  # type: ignore[operator]
            self._handles.append(embeddings.register_forward_hook(self._count_entering))
            for layer in self._vectors:
                block = self._blocks.modules[layer]
                self._handles.append(block.register_forward_hook(self._adder(layer)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def check(self) -> None:
        """Raise if any layer steered fewer or more tokens than the model read.

        Raises:
            SteeringError: What was steered is not what was asked for.
        """
        self._forget_broken_pass()
        for layer, count in self.steered.items():
            if count != self.entered:
                raise SteeringError(
                    f"layer {layer} ({self._blocks.path}.{layer}) steered {count} of {self.entered} tokens",
                    fix="load the model uncompiled, and let nothing else call its blocks",
                )

    def _begin_pass(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        self._forget_broken_pass()
        self._before = self.entered, dict(self.steered)

    def _end_pass(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._before = None

    def _forget_broken_pass(self) -> None:
        """Take back what was counted in a pass that never ended."""
        if self._before is not None:
            self.entered, self.steered = self._before
            self._before = None

    def _count_entering(self, _: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self.entered += output.shape[0] * output.shape[1]

    def _adder(self, layer: int) -> Any:
        def add(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            state = block_output(output)
            vector = self._vectors[layer].to(device=state.device, dtype=state.dtype)
            self._vectors[layer] = vector
            moved = state + self._masked(vector, state)
            self.steered[layer] += state.shape[0] * state.shape[1]
            if layer not in self._moved:
                self._check_moved(layer, state, moved)
            return with_block_output(output, moved)

        return add

    def _masked(self, vector: Tensor, state: Tensor) -> Tensor:
        """``vector`` for every token of ``state`` (``[row, token, hidden]``), 0 for padding on the left."""
        if vector.ndim == 2:
            vector = vector[:, None]
        if self._pads is None or state.shape[1] == 1:
            return vector
        real = torch.arange(state.shape[1], device=state.device)[None] >= self._pads.to(state.device)[:, None]
        return vector * real[:, :, None].to(vector.dtype)

    def _check_moved(self, layer: int, before: Tensor, after: Tensor) -> None:
        meant = self._vectors[layer].ne(0).any(-1)
        if bool((before[:, -1].eq(after[:, -1]).all(-1) & meant).any()):
            raise SteeringError(
                f"the addition at layer {layer} is too small to move the hidden states in {before.dtype}",
                fix="use a larger strength, or load the model in float32",
            )
        self._moved.add(layer)
