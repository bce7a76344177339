"""The JSON Schema of behaviour files: committed, in step, and of one mind with the loader."""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from trimtab.behaviours import Behaviour, zoo_names
from trimtab.behaviours.schema import behaviour_json_schema
from trimtab.errors import BehaviourError

COMMITTED = Path(__file__).parents[2] / "docs" / "behaviour.schema.json"

POLES = {"positive": {"label": "a", "personas": ["bold"]}, "negative": {"label": "b", "personas": ["shy"]}}
PLAIN = {"name": "mine", **POLES}
PAIRS = [{"positive": "a", "negative": "b"}, {"positive": [{"role": "user", "content": "c"}], "negative": "d"}]

ACCEPTED = {
    "the least": PLAIN,
    "a description": {**PLAIN, "description": "How bold."},
    "built-in suffixes": {**PLAIN, "suffixes": "builtin"},
    "a list of suffixes": {**PLAIN, "suffixes": ["I think"]},
    "templates": {**PLAIN, "templates": [{"system": "Be {persona}."}, {"user": "Be {persona}."}]},
    "pairs": {**PLAIN, "pairs": PAIRS},
    "pairs without personas": {"name": "mine", "positive": {"label": "a"}, "negative": {"label": "b"}, "pairs": PAIRS},
    "evaluation prompts": {**PLAIN, "evaluation": {"prompts": ["Who goes there?"]}},
    "choices": {**PLAIN, "evaluation": {"choices": [{"question": "Jump?", "positive": "Yes", "negative": "No"}]}},
    "keywords": {**PLAIN, "evaluation": {"keywords": {"positive": ["dare", "/bold(ly)?/"]}}},
}
REFUSED = {
    "nothing": {},
    "no name": POLES,
    "a name with a space": {**PLAIN, "name": "my own"},
    "a missing pole": {"name": "mine", "positive": POLES["positive"]},
    "a pole without a label": {**PLAIN, "positive": {"personas": ["bold"]}},
    "an empty persona": {**PLAIN, "positive": {"label": "a", "personas": [""]}},
    "a persona that is a number": {**PLAIN, "positive": {"label": "a", "personas": [1]}},
    "an unknown field": {**PLAIN, "mood": "good"},
    "an unknown field of a pole": {**PLAIN, "positive": {**POLES["positive"], "mood": "good"}},
    "no templates": {**PLAIN, "templates": []},
    "a template in an unknown role": {**PLAIN, "templates": [{"assistant": "{persona}"}]},
    "suffixes that are a number": {**PLAIN, "suffixes": 3},
    "an empty suffix": {**PLAIN, "suffixes": ["", "I"]},
    "a pair with one side": {**PLAIN, "pairs": [{"positive": "a"}, PAIRS[0]]},
    "a pair with an empty chat": {**PLAIN, "pairs": [{"positive": [], "negative": "a"}, PAIRS[0]]},
    "a message in an unknown role": {
        **PLAIN,
        "pairs": [{"positive": [{"role": "judge", "content": "a"}], "negative": "a"}, PAIRS[0]],
    },
    "prompts that are text": {**PLAIN, "evaluation": {"prompts": "Who goes there?"}},
    "choices that are a number": {**PLAIN, "evaluation": {"choices": 3}},
    "no choices": {**PLAIN, "evaluation": {"choices": []}},
    "a choice with one answer": {**PLAIN, "evaluation": {"choices": [{"question": "Jump?", "positive": "Yes"}]}},
    "keywords that are a list": {**PLAIN, "evaluation": {"keywords": ["dare"]}},
    "an empty keyword": {**PLAIN, "evaluation": {"keywords": {"positive": [""]}}},
}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads(COMMITTED.read_text(encoding="utf-8")))


def as_toml(value: object) -> str:
    """An inline TOML value; JSON strings and numbers are TOML already."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value)


def load(document: dict, folder: Path) -> Behaviour:
    path = folder / "mine.toml"
    path.write_text("\n".join(f"{key} = {as_toml(value)}" for key, value in document.items()), encoding="utf-8")
    return Behaviour.load(path)


def test_schema_file_equals_code():
    text = COMMITTED.read_text(encoding="utf-8")
    assert json.loads(text) == behaviour_json_schema(), "write it again from behaviour_json_schema()"
    assert text == json.dumps(json.loads(text), indent=2) + "\n"


def test_schema_is_valid_draft_2020_12():
    schema = behaviour_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.validators.validator_for(schema, default=None) is jsonschema.Draft202012Validator


def test_schema_describes_all_fields(validator):
    missing = [
        name
        for name, field in validator.schema["properties"].items()
        if "description" not in field and name not in ("positive", "negative", "evaluation")
    ]
    assert missing == []


@pytest.mark.parametrize("name", zoo_names())
def test_schema_accepts_zoo_behaviours(validator, name):
    text = (resources.files("trimtab.behaviours") / "zoo" / f"{name}.toml").read_text(encoding="utf-8")
    assert [error.message for error in validator.iter_errors(tomllib.loads(text))] == []


@pytest.mark.parametrize("document", ACCEPTED.values(), ids=ACCEPTED)
def test_schema_and_loader_accept_valid_document(validator, tmp_path, document):
    assert [error.message for error in validator.iter_errors(document)] == []
    assert load(document, tmp_path).name == "mine"


@pytest.mark.parametrize("document", REFUSED.values(), ids=REFUSED)
def test_schema_and_loader_refuse_invalid_document(validator, tmp_path, document):
    assert not validator.is_valid(document)
    with pytest.raises(BehaviourError):
        load(document, tmp_path)
