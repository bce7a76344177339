"""What a steering does to each layer, as numbers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_vectors import MODEL, directions, make_reader, make_vector, neutral_record
from trimtab.errors import SteeringError
from trimtab.steering import Ablate, Add, Bound, Cap, Clamp, Floor, Rotate, Steering, Term
from trimtab.steering.plan import LayerAdd, LayerClamp, LayerRotate

HAPPY = make_reader(
    "happy", operator_scales={"rotate": {"+": 0.2, "-": 0.3}, "add_preserving_norm": {"+": 0.4, "-": 0.5}}
)


def changes(*args, **more):
    (planned,) = Steering((Term(*args, **more),)).plan(MODEL)
    return dict(planned.changes)


def multiplier(change, layer, vector=HAPPY):
    """How far a push goes along the direction, in norms of the layer."""
    assert isinstance(change, LayerAdd)
    np.testing.assert_allclose(
        change.added, (change.added @ vector.directions[layer]) * vector.directions[layer], atol=1e-6
    )
    return float(change.added @ vector.directions[layer]) / vector.norms[layer]


def test_adding_pushes_by_the_scale_of_its_sign():
    assert {layer: multiplier(c, layer) for layer, c in changes(HAPPY, 2.0).items()} == pytest.approx({0: 0.2, 2: 0.1})
    assert {layer: multiplier(c, layer) for layer, c in changes(HAPPY, -1.0).items()} == pytest.approx(
        {0: -0.2, 2: -0.1}
    )


def test_adding_that_preserves_norms_has_a_scale_of_its_own():
    found = changes(HAPPY, 1.0, operator=Add(preserve_norm=True))
    assert all(change.preserve_norm for change in found.values())
    assert {layer: multiplier(c, layer) for layer, c in found.items()} == pytest.approx({0: 0.4, 2: 0.2})


@pytest.mark.parametrize(("operator", "name"), [(Add(preserve_norm=True), "add_preserving_norm"), (Rotate(), "rotate")])
def test_an_operator_that_was_never_calibrated_has_no_strength(operator, name):
    with pytest.raises(SteeringError, match=f"'anger' was never calibrated for {name}"):
        changes(make_reader(), 1.0, operator=operator)
    assert changes(make_reader(), coefficient=0.1, operator=operator)


def test_turning_is_by_strength_or_by_angle():
    turned = changes(HAPPY, -1.0, operator=Rotate())
    assert all(isinstance(change, LayerRotate) for change in turned.values())
    assert {layer: change.radians for layer, change in turned.items()} == pytest.approx({0: -0.3, 2: -0.15})
    by_angle = changes(HAPPY, operator=Rotate(90.0))
    assert {layer: change.radians for layer, change in by_angle.items()} == pytest.approx(
        {0: math.pi / 2, 2: math.pi / 2}
    )
    assert changes(HAPPY, operator=Rotate(0.0)) == changes(HAPPY, 0.0, operator=Rotate()) == {}


# Layers

WIDE = make_vector(
    "wide",
    directions=directions((0, 1, 2)),
    norms={0: 1.0, 1: 2.0, 2: 3.0},
    weights={0: 0.0, 1: 1.5, 2: 0.5},
)


@given(st.sets(st.sampled_from([0, 1, 2]), min_size=1), st.floats(0.1, 3), st.sampled_from([1, -1]))
def test_a_strength_is_spread_evenly_over_other_layers(layers, strength, sign):
    spread = changes(WIDE, sign * strength, layers=tuple(layers))
    each = sign * strength * WIDE.scale["+" if sign > 0 else "-"] * 2.0 / len(layers)
    assert {layer: multiplier(c, layer, WIDE) for layer, c in spread.items()} == pytest.approx(
        dict.fromkeys(layers, each)
    )


def test_a_coefficient_counts_whole_at_each_layer():
    found = changes(WIDE, coefficient=0.5, layers="all")
    assert {layer: multiplier(c, layer, WIDE) for layer, c in found.items()} == pytest.approx(
        dict.fromkeys(range(3), 0.5)
    )


def test_bounds_act_on_the_layers_that_are_steered_or_named():
    assert list(changes(WIDE, operator=Ablate())) == [1, 2]
    assert list(changes(WIDE, operator=Ablate(), layers="all")) == [0, 1, 2]
    assert list(changes(WIDE, operator=Ablate(), layers="middle")) == [1]


@pytest.mark.parametrize("operator", [Add(), Rotate(), Rotate(15.0), Ablate()])
def test_a_vector_in_which_everything_cancelled_changes_nothing(operator):
    nothing = make_vector(directions={}, norms={}, weights={}, operator_scales={"rotate": {"+": 1.0, "-": 1.0}})
    amount = 1.0 if operator in (Add(), Rotate()) else None
    assert changes(nothing, amount, operator=operator, layers="all") == {}
    assert changes(nothing, amount, operator=operator) == {}


# Bounds


def ranges(operator, vector=HAPPY):
    found = changes(vector, operator=operator)
    assert all(isinstance(change, LayerClamp) for change in found.values())
    assert all(change.direction is vector.directions[layer] for layer, change in found.items())
    return {layer: (change.low, change.high) for layer, change in found.items()}


def test_bounds_are_ranges_that_are_left_alone():
    assert ranges(Ablate()) == {0: (0.0, 0.0), 2: (0.0, 0.0)}
    assert ranges(Floor(Bound(3.0))) == {0: (3.0, math.inf), 2: (3.0, math.inf)}
    assert ranges(Cap(Bound(3.0))) == {0: (-math.inf, 3.0), 2: (-math.inf, 3.0)}
    assert ranges(Clamp(Bound(-1.0), Bound(3.0))) == {0: (-1.0, 3.0), 2: (-1.0, 3.0)}


def test_percentiles_are_those_of_each_layer_and_interpolated():
    assert ranges(Cap(Bound(25.0, "percentile"))) == {0: (-math.inf, 25.0), 2: (-math.inf, 225.0)}
    low, high = Bound(0.0, "percentile"), Bound(43.5, "percentile")
    assert ranges(Clamp(low, high)) == {0: (0.0, 43.5), 2: (200.0, 243.5)}


def test_z_counts_deviations_from_the_mean_of_each_layer():
    assert ranges(Floor(Bound(1.5, "z"))) == {0: (3.0, math.inf), 2: (5.0, math.inf)}


def test_bounds_of_two_units_are_compared_at_each_layer():
    assert ranges(Clamp(Bound(0.0, "z"), Bound(10.0))) == {0: (0.0, 10.0), 2: (2.0, 10.0)}
    with pytest.raises(SteeringError, match=r"clamp\(happy, 0z, 1\) clamps from 2 up to 1 at layer 2; swap the bounds"):
        ranges(Clamp(Bound(0.0, "z"), Bound(1.0)))


@pytest.mark.parametrize("unit", ["percentile", "z"])
def test_relative_bounds_need_neutral_statistics_of_every_layer(unit):
    for vector in (make_vector(), dataclasses.replace(HAPPY, neutral=neutral_record((0,)))):
        with pytest.raises(SteeringError, match=r"'happy' has no neutral statistics at layer \d"):
            ranges(Cap(Bound(25.0, unit)), vector)
