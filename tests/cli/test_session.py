"""Session of a verb: vectors by path and name, and those of the zoo for the loaded model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trimtab import ControlVector
from trimtab.cli.session import Session
from trimtab.errors import VectorError, VectorMismatchError
from trimtab.training.train import zoo_path, zoo_vector
from trimtab.vectors import vectors_folder


@pytest.fixture
def loaded(monkeypatch, tiny_llama) -> list[str | None]:
    """Return the names of the loaded models; each loads the tiny model."""
    names: list[str | None] = []

    def load(name=None, **_):
        names.append(name)
        return tiny_llama

    monkeypatch.setattr("trimtab.engines.transformers.load", load)
    return names


@pytest.fixture(scope="module")
def trained(tiny_llama, tmp_path_factory) -> bytes:
    """Return the file of the zoo's happy vector for the tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMTAB_VECTORS", str(tmp_path_factory.mktemp("trained")))
        zoo_vector(tiny_llama, "happy")
        return zoo_path("happy", tiny_llama.info).read_bytes()


@pytest.fixture
def kept(trained, tiny_llama) -> Path:
    """That vector where it is kept for this model."""
    path = zoo_path("happy", tiny_llama.info)
    path.parent.mkdir(parents=True)
    path.write_bytes(trained)
    return path


@pytest.fixture
def foreign(tiny, random_vector) -> Path:
    """Another model's vector, named happy, in the vectors folder."""
    other = tiny("llama", seed=1)
    return random_vector(other, name="happy").save(vectors_folder() / "happy.safetensors")


def same(one: ControlVector, two: ControlVector) -> bool:
    return one.directions.keys() == two.directions.keys() and all(
        np.array_equal(one.directions[layer], two.directions[layer]) for layer in one.directions
    )


# Behaviours of the zoo


def test_find_zoo_name_trains_once_per_model(loaded, tiny_llama, capsys):
    session = Session(None)
    first = session.find("happy")
    assert "happy has no vector for tiny llama yet: training it, once." in capsys.readouterr().err
    assert first.model == tiny_llama.info
    assert first.scale is not None
    assert [path.name for path in zoo_path("happy", tiny_llama.info).parent.iterdir()] == ["happy.safetensors"]
    written = zoo_path("happy", tiny_llama.info).stat().st_mtime_ns
    again = Session(None).find("happy")
    assert same(first, again)
    assert zoo_path("happy", tiny_llama.info).stat().st_mtime_ns == written
    assert "training it" not in capsys.readouterr().err
    assert loaded == [None, None]


def test_find_vector_of_other_model_trains_another(loaded, kept, foreign):
    before = foreign.read_bytes()
    assert same(Session(None).find("happy"), ControlVector.load(kept))
    assert foreign.read_bytes() == before


def test_find_prefers_vector_in_folder(loaded, tiny_llama, random_vector):
    mine = random_vector(tiny_llama, name="happy")
    mine.save(vectors_folder() / "happy.safetensors")
    assert same(Session(None).find("happy"), mine)
    assert not (vectors_folder() / "models").exists()


def test_find_takes_packaged_vector_of_this_model(loaded, trained, tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("trimtab.vectors.vector.PACKAGED", tmp_path)
    (tmp_path / "happy.safetensors").write_bytes(trained)
    assert same(Session(None).find("happy"), ControlVector.load(tmp_path / "happy.safetensors"))
    assert not vectors_folder().exists()
    assert capsys.readouterr().err == ""


def test_find_prefers_own_vector_to_packaged_one(loaded, trained, tiny_llama, random_vector, monkeypatch, tmp_path):
    monkeypatch.setattr("trimtab.vectors.vector.PACKAGED", tmp_path)
    (tmp_path / "happy.safetensors").write_bytes(trained)
    mine = random_vector(tiny_llama, name="happy")
    mine.save(vectors_folder() / "happy.safetensors")
    assert same(Session(None).find("happy"), mine)


def test_verbs_take_packaged_vector(run_on, tiny_llama, trained, monkeypatch, tmp_path):
    monkeypatch.setattr("trimtab.vectors.vector.PACKAGED", tmp_path)
    (tmp_path / "happy.safetensors").write_bytes(trained)
    run, vector = run_on(tiny_llama), ControlVector.load(tmp_path / "happy.safetensors")
    plain = tiny_llama.generate("Hello!", steering=[(vector, vector.default_strength)], max_new_tokens=2)
    _, out, _ = run("compare", "Hello!", "--steer", "happy", "-n", "2", "--json")
    assert json.loads(out)["plus"]["text"] == plain.text
    _, out, _ = run("generate", "Hello!", "--steer", "happy", "-n", "2", "--json")
    assert json.loads(out)["text"] == plain.text
    assert tiny_llama.generate("Hello!", steering="happy", max_new_tokens=2).text == plain.text
    _, out, _ = run("read", "Hello!", "--vector", "happy", "--json")
    assert json.loads(out)
    _, out, _ = run("show", "happy", "--json")
    assert json.loads(out)["model"]["name"] == "tiny llama"
    assert run("chat", "-s", "happy", "-n", "2", stdin="Hello!\n")[0] == 0
    assert not vectors_folder().exists()


def test_find_force_takes_vector_of_other_model(loaded, foreign):
    session = Session(None, force=True)
    (vector,) = session.vectors(["happy"])
    assert same(vector, ControlVector.load(foreign))
    assert vector.model.fingerprint == ""
    (term,) = session.steering("happy:0.5").terms
    assert same(term.vector, vector)
    term.vector.check_model(session.engine.info)


def test_find_force_without_file_trains(loaded, kept):
    (vector,) = Session(None, force=True).vectors(["happy"])
    assert same(vector, ControlVector.load(kept))


def test_find_path_with_zoo_name_never_trains(loaded, foreign, tiny_llama):
    vector = Session(None).find(str(foreign))
    assert same(vector, ControlVector.load(foreign))
    with pytest.raises(VectorMismatchError):
        vector.check_model(tiny_llama.info)
    with pytest.raises(VectorError, match="does not exist; check the path"):
        Session(None).find("./happy.safetensors")
    assert not loaded


def test_find_broken_file_raises(loaded):
    vectors_folder().mkdir(parents=True)
    (vectors_folder() / "happy.safetensors").write_bytes(b"no vector")
    with pytest.raises(VectorError, match=r"happy\.safetensors"):
        Session(None).find("happy")
    assert not loaded


# Other names


def test_find_other_name_needs_no_model(loaded, tiny_llama, random_vector):
    mine = random_vector(tiny_llama, name="mine")
    mine.save(vectors_folder() / "mine.safetensors")
    assert same(Session(None).find("mine"), mine)
    assert not loaded


def test_find_unknown_name_suggests_similar(loaded, tiny_llama, random_vector):
    random_vector(tiny_llama, name="mine").save(vectors_folder() / "mine.safetensors")
    with pytest.raises(VectorError, match=r"no vector named 'nine' in .*; did you mean 'mine'"):
        Session(None).vectors(["nine"])
    assert not loaded


def test_engine_loads_named_model_once(loaded):
    session = Session("some/model")
    assert session.engine is session.engine
    assert loaded == ["some/model"]


def test_steering_finds_zoo_vectors(loaded, kept):
    (term,) = Session(None).steering("happy:-0.5").terms
    assert same(term.vector, ControlVector.load(kept))
    assert term.strength == -0.5
    assert Session(None).steering().terms == ()


def test_generate_steers_by_zoo_name(run_on, tiny_llama, kept):
    code, out, _ = run_on(tiny_llama)("generate", "Hello!", "--steer", "happy:1", "--max-new-tokens", "2")
    assert code == 0
    plain = tiny_llama.generate("Hello!", steering=[(ControlVector.load(kept), 1.0)], max_new_tokens=2)
    assert plain.text.strip() in out
