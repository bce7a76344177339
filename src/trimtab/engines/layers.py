"""Decoder layers of a torch model: their modules, the layout of their outputs, and hooks on them.

``layer_search`` finds them and checks that steering them steers the model.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from trimtab.errors import ModelError


@dataclass(frozen=True)
class Layout:
    """Which axes of a hidden state are its rows and its tokens; whatever else it has is its width.

    Most models put out ``[row, token, hidden]``. Some have the tokens first, and some carry several streams, which
    count as one of their width together.

    Attributes:
        rows: The axis of rows.
        tokens: The axis of tokens.
        offset: Positions before the first token, such as those of a learned prefix.
        extra: Whether there are more positions than tokens at all.
    """

    rows: int = 0
    tokens: int = 1
    offset: int = 0
    extra: bool = False

    def view(self, state: Tensor) -> Tensor:
        """``[row, position, hidden]`` of a state, without copying where that can be."""
        if (self.rows, self.tokens, state.ndim) == (0, 1, 3):
            return state
        return state.movedim((self.rows, self.tokens), (0, 1)).flatten(2)

    def put(self, state: Tensor, view: Tensor) -> Tensor:
        """A state in the shape of ``state`` from its view, ``[row, position, hidden]``."""
        if (self.rows, self.tokens, state.ndim) == (0, 1, 3):
            return view
        moved = state.movedim((self.rows, self.tokens), (0, 1))
        return view.reshape(moved.shape).movedim((0, 1), (self.rows, self.tokens))

    def add(self, state: Tensor, added: Tensor) -> Tensor:
        """``state`` with ``added`` (``[hidden]``, or with leading axes that broadcast to row and position) in it."""
        if (self.rows, self.tokens, state.ndim) == (0, 1, 3):
            return state + added
        moved = state.movedim((self.rows, self.tokens), (0, 1))
        total = moved + added.reshape(*added.shape[:-1], *moved.shape[2:])
        return total.movedim((0, 1), (self.rows, self.tokens))


@dataclass(frozen=True)
class DecoderLayers:
    """The blocks of the residual stream, in order of computation.

    Attributes:
        path: The list that they are members of, such as ``model.layers``.
        names: Where each layer's module is.
        modules: The module of each layer; one that runs several times in a pass is listed as often.
        hidden_size: Width of the stream.
        body: The smallest known part of the model that runs them all; it leaves the head out where that can be.
        layout: What their outputs look like.
        causal: Whether a state depends on the tokens before it alone.
        encoder: Whether they are an encoder's, beside a decoder.
        reader: The module that reads what the last block puts out; empty if none reads just that.
        idle: Members of the list that do not run on text alone.
    """

    path: str
    names: tuple[str, ...]
    modules: tuple[nn.Module, ...]
    hidden_size: int
    body: nn.Module
    layout: Layout = Layout()
    causal: bool = True
    encoder: bool = False
    reader: str = ""
    idle: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.modules)

    @cached_property
    def parameters(self) -> int:
        """How many weights they have together, as often as each takes part in a pass."""
        return sum(weight.numel() for block in self.modules for weight in block.parameters())

    @cached_property
    def repeated(self) -> bool:
        """Whether a module is several layers."""
        return len(set(self.modules)) < len(self.modules)

    def state(self, output: Any) -> Tensor:
        """``[row, position, hidden]`` of what a block returned."""
        return self.layout.view(layer_output(output))

    def tokens(self, state: Tensor, count: int) -> Tensor:
        """``state`` (``[row, position, hidden]``) of the ``count`` tokens alone."""
        return state[:, self.layout.offset : self.layout.offset + count] if self.layout.extra else state

    @contextmanager
    def hooked(self, layers: Iterable[int], act: Callable[[int, Any], Any], *, prepend: bool = False) -> Iterator[None]:
        """Inside, ``act(layer, output)`` is called when a layer has run; what it returns, unless None, replaces that.

        Args:
            layers: Which.
            act: Called with the layer and what its block returned.
            prepend: Before hooks that are there already, instead of after them.
        """
        wanted = frozenset(layers)
        own: defaultdict[nn.Module, list[int]] = defaultdict(list)
        for layer, module in enumerate(self.modules):
            own[module].append(layer)
        runs = dict.fromkeys(own, 0)  # of each module, in the current pass

        def after(module: nn.Module, _: tuple[Any, ...], output: Any) -> Any:
            which = own[module]
            layer = which[runs[module] % len(which)]
            runs[module] += 1
            return act(layer, output) if layer in wanted else None

        def begin(*_: Any) -> None:
            runs.update(dict.fromkeys(own, 0))

        handles = [self.body.register_forward_pre_hook(begin)] if self.repeated else []
        handles += [
            module.register_forward_hook(after, prepend=prepend)
            for module, which in own.items()
            if wanted.intersection(which)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def layer_output(output: Any) -> Tensor:
    """The hidden state in what a block returned, a tensor or a tuple that begins with it.

    Raises:
        ModelError: It is neither.
    """
    state = output[0] if isinstance(output, (tuple, list)) and output else output
    if not isinstance(state, Tensor):
        raise ModelError(f"a decoder block returned {type(output).__name__}, expected a tensor")
    return state


def with_layer_output(output: Any, state: Tensor) -> Any:
    """``output`` as a block returned it, with another hidden state in it."""
    if isinstance(output, tuple):
        rest = (state, *output[1:])
        return type(output)(*rest) if hasattr(output, "_fields") else rest
    if isinstance(output, list):
        return [state, *output[1:]]
    return state


@contextmanager
def eagerly() -> Iterator[None]:
    """Inside, compiled models run as they were written: compiled code takes no notice of hooks that came later."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled, and the import takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
