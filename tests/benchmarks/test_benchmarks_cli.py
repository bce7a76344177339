"""Command line of the benchmarks: output, result files and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import estimators, extraction, processes, steering
from benchmarks.cli import main

ROOT = Path(__file__).parents[2]
SMALL = ("--cases", "ten-prompts", "--rounds", "1", "--dtypes", "float32", "--prompts", "10", "--threads", "1")


@pytest.fixture
def run(capsys, tmp_path):
    """Run ``extraction ARGUMENTS`` into a folder; gives (code, stdout, stderr)."""

    def call(*arguments: str):
        with pytest.raises(SystemExit) as exit_:
            main(["extraction", "-o", str(tmp_path / "results"), *SMALL, *arguments])
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    return call


@pytest.mark.slow
def test_extraction_of_both_trimtab_sides_agrees_and_is_written(run, tmp_path):
    code, out, err = run("--json")
    assert code == 0
    measured = json.loads(out)
    case = measured["dtypes"]["float32"]["ten-prompts"]
    assert measured["complete"] is True
    assert case["prompts"] == 10
    assert case["distinct_tokens"] < case["tokens"]
    assert set(case["sides"]) == {"trimtab", "trimtab-plain"}
    assert case["difference"]["trimtab-plain"] < 1e-4
    assert case["ratios"]["trimtab-plain"]["times_cpu"] > 0
    assert "repeng is left out" in err
    assert json.loads((tmp_path / "results" / "extraction.json").read_text()) == measured


def test_extraction_interrupted_prints_figures_leaves_no_worker(run, monkeypatch):
    fake = Path(__file__).with_name("fake_worker.py")
    monkeypatch.setattr(processes, "trimtab_command", lambda job: [sys.executable, str(fake)])
    started = []
    start = extraction.start_trimtab

    def recorded(*arguments):
        started.append(start(*arguments))
        return started[-1]

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(extraction, "start_trimtab", recorded)
    monkeypatch.setattr(extraction, "largest_difference", stopped)
    code, out, err = run()
    assert code == 130
    assert "ten-prompts" in out
    assert "trimtab: stopped" in err
    assert len(started) == 2
    for worker in started:
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--peer", "nowhere/python"), "there is no interpreter 'nowhere/python'"),
        (("--cases", "ten-promts"), "there is no case 'ten-promts'"),
        (("--dtypes", "int8"), "there is no dtype 'int8'"),
        (("--data", "nowhere"), "holds no repeng/true_facts.json or repeng/all_truncated_outputs.json"),
    ],
)
def test_wrong_option_ends_with_one_line_and_code_2(run, arguments, says):
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert says in err.strip().splitlines()[-1]


def test_help_shows_an_example_without_importing_torch():
    code = "import sys; sys.argv[1:] = ['extraction', '--help']; from benchmarks.cli import main\n"
    code += "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Example: python -m benchmarks extraction" in shown.stdout


STEERING = ("steering", "--rounds", "1", "--tokens", "3")


@pytest.mark.slow
def test_steering_is_printed_and_written(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(steering, "BATCH", 2)
    with pytest.raises(SystemExit) as exit_:
        main([*STEERING, "-o", str(tmp_path), "--json"])
    assert exit_.value.code == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["complete"] is True
    assert measured["rows"]["2"]["mixes"]["step"]["cpu"]["ratio"] > 0
    assert json.loads((tmp_path / "steering.json").read_text()) == measured


def test_steering_interrupted_prints_and_writes_figures(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(steering, "BATCH", 2)
    turn = steering._turn
    turns = []

    def stopped(engine, side, *arguments, **options):
        turns.append(side.name)
        if turns.count("monitor") == 4:  # two to warm up, one of one row, one of two
            raise KeyboardInterrupt
        return turn(engine, side, *arguments, **options)

    monkeypatch.setattr(steering, "_turn", stopped)
    with pytest.raises(SystemExit) as exit_:
        main([*STEERING, "-o", str(tmp_path)])
    captured = capsys.readouterr()
    assert exit_.value.code == 130
    assert "trimtab: stopped" in captured.err
    assert "vector, monitor" in captured.out
    written = json.loads((tmp_path / "steering.json").read_text())
    assert written["complete"] is False
    assert set(written["rows"]["2"]) == {"one vector"}


def test_estimators_interrupted_prints_and_writes_results(capsys, tmp_path, monkeypatch):
    raw = {"coefficient": {"+": 1.0, "-": 1.0}, "kl": {"+": 0.1, "-": 0.1}, "effect": {"+": 0.1, "-": -0.1}}
    estimates = {
        name: {
            "layers": [1],
            "raw": raw,
            "scale": {"+": 1.0, "-": 1.0},
            "effect": {"+": [swing], "-": [0.0]},
            "written": [swing / 2],
        }
        for name, swing in (("trimtab", 0.6), ("CAA", 0.4))
    }
    job = {"model": "toy", "device": "cpu", "budget": 0.4, "questions": 1, "versions": {"python": "3"}}
    one = {"behaviour": "happy", "job": job, "peer": None, "pairs": 4, "method": "mean_difference",
           "prompt_swing": [0.2], "prompt_written": [0.2], "estimators": estimates}  # fmt: skip

    def stopped(plan, folder, **_):
        assert plan.behaviours == ("happy", "calm")
        assert folder == tmp_path / "estimators"
        yield one
        raise KeyboardInterrupt

    monkeypatch.setattr(estimators, "benchmark", stopped)
    with pytest.raises(SystemExit) as exit_:
        main(["estimators", "--behaviours", "happy,calm", "-o", str(tmp_path)])
    captured = capsys.readouterr()
    assert exit_.value.code == 130
    assert "| happy | 0.600 | 0.400 |" in captured.out
    assert "| happy | 0.300 | 0.200 |" in captured.out
    assert "trimtab − CAA: +0.200" in captured.out
    assert "repeng is left out" in captured.err
    assert json.loads((tmp_path / "estimators.json").read_text())["complete"] is False
    assert (tmp_path / "estimators.png").is_file()


def test_estimators_unknown_behaviour_is_refused_before_work(capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_:
        main(["estimators", "--behaviours", "nonsense", "-o", str(tmp_path)])
    assert exit_.value.code == 2
    assert "no behaviour named 'nonsense' in the zoo" in capsys.readouterr().err
