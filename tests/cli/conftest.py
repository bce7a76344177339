"""Running the command line in the tests."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from trimtab.cli import main


@pytest.fixture
def run_on(capsys, monkeypatch) -> Callable[..., Any]:
    """``run_on(engine)`` gives what runs ``trimtab ARGUMENTS`` with that engine loaded: (code, stdout, stderr)."""

    def runner(engine: Any) -> Callable[..., Any]:
        monkeypatch.setattr("trimtab.engines.transformers.load", lambda name=None, **_: engine)

        def call(*arguments: Any, stdin: str = "") -> tuple[Any, str, str]:
            monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
            with pytest.raises(SystemExit) as exit_:
                main(list(map(str, arguments)))
            captured = capsys.readouterr()
            return exit_.value.code, captured.out, captured.err

        return call

    return runner


@pytest.fixture
def no_model(monkeypatch, run):
    """Run a command where loading a model fails the test."""

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("trimtab.engines.transformers.load", load)
    return run
