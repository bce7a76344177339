"""Control vector: arithmetic, the addition formula, and invalid arguments."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sample_vectors import (
    MODEL,
    calibration_record,
    control_vectors,
    dense,
    directions,
    make_vector,
    neutral_record,
    safe_range,
    written_effect,
)
from trimtab.errors import SteeringError, VectorError, VectorMismatchError
from trimtab.vectors import BehaviourRef, Calibration, ControlVector, Distillation, ModelInfo, Reader, SafeRange

strengths = st.floats(-5.0, 5.0)
positive_strengths = st.floats(0.01, 5.0)
factors = st.floats(-20.0, 20.0)
few = settings(max_examples=40)


def by_the_book(vector: ControlVector, strength: float) -> np.ndarray:
    """``|s| · scale[sign(s)] · weights[l] · norms[l] · sign(s) · direction[l]``, one number at a time."""
    out = np.zeros((vector.model.layers, vector.model.hidden_size))
    sign = "+" if strength >= 0 else "-"
    for layer, direction in vector.directions.items():
        for i, share in enumerate(direction):
            size = abs(strength) * vector.scale[sign] * vector.weights[layer] * vector.norms[layer]
            out[layer, i] = size * math.copysign(1.0, strength) * float(share)
    return out


def assert_same(found: np.ndarray, expected: np.ndarray, *parts: np.ndarray) -> None:
    """Equal within float32 rounding of the largest number that went in."""
    largest = max(float(np.abs(part).max()) for part in (expected, *parts))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2e-6 * largest)


# What a strength adds


@given(control_vectors(), strengths)
def test_addition_equals_documented_product(vector, strength):
    np.testing.assert_allclose(dense(vector.addition(strength)), by_the_book(vector, strength), rtol=5e-7, atol=1e-38)


@few
@given(control_vectors(), st.floats(0.01, 5.0))
def test_addition_of_coefficient_equals_strength_times_scale(vector, strength):
    by_strength = dense(vector.addition(-strength))
    by_coefficient = dense(vector.addition(coefficient=-strength * vector.scale["-"]))
    np.testing.assert_array_equal(by_coefficient, by_strength)


@few
@given(control_vectors())
def test_addition_at_strength_zero_is_empty(vector):
    assert vector.addition(0) == vector.addition(0.0) == vector.addition(-0.0) == vector.addition(coefficient=0) == {}


def test_addition_uses_scale_of_sign():
    vector = make_vector(scale={"+": 1.0, "-": 4.0})
    np.testing.assert_array_equal(dense(vector.addition(-1)), -4 * dense(vector.addition(1)))


def test_layers_of_weight_zero_are_not_steered():
    vector = make_vector(weights={0: 0.0, 2: 1.0})
    assert vector.layers == (2,)
    assert list(vector.addition(1)) == [2]


@given(control_vectors(), st.floats(allow_nan=False, allow_infinity=False))
def test_addition_is_finite_or_refused(vector, strength):
    try:
        added = vector.addition(strength)
    except SteeringError:
        assert abs(strength) > 1e30
    else:
        assert np.isfinite(dense(added)).all()
        assert all(array.dtype == np.float32 for array in added.values())


@pytest.mark.parametrize("strength", [np.float32(0.75), np.float64(0.75), np.int64(2), 2])
def test_addition_accepts_numpy_numbers(strength):
    found = make_vector().addition(strength)
    np.testing.assert_array_equal(dense(found), dense(make_vector().addition(float(strength))))
    assert found[0].dtype == np.float32


def test_addition_too_large_numpy_number_is_refused():
    with pytest.raises(SteeringError, match="overflows float32"):
        make_vector(scale={"+": 10.0, "-": 10.0}).addition(np.float32(1e38))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
@pytest.mark.parametrize("unit", ["strength", "coefficient"])
def test_addition_nonfinite_number_is_refused(bad, unit):
    with pytest.raises(SteeringError, match=f"{bad}.*give a finite number"):
        make_vector().addition(**{unit: bad})


def test_addition_needs_exactly_one_number():
    with pytest.raises(SteeringError, match="either a strength or a coefficient"):
        make_vector().addition()
    with pytest.raises(SteeringError, match="either a strength or a coefficient"):
        make_vector().addition(1.0, coefficient=1.0)


def test_addition_uncalibrated_strength_is_refused():
    vector = make_vector(scale=None)
    with pytest.raises(SteeringError, match=r"'happy' was never calibrated.*steer by coefficient="):
        vector.addition(1.0)
    expected = 0.5 * vector.weights[2] * vector.norms[2] * vector.directions[2]
    np.testing.assert_allclose(vector.addition(coefficient=0.5)[2], expected, rtol=1e-6)


def test_addition_is_a_copy():
    vector = make_vector()
    before = dense(vector.addition(1))
    vector.addition(1)[0][:] = 99
    np.testing.assert_array_equal(dense(vector.addition(1)), before)


# Arithmetic


@few
@given(control_vectors(), control_vectors(), strengths)
def test_sum_commutes(a, b, strength):
    np.testing.assert_array_equal(dense((a + b).addition(strength)) != 0, dense((b + a).addition(strength)) != 0)
    parts = dense(a.addition(strength)), dense(b.addition(strength))
    assert_same(dense((a + b).addition(strength)), dense((b + a).addition(strength)), *parts)


@few
@given(control_vectors(), control_vectors(), control_vectors(), positive_strengths)
def test_sum_associates_on_positive_side(a, b, c, strength):
    parts = [dense(v.addition(strength)) for v in (a, b, c)]
    assert_same(dense(((a + b) + c).addition(strength)), dense((a + (b + c)).addition(strength)), *parts)


@few
@given(control_vectors(ratio=1.5), control_vectors(ratio=1.5), control_vectors(ratio=1.5), strengths)
def test_sum_with_equal_scale_ratios_associates(a, b, c, strength):
    total = dense((a + b + c).addition(strength))
    parts = [dense(v.addition(strength)) for v in (a, b, c)]
    assume(np.linalg.norm(total) > 1e-2 * max(map(np.linalg.norm, parts)))
    assert_same(total, dense((a + (b + c)).addition(strength)), *parts)


@few
@given(control_vectors(), control_vectors(), positive_strengths)
def test_mix_is_exact_on_positive_side(a, b, strength):
    parts = dense(a.addition(strength)), dense(b.addition(strength))
    assert_same(dense((a + b).addition(strength)), sum(parts), *parts)


@few
@given(control_vectors(), control_vectors(), positive_strengths)
def test_difference_is_exact_on_positive_side(a, b, strength):
    parts = dense(a.addition(strength)), dense(b.addition(strength))
    assert_same(dense((a - b).addition(strength)), parts[0] - parts[1], *parts)


@few
@given(control_vectors(ratio=0.7), control_vectors(ratio=0.7), factors, factors)
def test_mix_with_equal_scale_ratios_is_exact_on_negative_side(a, b, x, y):
    parts = dense((x * a).addition(-1)), dense((y * b).addition(-1))
    assume(np.linalg.norm(sum(parts)) > 1e-2 * max(map(np.linalg.norm, parts)))
    assert_same(dense((x * a + y * b).addition(-1)), sum(parts), *parts)


@few
@given(control_vectors(), control_vectors())
def test_mix_is_least_squares_fit_on_negative_side(a, b):
    wanted = by_the_book(a, -1) + by_the_book(b, -1)
    plus = by_the_book(a, 1) + by_the_book(b, 1)
    found = dense((a + b).addition(-1))
    along = -float((wanted * plus).sum())
    size = np.linalg.norm(wanted) * np.linalg.norm(plus)
    assume(along > 1e-3 * size)
    best = -plus * along / float((plus * plus).sum())
    assert_same(found, best)
    for nearby in (0.9, 0.99, 1.01, 1.1):
        assert np.linalg.norm(wanted - found) <= np.linalg.norm(wanted - nearby * found) * (1 + 1e-6)


def test_mix_on_negative_side_is_between_parts():
    one = {"directions": directions((0,)), "norms": {0: 1.0}, "weights": {0: 1.0}}
    gentle, strong = make_vector(scale={"+": 1.0, "-": 1.0}, **one), make_vector(scale={"+": 1.0, "-": 3.0}, **one)
    mix = gentle + strong
    np.testing.assert_allclose(mix.addition(-1)[0], -4 * one["directions"][0], rtol=1e-6)
    np.testing.assert_allclose(mix.addition(1)[0], 2 * one["directions"][0], rtol=1e-6)


@few
@given(control_vectors(calibrated=None))
def test_vector_minus_itself_steers_no_layer(vector):
    nothing = vector - vector
    assert nothing.layers == ()
    assert nothing.addition(coefficient=1.0) == nothing.addition(coefficient=-1.0) == {}


@few
@given(control_vectors(), strengths)
def test_doubling_then_halving_changes_nothing(vector, strength):
    np.testing.assert_array_equal(dense((2 * vector / 2).addition(strength)), dense(vector.addition(strength)))


@few
@given(control_vectors(), factors, strengths)
def test_multiplication_scales_addition(vector, factor, strength):
    expected = factor * dense(vector.addition(strength))
    np.testing.assert_allclose(dense((factor * vector).addition(strength)), expected, rtol=1e-6, atol=1e-37)
    np.testing.assert_array_equal(dense((vector * factor).addition(1)), dense((factor * vector).addition(1)))


@few
@given(control_vectors(), factors, factors, positive_strengths)
def test_multiplication_distributes_over_sum(vector, x, y, strength):
    parts = dense((x * vector).addition(strength)), dense((y * vector).addition(strength))
    assert_same(
        dense(((x + y) * vector).addition(strength)), dense((x * vector + y * vector).addition(strength)), *parts
    )


@few
@given(control_vectors(), strengths)
def test_negation_adds_opposite(vector, strength):
    np.testing.assert_array_equal(dense((-vector).addition(strength)), -dense(vector.addition(strength)))


@few
@given(control_vectors(calibrated=False), control_vectors(calibrated=False), factors)
def test_uncalibrated_vectors_mix_by_coefficient(a, b, coefficient):
    parts = dense(a.addition(coefficient=coefficient)), dense(b.addition(coefficient=coefficient))
    mix = a + b
    assert mix.scale is None
    assert_same(dense(mix.addition(coefficient=coefficient)), sum(parts), *parts)


def test_arithmetic_accepts_numpy_numbers():
    vector = make_vector()
    for product in (np.float64(0.5) * vector, np.float32(0.5) * vector, vector * np.float32(0.5), vector / np.int64(2)):
        assert isinstance(product, ControlVector)
        np.testing.assert_array_equal(dense(product.addition(1)), dense((0.5 * vector).addition(1)))


def test_mix_with_zero_norm_layer_keeps_other_part():
    silent = make_vector(norms={0: 0.0, 2: 20.0})
    for mix in (silent + make_vector(), make_vector() + silent):
        np.testing.assert_allclose(mix.addition(1)[0], make_vector().addition(1)[0], rtol=1e-6)


def test_mix_drops_calibration_record():
    record = Calibration(budget=0.4, kl={"+": 0.4, "-": 0.4}, prompts=48, effect=None, candidates=(), held_out=None)
    vector = make_vector(calibration=record)
    assert vector.calibration is record
    for mix in (2 * vector, vector + vector, -vector, vector / 3):
        assert mix.calibration is None
        assert mix.method == "arithmetic"


def test_mix_drops_probes_and_reader():
    reader = Reader((2,), neutral=neutral_record())
    vector = make_vector(neutral=neutral_record((0,)), reader=reader, probes=directions((2,), seed=1))
    assert vector.reading_directions is vector.probes
    assert vector.reading_neutral == reader.neutral
    for mix in (2 * vector, vector + vector, -vector, vector / 3):
        assert mix.reader is mix.reading_neutral is None
        assert mix.reading_directions is mix.directions


def test_mix_name_describes_operation():
    assert (0.5 * make_vector("happy") - 0.3 * make_vector("formal", seed=1)).behaviour.name == (
        "0.5 * happy + -1 * (0.3 * formal)"
    )
    assert (2 * (make_vector("a") + make_vector("b"))).behaviour.name == "2 * (a + b)"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_multiplication_by_nonfinite_is_refused(bad):
    with pytest.raises(VectorError, match=f"multiply a vector by {bad}"):
        _ = bad * make_vector()


def test_division_by_zero_is_refused():
    with pytest.raises(VectorError, match="divide a vector by zero"):
        _ = make_vector() / 0


@pytest.mark.parametrize(
    "operation",
    [lambda v: v * "2", lambda v: v * v, lambda v: v + 1, lambda v: v - 1.0, lambda v: v / v, lambda v: 1 / v],
)
def test_unsupported_operations_are_type_errors(operation):
    with pytest.raises(TypeError):
        operation(make_vector())


# Which models and which vectors go together

OTHERS = {
    "width": dataclasses.replace(MODEL, name="wide", hidden_size=8),
    "depth": dataclasses.replace(MODEL, name="deep", layers=9),
    "weights": dataclasses.replace(MODEL, name="tuned", fingerprint="beef"),
}


def vector_for(model: ModelInfo) -> ControlVector:
    return make_vector("other", model=model, directions=directions((0, 2), size=model.hidden_size))


@pytest.mark.parametrize("model", OTHERS.values(), ids=OTHERS)
def test_mix_of_different_models_is_refused(model):
    with pytest.raises(VectorMismatchError, match=f"'happy' for tiny with 'other' for {model.name}"):
        _ = make_vector() + vector_for(model)
    with pytest.raises(VectorMismatchError):
        _ = vector_for(model) - make_vector()


@pytest.mark.parametrize("model", OTHERS.values(), ids=OTHERS)
def test_check_model_other_model_is_refused_by_name(model):
    with pytest.raises(VectorMismatchError, match=rf"'happy' is for tiny\b.*\b{model.name}\b.*train it for this model"):
        make_vector().check_model(model)
    make_vector().check_model(MODEL)


def test_for_any_model_accepts_weights_but_not_size():
    vector = make_vector().for_any_model()
    vector.check_model(OTHERS["weights"])
    for size in ("width", "depth"):
        with pytest.raises(VectorMismatchError):
            vector.check_model(OTHERS[size])


def test_mix_with_any_model_belongs_to_other_model():
    for mix in (make_vector().for_any_model() + make_vector(), make_vector() + make_vector().for_any_model()):
        assert mix.model.fingerprint == MODEL.fingerprint


def test_mix_of_calibrated_and_uncalibrated_is_refused():
    bare = make_vector("bare", scale=None)
    for pair in ((make_vector(), bare), (bare, make_vector())):
        with pytest.raises(VectorError, match=r"with 'bare', which has no strength unit"):
            _ = pair[0] + pair[1]


# What the constructor refuses

UNIT = directions((0, 2))
REFUSED = {
    "a direction of the wrong width": ({"directions": {0: UNIT[0][:3], 2: UNIT[2]}}, r"layer 0 has shape \[3\].*\[4\]"),
    "a matrix": ({"directions": {0: UNIT[0][None], 2: UNIT[2]}}, r"layer 0 has shape \[1, 4\]"),
    "NaN": ({"directions": {0: UNIT[0], 2: UNIT[2] * np.nan}}, "layer 2 holds NaN or infinity"),
    "infinity": ({"directions": {0: UNIT[0], 2: np.array([np.inf, 0, 0, 0])}}, "layer 2 holds NaN or infinity"),
    "a direction that is too long": ({"directions": {0: UNIT[0] * 1.01, 2: UNIT[2]}}, "layer 0 has length 1.01"),
    "a direction of zeros": ({"directions": {0: UNIT[0] * 0, 2: UNIT[2]}}, "layer 0 has length 0"),
    "a layer past the last": ({"directions": {0: UNIT[0], 3: UNIT[2]}}, "layer 3, but tiny has layers 0 to 2"),
    "a layer before the first": ({"directions": {-1: UNIT[0], 2: UNIT[2]}}, "layer -1"),
    "half a layer": ({"directions": {0: UNIT[0], 0.5: UNIT[2]}}, "layer 0.5"),
    "a weight below zero": ({"weights": {0: 1.0, 2: -0.5}}, r"weights\[2\] is -0.5"),
    "a weight that is NaN": ({"weights": {0: math.nan, 2: 0.5}}, r"weights\[0\] is nan"),
    "a norm below zero": ({"norms": {0: -1.0, 2: 0.5}}, r"norms\[0\] is -1.0"),
    "an endless norm": ({"norms": {0: math.inf, 2: 0.5}}, r"norms\[0\] is inf"),
    "a norm too few": ({"norms": {0: 1.0}}, r"norms are given for layers \[0\], directions for \[0, 2\]"),
    "a weight too many": ({"weights": {0: 1.0, 1: 1.0, 2: 1.0}}, r"weights are given for layers \[0, 1, 2\]"),
    "one scale only": ({"scale": {"+": 1.0}}, "scale is .* expected a positive number for '[+]' and for '-'"),
    "a scale too many": ({"scale": {"+": 1.0, "-": 1.0, "0": 1.0}}, "scale is"),
    "a scale of zero": ({"scale": {"+": 1.0, "-": 0.0}}, "scale is"),
    "a scale below zero": ({"scale": {"+": -1.0, "-": 1.0}}, "scale is"),
    "a scale that is NaN": ({"scale": {"+": 1.0, "-": math.nan}}, "scale is"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_constructor_refuses_invalid_fields(changes, message):
    with pytest.raises(VectorError, match=message):
        make_vector(**changes)


def test_constructor_converts_directions_to_float32():
    vector = make_vector(directions={layer: d.astype(np.float64) for layer, d in UNIT.items()})
    assert all(d.dtype == np.float32 for d in vector.directions.values())


# Nothing about a vector can be changed


def test_arrays_and_mappings_are_read_only():
    vector = make_vector()
    with pytest.raises(ValueError, match="read-only"):
        vector.directions[0][0] = 1.0
    for mapping in (vector.directions, vector.norms, vector.weights, vector.scale):
        with pytest.raises(TypeError):
            mapping[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        vector.scale = None


def test_constructor_copies_arrays_and_mappings():
    given_directions, weights, scale = directions((0, 2)), {0: 1.0, 2: 0.5}, {"+": 0.1, "-": 0.2}
    vector = make_vector(directions=given_directions, weights=weights, scale=scale)
    before = dense(vector.addition(1))
    given_directions[0][:] = 7
    weights[0] = 7.0
    scale["+"] = 7.0
    np.testing.assert_array_equal(dense(vector.addition(1)), before)


def test_vector_repr():
    assert repr(make_vector()) == "<ControlVector 'happy' for tiny, layers 0-2, calibrated>"
    assert repr(make_vector(scale=None)).endswith("uncalibrated>")
    assert "no layers" in repr(make_vector() - make_vector())
    assert make_vector().behaviour == BehaviourRef("happy", "digest of happy")


# The strength where none is given

DISTILLED = Distillation(50, "all", 0.4, 0.1, lessons=8, others=4, steps=10)


@pytest.mark.parametrize(
    ("changes", "strength"),
    [
        ({}, 0.5),
        ({"safe": safe_range(high=0.75)}, 0.5),
        ({"safe": safe_range(high=0.25)}, 0.25),
        ({"distillation": DISTILLED}, 1.0),
        ({"distillation": DISTILLED, "safe": safe_range(high=0.25)}, 1.0),
    ],
    ids=["no safe range", "wide", "narrow", "distilled", "distilled and narrow"],
)
def test_default_strength_is_half_or_safe_end(changes, strength):
    assert make_vector(**changes).default_strength == strength


@pytest.mark.parametrize(
    ("changes", "strengths"),
    [
        ({}, {"+": 0.5, "-": -0.5}),
        ({"safe": safe_range(-0.25, 1.0)}, {"+": 0.5, "-": -0.25}),
        ({"safe": safe_range(-1.0, 0.0)}, {"-": -0.5}),
        ({"safe": safe_range(0.0, 0.25)}, {"+": 0.25}),
        ({"distillation": DISTILLED}, {"+": 1.0, "-": -1.0}),
    ],
    ids=["no safe range", "narrow -", "no +", "no -", "distilled"],
)
def test_default_strengths_of_each_sign(changes, strengths):
    assert make_vector(**changes).default_strengths == strengths


@pytest.mark.parametrize(
    ("strength", "text"),
    [
        (0.75, None),
        (-0.5, None),
        (0.8, "beyond its safe range (-0.5 to +0.75): answers leave the question"),
        (-1.0, "beyond its safe range (-0.5 to +0.75): answers repeat themselves"),
    ],
)
def test_safe_range_beyond_says_what_breaks(strength, text):
    beyond = safe_range().beyond(strength)
    assert (None if beyond is None else str(beyond)) == text


def test_safe_range_text_has_reason_of_each_end():
    assert str(safe_range()) == "-0.5 to +0.75 (below, answers repeat themselves; above, answers leave the question)"
    same = SafeRange(-1.0, 0.0, {"-": "budget", "+": "budget"}, 12)
    assert str(same) == "-1 to 0 (beyond, nothing was measured there)"


def test_default_strength_of_mix_is_one():
    vector = make_vector(safe=safe_range())
    for mix in (2 * vector, vector + vector, -vector, vector / 3, vector - make_vector(seed=1)):
        assert (mix.default_strength, mix.safe) == (1.0, None)


def test_default_strength_without_safe_one_is_refused():
    with pytest.raises(SteeringError, match=r"no positive strength of 'happy'.*\(relevance\).*happy:0.2"):
        _ = make_vector(safe=safe_range(high=0.0)).default_strength


# As a value


@given(control_vectors(calibrated=None))
def test_vector_copied_is_equal_and_read_only(vector):
    for again in (pickle.loads(pickle.dumps(vector)), copy.deepcopy(vector)):
        assert again is not vector
        assert again == vector
        assert hash(again) == hash(vector)
        assert again.describe() == vector.describe()
        assert not any(direction.flags.writeable for direction in again.directions.values())
        with pytest.raises(TypeError):
            again.weights[0] = 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"scale": None},
        {"scale": {"+": 0.1, "-": 0.3}},
        {"norms": {0: 10.0, 2: 21.0}},
        {"weights": {0: 1.0, 2: 0.6}},
        {"behaviour": BehaviourRef("happy", "other")},
        {"created": "2026-01-01"},
        {"calibration": Calibration(0.4, {"+": 0.4, "-": 0.4}, 8, None, (), None)},
    ],
    ids=str,
)
def test_vector_of_other_content_is_not_equal(changes):
    assert make_vector() == make_vector()
    assert make_vector(**changes) != make_vector()
    assert make_vector() != 1


def test_vector_html_shows_escaped_card():
    calibration = Calibration(0.4, {"+": 0.4, "-": 0.4}, 8, None, (), None)
    page = make_vector("<b>", calibration=calibration)._repr_html_()
    assert "<caption>&lt;b&gt;</caption>" in page
    for name, fact in (("layers", "0, 2"), ("scale + (positive pole)", "0.1"), ("scale - (negative pole)", "0.2")):
        assert f"<tr><th>{name}</th><td>{fact}</td></tr>" in page
    assert "0.4 nats per token at strength 1" in page
    assert "not calibrated" in make_vector(scale=None)._repr_html_()


def test_vector_html_shows_safe_range_and_written_effects():
    calibration = calibration_record(written=(written_effect(), written_effect(None, strength=1.0)))
    page = make_vector(safe=safe_range(), calibration=calibration)._repr_html_()
    assert "<th>safe range</th><td>-0.5 to +0.75 (below, answers repeat" in page
    assert "from -0.5 to +0.5: 1.2 times its system prompts (95 % interval 1.0 to 1.5)" in page
    assert "from -1 to +1: 0.500 nat per token; not beside the prompts, because the prompts hardly move" in page
    assert "equivalents" not in page
