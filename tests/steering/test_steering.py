"""A steering: the forms in which it may be given, and what it adds."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sample_vectors import MODEL, control_vectors, dense, directions, make_vector
from trimtab.errors import SteeringError, VectorError, VectorMismatchError
from trimtab.steering import Steering, Term

HAPPY = make_vector("happy")
FORMAL = make_vector(
    "formal", seed=1, directions=directions((1, 2), seed=1), norms={1: 5.0, 2: 8.0}, weights={1: 1, 2: 2}
)
BARE = make_vector("bare", scale=None)


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
def test_a_steering_is_made_from(form, terms):
    assert [(term.vector, term.strength) for term in Steering.of(form).terms] == terms


def test_a_term_with_a_coefficient_keeps_it():
    (term,) = Steering.of([Term(BARE, coefficient=0.25)]).terms
    assert (term.vector, term.strength, term.coefficient) == (BARE, None, 0.25)


def test_text_names_vectors_in_the_folder_or_by_path(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path / "vectors"))
    HAPPY.save(tmp_path / "vectors" / "happy.safetensors")
    path = FORMAL.save(tmp_path / "elsewhere" / "formal.safetensors")
    steering = Steering.of(f"happy:0.8 + {path}:-0.3 + happy")
    assert str(steering) == "happy:0.8 + formal:-0.3 + happy:1"
    expected = Steering.of([(HAPPY, 1.8), (FORMAL, -0.3)]).additions(MODEL)
    np.testing.assert_allclose(dense(steering.additions(MODEL)), dense(expected), rtol=1e-5)


def test_text_that_names_no_vector_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path))
    HAPPY.save(tmp_path / "happy.safetensors")
    with pytest.raises(VectorError, match=r"no vector named 'hapy'.*did you mean 'happy'"):
        Steering.of("happy:1 + hapy:1")
    with pytest.raises(SteeringError, match="column 7"):
        Steering.of("happy:one")


@pytest.mark.parametrize("form", [form for form, _ in FORMS.values()], ids=FORMS)
def test_one_steering_is_for_every_row(form):
    assert [row.terms for row in Steering.of_rows(form, rows=3)] == [Steering.of(form).terms] * 3


@pytest.mark.parametrize("form", [form for form, _ in FORMS.values()], ids=FORMS)
def test_a_list_gives_each_row_its_own(form):
    rows = Steering.of_rows([form, None, [(FORMAL, 0.5)]], rows=3)
    assert [row.terms for row in rows] == [Steering.of(form).terms, (), (Term(FORMAL, 0.5),)]


def test_rows_may_be_texts(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path))
    HAPPY.save(tmp_path / "happy.safetensors")
    assert list(map(str, Steering.of_rows(["happy:0.5", None, "happy:-1"], rows=3))) == [
        "happy:0.5",
        "none",
        "happy:-1",
    ]


def test_as_many_steerings_as_rows_are_needed():
    with pytest.raises(SteeringError, match="2 steerings for 3 prompts; give one steering, or one for each"):
        Steering.of_rows([[(HAPPY, 1)], None], rows=3)


REFUSED = {
    "a bare vector": HAPPY,
    "a bare term": Term(HAPPY, 1.0),
    "a bare pair": (HAPPY, 0.8),
    "a number": 0.8,
    "a dict": {"happy": 0.8},
    "a set": {(HAPPY, 0.8)},
    "a path": Path("happy.safetensors"),
    "bytes": b"happy:1",
    "a name in a pair": [("happy", 0.8)],
    "a text for a strength": [(HAPPY, "0.8")],
    "no strength": [(HAPPY, None)],
    "one of a pair": [(HAPPY,)],
    "three of a pair": [(HAPPY, 1, 2)],
    "a list of text": ["happy:0.8"],
    "a list of None": [None],
    "a pair turned round": [(0.8, HAPPY)],
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_what_is_no_steering_is_refused(given):
    with pytest.raises(SteeringError, match=r"is not a steering; give a list of \(vector, strength\) or text"):
        Steering.of(given)


@pytest.mark.parametrize("given", [given for name, given in REFUSED.items() if not name.startswith("a list")], ids=str)
def test_what_is_no_steering_of_rows_is_refused(given):
    with pytest.raises(SteeringError, match=r"is not a steering|steerings for"):
        Steering.of_rows(given, rows=7)


def test_a_term_has_a_strength_or_a_coefficient():
    with pytest.raises(SteeringError, match="either a strength or a coefficient"):
        Term(HAPPY)
    with pytest.raises(SteeringError, match="either a strength or a coefficient"):
        Term(HAPPY, 1.0, coefficient=1.0)


def test_a_steering_reads_like_its_text_form():
    assert str(Steering.of([(HAPPY, 0.8), (FORMAL, -0.25)])) == "happy:0.8 + formal:-0.25"
    assert str(Steering.of([Term(HAPPY, coefficient=2)])) == "happy:coefficient 2"
    assert str(Steering.of(None)) == "none"


def test_steerings_are_joined_in_order():
    joined = Steering.of([(HAPPY, 1)]) + Steering.of([(FORMAL, 2), (HAPPY, 3)])
    assert [(term.vector, term.strength) for term in joined.terms] == [(HAPPY, 1), (FORMAL, 2), (HAPPY, 3)]


# What it adds


def test_no_terms_add_nothing():
    assert Steering.of(None).additions(MODEL) == {}
    assert Steering.of([(HAPPY, 0.0)]).additions(MODEL) == {}


@given(control_vectors(), control_vectors(), st.floats(-3, 3), st.floats(-3, 3))
def test_terms_add_up(a, b, x, y):
    parts = dense(a.addition(x)), dense(b.addition(y))
    added = Steering.of([(a, x), (b, y)]).additions(MODEL)
    largest = max(np.abs(part).max() for part in parts)
    np.testing.assert_allclose(dense(added), sum(parts), rtol=1e-6, atol=1e-6 * largest)
    assert list(added) == sorted(added)
    assert all(array.dtype == np.float32 and array.shape == (MODEL.hidden_size,) for array in added.values())


def test_each_term_uses_the_scale_of_its_own_sign():
    added = Steering.of([(HAPPY, 1), (HAPPY, -1)]).additions(MODEL)
    left = dense(HAPPY.addition(coefficient=HAPPY.scale["+"] - HAPPY.scale["-"]))
    np.testing.assert_allclose(dense(added), left, rtol=1e-5)


def test_strengths_and_coefficients_add_up():
    added = Steering.of([(HAPPY, 1), Term(BARE, coefficient=0.1)]).additions(MODEL)
    np.testing.assert_allclose(dense(added), 2 * dense(HAPPY.addition(1)), rtol=1e-6)


@given(control_vectors(ratio=1.0), st.floats(0.01, 3))
def test_layers_where_terms_cancel_are_left_out(vector, strength):
    assert Steering.of([(vector, strength), (vector, -strength)]).additions(MODEL) == {}


def test_layers_where_terms_do_not_cancel_stay():
    opposite = make_vector("opposite", directions={0: -HAPPY.directions[0], 2: FORMAL.directions[2]})
    added = Steering.of([(HAPPY, 1), (opposite, 1)]).additions(MODEL)
    assert list(added) == [2]


def test_what_is_done_to_the_additions_reaches_neither_steering_nor_vector():
    steering = Steering.of([(HAPPY, 1)])
    before = dense(steering.additions(MODEL))
    steering.additions(MODEL)[0][:] = 99
    np.testing.assert_array_equal(dense(steering.additions(MODEL)), before)


# What it refuses to add


@pytest.mark.parametrize("change", [{"hidden_size": 8}, {"layers": 4}, {"fingerprint": "beef"}])
def test_a_term_for_another_model_is_refused_by_name(change):
    other = dataclasses.replace(MODEL, name="other", **change)
    with pytest.raises(VectorMismatchError, match=r"'happy' is for tiny.*other"):
        Steering.of([(HAPPY, 1)]).additions(other)
    if "fingerprint" in change:
        assert list(Steering.of([(HAPPY.for_any_model(), 1)]).additions(other)) == [0, 2]


def test_a_term_for_another_model_is_refused_even_at_strength_zero():
    with pytest.raises(VectorMismatchError):
        Steering.of([(HAPPY, 0)]).additions(dataclasses.replace(MODEL, hidden_size=8))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_strength_that_is_not_finite_is_refused(bad):
    with pytest.raises(SteeringError, match=f"strength {bad} for 'formal'"):
        Steering.of([(HAPPY, 1), (FORMAL, bad)]).additions(MODEL)


def test_a_vector_without_a_unit_is_refused_by_strength():
    with pytest.raises(SteeringError, match="'bare' was never calibrated"):
        Steering.of([(HAPPY, 1), (BARE, 1)]).additions(MODEL)
