"""Collect hidden states: the outputs of chosen blocks at the last token of every text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trimtab.engines.base import Tokens
from trimtab.engines.blocks import Blocks, block_output

PASS_TOKENS = 512


@dataclass(frozen=True)
class _Read:
    """One row of a pass, and which of its tokens end which texts."""

    tokens: Tokens
    wanted: tuple[tuple[int, int], ...]  # (index of the text, position of its last token)


def last_token_states(
    model: nn.Module,
    blocks: Blocks,
    sequences: Sequence[Tokens],
    *,
    layers: Sequence[int],
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """Block outputs at the last token of each sequence, ``[sequence, layer, hidden]``, float32.

    In a causal model the state at a token does not depend on what follows, so a sequence that is a prefix of another
    is read off the longer one's pass. Rows of one pass have equal lengths: there is no padding, hence no mask.

    Args:
        model: The causal language model; its head is not run.
        blocks: Its decoder blocks.
        sequences: Token ids.
        layers: Which blocks, in the order wanted.
        progress: Called with (sequences done, all).
    """
    result = np.empty((len(sequences), len(layers), blocks.hidden_size), dtype=np.float32)
    body = getattr(model, "base_model", model)
    device = next(model.parameters()).device
    done = 0
    for rows in _passes(_longest(sequences)):
        wanted = _Wanted.of(rows, device)
        with _keeping(blocks, layers, wanted, result), torch.inference_mode():
            body(input_ids=torch.tensor([read.tokens for read in rows], device=device), use_cache=False)
        done += len(wanted.texts)
        if progress is not None:
            progress(done, len(sequences))
    return result


@dataclass(frozen=True)
class _Wanted:
    """The tokens to keep of one pass: ``texts[i]`` ends at ``[rows[i], positions[i]]``."""

    texts: list[int]
    rows: Tensor
    positions: Tensor

    @classmethod
    def of(cls, reads: Sequence[_Read], device: torch.device) -> _Wanted:
        flat = [(text, row, position) for row, read in enumerate(reads) for text, position in read.wanted]
        texts, rows, positions = map(list, zip(*flat, strict=True))
        return cls(texts, torch.tensor(rows, device=device), torch.tensor(positions, device=device))


@contextmanager
def _keeping(blocks: Blocks, layers: Sequence[int], wanted: _Wanted, result: NDArray[np.float32]) -> Iterator[None]:
    """Copy the wanted tokens of each block's output into ``result[text, slot]``, and nothing else."""

    def keep(slot: int) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            state = block_output(output)
            picked = state[wanted.rows.to(state.device), wanted.positions.to(state.device)]
            result[wanted.texts, slot] = picked.float().cpu().numpy()

        return hook

    handles = [blocks.modules[layer].register_forward_hook(keep(slot)) for slot, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _longest(sequences: Sequence[Tokens]) -> list[_Read]:
    """The sequences that are a prefix of no other, each with the texts that can be read off it."""
    order = sorted(range(len(sequences)), key=lambda i: sequences[i], reverse=True)
    reads: list[tuple[Tokens, list[tuple[int, int]]]] = []
    for index in order:  # sorted downwards, a prefix comes right after what it is a prefix of
        tokens = sequences[index]
        if not reads or reads[-1][0][: len(tokens)] != tokens:
            reads.append((tokens, []))
        reads[-1][1].append((index, len(tokens) - 1))
    return [_Read(tokens, tuple(wanted)) for tokens, wanted in reads]


def _passes(reads: Sequence[_Read]) -> Iterator[list[_Read]]:
    """Batches of equal length, of about ``PASS_TOKENS`` tokens."""
    batch: list[_Read] = []
    for read in sorted(reads, key=lambda read: len(read.tokens)):
        full = (len(batch) + 1) * len(read.tokens) > PASS_TOKENS
        if batch and (full or len(batch[0].tokens) != len(read.tokens)):
            yield batch
            batch = []
        batch.append(read)
    if batch:
        yield batch
