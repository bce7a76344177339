"""The wheel and the source distribution have the page, its palette, and no sources of it beside them."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from trimtab.server.page import FILES

ROOT = Path(__file__).parents[2]
WANTED = {f"trimtab/server/web/{name}" for name, _ in FILES.values()} | {"trimtab/palette.css"}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("hatchling", reason="make test-web installs it")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return folder


def test_wheel_has_the_page(built):
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        assert names >= WANTED
        assert wheel.read("trimtab/server/web/index.html") == (ROOT / "src/trimtab/server/web/index.html").read_bytes()
    assert not any("node_modules" in name or name.startswith("web/") for name in names)


def test_source_distribution_has_the_page(built):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {f"src/{name}" for name in WANTED}
    assert not any("node_modules" in name for name in names)
