"""Token sequences as a tree in which every distinct prefix is one node. Plain numpy; knows no model.

A contrastive set is a few beginnings with many endings. In a causal model the state at a token depends on the tokens
before it alone, so two sequences that begin alike need their common tokens computed once: one node of the tree each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class PrefixTree:
    """A forest of tokens, its nodes in preorder: a node's descendants are the ``size - 1`` nodes behind it.

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
        """Nodes that nothing follows: the ends of the sequences that are a prefix of no other."""
        return np.flatnonzero(self.size == 1)

    def leaf_below(self, nodes: Ints) -> Ints:
        """For each node, the first leaf that begins with it."""
        found: Ints = self.leaves[np.searchsorted(self.leaves, nodes)]
        return found

    def path(self, node: int) -> Ints:
        """The nodes from the beginning of a sequence up to ``node``."""
        nodes = np.empty(int(self.depth[node]) + 1 if node >= 0 else 0, dtype=np.int64)
        for at in range(len(nodes) - 1, -1, -1):
            nodes[at] = node
            node = int(self.parent[node])
        return nodes

    def sees(self, rows: Ints, columns: Ints) -> NDArray[np.bool_]:
        """``[row, column]``: whether a token is the other or comes before it in its sequence."""
        after: NDArray[np.bool_] = rows[:, None] >= columns[None]
        return after & (rows[:, None] < (columns + self.size[columns])[None])


def build_tree(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """The tree of some token sequences; duplicates and prefixes of one another are welcome.

    One pass over the depths, in which the sequences at one node are divided by their next token. A sequence
    that is alone at its node is done, and its remaining tokens become a chain. Time is linear in the number of tokens
    (but for the sorting of one depth at a time), memory too.

    Raises:
        ValueError: A sequence is empty.

    Example:
        >>> tree = build_tree([[7, 8], [7, 9, 5], [7]])
        >>> tree.token.tolist(), tree.parent.tolist(), tree.ends.tolist()
        ([7, 8, 9, 5], [-1, 0, 0, 2], [1, 3, 0])
    """
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    if len(lengths) and not lengths.min():
        raise ValueError("an empty sequence has no last token")
    flat = np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=int(lengths.sum()))
    starts = np.cumsum(lengths) - lengths
    shared = _shared_levels(flat, starts, lengths)
    return _in_preorder(*_with_tails(shared, flat, starts, lengths))


def build_chains(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """The same with nothing shared, each sequence a chain: for models in which a state knows of later tokens.

    Raises:
        ValueError: A sequence is empty.

    Example:
        >>> tree = build_chains([[7, 8], [7]])
        >>> tree.token.tolist(), tree.parent.tolist(), tree.ends.tolist()
        ([7, 8, 7], [-1, 0, -1], [1, 2])
    """
    lengths = np.fromiter(map(len, sequences), dtype=np.int64, count=len(sequences))
    if len(lengths) and not lengths.min():
        raise ValueError("an empty sequence has no last token")
    ends = np.cumsum(lengths) - 1
    token = np.fromiter(chain.from_iterable(sequences), dtype=np.int64, count=int(lengths.sum()))
    number = np.arange(len(token))
    depth = number - np.repeat(ends - lengths + 1, lengths)
    parent = np.where(depth > 0, number - 1, -1)
    return PrefixTree(token, parent, depth, np.repeat(lengths, lengths) - depth, ends)


@dataclass(frozen=True)
class _Levels:
    """The nodes on which sequences were parted, level by level: a parent comes before its children.

    ``alone_from[i]`` is the depth from which sequence ``i`` has no company, or its length; ``at[i]`` the node before.
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
    """The nodes with each lonely sequence's rest behind them as a chain, the size of every node, and all ends."""
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
    nodes = _Levels(
        np.concatenate([shared.token, token]),
        np.concatenate([shared.parent, parent]),
        shared.level,
        shared.at,
        shared.alone_from,
    )
    return nodes, size, ends


def _in_preorder(nodes: _Levels, size: Ints, ends: Ints) -> PrefixTree:
    """Renumber: a node comes right behind its parent and its parent's earlier children with all that is theirs."""
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
