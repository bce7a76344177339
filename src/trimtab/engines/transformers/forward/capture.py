"""Capture in the forward pass: outputs of layers at chosen tokens, and probes that read vectors at the last token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from types import TracebackType
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.prefix_tree import Ints
from trimtab.engines.transformers.forward.steer import tokens_given
from trimtab.errors import ModelError, SteeringError
from trimtab.reading import neutral_of
from trimtab.vectors import ControlVector


@final
class Captured:
    """Hidden states ``[token, hidden]`` of one pass by layer, filled in while it runs."""

    def __init__(self, blocks: DecoderLayers, layers: Sequence[int]) -> None:
        self._names = blocks.names
        self._layers = layers
        self.states: dict[int, Tensor] = {}

    def stacked(self) -> NDArray[np.float32]:
        """Return ``[token, layer, hidden]`` in float32, layers in the order asked for.

        Raises:
            ModelError: A block did not run, or its hook was not called.
        """
        for layer in self._layers:
            if layer not in self.states:
                raise ModelError(
                    f"no hidden state was captured of layer {layer} ({self._names[layer]})",
                    fix="load the model uncompiled, and let nothing else call its blocks",
                )
        states: NDArray[np.float32] = torch.stack(
            [self.states[layer].cpu().float() for layer in self._layers], dim=1
        ).numpy()
        return states


class _Enough(Exception):  # noqa: N818  # not an error
    """The last wanted block has run."""


@contextmanager
def capture_outputs(
    blocks: DecoderLayers, layers: Sequence[int], rows: Ints, columns: Ints, *, stop_early: bool = False
) -> Iterator[Captured]:
    """Capture the outputs of ``layers`` at ``[rows[i], columns[i]]`` of the pass that runs inside.

    Args:
        blocks: The model's blocks.
        layers: Which, in the order wanted; one may come twice.
        rows: Row of each wanted token.
        columns: Column of each wanted token.
        stop_early: Leave the ``with`` block once the last wanted block has run: what follows in the model, and in the
            ``with`` block, is skipped.
    """
    captured = Captured(blocks, layers)
    last = max(layers, default=-1)

    @cache
    def where(device: torch.device) -> tuple[Tensor, Tensor]:
        positions = columns + blocks.layout.offset
        return torch.from_numpy(rows).to(device), torch.from_numpy(positions).to(device)

    def keep(layer: int, output: Any) -> None:
        state = blocks.state(output)
        captured.states[layer] = state[where(state.device)]
        if stop_early and layer == last:
            raise _Enough

    try:
        with blocks.hooked(layers, keep):
            yield captured
    except _Enough:
        pass


@final
class ProbeHooks:
    """A scope in which the last token of every pass is read on some vectors, before anything that is entered later.

    A reading is the mean over the vector's reading layers of ``(projection - mean) / deviation`` on neutral tokens; all
    that is linear in the state, so each layer adds one product to a running sum.
    """

    def __init__(self, blocks: DecoderLayers, vectors: Sequence[ControlVector]) -> None:
        self._blocks = blocks
        self._vectors = tuple(vectors)
        self._weights, self._offset = reading_weights(self._vectors)
        self._scope = ExitStack()
        self._count = 0
        self._sum: Tensor | None = None
        self._seen = 0
        self._read_last: Tensor | None = None  # the sum of the pass that ended last

    def __enter__(self) -> ProbeHooks:
        if self._weights:
            self._scope.enter_context(eagerly())
            begin = self._blocks.body.register_forward_pre_hook(self._begin_pass, with_kwargs=True)
            self._scope.callback(begin.remove)
            self._scope.callback(self._blocks.body.register_forward_hook(self._end_pass).remove)
            self._scope.enter_context(self._blocks.hooked(self._weights, self._read))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.close()

    def latest(self) -> NDArray[np.float64]:
        """Return z-scores of the pass that ended last, ``[row, vector]``; also while the next one begins.

        Raises:
            SteeringError: Its blocks were run past their hooks.
        """
        if self._read_last is None:
            raise SteeringError(
                f"{self._seen} of {len(self._weights)} layers were read", fix="load the model uncompiled"
            )
        scores: NDArray[np.float64] = self._read_last.double().cpu().numpy() - self._offset
        return scores

    def _begin_pass(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> None:
        if kwargs is None:
            return  # as in SteeringHooks
        given = tokens_given(args, kwargs)
        self._count = 0 if given is None else given.shape[1]
        self._sum = None
        self._seen = 0

    def _end_pass(self, *_: Any) -> None:
        self._read_last = self._sum if self._seen == len(self._weights) else None

    def _read(self, layer: int, output: Any) -> None:
        last = self._blocks.tokens(self._blocks.state(output), self._count)[:, -1].float()
        weights = self._weights[layer]
        if weights.device != last.device:
            weights = self._weights[layer] = weights.to(last.device)
        self._sum = last @ weights if self._sum is None else torch.addmm(self._sum.to(last.device), last, weights)
        self._seen += 1


def reading_weights(vectors: Sequence[ControlVector]) -> tuple[dict[int, Tensor], NDArray[np.float64]]:
    """Return the weights by which z-scores are sums over layers, and the offset to subtract from the sum.

    Returns:
        Layer to ``[hidden, vector]``, and ``[vector]``.
    """
    columns: dict[int, NDArray[np.float32]] = {}
    offset = np.zeros(len(vectors))
    for number, vector in enumerate(vectors):
        spread = neutral_of(vector).token
        for layer in vector.reading_layers:
            direction = vector.reading_directions[layer]
            share = 1.0 / (spread.deviation[layer] * len(vector.reading_layers))
            table = columns.setdefault(layer, np.zeros((len(direction), len(vectors)), dtype=np.float32))
            table[:, number] = direction * share
            offset[number] += spread.mean[layer] * share
    return {layer: torch.from_numpy(table) for layer, table in sorted(columns.items())}, offset
