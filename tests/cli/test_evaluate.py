"""``trimtab evaluate``: what it passes on, what it writes where, and what it refuses before the work."""

from __future__ import annotations

import json
import re

import pytest

import trimtab
from evaluation.sample_report import working
from trimtab import Behaviour, ControlVector
from trimtab.behaviours import ChoiceText
from trimtab.evaluation.cards import card_json, card_of, read_card
from trimtab.evaluation.interventions import BOTH, EQUAL, FEW_SHOT, SYSTEM
from trimtab.evaluation.measurement import Sizes
from trimtab.evaluation.metrics.judge import Judge
from trimtab.evaluation.report import report_json
from trimtab.vectors import vectors_folder

QUICK = ("--questions", "4", "--max-new-tokens", "4", "--baselines", "prompt")


@pytest.fixture
def run(run_on, tiny_llama):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(tiny_llama)


@pytest.fixture(scope="module")
def trained(tiny_llama) -> ControlVector:
    return trimtab.train(tiny_llama, Behaviour.load("happy"), max_pairs=24, layers=[1, 2], check=False, refine=2)


@pytest.fixture(autouse=True)
def happy_file(trained):
    """Save a vector named 'happy' in the vectors folder."""
    return trained.save(vectors_folder() / "happy.safetensors")


@pytest.fixture
def asked(monkeypatch) -> dict:
    """Replace ``evaluate``, and return the arguments of its call."""
    given: dict = {}

    def evaluate(model, vector, **options):
        given.update(options, model=model, vector=vector)
        return working()

    monkeypatch.setattr("trimtab.evaluation.evaluate.evaluate", evaluate)
    return given


# Really evaluating


def test_evaluate_writes_report_card_and_json(run, tmp_path, tiny_llama):
    page, card = tmp_path / "out" / "happy.html", tmp_path / "happy.json"
    written = ("--report", page, "--card", card)
    code, out, err = run("evaluate", "happy", *QUICK, *written, "--json")
    assert code == 0
    said = json.loads(out)
    assert [each["name"] for each in said["interventions"]] == ["vector", "system prompt"]
    assert len(said["setting"]["questions"]) == 4
    assert said["setting"]["written_tokens"] == 4
    assert page.read_text().startswith("<!DOCTYPE html>")
    kept = read_card(card.read_bytes(), where="card")
    assert (kept.name, kept.model, kept.word) == ("happy", "tiny llama", said["verdict"]["word"])
    for path in (page, card):
        assert f"wrote {path}" in err
    assert "Measuring strengths: " in err  # phases, with their seconds


# Output and options


def test_evaluate_prints_report(run, asked):
    code, out, _ = run("evaluate", "happy")
    assert code == 0
    assert "works" in out
    assert working().base.answers[0][:20] in out
    with pytest.raises(json.JSONDecodeError):
        json.loads(out)


def test_evaluate_json_is_only_the_report(run, asked):
    _, out, err = run("evaluate", "happy", "--json")
    assert json.loads(out) == json.loads(json.dumps(report_json(working())))
    assert "wrote" not in err


def test_evaluate_card_equals_report_card(run, asked, tmp_path):
    run("evaluate", "happy", "--card", tmp_path / "c.json")
    assert (tmp_path / "c.json").read_bytes() == card_json(card_of(working()))


def test_evaluate_defaults_are_library_defaults(run, asked, tiny_llama, trained):
    run("evaluate", "happy")
    assert asked["model"] is tiny_llama
    assert asked["vector"].behaviour == trained.behaviour
    assert asked["baselines"] == (SYSTEM,)
    assert asked["sizes"] == Sizes()
    assert (asked["behaviour"], asked["lora"], asked["seed"]) == (None, False, 0)
    assert (asked["scorers"], asked["choices"], asked["truthfulqa"]) == ((), (), ())


def test_evaluate_options_reach_library(run, asked, tmp_path):
    (tmp_path / "choices.json").write_text(json.dumps([{"question": "Tea?", "positive": "Yes", "negative": "No"}]))
    truth = [{"question": "Is rain wet?", "mc1_targets": {"Yes": 1, "No": 0}}]
    (tmp_path / "mc_task.json").write_text(json.dumps(truth))
    code, _, _ = run(
        *("evaluate", "happy", "--behaviour", "formal", "--lora", "--seed", "7", "-n", "9", "--questions", "6"),
        *("--choices", tmp_path / "choices.json", "--truthfulqa", tmp_path),
        *("--judge-url", "http://localhost:1/v1", "--judge-model", "wise"),
    )
    assert code == 0
    assert asked["behaviour"] == Behaviour.load("formal")
    assert (asked["lora"], asked["seed"]) == (True, 7)
    assert asked["sizes"] == Sizes(questions=6, written_tokens=9)
    assert asked["choices"] == (ChoiceText("Tea?", "Yes", "No"),)
    assert asked["truthfulqa"][0].choices == ("Yes", "No")
    (judge,) = asked["scorers"]
    assert isinstance(judge, Judge)
    assert (judge.url, judge.model) == ("http://localhost:1/v1", "wise")
    assert "formal" in judge.positive


def test_evaluate_judge_uses_vector_behaviour(run, asked):
    run("evaluate", "happy", "--judge-url", "http://localhost:1/v1", "--judge-model", "wise")
    (judge,) = asked["scorers"]
    assert "happy" in judge.positive


@pytest.mark.parametrize(
    ("text", "baselines"),
    [
        ("all", (EQUAL, SYSTEM, FEW_SHOT, BOTH)),
        ("none", ()),
        ("few-shot", (FEW_SHOT,)),
        ("both, prompt,", (BOTH, SYSTEM)),
    ],
)
def test_evaluate_baselines_by_short_name(run, asked, text, baselines):
    run("evaluate", "happy", "--baselines", text)
    assert asked["baselines"] == baselines


def test_evaluate_force_takes_vector_of_other_model(run, asked, tiny, random_vector, tmp_path):
    other = random_vector(tiny("llama", seed=1), name="happy").save(tmp_path / "other.safetensors")
    run("evaluate", other, "--force")
    assert asked["vector"].model.fingerprint == ""


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--baselines", "equal,magic"), "unknown baseline 'magic'; use 'all', 'none', or some of equal, prompt"),
        (("--report", "page.pdf"), "'page.pdf' does not end with .html"),
        (("--card", "card.html"), "'card.html' does not end with .json"),
        (("--report", "file/page.html"), "cannot write to 'file'"),
        (("--card", "folder.json"), "'folder.json' is a folder"),
        (("--behaviour", "hapy"), "did you mean 'happy'"),
        (("--choices", "none.json"), "does not exist"),
        (("--truthfulqa", "nowhere"), "no mc_task.json that can be read"),
        (("--judge-url", "http://localhost:1/v1"), "a judge needs a URL and a model"),
        (("--judge-model", "wise"), "a judge needs a URL and a model"),
        (("--questions", "3"), "greater than or equal to 4"),
    ],
)
def test_evaluate_mistake_fails_before_loading(no_model, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    code, out, err = no_model("evaluate", "happy", *arguments)
    assert code == 2
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("trimtab: ")
    assert says in re.sub(r"\s+", " ", last)


def test_evaluate_missing_vector_fails_before_loading(no_model):
    code, out, err = no_model("evaluate", "nobody")
    assert (code, out) == (2, "")
    assert "no vector named 'nobody'" in err


def test_evaluate_unknown_behaviour_is_error(run, random_vector, tiny_llama):
    random_vector(tiny_llama, name="mine").save(vectors_folder() / "mine.safetensors")
    code, _, err = run("evaluate", "mine")
    assert code == 2
    assert "no behaviour named 'mine' is in the zoo; name a behaviour" in err
