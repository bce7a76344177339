from __future__ import annotations

import json

import pytest

from trimtab.vectors import vectors_folder


@pytest.fixture
def run(run_on, llama):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(llama)


def test_options_constrain_the_answer(run, tmp_path):
    schema, grammar = tmp_path / "schema.json", tmp_path / "grammar.lark"
    properties = {"ä": {"enum": [1, 2]}}
    limits = {"required": ["ä"], "additionalProperties": False}
    schema.write_text(json.dumps({"type": "object", "properties": properties, **limits}), encoding="utf-8")
    grammar.write_text('start: "a" | "b" start', encoding="utf-8")
    assert run("generate", "Hi", "--choice", "yes", "--choice", "no")[1].strip() in ("yes", "no")
    assert run("generate", "Hi", "--regex", "[0-9]{4}")[1].strip().isdecimal()
    assert json.loads(run("generate", "Hi", "--json-schema", schema, "-n", "200")[1])["ä"] in (1, 2)
    assert run("generate", "Hi", "--grammar", grammar, "--logit-bias", "64=100")[1].strip() in ("a", "ba")


def test_constraint_drops_steering_with_a_notice(run, llama, random_vector):
    random_vector(llama, size=2.0, name="happy").save(vectors_folder() / "happy.safetensors")
    arguments = ("generate", "Hi", "--steer", "happy:1", "--choice", "yes", "--choice", "no", "--json")
    code, out, err = run(*arguments)
    assert code == 0
    assert "not steered" in err
    assert json.loads(out)["receipt"]["reason"] == "constrained"
    _, out, err = run(*arguments, "--steer-constrained")
    assert "not steered" not in err
    assert json.loads(out)["receipt"]["tokens"] > 0


def test_tags_constrain_parts_of_a_steered_answer(run, llama, random_vector, tmp_path):
    random_vector(llama, size=2.0, name="happy").save(vectors_folder() / "happy.safetensors")
    text = run("generate", "Hi", "--steer", "happy:1", "-n", "9")[1].strip()
    tags = tmp_path / "tags.json"
    tags.write_text(json.dumps([{"begin": text[:2], "choice": ["yes", "no"], "end": "]"}]), encoding="utf-8")
    arguments = ("generate", "Hi", "--steer", "happy:1", "-n", "9", "--tags", tags)
    _, out, err = run(*arguments, "--receipt")
    assert out.strip().startswith((f"{text[:2]}yes]", f"{text[:2]}no]"))
    assert "not steered" not in err
    assert "incomplete" not in err
    assert "constrained tokens left out" in err
    (term,) = json.loads(run(*arguments, "--json")[1])["receipt"]["terms"]
    assert term["constrained"] > 3
    (term,) = json.loads(run(*arguments, "--json", "--steer-constrained")[1])["receipt"]["terms"]
    assert term["constrained"] == 0


def test_too_few_tokens_are_noticed(run):
    code, out, err = run("generate", "Hi", "--choice", "quite a long answer", "-n", "5")
    assert (code, out.strip()) == (0, "quite")
    assert "incomplete" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--choice", "yes", "--regex", "a"), "one constraint"),
        (("--steer-constrained",), "one constraint"),
        (("--choice", "yes", "--choice", "yes"), "given twice"),
        (("--json-schema", "nothing.json"), "nothing.json"),
    ],
)
def test_constraint_mistakes_are_reported_before_loading(no_model, arguments, says):
    code, _, err = no_model("generate", "Hi", *arguments)
    assert code != 0
    assert says in err


@pytest.mark.parametrize(
    ("content", "says"), [("{", "not JSON"), ("[]", "no tags"), ('{"regex": "a"}', "has no tags"), ("3", "not a list")]
)
def test_malformed_tags_are_refused(no_model, tmp_path, content, says):
    file = tmp_path / "tags.json"
    file.write_text(content, encoding="utf-8")
    code, _, err = no_model("generate", "Hi", "--tags", file)
    assert code == 2
    assert says in " ".join(err.split())


def test_file_that_is_no_text_is_refused(no_model, tmp_path):
    file = tmp_path / "schema.json"
    file.write_bytes(b"\xff\xfe\x00")
    code, _, err = no_model("generate", "Hi", "--json-schema", file)
    assert code == 2
    assert "UTF-8" in err
