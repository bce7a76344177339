"""Trees of tokens: every distinct beginning once, in preorder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.engines.prefix_tree import Cost, PrefixTree, build_tree, plan_passes

Beginning = tuple[int, ...]

few_tokens = st.lists(st.sampled_from([0, 3, 9]), min_size=1, max_size=8).map(tuple)
chains = st.tuples(st.integers(1, 40), st.integers(0, 3)).map(lambda given: (5,) * given[0] + (7,) * given[1])
sequence_lists = st.lists(few_tokens | chains, min_size=1, max_size=16)


def beginnings_of(sequences: Sequence[Beginning]) -> list[Beginning]:
    """Return the nodes naively: all prefixes, sorted, which is preorder with tokens ascending."""
    return sorted({sequence[:end] for sequence in sequences for end in range(1, len(sequence) + 1)})


def begins(one: Beginning, other: Beginning) -> bool:
    return other[: len(one)] == one


def read_off(tree: PrefixTree) -> list[Beginning]:
    """Return the prefix of each node, from tokens and parents alone."""
    prefixes: list[Beginning] = []
    for token, parent in zip(tree.token.tolist(), tree.parent.tolist(), strict=True):
        assert -1 <= parent < len(prefixes)
        prefixes.append(((*prefixes[parent], token)) if parent >= 0 else (token,))
    return prefixes


# Against the obvious -----------------------------------------------------------------------------------------------


@given(sequences=sequence_lists)
def test_tree_distinct_prefixes_are_single_nodes(sequences: list[Beginning]) -> None:
    """Siblings may stand in any order; behind a node are its descendants and nothing else."""
    tree = build_tree(sequences)
    prefixes = read_off(tree)
    assert sorted(prefixes) == beginnings_of(sequences)
    assert len(tree) == len(prefixes)
    assert tree.depth.tolist() == [len(beginning) - 1 for beginning in prefixes]
    assert [prefixes[end] for end in tree.ends] == sequences
    for node, (beginning, size) in enumerate(zip(prefixes, tree.size.tolist(), strict=True)):
        inside = [other for other, later in enumerate(prefixes) if begins(beginning, later)]
        assert inside == list(range(node, node + size))


@given(sequences=sequence_lists)
def test_tree_mask_shows_a_token_and_its_ancestors(sequences: list[Beginning]) -> None:
    tree = build_tree(sequences)
    prefixes = read_off(tree)
    every = np.arange(len(tree))
    expected = np.array([[begins(column, row) for column in prefixes] for row in prefixes])
    np.testing.assert_array_equal(tree.sees(every, every), expected)
    some, others = every[::2], every[len(every) // 3 :]
    np.testing.assert_array_equal(tree.sees(some, others), expected[np.ix_(some, others)])


@given(sequences=sequence_lists)
def test_paths_and_leaves_are_those_of_sequences(sequences: list[Beginning]) -> None:
    tree = build_tree(sequences)
    prefixes = read_off(tree)
    for node, beginning in enumerate(prefixes):
        path = tree.path(node)
        assert tuple(tree.token[path].tolist()) == beginning
        assert tree.depth[path].tolist() == list(range(len(beginning)))
        assert path[-1] == node
    leaves = [
        node for node, one in enumerate(prefixes) if not any(begins(one, other) and other != one for other in prefixes)
    ]
    assert tree.leaves.tolist() == leaves
    first = [next(leaf for leaf in leaves if begins(one, prefixes[leaf])) for one in prefixes]
    assert tree.leaf_below(np.arange(len(tree))).tolist() == first


@given(sequences=sequence_lists, order=st.randoms(use_true_random=False))
def test_tree_ignores_order_of_sequences(sequences: list[Beginning], order: object) -> None:
    shuffled = list(range(len(sequences)))
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    tree, again = build_tree(sequences), build_tree([sequences[n] for n in shuffled])
    assert sorted(read_off(tree)) == sorted(read_off(again))
    assert [read_off(again)[end] for end in again.ends] == [sequences[n] for n in shuffled]


# By example --------------------------------------------------------------------------------------------------------


def test_tree_of_small_example_equals_drawing() -> None:
    tree = build_tree([(7, 8), (7, 9, 5), (7,), (7, 8), (1,)])
    assert [read_off(tree)[end] for end in tree.ends] == [(7, 8), (7, 9, 5), (7,), (7, 8), (1,)]
    assert len(tree) == 5
    seven = int(tree.ends[2])
    assert tree.size[seven] == 4
    assert tree.parent[tree.ends[0]] == seven
    assert tree.ends[0] == tree.ends[3]


def test_tree_single_sequence_is_chain() -> None:
    tree = build_tree([[4, 4, 2]])
    assert tree.token.tolist() == [4, 4, 2]
    assert tree.parent.tolist() == [-1, 0, 1]
    assert tree.depth.tolist() == [0, 1, 2]
    assert tree.size.tolist() == [3, 2, 1]
    assert tree.ends.tolist() == [2]
    assert tree.leaf_below(np.array([0, 1, 2])).tolist() == [2, 2, 2]


def test_tree_without_sequences_is_empty() -> None:
    tree = build_tree([])
    assert len(tree) == 0
    for column in (tree.token, tree.parent, tree.depth, tree.size, tree.ends, tree.leaves):
        assert column.shape == (0,)
    assert tree.sees(np.arange(0), np.arange(0)).shape == (0, 0)
    assert tree.path(-1).tolist() == []


@pytest.mark.parametrize("sequences", [[()], [(1, 2), ()], [(), (1, 2)], [(), ()]], ids=repr)
def test_empty_sequence_is_error(sequences: list[Beginning]) -> None:
    with pytest.raises(ValueError, match="an empty sequence has no last token"):
        build_tree(sequences)


def test_large_token_ids_are_kept() -> None:
    sequences = [(0, 2**31 - 1), (2**31 - 1, 0), (2**31 - 1,), (0, 0)]
    tree = build_tree(sequences)
    assert [read_off(tree)[end] for end in tree.ends] == sequences
    assert len(tree) == 5


# Large -------------------------------------------------------------------------------------------------------------


def test_tree_long_tail_is_chain() -> None:
    """A lone sequence is not divided token by token."""
    tail = np.random.default_rng(0).integers(0, 1000, 50_000).tolist()
    tree = build_tree([tail, tail[:3], [tail[0], tail[1] + 1]])
    assert len(tree) == len(tail) + 1
    assert tree.token[tree.path(int(tree.ends[0]))].tolist() == tail
    assert tree.depth[tree.ends].tolist() == [49_999, 2, 1]
    assert tree.size.max() == 50_001
    assert len(tree.leaves) == 2


def test_tree_of_200000_short_prompts_is_built_and_planned() -> None:
    """Eight beginnings, 12 500 ways on from each, and two endings to each; every thousandth prompt is the same one."""
    count, ways = 200_000, 8
    prompts = [(n % ways, 9, 9, 9, n // ways // 2, n // ways % 2) for n in range(count)]
    prompts[::1000] = [prompts[0]] * len(prompts[::1000])
    tree = build_tree(prompts)
    distinct = set(prompts)
    assert len(tree) == ways * 4 + len({prompt[:5] for prompt in distinct}) + len(distinct)
    assert len(tree.leaves) == len(distinct)
    assert tree.depth[tree.ends].min() == tree.depth[tree.ends].max() == 5
    some = range(0, count, 9973)
    assert [tuple(tree.token[tree.path(int(tree.ends[n]))].tolist()) for n in some] == [prompts[n] for n in some]
    plan = plan_passes(tree, Cost(launch=50.0, pair=1e-4, max_tokens=2048))
    assert plan.passes >= len(tree) // 2048
