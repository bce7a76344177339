"""Find the decoder blocks of a torch model from its structure, and prove them by one pass.

The residual-stream blocks are the repeated module whose output is the stream: each one's output is what the next one
reads, and it is as wide as the token embeddings. Names of classes play no part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from trimtab.errors import ModelError

PROBE_TOKENS = 8


@dataclass(frozen=True)
class Blocks:
    """The decoder blocks, in order of computation.

    Attributes:
        path: Where they are in the model, such as ``model.layers``.
        modules: The blocks.
        hidden_size: Width of the stream.
    """

    path: str
    modules: tuple[nn.Module, ...]
    hidden_size: int

    @cached_property
    def parameters(self) -> int:
        """How many weights they have together."""
        return sum(weight.numel() for block in self.modules for weight in block.parameters())


@dataclass
class _Seen:
    """What the probe saw of one block."""

    inputs: list[Tensor | None] = field(default_factory=list)
    outputs: list[Tensor | None] = field(default_factory=list)


def block_output(output: Any) -> Tensor:
    """The hidden state in what a block returned, a tensor or a tuple that begins with it.

    Raises:
        ModelError: It is neither.
    """
    state = output[0] if isinstance(output, (tuple, list)) and output else output
    if not isinstance(state, Tensor):
        raise ModelError(f"a decoder block returned {type(output).__name__}, expected a tensor")
    return state


def with_block_output(output: Any, state: Tensor) -> Any:
    """``output`` as a block returned it, with another hidden state in it."""
    if isinstance(output, tuple):
        return (state, *output[1:])
    if isinstance(output, list):
        return [state, *output[1:]]
    return state


def find_blocks(model: nn.Module) -> Blocks:
    """Find the decoder blocks of a causal language model.

    Every list of modules is watched during one pass of eight tokens. The longest list whose members each run once, in
    order, each reading exactly what the one before put out, and which is not a part of such a member, is the stream.

    Raises:
        ModelError: No list of modules behaves so, or the model does not run on tokens alone.
    """
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    width = int(embeddings.weight.shape[-1])
    candidates = {
        name: tuple(module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module)
    }
    with _watching({id(block): block for blocks in candidates.values() for block in blocks}) as seen:
        _probe(model, rows=int(embeddings.weight.shape[0]))
    chains = [
        Blocks(name, blocks, int(state.shape[-1]))
        for name, blocks in candidates.items()
        if (state := _end_of_chain([seen[id(block)] for block in blocks])) is not None
    ]
    if not chains:
        tried = ", ".join(f"{name} ({len(blocks)})" for name, blocks in candidates.items()) or "none"
        raise ModelError(
            f"cannot find the decoder blocks of {type(model).__name__}: no list of modules passes a hidden state from "
            f"each to the next (lists seen: {tried})",
            fix="only decoder-only models are supported",
        )
    several = [f"{found.path}." for found in chains if len(found.modules) > 1]
    outer = [found for found in chains if not any(found.path.startswith(path) for path in several)]
    return max(outer, key=lambda found: (found.hidden_size == width, len(found.modules)))


@contextmanager
def _watching(blocks: dict[int, nn.Module]) -> Iterator[dict[int, _Seen]]:
    seen = {key: _Seen() for key in blocks}

    def watch(key: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given = args[0] if args else kwargs.get("hidden_states")
            state = output[0] if isinstance(output, (tuple, list)) and output else output
            seen[key].inputs.append(given if isinstance(given, Tensor) else None)
            seen[key].outputs.append(state if isinstance(state, Tensor) else None)

        return hook

    handles = [block.register_forward_hook(watch(key), with_kwargs=True) for key, block in blocks.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _probe(model: nn.Module, *, rows: int) -> None:
    device = next(model.parameters()).device
    tokens = torch.arange(1, 1 + PROBE_TOKENS, device=device).remainder(rows)[None]
    try:
        with torch.inference_mode():
            model(input_ids=tokens, use_cache=False)
    except Exception as error:  # whatever a model does that wants more than tokens
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{type(model).__name__} does not run on tokens alone: {problem}",
            fix="only decoder-only models are supported",
        ) from error


def _end_of_chain(seen: Sequence[_Seen]) -> Tensor | None:
    """The last block's output, if every block ran once and read what the one before it put out."""
    previous: Tensor | None = None
    for block in seen:
        if len(block.inputs) != 1:
            return None
        given, state = block.inputs[0], block.outputs[0]
        if given is None or state is None or given.shape != state.shape or state.shape[:-1] != (1, PROBE_TOKENS):
            return None
        if previous is not None and not torch.equal(given, previous):
            return None
        previous = state
    return previous
