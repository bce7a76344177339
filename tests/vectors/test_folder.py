"""Vectors folder: files of names and paths."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sample_vectors import make_vector
from trimtab.errors import VectorError
from trimtab.vectors import find_vector, packaged_path, vector_path, vectors_folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create an empty vectors folder, and an empty current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path / "vectors"))
    return tmp_path / "vectors"


def test_folder_from_environment(folder):
    assert vectors_folder() == folder


@pytest.mark.skipif(sys.platform != "linux", reason="where data lives differs between systems")
@pytest.mark.parametrize("unset", [None, ""])
def test_folder_defaults_to_user_data(tmp_path, monkeypatch, unset):
    monkeypatch.delenv("TRIMTAB_VECTORS")
    if unset is not None:
        monkeypatch.setenv("TRIMTAB_VECTORS", unset)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert vectors_folder() == tmp_path / "data" / "trimtab" / "vectors"


def test_vector_path_of_name_is_in_folder(folder):
    assert vector_path("happy") == folder / "happy.safetensors"
    assert vector_path("happy-v1.5") == folder / "happy-v1.5.safetensors"


@pytest.mark.parametrize("path", ["happy.safetensors", "./a/happy", "a/happy.safetensors", "/v/happy", "../happy"])
def test_vector_path_of_path_is_unchanged(path):
    assert vector_path(path) == Path(path)


def test_vector_path_of_local_file_without_suffix():
    make_vector("here").save("happy.safetensors").rename("happy")
    assert vector_path("happy") == Path("happy")
    assert find_vector("happy").behaviour.name == "here"


def test_find_vector_by_name(folder):
    make_vector("happy").save(folder / "happy.safetensors")
    make_vector("elsewhere").save("happy.safetensors")
    assert find_vector("happy").behaviour.name == "happy"


def test_find_vector_by_path(tmp_path, folder):
    make_vector("happy").save(folder / "happy.safetensors")
    path = make_vector("elsewhere").save(tmp_path / "a" / "happy.safetensors")
    assert find_vector(str(path)).behaviour.name == "elsewhere"


def test_find_vector_misspelt_suggests_near_names(folder):
    for name in ("happy", "happier", "formal"):
        make_vector(name).save(folder / f"{name}.safetensors")
    with pytest.raises(VectorError) as caught:
        find_vector("hapy")
    assert "no vector named 'hapy'" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "did you mean 'happy' or 'happier'?" in str(caught.value)
    assert "formal" not in str(caught.value)


def test_find_vector_unknown_suggests_training(folder):
    make_vector().save(folder / "formal.safetensors")
    with pytest.raises(VectorError, match=r"no vector named 'zzz'.*make it: trimtab train zzz"):
        find_vector("zzz")


def test_find_vector_without_folder_is_refused(folder):
    with pytest.raises(VectorError, match=r"no vector named 'happy'.*trimtab train happy"):
        find_vector("happy")
    assert not folder.exists()


@pytest.mark.parametrize("path", ["missing.safetensors", "no/such/happy", "../happy.safetensors"])
def test_find_vector_missing_path_is_refused(path):
    with pytest.raises(VectorError, match=rf"vector file '{path}' does not exist"):
        find_vector(path)


def test_find_vector_too_long_name_is_refused():
    with pytest.raises(VectorError, match="no vector named 'x"):
        find_vector("x" * 5000)


def test_find_vector_broken_file_names_file(folder):
    folder.mkdir()
    (folder / "happy.safetensors").write_text("not a vector")
    with pytest.raises(VectorError) as caught:
        find_vector("happy")
    assert str(folder / "happy.safetensors") in str(caught.value)


# Vectors that come with trimtab


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vector "happy" that comes with trimtab."""
    monkeypatch.setattr("trimtab.vectors.vector.PACKAGED", tmp_path / "zoo")
    return make_vector("packaged").save(tmp_path / "zoo" / "happy.safetensors")


def test_find_vector_by_name_of_packaged_one(packaged):
    assert packaged_path("happy") == packaged
    assert find_vector("happy").behaviour.name == "packaged"
    assert vector_path("happy") == vectors_folder() / "happy.safetensors"  # where a new one is written


def test_find_vector_prefers_path_then_own_then_packaged(packaged, folder):
    make_vector("own").save(folder / "happy.safetensors")
    assert find_vector("happy").behaviour.name == "own"
    make_vector("path").save("happy.safetensors").rename("happy")
    assert find_vector("happy").behaviour.name == "path"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../zoo/happy", "zoo/happy", "/happy", "happy.safetensors", "x" * 5000]
)
def test_packaged_path_takes_names_alone(packaged, name):
    assert packaged_path(name) is None


def test_find_vector_misspelt_suggests_packaged_one(packaged):
    with pytest.raises(VectorError, match=r"no vector named 'hapy'.*did you mean 'happy'"):
        find_vector("hapy")


def test_find_vector_needs_no_torch(packaged):
    code = (
        "from pathlib import Path; import sys, trimtab.vectors.vector as v;"
        "v.PACKAGED = Path(sys.argv[1]).parent; print(v.find_vector('happy').behaviour.name, 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(packaged)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert found.stdout == "packaged False\n"
