"""Read the prompts of a batch as one tree, so that what they share is computed once, before decoding begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from trimtab.engines.base import Tokens
from trimtab.engines.blocks import Blocks, eagerly
from trimtab.engines.passes import Cost, Walk
from trimtab.engines.prefix_tree import build_tree
from trimtab.engines.transformers.proof import WalkProof
from trimtab.engines.transformers.walking import Pass, rows_of, run_plan


def shared_prefill(
    model: PreTrainedModel, blocks: Blocks, prompts: Sequence[Tokens], *, cost: Cost, proof: WalkProof
) -> DynamicCache | None:
    """Keys and values of every prompt but for its last token, ``[row, head, token, size]``, padded on the left.

    Hooks that steer are at work here as in any other pass. None where reading prompt by prompt is as cheap, or where
    the model does not allow walks.
    """
    if len(prompts) < 2 or min(map(len, prompts)) < 2:
        return None
    tree = build_tree([prompt[:-1] for prompt in prompts])
    padded = len(prompts) * max(map(len, prompts))
    if len(tree) + cost.launch > padded or not isinstance(plan := proof.plan(tree, cost), Walk):
        return None
    parts: list[list[tuple[Tensor, Tensor]]] = []

    def read(row: Pass) -> None:
        with torch.inference_mode(), eagerly():
            blocks.body(**row.inputs)
        new = row.nodes.shape[1]
        parts.append([_last(layer, new) for layer in row.inputs["past_key_values"].layers])

    for _ in run_plan(tree, plan, read, model=model, keep_cache=True, on_halved=lambda _: None):
        pass
    nodes = rows_of(tree, tree.ends)
    shift = nodes.shape[1] - 1 - tree.depth[tree.ends]
    columns = np.arange(nodes.shape[1])[None] - shift[:, None]
    where = np.maximum(np.take_along_axis(nodes, np.maximum(columns, 0), axis=1), 0)  # the mask hides what pads
    return DynamicCache(
        ddp_cache_data=[
            (_rows_first([keys for keys, _ in layer], where), _rows_first([values for _, values in layer], where))
            for layer in zip(*parts, strict=True)
        ]
    )


def join_rows(caches: Sequence[DynamicCache], rows: Sequence[Sequence[int]]) -> DynamicCache:
    """One cache of several, row ``i`` of ``caches[n]`` at ``rows[n][i]``; shorter ones are padded on the left."""
    if len(caches) == 1:
        return caches[0]
    width = max(cache.get_seq_length() for cache in caches)
    order = np.argsort(np.concatenate([np.asarray(part) for part in rows]))

    def joined(parts: Sequence[Tensor]) -> Tensor:
        padded = [nn.functional.pad(part, (0, 0, width - part.shape[-2], 0)) for part in parts]
        return torch.cat(padded)[torch.from_numpy(order).to(padded[0].device)]

    return DynamicCache(
        ddp_cache_data=[
            (joined([layer.keys for layer in layers]), joined([layer.values for layer in layers]))
            for layers in zip(*(cache.layers for cache in caches), strict=True)
        ]
    )


def _last(layer: Any, count: int) -> tuple[Tensor, Tensor]:
    """Keys and values of a pass's own tokens, ``[head, token, size]``."""
    return layer.keys[0, :, -count:], layer.values[0, :, -count:]


def _rows_first(parts: Sequence[Tensor], where: Any) -> Tensor:
    """``[row, head, token, size]`` from all nodes' ``[head, node, size]`` in pieces."""
    nodes = torch.cat(list(parts), dim=1)
    return nodes[:, torch.from_numpy(where).to(nodes.device)].transpose(0, 1).contiguous()
