"""Plans: every token in one pass, and the cheaper of the two ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.engines.prefix_tree import (
    BATCH_LAUNCHES,
    CPU,
    CPU_HALF,
    GPU,
    SMALLEST_WALK,
    BatchPlan,
    Cost,
    Machine,
    PrefixTree,
    PrefixTreePlan,
    build_tree,
    plan_batches,
    plan_passes,
    plan_prefix_tree,
    probe_cost,
)

SMOLLM2 = {"layers": 30, "hidden": 576, "parameters": 106_000_000}
SEVEN_BILLION = {"layers": 32, "hidden": 4096, "parameters": 6_500_000_000}
MACHINES = [CPU, CPU_HALF, GPU]

sequence_lists = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple), min_size=1, max_size=20)
costs = st.builds(
    Cost,
    launch=st.floats(0.5, 500.0),
    pair=st.floats(1e-5, 0.5),
    max_tokens=st.integers(1, 60),
)


def contrastive(*, questions: int = 40, cuts: int = 8) -> PrefixTree:
    """Two long beginnings, many questions, and each answer cut after every token."""
    persona = [tuple(range(pole, pole + 20)) for pole in (100, 200)]
    return build_tree(
        [
            (*pole, 300 + question, 301, *range(1, cut))
            for pole in persona
            for question in range(questions)
            for cut in range(2, cuts + 2)
        ]
    )


def unrelated(*, texts: int = 60, length: int = 20) -> PrefixTree:
    noise = np.random.default_rng(0)
    return build_tree([(n, *noise.integers(0, 30_000, length).tolist()) for n in range(texts)])


def padding_of(tree: PrefixTree, leaves: Sequence[int]) -> int:
    lengths = [int(tree.depth[leaf]) + 1 for leaf in leaves]
    return len(lengths) * max(lengths) - sum(lengths)


# Walks -------------------------------------------------------------------------------------------------------------


@given(sequences=sequence_lists, cost=costs)
def test_tree_plan_covers_every_node_once_in_order(sequences: list[tuple[int, ...]], cost: Cost) -> None:
    tree = build_tree(sequences)
    walk = plan_prefix_tree(tree, cost)
    nodes = [node for a, b in zip(walk.bounds[:-1], walk.bounds[1:], strict=True) for node in range(a, b)]
    assert nodes == list(range(len(tree)))
    sizes = np.diff(walk.bounds)
    assert sizes.min() >= 1
    assert sizes.max() <= cost.prefix_tree_tokens <= cost.max_tokens
    assert sizes.max() - sizes.min() <= 1
    assert walk.passes == len(sizes)


@given(sequences=sequence_lists, cost=costs)
def test_tree_plan_cost_adds_tokens_pairs_and_passes(sequences: list[tuple[int, ...]], cost: Cost) -> None:
    tree = build_tree(sequences)
    walk = plan_prefix_tree(tree, cost)
    looks = 0
    for start, stop in zip(walk.bounds[:-1], walk.bounds[1:], strict=True):
        looks += (stop - start) * (len(tree.path(start)) - 1 + stop - start)
    expected = len(tree) + cost.pair * looks + cost.launch * walk.passes
    assert walk.cost == pytest.approx(expected)


def test_tree_pass_size_balances_attention_and_launch() -> None:
    assert Cost(launch=100.0, pair=1e-4, max_tokens=10_000).prefix_tree_tokens == 1000
    assert Cost(launch=100.0, pair=1e-4, max_tokens=300).prefix_tree_tokens == 300
    assert Cost(launch=1.0, pair=1.0, max_tokens=300).prefix_tree_tokens == SMALLEST_WALK
    assert Cost(launch=1.0, pair=1.0, max_tokens=5).prefix_tree_tokens == 5


# Batches -----------------------------------------------------------------------------------------------------------


@given(sequences=sequence_lists, cost=costs)
def test_batches_hold_every_leaf_once(sequences: list[tuple[int, ...]], cost: Cost) -> None:
    tree = build_tree(sequences)
    batches = plan_batches(tree, cost)
    assert sorted(np.concatenate(batches.leaves).tolist()) == tree.leaves.tolist()
    assert min(map(len, batches.leaves)) >= 1
    assert batches.passes == len(batches.leaves)


@given(sequences=sequence_lists, cost=costs)
def test_padding_in_batch_costs_no_more_than_launch(sequences: list[tuple[int, ...]], cost: Cost) -> None:
    tree = build_tree(sequences)
    for leaves in plan_batches(tree, cost).leaves:
        assert padding_of(tree, leaves.tolist()) <= cost.launch


@given(sequences=sequence_lists, cost=costs)
def test_batch_of_several_keeps_to_room(sequences: list[tuple[int, ...]], cost: Cost) -> None:
    tree = build_tree(sequences)
    for leaves in plan_batches(tree, cost).leaves:
        longest = int(tree.depth[leaves].max()) + 1
        if len(leaves) > 1:
            assert len(leaves) * longest <= min(cost.max_tokens, BATCH_LAUNCHES * cost.launch)


@given(sequences=sequence_lists, cost=costs)
def test_batch_plan_cost_adds_tokens_pairs_and_passes(sequences: list[tuple[int, ...]], cost: Cost) -> None:
    tree = build_tree(sequences)
    batches = plan_batches(tree, cost)
    expected = 0.0
    for leaves in batches.leaves:
        longest = int(tree.depth[leaves].max()) + 1
        expected += len(leaves) * (longest + cost.pair * longest**2 / 2) + cost.launch
    assert batches.cost == pytest.approx(expected)


def test_batch_plan_runs_the_longest_first() -> None:
    tree = build_tree([(n, *range(length)) for n, length in enumerate([3, 9, 1, 9, 5, 2])])
    batches = plan_batches(tree, Cost(launch=2.0, pair=1e-3, max_tokens=20))
    longest = [int(tree.depth[leaves].max()) for leaves in batches.leaves]
    assert longest == sorted(longest, reverse=True)
    assert len(batches.leaves[0]) == 2


# The choice --------------------------------------------------------------------------------------------------------


@given(sequences=sequence_lists, cost=costs, proven=st.booleans(), times=st.integers(1, 30))
def test_plan_chosen_costs_no_more_than_either(
    sequences: list[tuple[int, ...]], cost: Cost, proven: bool, times: int
) -> None:
    tree = build_tree(sequences)
    plan = plan_passes(tree, cost, proven=proven, times=times)
    walk = plan_prefix_tree(tree, cost).cost + (0.0 if proven else probe_cost(tree, cost) / times)
    batches = plan_batches(tree, cost).cost
    chosen = walk if isinstance(plan, PrefixTreePlan) else batches
    assert chosen <= min(walk, batches) + 1e-9


@given(sequences=sequence_lists, cost=costs)
def test_plan_without_prefix_sharing_is_batches(sequences: list[tuple[int, ...]], cost: Cost) -> None:
    tree = build_tree(sequences)
    plan = plan_passes(tree, cost, may_walk=False)
    assert isinstance(plan, BatchPlan)
    assert [leaves.tolist() for leaves in plan.leaves] == [
        leaves.tolist() for leaves in plan_batches(tree, cost).leaves
    ]


@pytest.mark.parametrize("model", [SMOLLM2, SEVEN_BILLION], ids=["smollm2", "7B"])
@pytest.mark.parametrize("machine", MACHINES, ids=["cpu", "cpu half", "gpu"])
def test_plan_shares_prefixes_of_contrastive_texts_only(machine: Machine, model: dict[str, int]) -> None:
    cost = Cost.of(machine, **model, max_tokens=None)
    plan = plan_passes(contrastive(), cost)
    assert isinstance(plan, PrefixTreePlan)
    assert plan.cost < plan_batches(contrastive(), cost).cost
    assert isinstance(plan_passes(unrelated(), cost), BatchPlan)


def test_plan_pays_for_the_check_with_many_texts_only() -> None:
    cost = Cost.of(CPU, **SMOLLM2, max_tokens=None)
    few = build_tree([(*range(30), 40), (*range(30), 41), (*range(30), 42)])
    assert isinstance(plan_passes(few, cost), PrefixTreePlan)
    assert isinstance(plan_passes(few, cost, proven=False), BatchPlan)
    many = contrastive(questions=200)
    assert isinstance(plan_passes(many, cost, proven=False), PrefixTreePlan)


def test_plan_pays_for_the_check_sooner_when_reused() -> None:
    cost = Cost.of(CPU, **SMOLLM2, max_tokens=None)
    few = build_tree([(*range(30), 40), (*range(30), 41), (*range(30), 42)])
    assert isinstance(plan_passes(few, cost, proven=False, times=1), BatchPlan)
    assert isinstance(plan_passes(few, cost, proven=False, times=10_000), PrefixTreePlan)


@pytest.mark.parametrize("may_walk", [True, False])
def test_empty_tree_has_nothing_to_run(may_walk: bool) -> None:
    plan = plan_passes(build_tree([]), Cost(launch=10.0, pair=1e-3, max_tokens=100), may_walk=may_walk)
    assert isinstance(plan, BatchPlan)
    assert plan.passes == 0
    assert plan.cost == 0.0


# The cost model ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [SMOLLM2, SEVEN_BILLION], ids=["smollm2", "7B"])
def test_passes_on_gpu_are_larger(model: dict[str, int]) -> None:
    cpu, half, gpu = (Cost.of(machine, **model, max_tokens=None) for machine in MACHINES)
    assert cpu.prefix_tree_tokens < gpu.prefix_tree_tokens
    assert half.prefix_tree_tokens < gpu.prefix_tree_tokens
    assert cpu.max_tokens < gpu.max_tokens
    tree = contrastive(questions=400)
    assert plan_prefix_tree(tree, gpu).passes < plan_prefix_tree(tree, cpu).passes
    assert plan_batches(unrelated(texts=600), gpu).passes < plan_batches(unrelated(texts=600), cpu).passes


@pytest.mark.parametrize("machine", MACHINES, ids=["cpu", "cpu half", "gpu"])
def test_launch_weighs_less_in_larger_model(machine: Machine) -> None:
    launches = [
        Cost.of(machine, layers=32, hidden=hidden, parameters=32 * 12 * hidden**2, max_tokens=None).launch
        for hidden in (64, 256, 1024, 4096)
    ]
    assert launches == sorted(launches, reverse=True)
    assert launches[0] > 5 * launches[-1]
    assert launches[-1] >= machine.balance


def test_attention_weighs_less_in_wider_model() -> None:
    pairs = [
        Cost.of(CPU, layers=32, hidden=hidden, parameters=32 * 12 * hidden**2, max_tokens=None).pair
        for hidden in (64, 256, 1024, 4096)
    ]
    assert pairs == sorted(pairs, reverse=True)


@pytest.mark.parametrize("machine", MACHINES, ids=["cpu", "cpu half", "gpu"])
def test_bound_on_tokens_of_pass_is_kept(machine: Machine) -> None:
    for bound in (1, 7, 100):
        cost = Cost.of(machine, **SMOLLM2, max_tokens=bound)
        assert cost.prefix_tree_tokens <= cost.max_tokens == bound
    assert Cost.of(machine, **SMOLLM2, max_tokens=None).max_tokens == machine.max_tokens


def test_cost_of_model_without_size_is_finite() -> None:
    cost = Cost.of(CPU, layers=2, hidden=8, parameters=0, max_tokens=None)
    assert np.isfinite([cost.launch, cost.pair]).all()
    assert 1 <= cost.prefix_tree_tokens <= cost.max_tokens
