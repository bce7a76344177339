"""The README's commands and code run as they stand."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path

import pytest

import trimtab
from trimtab.cli import main
from trimtab.vectors import vectors_folder

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line.strip() for block in blocks("bash") for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.startswith("trimtab ")]


@pytest.fixture
def workplace(tmp_path, monkeypatch, smollm2, happy):
    """A folder with the trained vector where the README has it, and the model already loaded."""
    happy.save(vectors_folder() / "happy.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trimtab.engines.transformers.load", lambda name=None, **_: smollm2)
    monkeypatch.setattr(trimtab, "load", lambda name=None: smollm2, raising=False)
    monkeypatch.setattr("trimtab.training.train.train", lambda *_, **__: happy)
    monkeypatch.setattr(trimtab, "train", lambda *_, **__: happy, raising=False)


def test_the_readme_shows_every_verb():
    verbs = {command.split()[1] for command in commands()}
    assert verbs >= {"train", "generate", "compare", "chat", "read", "evaluate", "new", "show", "zoo", "doctor"}


def test_every_command_of_the_readme_runs(workplace, capsys, monkeypatch):
    run([command for command in commands() if not takes_minutes(command)], capsys, monkeypatch)


@pytest.mark.slow
def test_the_longest_commands_of_the_readme_run(workplace, capsys, monkeypatch):
    run([command for command in commands() if takes_minutes(command)], capsys, monkeypatch)


def takes_minutes(command: str) -> bool:
    return command.split()[1] in ("evaluate", "distill")


def run(chosen, capsys, monkeypatch):
    assert chosen
    for command in chosen:
        monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n"))
        with pytest.raises(SystemExit) as exit_:
            main(shlex.split(command)[1:])
        assert exit_.value.code == 0, command
        assert capsys.readouterr().out.strip(), command


def test_the_python_of_the_readme_runs(workplace, capsys):
    for code in blocks("python"):
        exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()
