"""JSON form of a steering, and its schema."""

from __future__ import annotations

import dataclasses
import json
import re
from functools import cache
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from steerings import find, steerings

from sample_vectors import MODEL, make_reader, make_vector, neutral_record
from trimtab.errors import SteeringError, VectorError
from trimtab.steering import AllOf, Comparison, Rotate, Steering, Term
from trimtab.steering.json_form import steering_schema

COMMITTED = Path(__file__).parents[2] / "docs" / "steering.schema.json"
VALIDATOR = jsonschema.Draft202012Validator(steering_schema())
KNOWN = {name: make_reader(name) for name in ("happy", "formal", "anger")} | {"bare": make_vector("bare")}
HAPPY = {"vector": "happy"}
ANGER = {"vector": "anger", "above": 2}


def look_up(name):
    if name not in KNOWN:
        raise VectorError(f"no vector named {name!r}", fix="train it")
    return KNOWN[name]


ACCEPTED = {
    "nothing": ([], "none"),
    "a name": ([HAPPY], "happy:0.5"),
    "nulls for what is left out": ([{**HAPPY, "strength": None, "layers": None, "when": None}], "happy:0.5"),
    "a strength": ([{**HAPPY, "strength": -0.3}], "happy:-0.3"),
    "a whole number": ([{**HAPPY, "strength": 2}], "happy:2"),
    "a coefficient": ([{**HAPPY, "coefficient": 0.25}], "happy:coefficient=0.25"),
    "adding by name": ([{**HAPPY, "operator": "add"}], "happy:0.5"),
    "norms kept": ([{**HAPPY, "operator": "add_preserving_norm", "strength": 2}], "add_preserving_norm(happy):2"),
    "ablating": ([{**HAPPY, "operator": "ablate"}], "ablate(happy)"),
    "a floor": ([{**HAPPY, "operator": "floor", "bound": 3.5}], "floor(happy, 3.5)"),
    "a cap": ([{**HAPPY, "operator": "cap", "bound": "25%"}], "cap(happy, 25%)"),
    "a clamp": ([{**HAPPY, "operator": "clamp", "low": "-1z", "high": "1.5z"}], "clamp(happy, -1z, 1.5z)"),
    "turning": ([{**HAPPY, "operator": "rotate"}], "rotate(happy):0.5"),
    "turning by an angle": ([{**HAPPY, "operator": "rotate", "degrees": 15}], "rotate(happy, 15deg)"),
    "layers": ([{**HAPPY, "layers": [2, 0]}], "happy[0,2]:0.5"),
    "all layers": ([{**HAPPY, "layers": "all"}], "happy[all]:0.5"),
    "tokens": ([{**HAPPY, "tokens": ["generated", {"first": 8}, {"from": 0}]}], "happy:0.5@generated, first 8, from 0"),
    "a text": ([{**HAPPY, "tokens": [{"after": "a, b"}, {"before": "c"}]}], 'happy:0.5@after:"a, b", before:"c"'),
    "all tokens": ([{**HAPPY, "tokens": ["all"]}], "happy:0.5"),
    "a schedule": ([{**HAPPY, "schedule": {"half-life": 16}}], "happy:0.5@half-life 16"),
    "another schedule": ([{**HAPPY, "schedule": {"decay": 16}}], "happy:0.5@decay 16"),
    "a condition": ([{**HAPPY, "when": ANGER}], "happy:0.5 when anger > 2"),
    "hysteresis": (
        [{**HAPPY, "when": {"vector": "anger", "below": -2, "at": "token", "until": 1}}],
        "happy:0.5 when anger < -2 until 1 at token",
    ),
    "a rate": ([{**HAPPY, "when": {"vector": "anger", "above": {"fpr": 0.02}}}], "happy:0.5 when anger > fpr 2%"),
    "joined conditions": (
        [{**HAPPY, "when": {"any": [{"all": [ANGER, {"not": ANGER}]}, ANGER]}}],
        "happy:0.5 when anger > 2 and not anger > 2 or anger > 2",
    ),
    "one condition joined with nothing": ([{**HAPPY, "when": {"all": [{"any": [ANGER]}]}}], "happy:0.5 when anger > 2"),
}


@pytest.mark.parametrize(("terms", "text"), ACCEPTED.values(), ids=ACCEPTED)
def test_json_terms_are_read_and_match_schema(terms, text):
    steering = Steering.from_json({"terms": terms}, find=look_up)
    assert str(steering) == text
    assert (
        Steering.from_json(terms, find=look_up)
        == Steering.from_json(json.dumps({"terms": terms}), find=look_up)
        == steering
    )
    for document in ({"terms": terms}, steering.to_json()):
        assert [error.message for error in VALIDATOR.iter_errors(document)] == []


BOTH = {**HAPPY, "strength": 1, "coefficient": 1}
REFUSED = {
    "a number": (5, "its top", "Input should be a valid dictionary"),
    "no terms": ({}, "terms", "is required but missing"),
    "an unknown key": ({"terms": [], "mood": 1}, "mood", "is not known here (found '1')"),
    "an unknown key of a term": ([HAPPY, {**HAPPY, "strenght": 1}], "terms.1.strenght", "is not known here"),
    "a key of another operator": ([{**HAPPY, "bound": 1}], "terms.0.bound", "is not known here"),
    "a strength of what is whole": ([{**HAPPY, "operator": "ablate", "strength": 1}], "terms.0.strength", "not known"),
    "no vector": ([{"strength": 1}], "terms.0.vector", "is required but missing"),
    "an empty name": ([{"vector": ""}], "terms.0.vector", "at least 1 character"),
    "text for a number": ([{**HAPPY, "strength": "0.8"}], "terms.0.strength", "valid number"),
    "true for a number": ([{**HAPPY, "strength": True}], "terms.0.strength", "valid number"),
    "an unknown operator": ([{**HAPPY, "operator": "boost"}], "terms.0", "operator is one of add, "),
    "a term that is text": (["happy:1"], "terms.0", "operator is one of add, "),
    "a missing bound": ([{**HAPPY, "operator": "cap"}], "terms.0.bound", "is required but missing"),
    "half a clamp": ([{**HAPPY, "operator": "clamp", "low": 1}], "terms.0.high", "is required but missing"),
    "an unreadable bound": ([{**HAPPY, "operator": "cap", "bound": "25"}], "terms.0.bound", "match pattern"),
    "a bound that is a list": (
        [{**HAPPY, "operator": "cap", "bound": []}],
        "terms.0.bound",
        "Input should be a number",
    ),
    "an angle too far": ([{**HAPPY, "operator": "rotate", "degrees": 200}], "terms.0.degrees", "less than or equal"),
    "no layers": ([{**HAPPY, "layers": []}], "terms.0.layers", "at least 1 item"),
    "a layer that is text": ([{**HAPPY, "layers": ["1"]}], "terms.0.layers.0", "valid integer"),
    "layers in words": ([{**HAPPY, "layers": "most"}], "terms.0.layers", "'all' or 'middle'"),
    "one layer": ([{**HAPPY, "layers": 5}], "terms.0.layers", '"all", "middle" or a list of layers'),
    "an unknown scope": ([{**HAPPY, "tokens": ["promt"]}], "terms.0.tokens.0", "'prompt'"),
    "an unknown part": ([{**HAPPY, "tokens": ["user", {"last": 8}]}], "terms.0.tokens.1", '{"first": 8}'),
    "two parts in one": (
        [{**HAPPY, "tokens": [{"first": 8, "from": 2}]}],
        "terms.0.tokens.0.from",
        "is not known here",
    ),
    "the first none": ([{**HAPPY, "tokens": [{"first": 0}]}], "terms.0.tokens.0.first", "greater than or equal to 1"),
    "after nothing": ([{**HAPPY, "tokens": [{"after": ""}]}], "terms.0.tokens.0.after", "at least 1 character"),
    "an unknown schedule": ([{**HAPPY, "schedule": {"half_life": 2}}], "terms.0.schedule", '{"half-life": 16}'),
    "a schedule over nothing": ([{**HAPPY, "schedule": {"decay": 0}}], "terms.0.schedule.decay", "greater than 0"),
    "a condition in words": ([{**HAPPY, "when": "anger > 2"}], "terms.0.when", '{"vector": "anger", "above": 2}'),
    "no side": ([{**HAPPY, "when": {"vector": "anger"}}], "terms.0.when", "either 'above' or 'below'"),
    "both sides": ([{**HAPPY, "when": {**ANGER, "below": 1}}], "terms.0.when", "either 'above' or 'below'"),
    "a threshold in words": ([{**HAPPY, "when": {**ANGER, "above": "high"}}], "terms.0.when.above", "a z-score or"),
    "a rate above one": (
        [HAPPY, HAPPY, {**HAPPY, "when": {"all": [ANGER, {"not": {**ANGER, "above": {"fpr": 2}}}]}}],
        "terms.2.when.all.1.not.above.fpr",
        "less than 1",
    ),
    "an unknown place": ([{**HAPPY, "when": {**ANGER, "at": "end"}}], "terms.0.when.at", "'prompt', 'token'"),
    "nothing joined": ([{**HAPPY, "when": {"all": []}}], "terms.0.when.all", "at least 1 item"),
    "two joins in one": ([{**HAPPY, "when": {"all": [ANGER], "any": [ANGER]}}], "terms.0.when.any", "not known here"),
}


@pytest.mark.parametrize(("document", "place", "why"), REFUSED.values(), ids=REFUSED)
def test_json_invalid_is_refused_with_place_and_by_schema(document, place, why):
    with pytest.raises(SteeringError) as caught:
        Steering.from_json(document, find=look_up)
    message = str(caught.value)
    assert message.startswith(f"cannot read the steering at {place}: "), message
    assert why in message
    assert "\n" not in message
    assert not VALIDATOR.is_valid({"terms": document} if isinstance(document, list) else document)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[{"vector": "happy", "strength": @}]', "terms.0.strength"),
        ('[{"vector": "happy", "when": {"vector": "anger", "above": @}}]', "terms.0.when.above"),
        ('[{"vector": "happy", "operator": "cap", "bound": @}]', "terms.0.bound"),
        ('[{"vector": "happy", "schedule": {"decay": @}}]', "terms.0.schedule.decay"),
    ],
)
def test_json_nonfinite_number_is_refused(text, place, number):
    with pytest.raises(SteeringError, match=f"at {re.escape(place)}: Input should be a finite number"):
        Steering.from_json(text.replace("@", number), find=look_up)


VALUES = {
    "an unknown vector": ([{"vector": "hapy"}], "terms.0.vector: no vector named 'hapy'; train it", VectorError),
    "an unknown vector that is read": (
        [HAPPY, {**HAPPY, "when": {"not": {"vector": "hapy", "above": 1}}}],
        "terms.1.when.not.vector: no vector named 'hapy'",
        VectorError,
    ),
    "a strength and a coefficient": ([BOTH], "terms.0: give a term either", SteeringError),
    "a layer that is not there": ([{**HAPPY, "layers": [5]}], "terms.0.layers: there is no layer 5", SteeringError),
    "a contradiction": ([{**HAPPY, "tokens": ["user", "system"]}], "terms.0.tokens: no token can be in", SteeringError),
    "a percentile above 100": (
        [{**HAPPY, "operator": "cap", "bound": "101%"}],
        "terms.0.bound: there is no percentile 101",
        SteeringError,
    ),
    "bounds turned round": (
        [{**HAPPY, "operator": "clamp", "low": 2, "high": 1}],
        "terms.0.high: cannot clamp from 2 up to 1",
        SteeringError,
    ),
    "no neutral statistics": (
        [{**HAPPY, "when": {"all": [ANGER, {"vector": "bare", "above": 1}]}}],
        "terms.0.when.all.1: 'bare' has no neutral statistics",
        SteeringError,
    ),
}


@pytest.mark.parametrize(("terms", "message", "kind"), VALUES.values(), ids=VALUES)
def test_json_value_error_gives_place(terms, message, kind):
    with pytest.raises(kind, match=re.escape(f"in the steering at {message}")):
        Steering.from_json(terms, find=look_up)


def test_schema_amounts_exclude_each_other():
    turning = {**HAPPY, "operator": "rotate", "degrees": 15}
    assert not VALIDATOR.is_valid({"terms": [BOTH]})
    assert not VALIDATOR.is_valid({"terms": [{**turning, "strength": 1}]})
    assert VALIDATOR.is_valid({"terms": [{**turning, "strength": None}]})


@pytest.mark.parametrize("text", ["", "[", "happy:1", b"\xff", "[" * 10_000])
def test_json_text_malformed_is_refused(text):
    with pytest.raises(SteeringError, match=r"not JSON|more than \d+ levels"):
        Steering.from_json(text, find=look_up)


def test_json_conditions_too_deep_are_refused():
    when = ANGER
    for _ in range(60):
        when = {"all": [when, ANGER]}
    assert isinstance(Steering.from_json([{**HAPPY, "when": when}], find=look_up).terms[0].condition, AllOf)
    for _ in range(300):
        when = {"not": when}
    with pytest.raises(SteeringError, match="levels; write its conditions flatter"):
        Steering.from_json([{**HAPPY, "when": when}], find=look_up)


def test_json_looks_up_each_name_once():
    asked = []
    terms = [HAPPY, {**HAPPY, "when": {"vector": "happy", "above": 1}}]
    steering = Steering.from_json(terms, find=lambda name: asked.append(name) or make_reader(name))
    assert asked == ["happy"]
    assert steering.terms[0].vector is steering.terms[1].condition.vector


def test_json_finds_vectors_in_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path))
    KNOWN["happy"].save(tmp_path / "happy.safetensors")
    assert Steering.from_json('[{"vector": "happy"}]').to_json() == {
        "terms": [{"vector": "happy", "operator": "add", "strength": 0.5}]
    }


def test_to_json_writes_all_fields_of_term():
    condition = Comparison(KNOWN["anger"], "above", 2, "token", 1)
    steering = Steering((Term(KNOWN["happy"], operator=Rotate(15), layers=(0, 2), condition=condition),))
    assert steering.to_json() == {
        "terms": [
            {
                "vector": "happy",
                "operator": "rotate",
                "degrees": 15.0,
                "layers": [0, 2],
                "when": {"vector": "anger", "above": 2.0, "at": "token", "until": 1.0},
            }
        ]
    }


@given(steerings)
def test_json_round_trip_matches_schema(steering):
    written = steering.to_json()
    assert Steering.from_json(written, find=find) == Steering.from_json(json.dumps(written), find=find) == steering
    assert VALIDATOR.is_valid(written)


def test_schema_file_equals_code():
    text = COMMITTED.read_text(encoding="utf-8")
    assert json.loads(text) == steering_schema(), "write it again from steering_schema()"
    assert text == json.dumps(json.loads(text), indent=2) + "\n"


def test_schema_is_valid_draft_2020_12():
    jsonschema.Draft202012Validator.check_schema(steering_schema())
    assert jsonschema.validators.validator_for(steering_schema(), default=None) is jsonschema.Draft202012Validator


PAGE = (Path(__file__).parents[2] / "docs" / "steering.md").read_text(encoding="utf-8")
SIDE_BY_SIDE = dict(re.findall(r"^\| `([^`]+)` \| `(\{.*\})` \|$", PAGE, re.MULTILINE))


@pytest.mark.parametrize(("text", "term"), SIDE_BY_SIDE.items(), ids=SIDE_BY_SIDE)
def test_page_text_and_json_are_equal(text, term):
    depth = dataclasses.replace(MODEL, layers=32)
    unit = make_vector().directions[0]

    def deep(name):
        ones = dict.fromkeys(range(32), 1.0)
        neutral = neutral_record(range(32))
        directions = dict.fromkeys(range(32), unit)
        return make_reader(name, model=depth, directions=directions, norms=ones, weights=ones, neutral=neutral)

    deep = cache(deep)
    assert Steering.from_json([json.loads(term)], find=deep) == Steering.of(text, find=deep)


def test_page_has_examples():
    assert len(SIDE_BY_SIDE) > 10
