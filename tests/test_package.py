"""Package: cost of importing it, public names and version."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import trimtab

ROOT = Path(__file__).parent.parent


def modules_after(code: str) -> set[str]:
    listing = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(listing.stdout.split())


def test_import_trimtab_without_torch_and_numpy():
    loaded = modules_after("import trimtab")
    assert not loaded & {"torch", "numpy", "transformers", "pydantic", "sklearn"}


def test_cli_help_without_torch_and_numpy():
    loaded = modules_after(
        "from trimtab.cli import main\nimport contextlib, io\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n    main(['--help'])"
    )
    assert not loaded & {"torch", "numpy", "transformers", "sklearn"}


@pytest.mark.parametrize("names", ["Behaviour, ControlVector, Steering, Term, TrimtabError"])
def test_values_import_without_torch(names):
    assert "torch" not in modules_after(f"from trimtab import {names}")


def test_public_names_are_importable():
    for name in trimtab.__all__:
        assert getattr(trimtab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = trimtab.nonsense


def test_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == trimtab.__version__
    assert f"## {trimtab.__version__}" in (ROOT / "CHANGELOG.md").read_text()
