"""Plan of passes that read a tree of tokens at the least cost: prefix-tree passes, or batches of whole sequences.

All costs are in *tokens*: the time that one token's matrix products take. Three things cost:

- a token: 1, by definition;
- a token looking at another: ``pair``. Attention is quadratic in a pass; a custom mask has every token of a pass
  look at every other and at the path before it, while a plain batch looks back only;
- a pass: ``launch``. The weights are read once whatever the number of tokens, and every block has an overhead.

Prefix-tree passes compute every node of the tree once, in passes of about ``sqrt(launch / pair)`` tokens, where neither
term dominates. Plain batches compute every sequence that is a prefix of no other, padding included. Prefix-tree passes
win where sequences share. Where nothing is shared, they cost the same tokens and more attention, and where little is
read, checking that they are exact costs more than it saves; then plain batches win.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from trimtab.engines.prefix_tree import Ints, PrefixTree

BATCH_LAUNCHES = 20.0  # a plain batch of this many launches' worth of tokens makes the launch negligible
SMALLEST_WALK = 32
PROBE_LENGTHS = 4.0  # cost of the prefix-sharing check: a full pass, and this many times the longest sequence
PROBE_PASSES = 3


@dataclass(frozen=True)
class Machine:
    """What costs are made of; round figures are enough, as the optimum is flat.

    Attributes:
        flops: Floating-point operations a second in large matrix products.
        balance: Tokens whose arithmetic takes as long as reading the weights once.
        block_seconds: Overhead of running one block, whatever the number of tokens.
        pair: Time of attention's arithmetic in units of as much arithmetic in matrix products.
        max_tokens: Upper bound on the tokens of a pass, for memory's sake.
    """

    flops: float
    balance: float
    block_seconds: float
    pair: float
    max_tokens: int


CPU = Machine(flops=1.5e11, balance=22.0, block_seconds=1e-4, pair=1.0, max_tokens=2048)
CPU_HALF = Machine(flops=4e11, balance=25.0, block_seconds=1e-4, pair=2.5, max_tokens=2048)
GPU = Machine(flops=4e14, balance=150.0, block_seconds=5e-4, pair=2.0, max_tokens=16384)


@dataclass(frozen=True)
class Cost:
    """The cost model of one model on one machine, in tokens."""

    launch: float
    pair: float
    max_tokens: int

    @classmethod
    def of(cls, machine: Machine, *, layers: int, hidden: int, parameters: int, max_tokens: int | None) -> Cost:
        """Return the costs of a model; each parameter of its blocks takes part in every token."""
        arithmetic = 2.0 * max(parameters, 1)
        return cls(
            launch=machine.balance + layers * machine.block_seconds * machine.flops / arithmetic,
            pair=machine.pair * 4.0 * hidden * layers / arithmetic,
            max_tokens=max_tokens or machine.max_tokens,
        )

    @property
    def prefix_tree_tokens(self) -> int:
        """Best number of tokens for a prefix-tree pass."""
        return max(min(max(int(math.sqrt(self.launch / self.pair)), SMALLEST_WALK), self.max_tokens), 1)


@dataclass(frozen=True)
class PrefixTreePlan:
    """Every node once, in preorder: pass ``i`` computes nodes ``bounds[i]`` up to ``bounds[i + 1]``."""

    bounds: tuple[int, ...]
    cost: float

    @property
    def passes(self) -> int:
        """How many times the model runs."""
        return len(self.bounds) - 1

    def largest(self, tree: PrefixTree) -> int:
        """New tokens of the largest pass."""
        return int(np.diff(self.bounds).max(initial=0))


@dataclass(frozen=True)
class BatchPlan:
    """Whole sequences, several in a pass, padded at their ends: the leaves at which those of each pass end."""

    leaves: tuple[Ints, ...]
    cost: float

    @property
    def passes(self) -> int:
        """How many times the model runs."""
        return len(self.leaves)

    def largest(self, tree: PrefixTree) -> int:
        """Tokens of the largest pass, padding included."""
        return max((len(leaves) * int(tree.depth[leaves].max() + 1) for leaves in self.leaves), default=0)


Plan: TypeAlias = PrefixTreePlan | BatchPlan


def plan_passes(tree: PrefixTree, cost: Cost, *, may_walk: bool = True, proven: bool = True, times: int = 1) -> Plan:
    """The cheaper of the two ways to read ``tree``.

    Args:
        tree: What to read.
        cost: The cost model.
        may_walk: Whether prefix-tree passes are exact on this model, as far as is known.
        proven: Whether that is known already; if not, the cost of the check counts against them.
        times: How often the tree will be read.
    """
    if not may_walk or not len(tree):
        return plan_batches(tree, cost)
    passes = plan_prefix_tree(tree, cost)
    shared_cost = passes.cost + (0.0 if proven else probe_cost(tree, cost) / times)
    if shared_cost <= float((tree.depth[tree.leaves] + 1).sum()):  # a lower bound of what batches cost
        return passes
    batches = plan_batches(tree, cost)
    return passes if shared_cost < batches.cost else batches


def probe_cost(tree: PrefixTree, cost: Cost) -> float:
    """Return the cost of checking that prefix-tree passes over ``tree`` are exact."""
    return cost.prefix_tree_tokens + PROBE_LENGTHS * float(tree.depth.max() + 1) + PROBE_PASSES * cost.launch


def plan_prefix_tree(tree: PrefixTree, cost: Cost) -> PrefixTreePlan:
    """Passes of equal size, cut anywhere: what a pass needs of earlier ones is kept as keys and values."""
    passes = max(-(-len(tree) // cost.prefix_tree_tokens), 1)
    bounds = [len(tree) * number // passes for number in range(passes + 1)]
    new = np.diff(bounds)
    before = tree.depth[bounds[:-1]] if len(tree) else np.zeros(1)
    looks = float((new * (new + before)).sum())
    return PrefixTreePlan(tuple(bounds), len(tree) + cost.pair * looks + cost.launch * passes)


def plan_batches(tree: PrefixTree, cost: Cost, *, may_pad: bool = True) -> BatchPlan:
    """Leaves by length; a sequence joins a batch while the padding costs less than another pass would.

    Args:
        tree: What to read.
        cost: The cost model.
        may_pad: Whether padding at the end changes nothing; if not, only sequences of one length share a batch.
    """
    lengths = tree.depth[tree.leaves] + 1
    order = np.argsort(-lengths, kind="stable")
    room = min(cost.max_tokens, int(BATCH_LAUNCHES * cost.launch))
    batches: list[Ints] = []
    total = 0.0
    start = 0
    sizes = lengths[order].tolist()
    while start < len(sizes):
        longest, waste, stop = sizes[start], 0, start + 1
        while stop < len(sizes) and (stop - start + 1) * longest <= room:
            waste += longest - sizes[stop]
            if waste > (cost.launch if may_pad else 0):
                break
            stop += 1
        batches.append(tree.leaves[order[start:stop]])
        total += (stop - start) * longest * (1.0 + cost.pair * longest / 2) + cost.launch
        start = stop
    return BatchPlan(tuple(batches), total)
