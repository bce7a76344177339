"""Compiled steering: the changes of each layer, and its digest."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_vectors import MODEL, directions, make_reader, make_vector, neutral_record
from trimtab.errors import SteeringError
from trimtab.steering import NONE, Ablate, Add, Bound, Cap, Clamp, Comparison, Floor, Not, Rotate, Steering, Term
from trimtab.steering.compiled import LayerAdd, LayerClamp, LayerRotate
from trimtab.vectors import Reader

HAPPY = make_reader(
    "happy", operator_scales={"rotate": {"+": 0.2, "-": 0.3}, "add_preserving_norm": {"+": 0.4, "-": 0.5}}
)


def changes(*args, **more):
    (term,) = Steering((Term(*args, **more),)).compile(MODEL).terms
    return dict(term.changes)


def multiplier(change, layer, vector=HAPPY):
    """Return the length of an addition along the direction, in norms of the layer."""
    assert isinstance(change, LayerAdd)
    np.testing.assert_allclose(
        change.added, (change.added @ vector.directions[layer]) * vector.directions[layer], atol=1e-6
    )
    return float(change.added @ vector.directions[layer]) / vector.norms[layer]


def test_add_uses_scale_of_sign():
    assert {layer: multiplier(c, layer) for layer, c in changes(HAPPY, 2.0).items()} == pytest.approx({0: 0.2, 2: 0.1})
    assert {layer: multiplier(c, layer) for layer, c in changes(HAPPY, -1.0).items()} == pytest.approx(
        {0: -0.2, 2: -0.1}
    )


def test_norm_preserving_add_uses_its_scale():
    found = changes(HAPPY, 1.0, operator=Add(preserve_norm=True))
    assert all(change.preserve_norm for change in found.values())
    assert {layer: multiplier(c, layer) for layer, c in found.items()} == pytest.approx({0: 0.4, 2: 0.2})


@pytest.mark.parametrize(("operator", "name"), [(Add(preserve_norm=True), "add_preserving_norm"), (Rotate(), "rotate")])
def test_uncalibrated_operator_strength_is_refused(operator, name):
    with pytest.raises(SteeringError, match=f"'anger' was never calibrated for {name}"):
        changes(make_reader(), 1.0, operator=operator)
    assert changes(make_reader(), coefficient=0.1, operator=operator)


def test_rotate_takes_strength_or_angle():
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
def test_strength_spreads_evenly_over_given_layers(layers, strength, sign):
    spread = changes(WIDE, sign * strength, layers=tuple(layers))
    each = sign * strength * WIDE.scale["+" if sign > 0 else "-"] * 2.0 / len(layers)
    assert {layer: multiplier(c, layer, WIDE) for layer, c in spread.items()} == pytest.approx(
        dict.fromkeys(layers, each)
    )


def test_coefficient_applies_fully_at_each_layer():
    found = changes(WIDE, coefficient=0.5, layers="all")
    assert {layer: multiplier(c, layer, WIDE) for layer, c in found.items()} == pytest.approx(
        dict.fromkeys(range(3), 0.5)
    )


def test_bounds_act_on_steered_or_given_layers():
    assert list(changes(WIDE, operator=Ablate())) == [1, 2]
    assert list(changes(WIDE, operator=Ablate(), layers="all")) == [0, 1, 2]
    assert list(changes(WIDE, operator=Ablate(), layers="middle")) == [1]


@pytest.mark.parametrize("operator", [Add(), Rotate(), Rotate(15.0), Ablate()])
def test_vector_minus_itself_changes_nothing(operator):
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


def test_bounds_become_ranges():
    assert ranges(Ablate()) == {0: (0.0, 0.0), 2: (0.0, 0.0)}
    assert ranges(Floor(Bound(3.0))) == {0: (3.0, math.inf), 2: (3.0, math.inf)}
    assert ranges(Cap(Bound(3.0))) == {0: (-math.inf, 3.0), 2: (-math.inf, 3.0)}
    assert ranges(Clamp(Bound(-1.0), Bound(3.0))) == {0: (-1.0, 3.0), 2: (-1.0, 3.0)}


def test_percentiles_are_per_layer_and_interpolated():
    assert ranges(Cap(Bound(25.0, "percentile"))) == {0: (-math.inf, 25.0), 2: (-math.inf, 225.0)}
    low, high = Bound(0.0, "percentile"), Bound(43.5, "percentile")
    assert ranges(Clamp(low, high)) == {0: (0.0, 43.5), 2: (200.0, 243.5)}


def test_z_bound_uses_mean_and_deviation_of_layer():
    assert ranges(Floor(Bound(1.5, "z"))) == {0: (3.0, math.inf), 2: (5.0, math.inf)}


def test_bounds_of_two_units_are_compared_per_layer():
    assert ranges(Clamp(Bound(0.0, "z"), Bound(10.0))) == {0: (0.0, 10.0), 2: (2.0, 10.0)}
    with pytest.raises(SteeringError, match=r"clamp\(happy, 0z, 1\) clamps from 2 up to 1 at layer 2; swap the bounds"):
        ranges(Clamp(Bound(0.0, "z"), Bound(1.0)))


@pytest.mark.parametrize("unit", ["percentile", "z"])
def test_relative_bound_without_neutral_is_refused(unit):
    for vector in (make_vector(), dataclasses.replace(HAPPY, neutral=neutral_record((0,)))):
        with pytest.raises(SteeringError, match=r"'happy' has no neutral statistics at layer \d"):
            ranges(Cap(Bound(25.0, unit)), vector)


# Values

SCOPED = {"operator": Clamp(Bound(-1.0), Bound(3.0)), "tokens": "generated, first 8", "layers": (2,)}
ANGER = Comparison(make_reader("anger"), "above", 1.0)
OTHER_NEUTRAL = neutral_record((0, 1, 2))
COMPILED = Steering((Term(HAPPY, 0.8), Term(HAPPY, operator=Rotate(15.0), condition=ANGER), Term(HAPPY, **SCOPED)))


@pytest.mark.parametrize("copied", [lambda value: pickle.loads(pickle.dumps(value)), copy.deepcopy])
def test_compiled_steering_copied_is_equal_and_read_only(copied):
    compiled = COMPILED.compile(MODEL)
    again = copied(compiled)
    assert again == compiled
    assert hash(again) == hash(compiled)
    assert again.digest == compiled.digest == COMPILED.compile(MODEL).digest
    arrays = [
        getattr(change, "added", getattr(change, "direction", None)) for change in again.terms[0].changes.values()
    ]
    assert not any(array.flags.writeable for array in arrays)
    with pytest.raises(TypeError):
        again.terms[0].changes[0] = None


def test_compiled_steering_of_equal_content_is_equal():
    again = make_reader("happy", operator_scales=HAPPY.operator_scales)
    assert again is not HAPPY
    for name in ("strength", "coefficient"):
        assert Steering((Term(again, **{name: 0.8}),)).compile(MODEL) == Steering(
            (Term(HAPPY, **{name: 0.8}),)
        ).compile(MODEL)
    assert Steering().compile(MODEL) == NONE
    assert NONE.digest != COMPILED.compile(MODEL).digest


@pytest.mark.parametrize(
    "other",
    [
        Term(HAPPY, 0.81),
        Term(HAPPY, coefficient=0.8),
        Term(HAPPY, 0.8, layers=(0,)),
        Term(HAPPY, 0.8, layers=(0, 2)),
        Term(HAPPY, 0.8, tokens="generated"),
        Term(HAPPY, 0.8, tokens="half-life 3"),
        Term(HAPPY, 0.8, condition=dataclasses.replace(ANGER, threshold=2.0)),
        Term(HAPPY, 0.8, condition=Not(ANGER)),
        Term(HAPPY, 0.8, condition=dataclasses.replace(ANGER, vector=make_reader("anger", seed=1))),
        Term(
            HAPPY,
            0.8,
            condition=dataclasses.replace(ANGER, vector=make_reader("anger", neutral=neutral_record((0, 2, 1)))),
        ),
        Term(HAPPY, 0.8, operator=Add(preserve_norm=True)),
        Term(make_reader("happy", seed=1), 0.8),
        Term(HAPPY, 0.8, name="glad"),
    ],
)
def test_digest_of_another_term_differs(other):
    digests = {
        Steering((term,)).compile(MODEL).digest for term in (Term(HAPPY, 0.8), Term(HAPPY, 0.8, condition=ANGER))
    }
    assert Steering((other,)).compile(MODEL).digest not in digests


def test_digest_depends_on_probes_of_condition_not_of_steering():
    reader = Reader((0, 2), neutral=neutral_record())
    read = [make_reader("anger", reader=reader, probes=directions((0, 2), seed=seed)) for seed in (1, 2)]
    first, second = (
        Steering((Term(HAPPY, 0.8, condition=dataclasses.replace(ANGER, vector=vector)),)).compile(MODEL)
        for vector in read
    )
    assert first.digest != second.digest
    steered = {Steering((Term(vector, 0.8),)).compile(MODEL).digest for vector in (*read, make_reader("anger"))}
    assert len(steered) == 1


def test_digest_depends_on_the_order_of_terms():
    terms = COMPILED.terms
    assert Steering(terms[::-1]).compile(MODEL).digest != COMPILED.compile(MODEL).digest


def test_compiled_steering_lists_its_changes_by_layer():
    compiled = COMPILED.compile(MODEL)
    assert compiled.layers == (0, 2)
    assert [len(changes) for changes in compiled.changes.values()] == [2, 3]
    assert str(compiled) == str(COMPILED)
    assert not compiled.is_plain
    assert Steering.of([(HAPPY, 0.8)]).compile(MODEL).is_plain
    assert (compiled + NONE, NONE + compiled) == (compiled, compiled)
