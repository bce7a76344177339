"""Read the prompts of a batch as one tree, so that what they share is computed once, before decoding begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from trimtab.arrays import F32
from trimtab.engines.batching import Cost, PrefixTreePlan
from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.prefix_tree import build_tree
from trimtab.engines.protocol import Tokens
from trimtab.engines.transformers.forward.run import Pass, PrefixSharingCheck, rows_of, run_plan
from trimtab.engines.transformers.forward.steer import SteeringCounters, SteeringHooks
from trimtab.engines.transformers.forward.step_plan import StepPlan

Key = TypeVar("Key")


@dataclass(frozen=True)
class Prefilled:
    """What was read of prompts before decoding: all of each but its last token.

    Attributes:
        cache: Keys and values, ``[row, head, token, size]``, padded on the left.
        lengths: Norms of the states that were steered, by layer, ``[row, token]``, padded alike.
        moves: Norms of what was changed, by step and layer.
    """

    cache: DynamicCache
    lengths: dict[int, F32] = field(default_factory=dict)
    moves: dict[tuple[int, int], F32] = field(default_factory=dict)

    def renumbered(self, part: StepPlan, whole: StepPlan, numbers: Sequence[int]) -> Prefilled:
        """The same with the steps of ``whole``, of which ``part`` is the plan that has these term rows."""
        step_of = {number: n for n, step in enumerate(whole.steps) for number in step.numbers}
        moves = {(step_of[numbers[part.steps[n].numbers[0]]], layer): norms for (n, layer), norms in self.moves.items()}
        return replace(self, moves=moves)


def shared_prefill(
    model: PreTrainedModel,
    blocks: DecoderLayers,
    prompts: Sequence[Tokens],
    *,
    cost: Cost,
    proof: PrefixSharingCheck,
    hooks: SteeringHooks,
) -> Prefilled | None:
    """Read every prompt but for its last token.

    Hooks that steer are at work here as in any other pass. None where reading prompt by prompt is as cheap, or where
    the model does not allow prefix-tree passes.
    """
    if len(prompts) < 2 or min(map(len, prompts)) < 2:
        return None
    tree = build_tree([prompt[:-1] for prompt in prompts])
    padded = len(prompts) * max(map(len, prompts))
    if len(tree) + cost.launch > padded or not isinstance(plan := proof.plan(tree, cost), PrefixTreePlan):
        return None
    parts: list[list[tuple[Tensor, Tensor]]] = []

    def read(row: Pass) -> None:
        with torch.inference_mode(), eagerly():
            blocks.body(**row.inputs)
        new = row.nodes.shape[1]
        parts.append([_last(layer, new) for layer in row.inputs["past_key_values"].layers])

    counters = SteeringCounters()
    with hooks.writing(counters):
        for _ in run_plan(tree, plan, read, model=model, keep_cache=True, on_halved=lambda _: None):
            pass
    nodes = rows_of(tree, tree.ends)
    shift = nodes.shape[1] - 1 - tree.depth[tree.ends]
    columns = np.arange(nodes.shape[1])[None] - shift[:, None]
    where = np.maximum(np.take_along_axis(nodes, np.maximum(columns, 0), axis=1), 0)  # the mask hides what pads
    lengths, moves = counters.flat() if hooks.layers else ({}, {})
    cache = DynamicCache(
        ddp_cache_data=[
            (_rows_first([keys for keys, _ in layer], where), _rows_first([values for _, values in layer], where))
            for layer in zip(*parts, strict=True)
        ]
    )
    return Prefilled(
        cache,
        {layer: norms[where] for layer, norms in lengths.items()},
        {key: norms[where] for key, norms in moves.items()},
    )


def join_prefilled(parts: Sequence[Prefilled], rows: Sequence[Sequence[int]]) -> Prefilled:
    """One of several, row ``i`` of ``parts[n]`` at ``rows[n][i]``; shorter ones are padded on the left."""
    cache = join_rows([part.cache for part in parts], rows)
    columns = int(cache.get_seq_length())
    return Prefilled(
        cache,
        _joined_norms([part.lengths for part in parts], rows, columns),
        _joined_norms([part.moves for part in parts], rows, columns),
    )


def _joined_norms(parts: Sequence[dict[Key, F32]], rows: Sequence[Sequence[int]], columns: int) -> dict[Key, F32]:
    joined: dict[Key, F32] = {}
    for tables, own in zip(parts, rows, strict=True):
        for key, norms in tables.items():
            whole = joined.setdefault(key, np.full((sum(map(len, rows)), columns), np.nan, dtype=np.float32))
            whole[list(own), columns - norms.shape[1] :] = norms
    return joined


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
