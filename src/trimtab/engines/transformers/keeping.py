"""Keep what blocks put out at chosen tokens, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.engines.blocks import Blocks
from trimtab.engines.prefix_tree import Ints
from trimtab.errors import ModelError


@final
class Kept:
    """States of one pass, filled in while it runs."""

    def __init__(self, blocks: Blocks, layers: Sequence[int]) -> None:
        self._names = blocks.names
        self._layers = layers
        self._states: dict[int, Tensor] = {}

    def put(self, layer: int, states: Tensor) -> None:
        """Take the states ``[token, hidden]`` of one block."""
        self._states[layer] = states

    def stacked(self) -> NDArray[np.float32]:
        """``[token, layer, hidden]`` in float32, layers in the order asked for.

        Raises:
            ModelError: A block did not run, or its hook was not called.
        """
        for layer in self._layers:
            if layer not in self._states:
                raise ModelError(
                    f"nothing was seen of layer {layer} ({self._names[layer]})",
                    fix="load the model uncompiled, and let nothing else call its blocks",
                )
        states: NDArray[np.float32] = torch.stack(
            [self._states[layer].cpu().float() for layer in self._layers], dim=1
        ).numpy()
        return states


class _Enough(Exception):  # noqa: N818  # not an error
    """The last wanted block has run."""


@contextmanager
def keeping(
    blocks: Blocks, layers: Sequence[int], rows: Ints, columns: Ints, *, stop_early: bool = False
) -> Iterator[Kept]:
    """Keep the outputs of ``layers`` at ``[rows[i], columns[i]]`` of the pass that runs inside.

    Args:
        blocks: The model's blocks.
        layers: Which, in the order wanted; one may come twice.
        rows: Row of each wanted token.
        columns: Column of each wanted token.
        stop_early: Leave the ``with`` block once the last wanted block has run: what follows in the model, and in the
            ``with`` block, is skipped.
    """
    kept = Kept(blocks, layers)
    last = max(layers, default=-1)

    @cache
    def where(device: torch.device) -> tuple[Tensor, Tensor]:
        positions = columns + blocks.layout.offset
        return torch.from_numpy(rows).to(device), torch.from_numpy(positions).to(device)

    def keep(layer: int, output: Any) -> None:
        state = blocks.state(output)
        kept.put(layer, state[where(state.device)])
        if stop_early and layer == last:
            raise _Enough

    try:
        with blocks.hooked(layers, keep):
            yield kept
    except _Enough:
        pass
