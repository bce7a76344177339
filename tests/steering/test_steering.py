"""Steering: accepted forms, and the sum of its terms."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from steerings import steerings

from sample_vectors import (
    MODEL,
    control_vectors,
    dense,
    directions,
    make_reader,
    make_vector,
    neutral_record,
    safe_range,
)
from trimtab.errors import SteeringError, VectorError, VectorMismatchError
from trimtab.steering import NONE, Ablate, AllOf, AnyOf, Comparison, Not, Scope, Steering, Term
from trimtab.steering.compiled import LayerAdd

HAPPY = make_vector("happy")
FORMAL = make_vector(
    "formal", seed=1, directions=directions((1, 2), seed=1), norms={1: 5.0, 2: 8.0}, weights={1: 1, 2: 2}
)
BARE = make_vector("bare", scale=None)


def added(steering: Steering, *, model=MODEL) -> np.ndarray:
    """Return the sum of additive terms, ``[layers, hidden]``."""
    total = np.zeros((model.layers, model.hidden_size))
    for planned in steering.compile(model).terms:
        assert all(isinstance(change, LayerAdd) and not change.preserve_norm for change in planned.changes.values())
        total += dense({layer: change.added for layer, change in planned.changes.items()}, model=model)
    return total


# The forms that are taken

FORMS = {
    "none": (None, []),
    "an empty list": ([], []),
    "a list of pairs": ([(HAPPY, 0.8), (FORMAL, -0.3)], [(HAPPY, 0.8), (FORMAL, -0.3)]),
    "a tuple of pairs": (((HAPPY, 0.8),), [(HAPPY, 0.8)]),
    "pairs that are lists": ([[HAPPY, 0.8]], [(HAPPY, 0.8)]),
    "a whole number": ([(HAPPY, -2)], [(HAPPY, -2.0)]),
    "a number of numpy": ([(HAPPY, np.float32(0.5))], [(HAPPY, 0.5)]),
    "a term": ([Term(HAPPY, 0.8), (FORMAL, 1)], [(HAPPY, 0.8), (FORMAL, 1.0)]),
    "a steering": (Steering((Term(HAPPY, 0.8),)), [(HAPPY, 0.8)]),
    "one vector twice": ([(HAPPY, 1), (HAPPY, 2)], [(HAPPY, 1.0), (HAPPY, 2.0)]),
}


@pytest.mark.parametrize(("form", "terms"), FORMS.values(), ids=FORMS)
def test_steering_of_accepted_forms(form, terms):
    assert [(term.vector, term.strength) for term in Steering.of(form).terms] == terms


NAMED = {
    "a pair": (HAPPY, 0.8),
    "a pair with a name": ("happy", 0.8),
    "a list of pairs with names": [("happy", 0.8)],
    "strengths by name": {"happy": 0.8},
    "strengths by vector": {HAPPY: 0.8},
    "texts": ["happy:0.8"],
    "the JSON form": {"terms": [{"vector": "happy", "strength": 0.8}]},
    "a term of the JSON form": {"vector": "happy", "strength": 0.8},
    "terms of the JSON form": [{"vector": "happy", "strength": 0.8}],
    "JSON text": '{"terms": [{"vector": "happy", "strength": 0.8}]}',
    "JSON text of strengths": ' {"happy": 0.8}',
    "JSON text of pairs": '[["happy", 0.8]]',
    "a list of steerings": [Steering((Term(HAPPY, 0.8),))],
}


@pytest.mark.parametrize("form", NAMED.values(), ids=NAMED)
def test_steering_of_named_vectors_equals_pairs(form, monkeypatch):
    monkeypatch.setattr("trimtab.steering.steering.find_vector", {"happy": HAPPY}.__getitem__)
    assert Steering.of(form) == Steering.of([(HAPPY, 0.8)])
    if not isinstance(form, list) or not isinstance(form[0], (str, Steering)):  # else there is one for each row
        assert Steering.of_rows(form, rows=3) == (Steering.of([(HAPPY, 0.8)]),) * 3


def test_steering_of_parts_adds_up():
    given = ["happy:0.5", ("formal", 0.25), {"happy": -1, "formal": 1}, {"vector": "happy", "operator": "ablate"}]
    steering = Steering.of(given, find={"happy": HAPPY, "formal": FORMAL}.__getitem__)
    assert str(steering) == "happy:0.5 + formal:0.25 + happy:-1 + formal:1 + ablate(happy)"


def test_of_rows_takes_mappings_one_for_each():
    rows = Steering.of_rows([{HAPPY: 0.5}, {HAPPY: -0.5, FORMAL: 1}], rows=2)
    assert list(map(str, rows)) == ["happy:0.5", "happy:-0.5 + formal:1"]


BARE_FORMS = {
    "text": "{}",
    "text with a scope": "{}@generated",
    "text that adds": "add({})",
    "rotation": "rotate({})",
    "JSON": '{{"terms": [{{"vector": "{}"}}]}}',
    "JSON rotation": '[{{"vector": "{}", "operator": "rotate"}}]',
}


@pytest.mark.parametrize("form", BARE_FORMS.values(), ids=BARE_FORMS)
def test_steering_without_strength_has_the_default(form):
    vectors = {
        "unmeasured": (HAPPY, 0.5),
        "wide": (make_vector(safe=safe_range()), 0.5),
        "narrow": (make_vector(safe=safe_range(high=0.25)), 0.25),
        "mix": (HAPPY - FORMAL, 1.0),
    }
    for name, (vector, strength) in vectors.items():
        (term,) = Steering.of(form.format(name), find=lambda _, vector=vector: vector).terms
        assert term.strength == strength
        assert Steering.of(vector).terms[0].strength == strength
        assert Steering.of_rows([[vector], None], rows=2)[0].terms[0].strength == strength


@pytest.mark.parametrize("form", BARE_FORMS.values(), ids=BARE_FORMS)
def test_steering_without_safe_default_is_refused(form):
    unsafe = make_vector(safe=safe_range(high=0.0))
    with pytest.raises(SteeringError, match="no positive strength of 'happy'"):
        Steering.of(form.format("happy"), find=lambda _: unsafe)
    for text in ("happy:0.2", "happy:-0.5"):
        assert str(Steering.of(text, find=lambda _: unsafe)) == text
    assert str(Steering.of("ablate(happy)", find=lambda _: unsafe)) == "ablate(happy)"


def test_steering_without_safe_default_names_place():
    unsafe = make_vector(safe=safe_range(high=0.0))
    with pytest.raises(SteeringError, match="column 1"):
        Steering.of("happy", find=lambda _: unsafe)
    with pytest.raises(SteeringError, match=r"terms\.1"):
        Steering.from_json([{"vector": "happy", "strength": 1}, {"vector": "happy"}], find=lambda _: unsafe)


SAFE = make_vector(safe=safe_range(), neutral=neutral_record())
JUDGED = {  # at a scale of 0.1 towards + and 0.2 towards -, a coefficient of 0.1 is strength 1
    "happy:1": 1.0,
    "happy:-0.75": -0.75,
    "add(happy):1": 1.0,
    "happy:coefficient=0.1": 1.0,
    "happy:coefficient=-0.15": -0.75,
    "happy:1 when happy > 2": 1.0,
    "happy:0.75": None,
    "happy:-0.5": None,
    "happy:coefficient=0.05": None,
    "happy:1@generated": None,
    "happy:1@half-life 16": None,
    "happy[0]:1": None,
    "rotate(happy):1": None,
    "add_preserving_norm(happy):1": None,
    "ablate(happy)": None,
}


@pytest.mark.parametrize(("text", "strength"), JUDGED.items(), ids=JUDGED)
def test_beyond_safe_judges_adding_at_all_tokens(text, strength):
    (term,) = Steering.of(text, find=lambda _: SAFE).terms
    beyond = term.beyond_safe
    if strength is None:
        assert beyond is None
    else:
        assert beyond.strength == pytest.approx(strength)
        assert (beyond.low, beyond.high) == (-0.5, 0.75)
        assert beyond.limit == ("relevance" if strength > 0 else "repetition")


def test_beyond_safe_judges_each_term_alone():
    other = make_vector("other", safe=safe_range(-1.0, 1.0))
    steering = Steering.of([(SAFE, 0.5), (SAFE, 0.5), (other, 1.0), (SAFE, -1.0), (HAPPY, 9.0), (2 * SAFE, 9.0)])
    assert [term.beyond_safe is not None for term in steering.terms] == [False, False, False, True, False, False]


def test_compiled_term_keeps_what_is_beyond_safe():
    beyond, inside = Steering.of([(make_vector(safe=safe_range()), 1.0), (HAPPY, 1.0)]).compile(MODEL).terms
    assert (beyond.beyond_safe.limit, inside.beyond_safe) == ("relevance", None)
    assert beyond.digest != inside.digest
    assert pickle.loads(pickle.dumps(beyond)) == beyond


@pytest.mark.parametrize("text", ["{", '{"happy":}', "[" * 5000])
def test_steering_of_broken_json_text_names_the_place(text):
    with pytest.raises(SteeringError, match=r"not JSON|levels"):
        Steering.of(text, find={"happy": HAPPY}.__getitem__)


def test_steering_of_single_term():
    term = Term(HAPPY, 0.8)
    assert Steering.of(term) == Steering((term,))
    assert Steering.of_rows(term, rows=2) == (Steering((term,)),) * 2


def test_steering_of_term_keeps_coefficient():
    (term,) = Steering.of([Term(BARE, coefficient=0.25)]).terms
    assert (term.vector, term.strength, term.coefficient) == (BARE, None, 0.25)


def test_steering_of_text_finds_vectors_by_name_or_path(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path / "vectors"))
    HAPPY.save(tmp_path / "vectors" / "happy.safetensors")
    path = FORMAL.save(tmp_path / "elsewhere" / "formal.safetensors")
    steering = Steering.of(f"happy:0.8 + {path}:-0.3 + happy")
    assert str(steering) == f"happy:0.8 + {path}:-0.3 + happy:0.5"
    np.testing.assert_allclose(added(steering), added(Steering.of([(HAPPY, 1.3), (FORMAL, -0.3)])), rtol=1e-5)


def test_steering_of_text_without_vector_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path))
    HAPPY.save(tmp_path / "happy.safetensors")
    with pytest.raises(VectorError, match=r"no vector named 'hapy'.*did you mean 'happy'"):
        Steering.of("happy:1 + hapy:1")
    with pytest.raises(SteeringError, match="column 7"):
        Steering.of("happy:one")


@pytest.mark.parametrize("form", [form for form, _ in FORMS.values()], ids=FORMS)
def test_of_rows_repeats_one_steering(form):
    assert [row.terms for row in Steering.of_rows(form, rows=3)] == [Steering.of(form).terms] * 3


@pytest.mark.parametrize("form", [form for form, _ in FORMS.values()], ids=FORMS)
def test_of_rows_list_gives_one_per_row(form):
    rows = Steering.of_rows([form, None, [(FORMAL, 0.5)]], rows=3)
    assert [row.terms for row in rows] == [Steering.of(form).terms, (), (Term(FORMAL, 0.5),)]


def test_of_rows_accepts_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path))
    HAPPY.save(tmp_path / "happy.safetensors")
    assert list(map(str, Steering.of_rows(["happy:0.5", None, "happy:-1"], rows=3))) == [
        "happy:0.5",
        "none",
        "happy:-1",
    ]


def test_of_rows_wrong_length_is_refused():
    with pytest.raises(SteeringError, match="2 steerings for 3 prompts; give one steering, or one for each"):
        Steering.of_rows([[(HAPPY, 1)], None], rows=3)


REFUSED = {
    "a number": 0.8,
    "a set": {(HAPPY, 0.8)},
    "a path": Path("happy.safetensors"),
    "bytes": b"happy:1",
    "a text for a strength": [(HAPPY, "0.8")],
    "no strength": [(HAPPY, None)],
    "one of a pair": [(HAPPY,)],
    "three of a pair": [(HAPPY, 1, 2)],
    "a text for a strength by name": {"happy": "0.8"},
    "a truth value for a strength": [("happy", True)],
    "a number for a name": {1: 0.8},
    "a list of None": [None],
    "a pair turned round": [(0.8, HAPPY)],
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_steering_of_other_types_is_refused(given):
    with pytest.raises(SteeringError, match="is not a steering; give text like"):
        Steering.of(given)


@pytest.mark.parametrize("given", [given for name, given in REFUSED.items() if not name.startswith("a list")], ids=str)
def test_of_rows_other_types_are_refused(given):
    with pytest.raises(SteeringError, match=r"is not a steering|steerings for"):
        Steering.of_rows(given, rows=7)


def test_term_needs_strength_or_coefficient():
    with pytest.raises(SteeringError, match="either a strength or a coefficient"):
        Term(HAPPY)
    with pytest.raises(SteeringError, match="either a strength or a coefficient"):
        Term(HAPPY, 1.0, coefficient=1.0)


def test_steering_str_is_text_form():
    assert str(Steering.of([(HAPPY, 0.8), (FORMAL, -0.25)])) == "happy:0.8 + formal:-0.25"
    assert str(Steering.of([Term(HAPPY, coefficient=2)])) == "happy:coefficient=2"
    assert str(Steering.of(None)) == "none"


def test_steering_add_joins_in_order():
    joined = Steering.of([(HAPPY, 1)]) + Steering.of([(FORMAL, 2), (HAPPY, 3)])
    assert [(term.vector, term.strength) for term in joined.terms] == [(HAPPY, 1), (FORMAL, 2), (HAPPY, 3)]


def test_term_name_defaults_to_behaviour():
    assert Term(HAPPY, 1.0).name == "happy"
    assert Term(HAPPY, 1.0) == Term(HAPPY, 1.0, name="happy") != Term(HAPPY, 1.0, name="./happy.safetensors")
    assert str(Term(0.5 * HAPPY, coefficient=1.0)) == '"0.5 * happy":coefficient=1'


def test_term_scope_accepts_text():
    assert Term(HAPPY, 1.0, tokens="generated, first 8").tokens == Scope.of("generated, first 8")


# Layers


def test_term_layers_default_all_or_given():
    wide = make_vector(
        directions=directions((0, 1, 2)), norms=dict.fromkeys((0, 1, 2), 1.0), weights={0: 0, 1: 0, 2: 1}
    )
    steered = {
        layers: Term(wide, 1.0, layers=layers).steered_layers for layers in (None, "all", "middle", (2, 0), (1, 1))
    }
    assert steered == {None: (2,), "all": (0, 1, 2), "middle": (1,), (2, 0): (0, 2), (1, 1): (1,)}


@pytest.mark.parametrize(
    ("layers", "why"),
    {
        (3,): "there is no layer 3; 'happy' is for layers 0 to 2",
        (-1,): "there is no layer -1; 'happy' is for layers 0 to 2",
        (0, 1): "'happy' has no direction at layer 1; it has them at 0, 2",
        "middle": "'happy' has no direction at layer 1; it has them at 0, 2",
        "most": "layers 'most' of 'happy' are not known; use 'all', 'middle' or a list",
        (): r"layers \(\) of 'happy' are not known",
    }.items(),
    ids=str,
)
def test_term_unknown_layers_are_refused(layers, why):
    with pytest.raises(SteeringError, match=why):
        Term(HAPPY, 1.0, layers=layers)


# Whose vectors

ANGER, HAPPY_READ = make_reader("anger"), make_reader("happy", seed=3)
OTHER = make_reader("other", model=dataclasses.replace(MODEL, name="big", fingerprint="beef"))
WIDE = make_vector(
    "wide", model=dataclasses.replace(MODEL, hidden_size=8, fingerprint=""), directions=directions((0, 2), size=8)
)
ANYWHERE = make_reader("anywhere").for_any_model()


@pytest.mark.parametrize(
    "vectors", [(HAPPY, OTHER), (HAPPY, WIDE), (ANYWHERE, HAPPY, OTHER), (ANYWHERE, WIDE)], ids=str
)
def test_steering_of_two_models_is_refused(vectors):
    with pytest.raises(VectorMismatchError, match="steer by vectors of one model"):
        Steering.of([(vector, 1.0) for vector in vectors])
    with pytest.raises(VectorMismatchError):
        Steering.of([(vectors[0], 1.0)]) + Steering.of([(vector, 1.0) for vector in vectors[1:]])


def test_steering_mixes_vectors_for_any_model():
    assert len(Steering.of([(ANYWHERE, 1.0), (HAPPY, 1.0), (ANYWHERE, 1.0)]).terms) == 3


def test_condition_vector_of_other_model_is_refused():
    strange = Not(AnyOf((Comparison(ANGER, "above", 1.0), Comparison(OTHER, "above", 1.0))))
    with pytest.raises(VectorMismatchError, match=r"'happy' is for tiny, 'other' for big"):
        Term(HAPPY, 1.0, condition=strange)
    reading_anger = Term(ANYWHERE, 1.0, condition=Comparison(ANGER, "above", 1.0))
    with pytest.raises(VectorMismatchError, match=r"'anger' is for tiny, 'other' for big"):
        Steering((reading_anger, Term(OTHER, 1.0)))


def test_for_any_model_includes_conditions():
    condition = AllOf((Comparison(ANGER, "above", 1.0), Not(Comparison(HAPPY_READ, "below", 2.0))))
    freed = Steering((Term(HAPPY_READ, 1.0, condition=condition), Term(ANGER, 0.5))).for_any_model()
    first, second = freed.terms
    assert first.condition.parts[0].vector is second.vector
    assert first.condition.parts[1].part.vector is first.vector
    assert len(freed.compile(dataclasses.replace(MODEL, fingerprint="beef")).terms) == 2


# What it adds


def test_compile_of_no_terms_is_empty():
    assert Steering.of(None).compile(MODEL) == NONE
    (planned,) = Steering.of([(HAPPY, 0.0)]).compile(MODEL).terms
    assert planned.changes == {}


@given(control_vectors(), control_vectors(), st.floats(-3, 3), st.floats(-3, 3))
def test_compile_keeps_order_and_sums_terms(a, b, x, y):
    parts = dense(a.addition(x)), dense(b.addition(y))
    steering = Steering.of([(a, x), (b, y)])
    largest = max(np.abs(part).max() for part in parts)
    np.testing.assert_allclose(added(steering), sum(parts), rtol=1e-6, atol=1e-6 * largest)
    planned = steering.compile(MODEL).terms
    assert [part.text for part in planned] == list(map(str, steering.terms))
    for part in planned:
        assert list(part.changes) == sorted(part.changes)
        assert all(change.added.dtype == np.float32 and change.added.any() for change in part.changes.values())


def test_compile_uses_scale_of_each_sign():
    left = dense(HAPPY.addition(coefficient=HAPPY.scale["+"] - HAPPY.scale["-"]))
    np.testing.assert_allclose(added(Steering.of([(HAPPY, 1), (HAPPY, -1)])), left, rtol=1e-5)


def test_compile_sums_strengths_and_coefficients():
    steering = Steering.of([(HAPPY, 1), Term(BARE, coefficient=0.1)])
    np.testing.assert_allclose(added(steering), 2 * dense(HAPPY.addition(1)), rtol=1e-6)


@given(control_vectors(ratio=1.0), st.floats(0.01, 3))
def test_compile_opposite_terms_cancel(vector, strength):
    assert not added(Steering.of([(vector, strength), (vector, -strength)])).any()


# What it refuses to add


@pytest.mark.parametrize("change", [{"hidden_size": 8}, {"layers": 4}, {"fingerprint": "beef"}])
def test_compile_for_other_model_is_refused_by_name(change):
    other = dataclasses.replace(MODEL, name="other", **change)
    with pytest.raises(VectorMismatchError, match=r"'happy' is for tiny.*other"):
        Steering.of([(HAPPY, 1)]).compile(other)
    if "fingerprint" in change:
        (planned,) = Steering.of([(HAPPY.for_any_model(), 1)]).compile(other).terms
        assert list(planned.changes) == [0, 2]


def test_compile_for_other_model_at_zero_is_refused():
    with pytest.raises(VectorMismatchError):
        Steering.of([(HAPPY, 0)]).compile(dataclasses.replace(MODEL, hidden_size=8))


def test_compile_condition_for_other_model_is_refused():
    steering = Steering((Term(ANYWHERE, 1.0, condition=Comparison(ANGER, "above", 1.0)),))
    with pytest.raises(VectorMismatchError, match="'anger' is for tiny"):
        steering.compile(dataclasses.replace(MODEL, fingerprint="beef"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_compile_nonfinite_strength_is_refused(bad):
    with pytest.raises(SteeringError, match=f"strength {bad} for 'formal'"):
        Steering.of([(HAPPY, 1), (FORMAL, bad)]).compile(MODEL)


def test_compile_uncalibrated_strength_is_refused():
    with pytest.raises(SteeringError, match="'bare' was never calibrated"):
        Steering.of([(HAPPY, 1), (BARE, 1)]).compile(MODEL)


def test_term_strength_of_ablate_or_bound_is_refused():
    with pytest.raises(SteeringError, match="ablate has no strength; it is whole"):
        Term(HAPPY, 1.0, operator=Ablate())
    assert Term(HAPPY, operator=Ablate()).strength is None


@given(steerings)
def test_steering_copied_is_equal(steering):
    for again in (pickle.loads(pickle.dumps(steering)), copy.deepcopy(steering)):
        assert again == steering
        assert hash(again) == hash(steering)
        assert again.terms == steering.terms
        assert again.to_json() == steering.to_json()


def test_term_on_other_vector_content_differs():
    assert Term(make_vector("happy"), 0.8) == Term(HAPPY, 0.8)
    assert Term(make_vector("happy", seed=5), 0.8) != Term(HAPPY, 0.8)
    assert Term(HAPPY, 0.8) != Term(HAPPY, 0.81)
