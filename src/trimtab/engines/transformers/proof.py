"""Prove that a walk over a tree of tokens gives what plain passes give, on the model at hand.

Whether a model honours a mask and position ids of ours cannot be told from its name: sliding windows, ALiBi, recurrence
and masks of a model's own making all break it, each in its way. So it is tried.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trimtab.engines.blocks import Blocks, eagerly
from trimtab.engines.passes import Batches, Cost, Plan, Walk, plan_batches, plan_passes
from trimtab.engines.prefix_tree import Ints, PrefixTree, build_tree
from trimtab.engines.transformers.keeping import keeping
from trimtab.engines.transformers.walking import Pass, is_out_of_memory, place, release, run_plan

EXACT = 1e-5  # relative error of a state in float32
ROUNDINGS = 12.0  # in coarser dtypes, whose rounding hides anything finer; a mask not honoured is off by far more
MARGIN = 1.25  # proven for somewhat longer sequences than those at hand, so that few need a proof of their own
SHORTEST = 128  # shorter sequences gain little from a shorter proof


@final
class WalkProof:
    """What is known of whether walks are exact on one model.

    A sliding window, for one, shows only in sequences that are longer, so a proof holds up to the length that was
    tried.

    Args:
        model: The model.
        blocks: Its blocks.
        limit: How many tokens it can read.
        never: Why nothing is to be walked, where that is known beforehand.

    Attributes:
        problem: Why long sequences are not walked, where that was found.
        skips: Whether blocks may hand on outputs of an earlier pass instead of running; None if that was never tried.
    """

    def __init__(self, model: nn.Module, blocks: Blocks, *, limit: int | None, never: str = "") -> None:
        self._model = model
        self._blocks = blocks
        self._limit = limit
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._no_head: dict[str, Any] = {"logits_to_keep": 1} if keeps else {}
        self._proven: list[_Tried] = []
        self._refused: int | None = 0 if never else None
        self.problem = never
        self.skips: bool | None = False if blocks.repeated else None

    def plan(self, tree: PrefixTree, cost: Cost, *, times: int = 1) -> Plan:
        """The cheapest exact plan to read a tree so many times; a walk is proven before it is taken."""
        longest = int(tree.depth.max()) + 1 if len(tree) else 0
        if self._refused is not None and longest >= self._refused:
            return plan_batches(tree, cost, may_pad=self._blocks.causal)
        wanted = _Tried(longest, cost.walk_tokens)
        plan = plan_passes(tree, cost, proven=self._covers(wanted), times=times)
        if isinstance(plan, Walk) and not self._holds(tree, wanted):
            return plan_batches(tree, cost, may_pad=self._blocks.causal)
        return plan

    def _covers(self, wanted: _Tried) -> bool:
        return any(tried.covers(wanted) for tried in self._proven)

    def _holds(self, tree: PrefixTree, wanted: _Tried) -> bool:
        if self._covers(wanted):
            return True
        longest = max(wanted.length, 2)
        tokens = tree.token[tree.path(int(tree.depth.argmax()))]
        roomy = max(int(MARGIN * longest), SHORTEST)
        for length in dict.fromkeys((max(min(roomy, self._limit or roomy), longest), longest)):
            try:
                problem = self._problem(np.resize(tokens, length), row=wanted.row)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                release(error)
                self.problem = "memory ran out while a walk was tried"
                return False  # there may be more of it the next time
            if problem is None:
                self._proven.append(_Tried(length, wanted.row))
                return True
        self._refused, self.problem = wanted.length, problem or ""
        return False

    def _problem(self, tokens: Ints, *, row: int) -> str | None:
        """What is wrong with a walk over sequences that share most of ``tokens``; None if nothing is.

        The last of its passes has ``row`` tokens and several endings in it, and sees what they share through the cache.
        Compared are the first sequence and the last, which has most before it that it must not see.
        """
        vocabulary = int(self._model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
        own = min(len(tokens) - len(tokens) // 2, max(row // 3, 1))
        shared = len(tokens) - own
        count = min(2 + row // own, vocabulary)
        endings = (tokens[None, shared:] + np.arange(count)[:, None]) % vocabulary
        tree = build_tree([(*tokens[:shared].tolist(), *ending) for ending in endings.tolist()])
        ends = [tree.leaves[0], tree.leaves[-1]]
        bounds = (0, *sorted(range(len(tree), 0, -row)))
        try:
            walked = self._states(tree, Walk(bounds, 0.0), ends)
        except Exception as error:  # whatever a model does that has no use for such inputs
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            return f"a mask of ours makes it fail: {(str(error).strip() or type(error).__name__).splitlines()[0][:100]}"
        plain = self._states(tree, Batches(tuple(np.array([end]) for end in ends), 0.0), ends)
        sizes = np.maximum(np.linalg.norm(plain, axis=-1), 1e-30)
        off = float((np.linalg.norm(walked - plain, axis=-1) / sizes).max())
        if off <= max(EXACT, ROUNDINGS * torch.finfo(place(self._model)[1]).eps):
            return None
        return f"over {len(tokens)} tokens it does not honour a mask and position ids of ours (states off by {off:.0e})"

    def _states(self, tree: PrefixTree, plan: Plan, ends: list[np.int64]) -> NDArray[np.float32]:
        """States at some leaves, ``[leaf, layer, hidden]``."""
        every = range(len(self._blocks))
        states = np.zeros((len(ends), len(every), self._blocks.hidden_size), dtype=np.float32)

        def read(row: Pass) -> None:
            rows, columns = np.nonzero(np.isin(row.nodes, ends))
            with keeping(self._blocks, every, rows, columns) as kept, torch.inference_mode(), eagerly():
                self._model(**row.inputs, **self._no_head)
            if len(rows):
                states[np.searchsorted(ends, row.nodes[rows, columns])] = kept.stacked()

        for _ in run_plan(tree, plan, read, model=self._model):
            pass
        return states


@dataclass(frozen=True)
class _Tried:
    """How long the sequences and how long the passes were on which a walk was exact."""

    length: int
    row: int

    def covers(self, wanted: _Tried) -> bool:
        return wanted.length <= self.length and wanted.row <= self.row


def prepared_proof(model: nn.Module, blocks: Blocks, *, limit: int | None, encoder: bool) -> WalkProof:
    """A proof to be made when it is needed; for some models it is known beforehand that a walk would be wrong."""
    never = "" if blocks.causal else "a state knows of the tokens after it too"
    if encoder:
        never = "an encoder reads every text as a whole"
    return WalkProof(model, blocks, limit=limit, never=never)
