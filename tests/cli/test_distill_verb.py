"""Test ``trimtab distill``: the library call, the files it writes, and early errors."""

from __future__ import annotations

import json

import pytest

import trimtab
from tiny_models import vector_for
from trimtab.cli.distill import read_prompt
from trimtab.errors import EvaluationError
from trimtab.training.distillation.distill import Effort
from trimtab.vectors import vectors_folder

QUICK = ("--steps", "4", "--batch", "2", "--answers", "1", "-n", "4")
BARE = (*QUICK, "--no-check")


@pytest.fixture
def run(run_on, llama):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(llama)


@pytest.fixture
def messages(tmp_path):
    """Write a file of users' messages."""
    path = tmp_path / "messages.txt"
    path.write_text("Hello!\n\n  What is rain?  \nWhy?\nSing.\nWho?\nWell?\nAnd?\nNow?\n")
    return path


def test_distill_writes_vector_and_shows_card(run, messages, tmp_path, llama):
    path = tmp_path / "out" / "pirate.safetensors"
    code, out, err = run("distill", "-p", "You are a pirate.", "-o", path, "--prompts", messages, *QUICK)
    assert code == 0, err
    vector = trimtab.ControlVector.load(path, model=llama)
    assert vector.behaviour.name == "pirate"
    assert vector.distillation.lessons + vector.distillation.others == 8
    assert f"a prompt of {vector.distillation.prompt_tokens} tokens" in out
    assert "Saved to" in out
    assert "carries" in out
    assert "Learning from the prompted model" in err


def test_distill_json_equals_file(run, messages, tmp_path):
    path = tmp_path / "sea.safetensors"
    code, out, _ = run("distill", "-p", "Speak of the sea.", "-o", path, "--prompts", messages, *QUICK, "--json")
    assert code == 0
    said = json.loads(out)
    assert said["path"] == str(path)
    assert said["method"] == "distilled"
    assert said["distillation"]["kl_after"] <= said["distillation"]["kl_before"]
    assert "Learning from the prompted model" in said["seconds"]
    assert said["report"]["prompts"] == 24
    assert list(said["report"]["dial"]) == ["0.0", "0.25", "0.5", "0.75", "1.0", "1.25", "1.5"]


def test_distill_prompt_from_text_or_json_file(run, messages, tmp_path, monkeypatch):
    asked = []

    def distill(model, prompt, **options):
        asked.append((prompt, options))
        return vector_for(model, layers=[1])

    monkeypatch.setattr("trimtab.training.distillation.distill.distill", distill)
    text, chat = tmp_path / "prompt.md", tmp_path / "chat.json"
    text.write_text("Be kind.\nBe brief.\n")
    chat.write_text(json.dumps([{"role": "system", "content": "Hm."}]))
    for given in (text, chat, "Be kind."):
        assert run("distill", "-p", given, "-o", tmp_path / "v.safetensors", "--prompts", messages, *BARE)[0] == 0
    assert [prompt for prompt, _ in asked] == [
        "Be kind.\nBe brief.\n",
        [{"role": "system", "content": "Hm."}],
        "Be kind.",
    ]
    assert asked[0][1]["prompts"][:2] == ["Hello!", "What is rain?"]


def test_distill_options_reach_library(run, tmp_path, monkeypatch, llama):
    below = vector_for(llama, layers=[1])
    below.save(vectors_folder() / "below.safetensors")
    given = {}

    def distill(model, prompt, **options):
        given.update(options)
        return vector_for(model, layers=[1])

    monkeypatch.setattr("trimtab.training.distillation.distill.distill", distill)
    code, _, err = run(
        *(
            "distill",
            "-p",
            "Be kind.",
            "--no-check",
            "-o",
            tmp_path / "v.safetensors",
            "--layers",
            "1-2",
            "--tokens",
            "generated",
        ),
        *("--on-top-of", "below:0.5", "--answers", 3, "-n", 9, "--steps", 7, "--batch", 5, "--seed", 11),
    )
    assert code == 0, err
    assert (given["layers"], given["tokens"], given["seed"], given["name"]) == ([1, 2], "generated", 11, "v")
    assert [(term.vector.behaviour.name, term.strength) for term in given["on_top_of"].terms] == [
        (below.behaviour.name, 0.5)
    ]
    effort = given["effort"]
    assert (effort.answers, effort.answer_tokens, effort.schedule.steps, effort.schedule.batch) == (3, 9, 7, 5)


def test_distill_default_effort_is_library_default(run, tmp_path, monkeypatch):
    given = {}

    def distill(model, prompt, **options):
        given.update(options)
        return vector_for(model, layers=[1])

    monkeypatch.setattr("trimtab.training.distillation.distill.distill", distill)
    assert run("distill", "-p", "Be kind.", "--no-check", "-o", tmp_path / "v.safetensors")[0] == 0
    assert given["effort"] == Effort()


def test_distill_check_on_uses_given_messages(run, messages, tmp_path, monkeypatch):
    asked = {}

    def measure(model, vector, prompt, **options):
        asked.update(options)
        raise EvaluationError("enough")

    monkeypatch.setattr("trimtab.evaluation.distilled.evaluate_distilled", measure)
    others = tmp_path / "others.txt"
    others.write_text("Any bread left?\n\n Are you open? \n")
    given = ("distill", "-p", "Speak of the sea.", "-o", tmp_path / "sea.safetensors", "--prompts", messages, *QUICK)
    assert "enough" in run(*given, "--check-on", others)[2]
    assert asked["prompts"] == ["Any bread left?", "Are you open?"]
    others.write_text("\n")
    assert "no messages to measure on" in run(*given, "--check-on", others)[2]


def test_distill_check_on_training_message_is_refused(no_model, tmp_path):
    others = tmp_path / "others.txt"
    others.write_text("Any bread left?\nHow was your day?\n")
    code, _, err = no_model("distill", "-p", "Sea.", "-o", tmp_path / "x.safetensors", "--check-on", others)
    assert code == 2
    assert "'How was your day?' is among the built-in messages too" in " ".join(err.split())


def test_distill_interrupt_names_resume(run, messages, tmp_path, monkeypatch):
    def distill(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("trimtab.training.distillation.distill.distill", distill)
    path = tmp_path / "v.safetensors"
    code, _, err = run("distill", "-p", "Be kind.", "-o", path, "--prompts", messages)
    assert code == 130
    assert "--resume goes on from here" in err
    assert not path.exists()


@pytest.mark.parametrize(
    ("problem", "ends"), [(KeyboardInterrupt(), 130), (EvaluationError("nothing changes", fix="ask other things"), 2)]
)
def test_distill_failed_check_keeps_vector(run, messages, tmp_path, monkeypatch, llama, problem, ends):
    def measure(*_, **__):
        raise problem

    monkeypatch.setattr("trimtab.evaluation.distilled.evaluate_distilled", measure)
    path = tmp_path / "v.safetensors"
    code, out, err = run("distill", "-p", "Be kind.", "-o", path, "--prompts", messages, *QUICK)
    assert (code, out) == (ends, "")
    assert f"The vector is in {path}" in err
    assert str(problem) in err
    assert trimtab.ControlVector.load(path, model=llama).distillation.steps <= 4


@pytest.mark.parametrize("length", [255, 300, 5000])
def test_prompt_too_long_for_file_name_is_text(length):
    text = ("Speak of the sea. " * length)[:length]
    assert read_prompt(text) == text


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("-p", " "), "the prompt is empty"),
        (("-p", "Hm.", "--prompts", "nowhere.txt"), "'nowhere.txt' cannot be read"),
        (("-p", "Hm.", "-o", "/proc/no/v.safetensors"), "cannot write to"),
        (("-p", "Hm.", "--on-top-of", "nothing:1"), "nothing"),
    ],
)
def test_distill_mistake_fails_before_loading(no_model, options, why):
    code, _, err = no_model("distill", *options)
    assert code == 2
    assert why in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "why"),
    [("{", "is not JSON"), ('"Hm."', "has no list of messages"), ('[{"role": "user", "content": "Hi"}]', "the user")],
)
def test_distill_bad_messages_fail_before_loading(no_model, tmp_path, content, why):
    path = tmp_path / "chat.json"
    path.write_text(content)
    code, _, err = no_model("distill", "-p", path)
    assert code == 2
    assert why in err


def test_distill_report_writes_page(run, messages, tmp_path):
    page = tmp_path / "sea.html"
    given = ("distill", "-p", "Speak of the sea.", "-o", tmp_path / "sea.safetensors", "--prompts", messages, *QUICK)
    code, out, err = run(*given, "--report", page)
    assert code == 0, err
    assert "'sea' carries" in page.read_text().replace("&#39;", "'")
    assert str(page) in " ".join(out.split())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--report", "sea.txt"), "does not end with .html"),
        (("--report", "sea.html", "--no-check"), "need the measurement"),
        (("--lora", "--no-check"), "need the measurement"),
        (("--check-on", "MESSAGES", "--no-check"), "need the measurement"),
        (("--check-on", "MESSAGES"), "'Hello!' is in --prompts too"),
    ],
)
def test_distill_conflicting_options_are_refused(run, messages, tmp_path, more, said):
    more = [messages if each == "MESSAGES" else each for each in more]
    code, _, err = run("distill", "-p", "Sea.", "-o", tmp_path / "x.safetensors", "--prompts", messages, *QUICK, *more)
    assert code != 0
    assert said in " ".join(err.split())
    assert not (tmp_path / "x.safetensors").exists()
