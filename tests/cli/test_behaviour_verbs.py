"""``trimtab new`` and ``trimtab lint``: files that are written, findings that are shown, and exit codes."""

from __future__ import annotations

import json
import re

import pytest

from trimtab import Behaviour
from trimtab.errors import OutputError
from trimtab.training.agreement import PoleSuggestions, Suggestion, Suggestions

PIRATE = ("--positive", "a pirate", "--negative", "a lawyer")
SUGGESTED = Suggestions(
    PoleSuggestions((Suggestion("a bold [rover]", 0.61),), asked=12, worded=3, agreed=1),
    PoleSuggestions((), asked=12, worded=2, agreed=0),
)
LENGTHS = """
name = "uneven"
[positive]
label = "glad"
personas = ["extremely glad", "a merry soul", "a jolly friend who laughs with all the world"]
[negative]
label = "sad"
personas = ["extremely sad", "a gloomy soul", "a grump"]
"""
BROKEN = LENGTHS.replace('label = "sad"', 'label = "Glad"')


@pytest.fixture
def run(run_on, tiny_llama, tmp_path, monkeypatch):
    """Run ``trimtab ARGUMENTS`` in an empty folder, with a tiny model; gives (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    return run_on(tiny_llama)


@pytest.fixture
def no_model(monkeypatch, run):
    """Run a command where no model can be loaded."""

    def load(*_, **__):
        raise OutputError("no model")

    monkeypatch.setattr("trimtab.engines.transformers.load", load)
    return run


@pytest.fixture
def suggesting(monkeypatch) -> list:
    """Replace the model's suggestions, and return the arguments of the calls."""
    asked = []

    def suggest(engine, behaviour, **options):
        asked.append((behaviour.name, options["count"], options["seed"]))
        return SUGGESTED

    monkeypatch.setattr("trimtab.training.agreement.suggest_phrasings", suggest)
    return asked


# new ---------------------------------------------------------------------------------------------------------------


def test_new_writes_behaviour_and_names_next_steps(no_model, tmp_path):
    code, out, err = no_model("new", "pirate", *PIRATE)
    assert (code, err) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["pirate.toml"]
    assert len(Behaviour.load("pirate.toml").positive.personas) == 4
    assert "Wrote pirate.toml" in out
    assert out.index("trimtab lint pirate.toml") < out.index("trimtab train pirate.toml")


def test_new_json_has_path_and_contents(no_model):
    code, out, _ = no_model("new", "pirate", *PIRATE, "-o", "some/where.toml", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["path"] == "some/where.toml"
    assert told["name"] == Behaviour.load("some/where.toml").name == "pirate"
    assert told["positive"]["label"] == "pirate"
    assert "a lawyer" in told["negative"]["personas"]
    assert (told["templates"], told["overwritten"], told["suggestions"]) == (2, False, None)


def test_new_several_phrasings_are_used_as_given(no_model):
    several = ("--positive", "a pirate", "--positive", "a rover", "--negative", "a lawyer", "--negative", "a clerk")
    assert no_model("new", "pirate", *several)[0] == 0
    assert Behaviour.load("pirate.toml").positive.personas == ("a pirate", "a rover")


def test_new_existing_file_needs_force(no_model, tmp_path):
    (tmp_path / "pirate.toml").write_text("mine")
    code, out, err = no_model("new", "pirate", *PIRATE)
    assert (code, out) == (2, "")
    assert "exists already" in err
    assert "--force" in err
    assert (tmp_path / "pirate.toml").read_text() == "mine"
    code, out, _ = no_model("new", "pirate", *PIRATE, "--force", "--json")
    assert code == 0
    assert json.loads(out)["overwritten"] is True
    assert Behaviour.load("pirate.toml").name == "pirate"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("Sea Pirate", *PIRATE), "try 'sea-pirate'"),
        (("pirate", "--positive", "Happy", "--negative", "happy!"), "the poles must differ"),
        (("pirate", "--positive", "happy"), "--negative"),
        (("pirate", *PIRATE, "-o", "."), "is a folder"),
    ],
)
def test_new_mistake_is_one_line_and_no_file(no_model, tmp_path, arguments, problem):
    code, out, err = no_model("new", *arguments)
    assert (code, out) == (2, "")
    assert problem in err
    assert list(tmp_path.iterdir()) == []


def test_new_zoo_name_prints_warning(no_model):
    assert "The zoo has" in no_model("new", "happy", "--positive", "happy", "--negative", "sad")[1].replace("\n", " ")
    assert "The zoo has" not in no_model("new", "pirate", *PIRATE)[1]


def test_new_phrasings_are_shown_and_not_added(run, suggesting):
    code, out, _ = run("new", "pirate", *PIRATE, "--phrasings", "2")
    assert code == 0
    assert suggesting == [("pirate", 2, 0)]
    assert "of 12 answers 3 were usable, and 1 pointed to the pole" in out
    assert "0.61  a bold [rover]" in out
    assert "a bold [rover]" not in Behaviour.load("pirate.toml").positive.personas
    told = json.loads(run("new", "pirate", *PIRATE, "--phrasings", "2", "--force", "--json")[1])
    assert told["suggestions"]["positive"]["kept"] == [{"text": "a bold [rover]", "agreement": 0.61}]


# lint --------------------------------------------------------------------------------------------------------------


def test_lint_words_only_happy_has_no_problems(no_model):
    code, out, err = no_model("lint", "happy", "--words-only")
    assert (code, err) == (0, "")
    assert out == "happy: no problems\n"


def test_lint_warnings_are_listed_with_code_0(no_model, tmp_path):
    (tmp_path / "uneven.toml").write_text(LENGTHS)
    code, out, _ = no_model("lint", "uneven.toml", "--words-only")
    assert code == 0
    assert "uneven: 2 warnings" in out
    assert "personas[2]" in out


def test_lint_error_is_code_1_and_first(no_model, tmp_path):
    (tmp_path / "broken.toml").write_text(BROKEN)
    code, out, _ = no_model("lint", "broken.toml", "--words-only")
    assert code == 1
    assert out.index("both poles are called") < out.index("personas[2]")
    code, out, _ = no_model("lint", "broken.toml", "--words-only", "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["states"]) == (1, False, None)
    assert told["findings"][0]["level"] == "error"
    assert set(told["findings"][0]) == {"level", "where", "problem", "fix"}


def test_lint_unreadable_file_is_code_2(no_model, tmp_path):
    (tmp_path / "bad.toml").write_text("name = 3")
    code, out, err = no_model("lint", "bad.toml")
    assert (code, out) == (2, "")
    assert err.startswith("trimtab: bad.toml: name")
    assert "no behaviour named" in no_model("lint", "hapy")[2]


def test_lint_predicts_reliability(run):
    code, out, err = run("lint", "happy")
    assert code == 0
    assert "Predicted reliability:" in out
    assert "extremely happy" in out
    assert "Reading pairs" in err
    code, out, _ = run("lint", "happy", "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["name"]) == (0, True, "happy")
    assert told["states"]["prediction"] in ("high", "medium", "low")
    assert len(told["states"]["by_persona"]) == 4
    assert "findings" not in told["states"]


def test_lint_suggest_shows_phrasings(run, suggesting):
    code, out, _ = run("lint", "happy", "--suggest", "3", "--seed", "5", "--json")
    assert code == 0
    assert suggesting == [("happy", 3, 5)]
    assert json.loads(out)["suggestions"]["negative"] == {"kept": [], "asked": 12, "worded": 2, "agreed": 0}
    assert "none was added" in run("lint", "happy", "--suggest", "3")[1]
    code, _, err = run("lint", "happy", "--suggest", "3", "--words-only")
    assert code == 2
    assert "exclude each other" in err


def test_help_lists_new_and_lint_with_examples(run):
    helped = run("--help")[1]
    listed = re.findall(r"^\W*(demo|new|lint|train)\s", helped, re.MULTILINE)
    assert listed == ["demo", "new", "lint", "train"]
    assert "trimtab new pirate" in run("new", "--help")[1]
    assert "trimtab lint pirate.toml" in run("lint", "--help")[1]
