"""The vectors folder: files of names and paths."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sample_vectors import make_vector
from trimtab.errors import VectorError
from trimtab.vectors import find_vector, vector_path, vectors_folder


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty vectors folder, beside an empty current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path / "vectors"))
    return tmp_path / "vectors"


def test_the_folder_is_the_one_that_the_environment_names(folder):
    assert vectors_folder() == folder


@pytest.mark.skipif(sys.platform != "linux", reason="where data lives differs between systems")
@pytest.mark.parametrize("unset", [None, ""])
def test_without_the_environment_the_folder_is_in_the_users_data(tmp_path, monkeypatch, unset):
    monkeypatch.delenv("TRIMTAB_VECTORS")
    if unset is not None:
        monkeypatch.setenv("TRIMTAB_VECTORS", unset)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert vectors_folder() == tmp_path / "data" / "trimtab" / "vectors"


def test_a_name_stands_for_a_file_in_the_folder(folder):
    assert vector_path("happy") == folder / "happy.safetensors"
    assert vector_path("happy-v1.5") == folder / "happy-v1.5.safetensors"


@pytest.mark.parametrize("path", ["happy.safetensors", "./a/happy", "a/happy.safetensors", "/v/happy", "../happy"])
def test_a_path_stands_for_itself(path):
    assert vector_path(path) == Path(path)


def test_a_file_in_the_current_folder_is_found_without_an_ending():
    make_vector("here").save("happy.safetensors").rename("happy")
    assert vector_path("happy") == Path("happy")
    assert find_vector("happy").behaviour.name == "here"


def test_a_vector_is_found_by_its_name(folder):
    make_vector("happy").save(folder / "happy.safetensors")
    make_vector("elsewhere").save("happy.safetensors")
    assert find_vector("happy").behaviour.name == "happy"


def test_a_vector_is_found_by_its_path(tmp_path, folder):
    make_vector("happy").save(folder / "happy.safetensors")
    path = make_vector("elsewhere").save(tmp_path / "a" / "happy.safetensors")
    assert find_vector(str(path)).behaviour.name == "elsewhere"


def test_a_name_that_is_nearly_right_is_answered_with_near_names(folder):
    for name in ("happy", "happier", "formal"):
        make_vector(name).save(folder / f"{name}.safetensors")
    with pytest.raises(VectorError) as caught:
        find_vector("hapy")
    assert "no vector named 'hapy'" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "did you mean 'happy' or 'happier'?" in str(caught.value)
    assert "formal" not in str(caught.value)


def test_a_name_like_no_other_is_answered_with_how_to_make_it(folder):
    make_vector().save(folder / "formal.safetensors")
    with pytest.raises(VectorError, match=r"no vector named 'zzz'.*make it: trimtab train zzz"):
        find_vector("zzz")


def test_a_name_is_refused_clearly_where_there_is_no_folder_yet(folder):
    with pytest.raises(VectorError, match=r"no vector named 'happy'.*trimtab train happy"):
        find_vector("happy")
    assert not folder.exists()


@pytest.mark.parametrize("path", ["missing.safetensors", "no/such/happy", "../happy.safetensors"])
def test_a_path_to_nothing_is_refused(path):
    with pytest.raises(VectorError, match=rf"vector file '{path}' does not exist"):
        find_vector(path)


def test_a_name_too_long_for_any_file_is_refused_like_any_other():
    with pytest.raises(VectorError, match="no vector named 'x"):
        find_vector("x" * 5000)


def test_a_broken_file_in_the_folder_is_named_in_the_error(folder):
    folder.mkdir()
    (folder / "happy.safetensors").write_text("not a vector")
    with pytest.raises(VectorError) as caught:
        find_vector("happy")
    assert str(folder / "happy.safetensors") in str(caught.value)
