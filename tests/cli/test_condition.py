"""``trimtab condition``: files of prompts, readers, and fitted thresholds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trimtab import ControlVector
from trimtab.cli import main
from trimtab.cli.condition import parse_rate, read_prompts
from trimtab.errors import PromptError, SteeringError
from trimtab.vectors import vectors_folder

VOWELS, DIGITS = "aeiouy", "0123456789"


def prompts(letters: str, count: int, seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    return ["".join(random.choice(list(letters), size=12)) for _ in range(count)]


@pytest.fixture
def run(run_on, tiny_llama):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(tiny_llama)


@pytest.fixture
def files(tmp_path):
    """Files of prompts by kind: vowels read high, digits low; 60 others of each."""
    given = {
        "high.txt": prompts(VOWELS, 15, 1),
        "low.txt": prompts(DIGITS, 15, 2),
        "more-high.txt": prompts(VOWELS, 60, 3),
        "more-low.txt": prompts(DIGITS, 60, 4),
    }
    for name, texts in given.items():
        (tmp_path / name).write_text("\n".join(texts))
    return tmp_path


def trained(run, files, *more):
    return run("condition", "train", "vowels", "--positive", files / "high.txt", "--negative", files / "low.txt", *more)


def test_condition_train_validates_and_saves_reader(run, files):
    tried = ("--valid-positive", files / "more-high.txt", "--valid-negative", files / "more-low.txt")
    code, out, _ = trained(run, files, *tried, "--json")
    assert code == 0
    said = json.loads(out)
    assert said["path"] == str(vectors_folder() / "vowels.safetensors")
    assert said["valid_auroc"] > 0.9
    assert said["reader"]["positives"] == 15
    assert ControlVector.load(said["path"]).reader.auroc == said["reader"]["auroc"]


def test_condition_train_names_next_command(run, files):
    code, out, _ = trained(run, files)
    assert code == 0
    assert "AUROC" in out
    assert "trimtab condition fit vowels --negative FILE" in " ".join(out.split())


def test_condition_fit_saves_and_explains_threshold(run, files):
    path = files / "vowels.safetensors"
    trained(run, files, "-o", path)
    arguments = ("condition", "fit", path, "--negative", files / "more-low.txt", "--positive", files / "more-high.txt")
    code, out, _ = run(*arguments, "--rate", "5%", "--json")
    assert code == 0
    said = json.loads(out)
    vector = ControlVector.load(path)
    assert said["threshold"] == vector.fitted_threshold(0.05, at="prompt")
    assert said["false_positive_rate"] == pytest.approx(0.05, abs=0.05)
    low, high = said["interval"]
    assert low < 0.05 < high
    assert said["true_positive_rate"] > 0.5
    assert said["auroc"] > 0.9
    assert said["use"] == f"--steer 'refusal:0.5 when {path} > fpr 5% at prompt'"
    code, out, _ = run(*arguments)
    assert code == 0
    assert "Threshold at prompt" in out
    assert "> fpr 2% at prompt" in " ".join(out.split())


@pytest.mark.parametrize("at", ["last-user-turn", "token"])
def test_condition_fit_adds_other_positions(run, files, at):
    path = files / "vowels.safetensors"
    trained(run, files, "-o", path)
    other = files / "other.safetensors"
    code, _, _ = run("condition", "fit", path, "--negative", files / "more-low.txt", "--at", at, "-o", other)
    assert code == 0
    assert [fit.at for fit in ControlVector.load(other).fits] == [at]
    assert ControlVector.load(path).fits == ()


MISTAKES = [
    (("train", "x", "--positive", "none.txt", "--negative", "low.txt"), "cannot be read"),
    (("train", "x", "--positive", "few.txt", "--negative", "low.txt"), "2 different positive texts"),
    (("train", "x", "--positive", "low.txt", "--negative", "low.txt"), "positive and negative"),
    (
        ("train", "x", "--positive", "high.txt", "--negative", "low.txt", "--valid-positive", "high.txt"),
        "--valid-negative",
    ),
    (("fit", "nobody", "--negative", "low.txt"), "no vector named 'nobody'"),
    (("fit", "plain", "--negative", "low.txt"), "too few for a rate of 2%"),
    (("fit", "plain", "--negative", "more-low.txt"), "no neutral statistics"),
    (("fit", "plain", "--negative", "more-low.txt", "--at", "end"), "cannot read at 'end'"),
    (("fit", "plain", "--negative", "low.txt", "--rate", "x"), "not a rate"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES)
def test_condition_mistake_is_one_line_and_code_2(run, files, tiny_llama, random_vector, arguments, says):
    (files / "few.txt").write_text("one\n\ntwo\n")
    random_vector(tiny_llama, name="plain").save(vectors_folder() / "plain.safetensors")
    arguments = [files / argument if argument.endswith(".txt") else argument for argument in arguments]
    code, out, err = run("condition", *arguments)
    assert code == 2
    assert out == ""
    assert says in err.strip().splitlines()[-1]
    assert "Traceback" not in err


def test_read_prompts_accepts_lines_lists_objects(tmp_path):
    forms = {
        "a.txt": "one\n\n  two \n",
        "a.json": '["one", "two"]',
        "b.json": '[{"instruction": "one"}, {"prompt": "two", "more": 1}]',
        "a.jsonl": '{"text": "one"}\n\n"two"\n',
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        assert read_prompts(str(tmp_path / name)) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"\n \n", "has no prompts"),
        ("a.txt", b"\xff\xfe\xff", "not UTF-8"),
        ("a.json", b"{", "is not JSON"),
        ("a.json", b'{"text": "one"}', "has no prompts"),
        ("a.json", b'["one", 2]', "entry 2"),
        ("a.jsonl", b'"one"\n{"other": "two"}', "entry 2"),
        ("a.jsonl", b'" "', "entry 1"),
    ],
)
def test_read_prompts_refuses_other_files(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=says):
        read_prompts(str(tmp_path / name))
    with pytest.raises(PromptError, match="cannot be read"):
        read_prompts(str(tmp_path))


def test_parse_rate_accepts_percent_and_fraction():
    assert parse_rate("2%") == parse_rate("0.02") == 0.02
    for wrong in ("2", "0", "100%", "-1%", "nan", "two", ""):
        with pytest.raises(SteeringError, match="not a rate"):
            parse_rate(wrong)


def test_condition_help_shows_example(capsys):
    for verb in ("train", "fit"):
        with pytest.raises(SystemExit):
            main(["condition", verb, "--help"])
        assert f"trimtab condition {verb}" in " ".join(capsys.readouterr().out.split())
