"""Drafts of behaviour files: valid, matched, and readable after "You are"."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trimtab import Behaviour
from trimtab.behaviours import builtin_suffixes
from trimtab.behaviours.draft import draft, slug
from trimtab.behaviours.lint import lint_words
from trimtab.behaviours.schema import DEFAULT_TEMPLATES
from trimtab.errors import BehaviourError


def drafted(tmp_path, positive, negative) -> Behaviour:
    path = tmp_path / "drafted.toml"
    path.write_text(draft("drafted", positive, negative), encoding="utf-8")
    return Behaviour.load(path)


PHRASES = [
    ("a pirate", "a lawyer", "first and foremost a pirate"),
    ("An honest man", "an utter liar", "first and foremost an honest man"),
    ("Blackbeard", "a lawyer", "unmistakably Blackbeard"),
    ("happy", "sad", "happy in everything you say"),
    ("calm and {peaceful}", "extremely angry", "unmistakably calm and {peaceful}"),
    ("someone who never lies", "who always lies", "someone who never lies in everything you say"),
    ("who always lies", "someone who never lies", "someone who always lies"),
    ("never late", "always late", "first and foremost never late"),
    ("You are talking like a pirate.", "talking like a lawyer", "unmistakably talking like a pirate"),
]


@pytest.mark.parametrize(("positive", "negative", "expected"), PHRASES)
def test_draft_of_one_phrasing_has_four_personas(tmp_path, positive, negative, expected):
    behaviour = drafted(tmp_path, [positive], [negative])
    assert expected in behaviour.positive.personas
    assert len(set(behaviour.positive.personas)) == len(set(behaviour.negative.personas)) == 4


@pytest.mark.parametrize(("positive", "negative", "expected"), PHRASES)
def test_draft_has_no_lint_errors(tmp_path, positive, negative, expected):
    found = [f for f in lint_words(drafted(tmp_path, [positive], [negative])) if f.level == "error"]
    assert not found


@pytest.mark.parametrize(("positive", "negative"), [("a pirate", "a lawyer"), ("sad", "happy"), ("in pain", "well")])
def test_draft_poles_differ_only_in_given_phrasing(tmp_path, positive, negative):
    behaviour = drafted(tmp_path, [positive], [negative])
    plain = {positive: "*", negative: "*"}
    sides = []
    for pole, given_word in ((behaviour.positive, positive), (behaviour.negative, negative)):
        sides.append([persona.replace(given_word, plain[given_word]) for persona in pole.personas])
    assert sides[0] == sides[1]


def test_draft_of_several_phrasings_uses_them_as_personas(tmp_path):
    behaviour = drafted(tmp_path, ["a pirate", "a buccaneer"], ["a lawyer", "an attorney."])
    assert behaviour.positive.personas == ("a pirate", "a buccaneer")
    assert behaviour.negative.personas == ("a lawyer", "an attorney")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("a pirate", "pirate"),
        ("a salty captain, bold and loud", "salty captain, bold and"),
        ("extremely calm and peaceful", "extremely calm and peaceful"),
        ("in a gloomy mood", "in a gloomy mood"),
        ("someone who never lies", "never lies"),
        ("always late", "always late"),
    ],
)
def test_draft_label_is_short_without_article(tmp_path, text, label):
    assert drafted(tmp_path, [text], ["odd"]).positive.label == label


def test_draft_labels_of_similar_phrasings_are_distinct(tmp_path):
    behaviour = drafted(tmp_path, ["a man who always sings at home"], ["a man who always sings at work"])
    assert behaviour.positive.label == "a man who always sings at home"
    assert behaviour.negative.label == "a man who always sings at work"


def test_draft_explains_fields_and_has_optional_ones():
    text = draft("drafted", ["a pirate"], ["a lawyer"])
    comments = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    fields = [n for n, line in enumerate(comments) if line.startswith(("suffixes", "[[", "system", "user", "prompts"))]
    opened = tomllib.loads("\n".join(comments[n] for n in fields))
    assert opened["templates"] == [
        {**template, **opened["templates"][n]} for n, template in enumerate(DEFAULT_TEMPLATES)
    ]
    assert len(opened["suffixes"]) >= 2
    # the line before every field is a comment
    lines = text.splitlines()
    for n, line in enumerate(lines):
        if line.split(" ")[0] in ("name", "description", "[positive]", "[negative]"):
            assert lines[n - 1].startswith("# "), line


def test_draft_uncommented_loads(tmp_path):
    text = draft("drafted", ["a pirate"], ["a lawyer"])
    starts = ("# suffixes =", "# [[", "# system =", "# user =", "# [evaluation]", "# prompts =")
    opened = [line[2:] if line.startswith(starts) else line for line in text.splitlines()]
    (tmp_path / "open.toml").write_text("\n".join(opened))
    behaviour = Behaviour.load(tmp_path / "open.toml")
    assert behaviour.evaluation_prompts
    assert behaviour.suffixes != builtin_suffixes()
    (tmp_path / "closed.toml").write_text(text)
    assert behaviour.templates == Behaviour.load(tmp_path / "closed.toml").templates


@settings(max_examples=60)
@given(st.text(max_size=30), st.text(max_size=30))
def test_draft_of_arbitrary_text_is_valid_or_refused(tmp_path_factory, positive, negative):
    try:
        text = draft("drafted", [positive], [negative])
    except BehaviourError:
        assume(False)
    path = tmp_path_factory.mktemp("drafts") / "drafted.toml"
    path.write_text(text, encoding="utf-8")
    assert len(Behaviour.load(path).positive.personas) == 4


@pytest.mark.parametrize(
    ("name", "suggestion"), [("Sea Pirate", "sea-pirate"), ("Élan vital!", "elan-vital"), ("-x-", "x")]
)
def test_draft_invalid_name_suggests_valid_one(name, suggestion):
    assert slug(name) == suggestion
    with pytest.raises(BehaviourError, match=f"try '{suggestion}'"):
        draft(name, ["a"], ["b"])


@pytest.mark.parametrize(
    ("positive", "negative", "problem"),
    [
        (["who lies"], ["someone who lies"], "both poles say 'someone who lies'"),
        (["Happy!"], ["happy"], "both poles say 'happy'"),
        (["a pirate"], ["the pirate"], "both poles say 'pirate'"),
        ([" "], ["happy"], "the positive pole is empty"),
        (["a!"], ["happy"], "the positive pole is empty"),
        (["happy"], [], "the negative pole is empty"),
        (["a pirate", "a rover"], ["a lawyer"], "2 positive and 1 negative"),
    ],
)
def test_draft_without_contrast_is_refused(positive, negative, problem):
    with pytest.raises(BehaviourError, match=problem):
        draft("drafted", positive, negative)
