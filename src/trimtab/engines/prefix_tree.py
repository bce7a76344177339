"""Token sequences as a tree in which every distinct prefix is one node. Plain numpy; knows no model.

A contrastive set is a few beginnings with many endings. In a causal model the state at a token depends on the tokens
before it alone, so two sequences that begin alike need their common tokens computed once: one node of the tree each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PrefixTree:
    """Forest of tokens with its nodes in preorder: a node's descendants are the ``size - 1`` nodes after it.

    So node ``a`` is ``b`` or an ancestor of it exactly if ``a <= b < a + size[a]``.

    Attributes:
        token: Token id of each node.
        parent: The node before it in its sequences; -1 where a sequence begins.
        depth: How many nodes are before it, which is its position id.
        size: How many nodes begin with it, itself included.
        ends: The node at which each sequence ends.
    """

    token: Ints
    parent: Ints
    depth: Ints
    size: Ints
    ends: Ints

    def __len__(self) -> int:
        return len(self.token)

    @cached_property
    def leaves(self) -> Ints:
        """Return the nodes that nothing follows: the ends of the sequences that are a prefix of no other."""
        return np.flatnonzero(self.size == 1)

    def leaf_below(self, nodes: Ints) -> Ints:
        """Return for each node the first leaf that begins with it."""
        return np.asarray(self.leaves[np.searchsorted(self.leaves, nodes)])

    def path(self, node: int) -> Ints:
        """Return the nodes from the beginning of a sequence up to ``node``."""
        nodes = np.empty(int(self.depth[node]) + 1 if node >= 0 else 0, dtype=np.int64)
        for at in range(len(nodes) - 1, -1, -1):
            nodes[at] = node
            node = int(self.parent[node])
        return nodes

    def sees(self, rows: Ints, columns: Ints) -> NDArray[np.bool_]:
        """Return ``[row, column]``: True if the column's token is the row's or an ancestor of it."""
        after: NDArray[np.bool_] = rows[:, None] >= columns[None]
        return after & (rows[:, None] < (columns + self.size[columns])[None])


def build_tree(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """Return the tree of token sequences, which may be duplicates or prefixes of one another.

    One pass over the depths divides the sequences at a node by their next token. The remaining tokens of a sequence
    that is alone at its node become a chain. Time (but for sorting each depth) and memory are linear in the tokens.

    Raises:
        ValueError: A sequence is empty.

    Example:
        >>> tree = build_tree([[7, 8], [7, 9, 5], [7]])
        >>> tree.token.tolist(), tree.parent.tolist(), tree.ends.tolist()
        ([7, 8, 9, 5], [-1, 0, 0, 2], [1, 3, 0])
    """
    flat, lengths = _flattened(sequences)
    starts = np.cumsum(lengths) - lengths
    shared = _shared_levels(flat, starts, lengths)
    return _in_preorder(*_with_tails(shared, flat, starts, lengths))


def build_chains(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """Return each sequence as a separate chain, for models whose hidden states depend on later tokens.

    Raises:
        ValueError: A sequence is empty.

    Example:
        >>> tree = build_chains([[7, 8], [7]])
        >>> tree.token.tolist(), tree.parent.tolist(), tree.ends.tolist()
        ([7, 8, 7], [-1, 0, -1], [1, 2])
    """
    token, lengths = _flattened(sequences)
    ends = np.cumsum(lengths) - 1
    number = np.arange(len(token))
    depth = number - np.repeat(ends - lengths + 1, lengths)
    parent = np.where(depth > 0, number - 1, -1)
    return PrefixTree(token, parent, depth, np.repeat(lengths, lengths) - depth, ends)


def _flattened(sequences: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    if len(lengths) and not lengths.min():
        raise ValueError("an empty sequence has no last token")
    return np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=int(lengths.sum())), lengths


@dataclass(frozen=True)
class _Levels:
    """Nodes at which sequences divide, level by level: a parent comes before its children.

    ``alone_from[i]`` is the depth from which sequence ``i`` shares no node, or its length; ``at[i]`` the node before.
    """

    token: Ints
    parent: Ints
    level: tuple[slice, ...]
    at: Ints
    alone_from: Ints


def _shared_levels(flat: Ints, starts: Ints, lengths: Ints) -> _Levels:
    vocabulary = int(flat.max()) + 1 if len(flat) else 1
    at = np.full(len(lengths), -1, dtype=np.int64)
    alone_from = lengths.copy()
    running = np.arange(len(lengths))
    tokens: list[Ints] = []
    parents: list[Ints] = []
    levels: list[slice] = []
    count = 0
    while len(running):
        depth = len(levels)
        keys = (at[running] + 1) * vocabulary + flat[starts[running] + depth]
        distinct, where, company = np.unique(keys, return_inverse=True, return_counts=True)
        tokens.append(distinct % vocabulary)
        parents.append(distinct // vocabulary - 1)
        levels.append(slice(count, count + len(distinct)))
        at[running] = count + where
        count += len(distinct)
        alone = company[where] == 1
        alone_from[running[alone]] = depth + 1
        running = running[~alone & (lengths[running] > depth + 1)]
    return _Levels(_joined(tokens), _joined(parents), tuple(levels), at, alone_from)


def _with_tails(shared: _Levels, flat: Ints, starts: Ints, lengths: Ints) -> tuple[_Levels, Ints, Ints]:
    """Append the unshared rest of each sequence as a chain; return the nodes, the size of each, and all ends."""
    rest = lengths - shared.alone_from
    lonely = np.flatnonzero(rest > 0)
    rest = rest[lonely]
    first = len(shared.token) + np.cumsum(rest) - rest
    total = int(rest.sum())
    within = np.arange(total) - np.repeat(np.cumsum(rest) - rest, rest)
    token = flat[np.repeat(starts[lonely] + shared.alone_from[lonely], rest) + within]
    parent = len(shared.token) + np.arange(total) - 1
    parent[first - len(shared.token)] = shared.at[lonely]
    ends = shared.at.copy()
    ends[lonely] = first + rest - 1
    size = np.ones(len(shared.token) + total, dtype=np.int64)
    size[len(shared.token) :] = np.repeat(rest, rest) - within
    np.add.at(size, shared.at[lonely], rest)
    for level in reversed(shared.level[1:]):
        np.add.at(size, shared.parent[level], size[level])
    tokens, parents = np.concatenate([shared.token, token]), np.concatenate([shared.parent, parent])
    return replace(shared, token=tokens, parent=parents), size, ends


def _in_preorder(nodes: _Levels, size: Ints, ends: Ints) -> PrefixTree:
    """Renumber: a node follows its parent and the subtrees of its parent's earlier children."""
    number = np.empty(len(size), dtype=np.int64)
    depth = np.empty(len(size), dtype=np.int64)
    shared = nodes.level[-1].stop if nodes.level else 0
    for at, level in enumerate(nodes.level):
        parents, sizes = nodes.parent[level], size[level]
        before = np.cumsum(sizes) - sizes  # siblings are next to each other
        first = np.searchsorted(parents, parents)  # and parents ascend
        number[level] = before - before[first] + (number[parents] + 1 if at else 0)
        depth[level] = at
    tail = np.arange(shared, len(size))
    heads = tail[nodes.parent[tail] < shared]
    lengths = size[heads]
    within = np.arange(len(tail)) - np.repeat(heads - shared, lengths)
    above = np.repeat(nodes.parent[heads], lengths)
    number[tail] = number[above] + 1 + within
    depth[tail] = depth[above] + 1 + within
    order = np.empty(len(size), dtype=np.int64)
    order[number] = np.arange(len(size))
    parent = nodes.parent[order]
    parent[parent >= 0] = number[parent[parent >= 0]]
    return PrefixTree(nodes.token[order], parent, depth[order], size[order], number[ends])


def _joined(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


BATCH_LAUNCHES = 20.0  # a plain batch of this many launches' worth of tokens makes the launch negligible
SMALLEST_WALK = 32
PROBE_LENGTHS = 4.0  # cost of the prefix-sharing check: a full pass, and this many times the longest sequence
PROBE_PASSES = 3


@dataclass(frozen=True)
class Machine:
    """Constants of the cost model; round figures are enough, since the optimum is flat.

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
    """Cost model of one model on one machine, in tokens."""

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
    """Passes over every node once, in preorder: pass ``i`` computes nodes ``bounds[i]`` up to ``bounds[i + 1]``."""

    bounds: tuple[int, ...]
    cost: float

    @property
    def passes(self) -> int:
        """Return the number of forward passes."""
        return len(self.bounds) - 1

    def largest(self, tree: PrefixTree) -> int:
        """Return the number of new tokens of the largest pass."""
        return int(np.diff(self.bounds).max(initial=0))


@dataclass(frozen=True)
class BatchPlan:
    """Batches of whole sequences, padded at their ends: the leaves at which those of each pass end."""

    leaves: tuple[Ints, ...]
    cost: float

    @property
    def passes(self) -> int:
        """Return the number of forward passes."""
        return len(self.leaves)

    def largest(self, tree: PrefixTree) -> int:
        """Return the number of tokens of the largest pass, padding included."""
        return max((len(leaves) * int(tree.depth[leaves].max() + 1) for leaves in self.leaves), default=0)


Plan: TypeAlias = PrefixTreePlan | BatchPlan


def plan_passes(tree: PrefixTree, cost: Cost, *, may_walk: bool = True, proven: bool = True, times: int = 1) -> Plan:
    """Return the cheaper of the two plans for reading ``tree``.

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
    """Divide the nodes into passes of equal size; a pass uses the cached keys and values of earlier ones."""
    passes = max(-(-len(tree) // cost.prefix_tree_tokens), 1)
    bounds = [len(tree) * number // passes for number in range(passes + 1)]
    new = np.diff(bounds)
    before = tree.depth[bounds[:-1]] if len(tree) else np.zeros(1)
    looks = float((new * (new + before)).sum())
    return PrefixTreePlan(tuple(bounds), len(tree) + cost.pair * looks + cost.launch * passes)


def plan_batches(tree: PrefixTree, cost: Cost, *, may_pad: bool = True) -> BatchPlan:
    """Group leaves by length; a sequence joins a batch while the padding costs less than another pass would.

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
