from __future__ import annotations

import json
import pickle
import sys
from functools import reduce
from typing import Any

import pytest

from trimtab.engines.constraints import MAX_BYTES, MAX_CHOICES, MAX_DEPTH, MAX_TAGS, Constraint, Tag
from trimtab.errors import ConstraintError

ALL = (
    Constraint.choice(["yes", "no", "ö \U0001f600", 'a "quote"\n\\']),
    Constraint.regex(r"[0-9]{4}\n", steer=True),
    Constraint.json_schema({"type": "object", "properties": {"ä": {"type": "string"}}}),
    Constraint.json_schema({}),
    Constraint.grammar('start: "a" | "b" start'),
    Constraint.tags(
        [
            Tag("<call>", Constraint.json_schema({"type": "object"}), "</call>"),
            Tag("<f=ä>", Constraint.choice(["a", "b"]), trigger="<f"),
            Tag("<n>", Constraint.regex("[0-9]+"), "</n>"),
        ],
        once=True,
        steer=True,
    ),
)
DIGIT = Constraint.regex("[0-9]")


@pytest.mark.parametrize("constraint", ALL, ids=lambda constraint: constraint.kind)
def test_constraint_forms_restore_it(constraint: Constraint) -> None:
    assert Constraint.of(str(constraint)) == constraint
    assert Constraint.of(constraint.to_json()) == constraint
    assert Constraint.of(constraint) is constraint
    assert pickle.loads(pickle.dumps(constraint)) == constraint
    assert len({constraint, Constraint.of(str(constraint))}) == 1


def test_tags_share_triggers() -> None:
    tags = Constraint.tags([Tag("<f=a>", DIGIT, trigger="<f"), Tag("<f=b>", DIGIT, trigger="<f"), Tag("#", DIGIT)])
    assert len(tags.parts) == 3
    assert not tags.unsteers
    assert DIGIT.parts == tags.choices == ()
    assert str(tags.parts[2]) == '{"begin": "#", "regex": "[0-9]"}'


def test_json_schema_from_text_equals_parsed() -> None:
    schema = {"properties": {"b": {}, "a": {}}}
    assert Constraint.json_schema(json.dumps(schema, indent=4)) == Constraint.json_schema(schema)
    assert Constraint.json_schema(schema) != Constraint.json_schema(
        {"properties": {"a": {}, "b": {}}}
    )  # written in order


def test_of_rows_gives_each_row_one() -> None:
    yes = Constraint.choice(["yes"])
    assert Constraint.of_rows(None, rows=2) == [None, None]
    assert Constraint.of_rows(yes, rows=2) == [yes, yes]
    assert Constraint.of_rows({"choice": ["yes"]}, rows=1) == [yes]
    assert Constraint.of_rows([None, '{"choice": ["yes"]}'], rows=2) == [None, yes]
    with pytest.raises(ConstraintError, match="2 constraints for 3 prompts"):
        Constraint.of_rows([yes, None], rows=3)


def _nested(depth: int) -> Any:
    return reduce(lambda inner, _: [inner], range(depth - 1), [])


def _endless() -> Any:
    schema: dict[str, Any] = {}
    schema["not"] = schema
    return schema


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Constraint.choice([]), "nothing to choose"),
        (lambda: Constraint.choice(["yes", ""]), "empty"),
        (lambda: Constraint.choice(["yes", 1]), "no text"),  # type: ignore[list-item]
        (lambda: Constraint.choice("yes"), "not a list"),
        (lambda: Constraint.choice(["a", "b", "a"]), "'a' is given twice"),
        (lambda: Constraint.choice(list(map(str, range(MAX_CHOICES + 1)))), "1,001 choices, at most"),
        (lambda: Constraint.choice(["a\ud800"]), "not Unicode"),
        (lambda: Constraint.choice(["a" * MAX_BYTES, "b"]), "bytes, more than"),
        (lambda: Constraint.regex(""), "empty"),
        (lambda: Constraint.regex("a" * (MAX_BYTES + 1)), "bytes, more than"),
        (lambda: Constraint.grammar(3), "no text"),  # type: ignore[arg-type]
        (lambda: Constraint.json_schema("{"), "not JSON"),
        (lambda: Constraint.json_schema("[1]"), "not a JSON schema"),
        (lambda: Constraint.json_schema("false"), "not a JSON schema"),
        (lambda: Constraint.json_schema(" " * 10 * MAX_BYTES), "characters; at most"),
        (lambda: Constraint.json_schema({"a": float("nan")}), "not JSON"),
        (lambda: Constraint.json_schema({"a": {1, 2}}), "not JSON"),
        (lambda: Constraint.json_schema(_endless()), "not JSON|deeper"),
        (lambda: Constraint.json_schema({"a": _nested(MAX_DEPTH)}), "deeper than 64"),
        (lambda: Constraint.json_schema('{"a":' * 5000 + "1" + "}" * 5000), "deeper than 64"),
        (lambda: Constraint.json_schema("[" * 100_000), "deeper than 64|not JSON"),
        (lambda: Constraint("regexp", "a"), "regexp.*did you mean 'regex'"),  # type: ignore[arg-type]
        (lambda: Constraint.of({"choice": ["a"], "regex": "b"}), "one kind"),
        (lambda: Constraint.of({"steer": True}), "one kind"),
        (lambda: Constraint.of({"choice": ["a"], "steer": "yes"}), "true or false"),
        (lambda: Constraint.of("[1]"), "not a constraint"),
        (lambda: Constraint.of({"grammer": "x"}), "did you mean 'grammar'"),
        (lambda: Constraint.tags([]), "no tags"),
        (lambda: Constraint.tags({"begin": "a", "regex": "b"}), "not a list"),  # type: ignore[arg-type]
        (lambda: Constraint.tags([{"regex": "b"}]), "not a tag"),
        (lambda: Constraint.tags([{"begin": "a"}]), "one kind"),
        (lambda: Constraint.tags([{"begin": 1, "regex": "b"}]), "no text"),
        (lambda: Constraint.tags([Tag(str(n), DIGIT) for n in range(1000, 1001 + MAX_TAGS)]), "129 tags"),
        (lambda: Constraint.tags([Tag("<a>", DIGIT), Tag("x<a>y", DIGIT)]), "would come first"),
        (lambda: Constraint.tags([Tag("<a>", Constraint.regex("a" * MAX_BYTES))]), "bytes, more than"),
        (lambda: Tag("", DIGIT), "begins with ''"),
        (lambda: Tag("<a>", DIGIT, trigger="a"), "its trigger is 'a'"),
        (lambda: Tag("<a>", Constraint.regex("a", steer=True)), "has steer"),
        (lambda: Tag("<a>", Constraint.tags([Tag("<b>", DIGIT)])), "has tags itself"),
        (lambda: Tag("<a>", "[0-9]"), "is none"),  # type: ignore[arg-type]
        (lambda: Constraint("regex", "a", once=True), "once is for tags"),
        (lambda: Constraint.of({"regex": "a", "once": True}), "once is for tags"),
    ],
)
def test_malformed_constraint_is_refused(make: Any, match: str) -> None:
    with pytest.raises(ConstraintError, match=match):
        make()


def test_deepest_schema_is_taken() -> None:
    assert Constraint.json_schema({"a": _nested(MAX_DEPTH - 1)}).kind == "json_schema"


def test_constraints_import_neither_torch_nor_llguidance() -> None:
    import subprocess

    code = "import sys, trimtab.engines.constraints; print([m for m in ('torch', 'llguidance') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
