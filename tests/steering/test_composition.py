"""Laws of composition of operators, on the functions that act in the forward pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from trimtab.engines.transformers.forward.step_plan import StepPlan, add_preserving_norm, clamp_change, rotate
from trimtab.steering.compiled import Change, CompiledSteering, CompiledTerm, LayerAdd, LayerClamp, LayerRotate

WIDTH = 6
CLOSE = 1e-4  # of a state's length

numbers = st.floats(-10, 10, width=32)
vectors = arrays(np.float32, WIDTH, elements=numbers)
directions = vectors.filter(lambda v: np.linalg.norm(v) > 0.1).map(lambda v: (v / np.linalg.norm(v)).astype(np.float32))
states = vectors.filter(lambda v: np.linalg.norm(v) > 0.1).map(lambda v: torch.from_numpy(v)[None, None])
pushes = vectors.map(LayerAdd)
bounds = st.builds(
    lambda u, a, b: LayerClamp(u, min(a, b), max(a, b)),
    directions,
    numbers | st.just(-math.inf),
    numbers | st.just(math.inf),
)


def through(state: Tensor, *applied: Change) -> Tensor:
    """``state`` (``[row, token, hidden]``) after the changes, as the step plan of one layer does them."""
    plan = StepPlan.of_changes({0: list(applied)})
    return run(plan, np.ones((1, 1, len(plan.terms)), dtype=np.float32), state)


def run(plan: StepPlan, coefficients: np.ndarray, state: Tensor) -> Tensor:
    for step in plan.steps:
        tensors, own = step.tensors(0, state), torch.from_numpy(step.coefficients(coefficients))
        if step.kind == "add":
            state = state + own @ tensors[0]
        elif step.kind == "clamp":
            state = state + clamp_change(state, tensors, own)
        else:
            state = (rotate if step.kind == "rotate" else add_preserving_norm)(state, tensors, own)
    return state


@st.composite
def anyhow(draw: st.DrawFn) -> Change:
    """Any change in no special position, for a plane that rounding alone spans tells nothing."""
    noise = np.random.default_rng(draw(st.integers(0, 2**32)))
    u = noise.standard_normal(WIDTH)
    u, (low, high) = (u / np.linalg.norm(u)).astype(np.float32), sorted(noise.standard_normal(2))
    kinds = (
        LayerAdd(3 * u),
        LayerAdd(-2 * u, True),
        LayerClamp(u, low, high),
        LayerClamp(u, low, math.inf),
        LayerRotate(u, high),
    )
    return draw(st.sampled_from(kinds))


def assert_close(a: Tensor, b: Tensor, *sizes: Tensor) -> None:
    scale = max(1.0, *(float(size.norm()) for size in (a, b, *sizes)))
    assert float((a - b).norm()) <= CLOSE * scale


def projection(state: Tensor, direction: np.ndarray) -> float:
    return float(state[0, 0] @ torch.tensor(direction))


def angle_to(state: Tensor, direction: np.ndarray) -> float:
    across = state[0, 0] - projection(state, direction) * torch.from_numpy(direction)
    return math.atan2(float(across.norm()), projection(state, direction))


# Adding ------------------------------------------------------------------------------------------------------------


@given(states, st.lists(pushes, min_size=2, max_size=4), st.randoms())
def test_adds_commute_and_sum(state: Tensor, added: list[LayerAdd], random) -> None:
    shuffled = list(added)
    random.shuffle(shuffled)
    found = through(state, *added)
    assert_close(found, through(state, *shuffled))
    assert_close(found, state + torch.from_numpy(sum(push.added for push in added)))


@given(states, vectors)
def test_norm_preserving_add_keeps_length_and_direction(state: Tensor, added) -> None:
    plain = through(state, LayerAdd(added))
    assume(plain.norm() > 1e-2)
    found = through(state, LayerAdd(added, preserve_norm=True))
    assert_close(found.norm(), state.norm())
    assert_close(found / found.norm(), plain / plain.norm())


# Bounds ------------------------------------------------------------------------------------------------------------


@given(states, bounds)
def test_bound_is_idempotent_and_reaches_its_range(state: Tensor, bound: LayerClamp) -> None:
    once = through(state, bound)
    assert_close(through(once, bound), once)
    before, now = projection(state, bound.direction), projection(once, bound.direction)
    assert abs(now - min(max(before, bound.low), bound.high)) < 1e-3
    direction = torch.tensor(bound.direction)
    assert_close(once - now * direction, state - before * direction)


@given(states, directions)
def test_ablate_equals_clamp_at_zero(state: Tensor, u: np.ndarray) -> None:
    ablated = through(state, LayerClamp(u, 0.0, 0.0))
    along = projection(state, u)
    assert_close(ablated, state - along * torch.from_numpy(u))
    assert abs(projection(ablated, u)) < 1e-4


@given(states, directions, numbers, numbers)
def test_floors_keep_higher_and_caps_keep_lower(state: Tensor, u, a: float, b: float) -> None:
    floors = LayerClamp(u, a, math.inf), LayerClamp(u, b, math.inf)
    caps = LayerClamp(u, -math.inf, a), LayerClamp(u, -math.inf, b)
    assert_close(through(state, *floors), through(state, LayerClamp(u, max(a, b), math.inf)))
    assert_close(through(state, *caps), through(state, LayerClamp(u, -math.inf, min(a, b))))
    assert_close(through(state, *floors), through(state, *reversed(floors)))
    assert_close(through(state, *caps), through(state, *reversed(caps)))


@given(states, directions, numbers, numbers)
def test_clamp_equals_floor_and_cap_in_either_order(state: Tensor, u: np.ndarray, a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    floor, cap = LayerClamp(u, low, math.inf), LayerClamp(u, -math.inf, high)
    clamped = through(state, LayerClamp(u, low, high))
    assert_close(through(state, floor, cap), clamped)
    assert_close(through(state, cap, floor), clamped)


@given(states, directions, numbers, numbers)
def test_floor_above_cap_applies_last_one(state: Tensor, u: np.ndarray, a: float, b: float) -> None:
    assume(abs(a - b) > 0.1)
    floor, cap = LayerClamp(u, max(a, b), math.inf), LayerClamp(u, -math.inf, min(a, b))
    assert abs(projection(through(state, floor, cap), u) - min(a, b)) < 1e-3
    assert abs(projection(through(state, cap, floor), u) - max(a, b)) < 1e-3


@given(states, bounds, st.tuples(numbers, numbers))
def test_clamp_after_clamp_applies_last_one(state: Tensor, first: LayerClamp, range_) -> None:
    second = LayerClamp(first.direction, min(range_), max(range_))
    found = projection(through(state, first, second), first.direction)
    within = min(max(projection(state, first.direction), first.low), first.high)
    assert abs(found - min(max(within, second.low), second.high)) < 1e-3


# Turning -----------------------------------------------------------------------------------------------------------

angles = st.floats(-3.0, 3.0, width=32)


def off_axis(state: Tensor, u: np.ndarray) -> bool:
    """Return True if state and direction span a plane in float32."""
    return 0.05 < angle_to(state, u) < math.pi - 0.05


@given(states, directions, angles)
def test_rotate_keeps_length_and_plane(state: Tensor, u: np.ndarray, angle: float) -> None:
    assume(off_axis(state, u))
    found = through(state, LayerRotate(u, angle))
    assert_close(found.norm(), state.norm())
    wanted = min(max(angle_to(state, u) - angle, 0.0), math.pi)
    assert abs(angle_to(found, u) - wanted) < 2e-3
    basis = torch.stack([state[0, 0], torch.from_numpy(u)], dim=1)
    outside = (
        found[0, 0] - basis @ torch.linalg.lstsq(basis.double(), found[0, 0].double()[:, None]).solution[:, 0].float()
    )
    assert float(outside.norm()) < 1e-3 * float(state.norm())


@given(states, directions, angles, angles)
def test_rotations_add_up_until_direction_is_reached(state: Tensor, u: np.ndarray, a: float, b: float) -> None:
    between = angle_to(state, u)
    assume(off_axis(state, u))
    assume(0.05 < between - a < math.pi - 0.05)  # the first rotation does not reach the direction
    assert_close(
        through(state, LayerRotate(u, a), LayerRotate(u, b)), through(state, LayerRotate(u, a + b)), 10 * state
    )
    assert_close(through(state, LayerRotate(u, a), LayerRotate(u, -a)), state, 10 * state)


@given(states, directions)
def test_rotate_by_180_degrees_reaches_direction(state: Tensor, u: np.ndarray) -> None:
    assume(off_axis(state, u))
    length = float(state.norm())
    assert_close(through(state, LayerRotate(u, math.pi)), length * torch.from_numpy(u), 10 * state)
    assert_close(through(state, LayerRotate(u, -math.pi)), -length * torch.from_numpy(u), 10 * state)


@given(directions, angles, st.floats(0.5, 10.0), st.sampled_from([1, -1]))
def test_rotate_of_parallel_state_changes_nothing(u, angle: float, length: float, sign: int) -> None:
    state = torch.from_numpy(sign * length * u.astype(np.float64)).float()[None, None]
    assert_close(through(state, LayerRotate(u, angle)), state)


# Order and gains ---------------------------------------------------------------------------------------------------


@given(st.lists(anyhow(), min_size=1, max_size=5))
def test_changes_apply_in_list_order(applied: Sequence[Change]) -> None:
    state = one_by_one = torch.arange(1.0, WIDTH + 1)[None, None]
    for change in applied:
        one_by_one = through(one_by_one, change)
    assert_close(through(state, *applied), one_by_one)


def test_order_matters_for_other_operators() -> None:
    u = np.eye(WIDTH, dtype=np.float32)[0]
    state = torch.ones(1, 1, WIDTH)
    push, ablation = LayerAdd(3 * u), LayerClamp(u, 0.0, 0.0)
    assert projection(through(state, push, ablation), u) == 0
    assert projection(through(state, ablation, push), u) == 3


@given(st.lists(st.lists(anyhow(), max_size=4), min_size=2, max_size=4))
def test_rows_with_separate_lists_equal_single_rows(rows: Sequence[Sequence[Change]]) -> None:
    state = torch.arange(1.0, WIDTH + 1)[None, None]
    steerings = [CompiledSteering(tuple(CompiledTerm("", {0: change}) for change in own)) for own in rows]
    plan = StepPlan.of_rows(steerings)
    coefficients = np.zeros((len(rows), 1, len(plan.terms)), dtype=np.float32)
    for number, acting in enumerate(plan.rows):
        coefficients[slice(None) if acting is None else list(acting), 0, number] = 1.0
    found = run(plan, coefficients, state.repeat(len(rows), 1, 1))
    for row, own in enumerate(rows):
        assert_close(found[row : row + 1], through(state, *own))
        if not own:
            assert torch.equal(found[row : row + 1], state)


@given(st.lists(anyhow(), min_size=1, max_size=4))
def test_token_with_zero_coefficients_is_unchanged(applied: Sequence[Change]) -> None:
    plan = StepPlan.of_changes({0: list(applied)})
    coefficients = np.ones((1, 2, len(plan.terms)), dtype=np.float32)
    coefficients[0, 0] = 0.0
    state = torch.arange(1.0, WIDTH + 1).expand(1, 2, WIDTH)
    found = run(plan, coefficients, state)
    assert torch.equal(found[:, 0], state[:, 0])
    assert_close(found[:, 1:], through(state[:, 1:], *applied))
