"""References written straight on torch and transformers, to compare the engine with; and what it may leave behind."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trimtab.engines.transformers.model.reorder import ReorderedLinear
from trimtab.vectors import ControlVector


def added_by_hand(*terms: tuple[ControlVector, float]) -> dict[int, Tensor]:
    """What the terms add to each layer, straight from the definition of strength."""
    total: dict[int, Tensor] = {}
    for vector, strength in terms:
        assert vector.scale is not None
        sign = "+" if strength >= 0 else "-"
        for layer, direction in vector.directions.items():
            amount = abs(strength) * vector.scale[sign] * vector.weights[layer] * vector.norms[layer]
            added = torch.from_numpy(np.array(direction)) * amount * (1 if sign == "+" else -1)
            total[layer] = total.get(layer, torch.zeros(len(direction))) + added
    return total


@contextmanager
def steering_by_hand(blocks: nn.ModuleList, *terms: tuple[ControlVector, float], sink: bool = True) -> Iterator[None]:
    """The reference: plain forward hooks on the blocks, and nothing of trimtab's engines.

    Inside, every pass reads whole texts, one or several of one length. Their first token, an attention sink, is left
    alone, unless ``sink`` is off: what an encoder reads, or a decoder writes beside one, has none.
    """

    def adding(added: Tensor) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            state = output[0] if isinstance(output, tuple) else output
            total = state + added.to(state.dtype)
            if sink:
                total = torch.cat([state[:, :1], total[:, 1:]], dim=1)
            return (total, *output[1:]) if isinstance(output, tuple) else total

        return hook

    handles = [blocks[layer].register_forward_hook(adding(added)) for layer, added in added_by_hand(*terms).items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def logits_of(model: nn.Module, tokens: Sequence[int]) -> Tensor:
    """The model's logits at every token of one sequence, read without any cache."""
    with torch.no_grad():
        logits: Tensor = model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]
    return logits


def greedily(
    engine: Any, blocks: nn.ModuleList, prompt: Sequence[int], count: int, *terms: tuple[ControlVector, float]
) -> tuple[int, ...]:
    """The most likely token again and again, with the whole text read again for each."""
    answer: list[int] = []
    with steering_by_hand(blocks, *terms):
        while len(answer) < count and (not answer or answer[-1] not in engine.stop_tokens):
            answer.append(int(logits_of(engine.model, [*prompt, *answer])[-1].argmax()))
    return tuple(answer)


def traces_in(model: nn.Module) -> list[str]:
    """Hooks and replaced forwards that somebody left in the model, besides those that belong to loading it."""
    return [
        f"{name or 'model'}: {kind}"
        for name, module in model.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "forward")
        if module.__dict__.get(kind) and not isinstance(module.__dict__[kind], ReorderedLinear)
    ]


def digest_of(model: nn.Module) -> str:
    """SHA-256 over all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
