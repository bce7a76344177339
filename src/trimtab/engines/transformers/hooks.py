"""Add to the output of blocks in the forward pass; count what was steered; leave nothing behind."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trimtab.engines.blocks import Blocks, block_output, eagerly, with_block_output
from trimtab.errors import SteeringError

TOKEN_ARGUMENTS = ("decoder_input_ids", "decoder_inputs_embeds", "input_ids", "inputs_embeds")


@final
class SteeringHooks:
    """A scope in which ``additions[layer]`` is added to every token that leaves each block.

    An addition is ``[hidden]``, the same for every row, or ``[row, hidden]``, one for each row of the passes inside.
    What the hooks saw is compared with the tokens that the model was given: if a layer missed some, as happens where
    something else calls a block's code, ``check`` raises. A pass that broke off, as happens where memory
    runs out, counts for nothing.
    """

    def __init__(self, blocks: Blocks, additions: Mapping[int, NDArray[np.float32]]) -> None:
        self._blocks = blocks
        self._vectors = {layer: torch.from_numpy(np.array(vector)) for layer, vector in additions.items()}
        self._scope = ExitStack()
        self._entering = 0  # tokens of the pass under way
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
            body = self._blocks.body
            self._scope.enter_context(eagerly())
            self._scope.callback(body.register_forward_pre_hook(self._begin_pass, with_kwargs=True).remove)
            self._scope.callback(body.register_forward_hook(self._end_pass).remove)
            self._scope.enter_context(self._blocks.hooked(self._vectors, self._add))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.close()

    def check(self) -> None:
        """Raise if any layer steered fewer or more tokens than the model read.

        Raises:
            SteeringError: What was steered is not what was asked for.
        """
        self._forget_broken_pass()
        for layer, count in self.steered.items():
            if count != self.entered:
                raise SteeringError(
                    f"layer {layer} ({self._blocks.names[layer]}) steered {count} of {self.entered} tokens",
                    fix="load the model uncompiled, let nothing else call its blocks, or generate with use_cache=False",
                )

    def _begin_pass(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._forget_broken_pass()
        self._before = self.entered, dict(self.steered)
        self._entering = tokens_entering(args, kwargs)
        self.entered += self._entering

    def _end_pass(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._before = None

    def _forget_broken_pass(self) -> None:
        """Take back what was counted in a pass that never ended."""
        if self._before is not None:
            self.entered, self.steered = self._before
            self._before = None

    def _add(self, layer: int, output: Any) -> Any:
        layout = self._blocks.layout
        state = block_output(output)
        view = layout.view(state)
        vector = self._vectors[layer].to(device=state.device, dtype=state.dtype)
        self._vectors[layer] = vector
        moved = layout.add(state, self._masked(vector, view))
        count = view.shape[0] * view.shape[1]
        self.steered[layer] += min(count, self._entering) if layout.extra else count
        if layer not in self._moved:
            self._check_moved(layer, view, layout.view(moved))
        return with_block_output(output, moved)

    def _masked(self, vector: Tensor, state: Tensor) -> Tensor:
        """``vector`` for every position of ``state`` (``[row, position, hidden]``), 0 for padding on the left."""
        if vector.ndim == 2:
            vector = vector[:, None]
        if self._pads is None or state.shape[1] == 1:
            return vector
        token = torch.arange(state.shape[1], device=state.device) - self._blocks.layout.offset
        real = (token[None] >= self._pads.to(state.device)[:, None]) | (token[None] < 0)
        return vector * real[:, :, None].to(vector.dtype)

    def _check_moved(self, layer: int, before: Tensor, after: Tensor) -> None:
        meant = self._vectors[layer].ne(0).any(-1)
        if bool((before[:, -1].eq(after[:, -1]).all(-1) & meant).any()):
            raise SteeringError(
                f"the addition at layer {layer} is too small to move the hidden states in {before.dtype}",
                fix="use a larger strength, or load the model in float32",
            )
        self._moved.add(layer)


def tokens_entering(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many tokens a pass of the model's body reads, of all its rows; a decoder's where it has an encoder too."""
    named = (kwargs.get(name) for name in TOKEN_ARGUMENTS)
    given = next((given for given in (*named, *args[:1]) if isinstance(given, Tensor)), None)
    return 0 if given is None else given.shape[0] * given.shape[1]
