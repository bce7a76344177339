"""Paths and names of vectors: what is wrong with one, where files go, and which endings are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sample_vectors import make_vector
from trimtab.behaviours import Behaviour
from trimtab.engines.transformers.model.source import cache_folder
from trimtab.errors import BehaviourError, OutputError, TrimtabError, VectorError, near_names
from trimtab.steering import Steering
from trimtab.vectors import ControlVector, find_vector, vectors_folder

HAPPY = make_vector("happy")


@pytest.mark.parametrize("name", ["x.gguf", "x.pt", "x.bin", "x.json", "x.safetensor"])
def test_save_other_format_is_refused(tmp_path, name):
    with pytest.raises(OutputError, match=r"name a file that ends with \.safetensors"):
        HAPPY.save(tmp_path / name)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.safetensors", "x.SAFETENSORS", "x"])
def test_save_known_ending_is_written(tmp_path, name):
    assert ControlVector.load(HAPPY.save(tmp_path / name)) == HAPPY


def test_home_sign_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    HAPPY.save("~/a.safetensors")
    assert (tmp_path / "a.safetensors").is_file()
    assert find_vector("~/a.safetensors") == ControlVector.load("~/a.safetensors") == HAPPY
    with pytest.raises(BehaviourError, match=str(tmp_path)):
        Behaviour.load("~/none.toml")


def test_load_folder_names_a_file_in_it(tmp_path):
    with pytest.raises(VectorError, match="is a folder without vectors"):
        ControlVector.load(tmp_path)
    HAPPY.save(tmp_path / "a.safetensors")
    for load in (ControlVector.load, lambda path: find_vector(str(path))):
        with pytest.raises(VectorError, match=r"is a folder; name a file in it, such as .*a\.safetensors"):
            load(tmp_path)


def test_name_in_wrong_case_is_suggested(tmp_path):
    HAPPY.save(vectors_folder() / "happy.safetensors")
    with pytest.raises(VectorError, match="did you mean 'happy'"):
        find_vector("HAPPY")
    with pytest.raises(VectorError, match=r"did you mean 'happy\.safetensors'"):
        ControlVector.load(vectors_folder() / "Happy.safetensors")
    with pytest.raises(BehaviourError, match="did you mean 'happy'"):
        Behaviour.load("HAPPY")
    assert near_names("zzzz", ["happy"]) == ""


@pytest.mark.parametrize("name", ["a b.safetensors", "a+b.safetensors", "a:b.safetensors", "c [x].safetensors"])
@pytest.mark.parametrize("form", ["{}:0.5", "{}", "formal:0.2 + {}:0.5@generated"])
def test_path_without_quotes_says_how_to_quote_it(tmp_path, monkeypatch, name, form):
    monkeypatch.chdir(tmp_path)
    HAPPY.save(name)
    make_vector("formal").save(vectors_folder() / "formal.safetensors")
    with pytest.raises(TrimtabError, match="double quotes") as caught:
        Steering.of(form.format(name))
    quoted = form.format(f'"{name}"')
    assert f'"{name}"' in str(caught.value)
    assert [term.vector for term in Steering.of(quoted).terms][-1] == HAPPY


@pytest.mark.skipif(os.name == "nt", reason="users of Windows have a home")
def test_folders_without_home_are_temporary(tmp_path, monkeypatch):
    import pwd
    import tempfile

    def nobody(_: object) -> None:
        raise KeyError("no entry")

    for name in ("HOME", "TRIMTAB_VECTORS", "TRIMTAB_CACHE", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for folder in (vectors_folder(), cache_folder()):
        assert folder.is_relative_to(tmp_path)
        assert "~" not in folder.parts
    HAPPY.save(vectors_folder() / "happy.safetensors")
    assert find_vector("happy") == HAPPY
    assert Path("~").exists() is False
