"""Vectors of the zoo's behaviours, made when first wanted and kept for each model."""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from tiny_models import vector_for
from trimtab import Behaviour, ControlVector
from trimtab.behaviours import zoo_names
from trimtab.errors import BehaviourError
from trimtab.training.train import existing_zoo_vector, zoo_path, zoo_vector
from trimtab.vectors import BehaviourRef, vectors_folder
from trimtab.vectors.vector import PACKAGED

ROOT = Path(__file__).parents[2]


@pytest.fixture
def training(monkeypatch, tmp_path, llama):
    """Where vectors are kept, and what was trained there, by a training that takes no time."""
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path))
    trained = []

    def train(model, behaviour, **options):
        trained.append((behaviour.name, options["checkpoint"]))
        made = vector_for(model, layers=[1])
        return replace(made, behaviour=BehaviourRef(behaviour.name, behaviour.digest))

    monkeypatch.setattr("trimtab.training.train.train", train)
    return trained


def test_zoo_path_differs_by_model_weights(llama):
    info = llama.info
    same, other = zoo_path("happy", info), zoo_path("happy", replace(info, fingerprint="other"))
    assert same == zoo_path("happy", info)
    assert same.parent != other.parent
    assert same.is_relative_to(vectors_folder() / "models")
    assert same.name == "happy.safetensors"


@pytest.mark.parametrize("name", ["org/model", "../../evil", "", "ü" * 300, "a b\nc"])
def test_zoo_path_is_inside_vectors_folder(llama, name):
    path = zoo_path("happy", replace(llama.info, name=name))
    assert path.parent.parent == vectors_folder() / "models"
    assert len(path.parent.name) < 100


def test_zoo_vector_is_trained_once_then_loaded(training, llama):
    first = zoo_vector(llama, "happy")
    again = zoo_vector(llama, "happy")
    assert first.behaviour == again.behaviour
    assert training == [("happy", zoo_path("happy", llama.info).with_suffix(".sqlite"))]


def test_zoo_vector_retrains_on_rebuild_or_changed_behaviour(training, llama):
    kept = zoo_vector(llama, "happy")
    zoo_vector(llama, "happy", rebuild=True)
    assert len(training) == 2
    replace(kept, behaviour=BehaviourRef("happy", "of another time")).save(zoo_path("happy", llama.info))
    assert zoo_vector(llama, "happy").behaviour.digest == Behaviour.load("happy").digest
    assert len(training) == 3


def test_zoo_vector_unknown_name_raises(training, llama):
    with pytest.raises(BehaviourError, match="no behaviour named 'hapy'"):
        zoo_vector(llama, "hapy")
    assert not training


def test_zoo_vector_in_folder_is_trained_and_kept_there(training, llama, tmp_path):
    zoo_vector(llama, "happy")
    for _ in range(2):
        made = zoo_vector(llama, "happy", folder=tmp_path / "here")
    assert made == ControlVector.load(tmp_path / "here" / "happy.safetensors")
    assert [checkpoint.parent.name for _, checkpoint in training][1:] == ["here"]


# Vectors that come with trimtab


@pytest.fixture
def packaged(monkeypatch, tmp_path, llama):
    """Give a function that puts a vector of the behaviour happy into the package."""
    monkeypatch.setattr("trimtab.vectors.vector.PACKAGED", tmp_path / "packaged")

    def put(**changes):
        vector = replace(
            vector_for(llama, seed=7), behaviour=BehaviourRef("happy", Behaviour.load("happy").digest), **changes
        )
        vector.save(tmp_path / "packaged" / "happy.safetensors")
        return vector

    return put


def test_zoo_vector_of_packaged_model_needs_no_training(training, packaged, llama):
    ready = packaged()
    assert zoo_vector(llama, "happy") == ready
    assert not training
    assert zoo_vector(llama, "happy", rebuild=True).layers == (1,)


@pytest.mark.parametrize("changed", ["fingerprint", "size", "digest"])
def test_zoo_vector_not_of_package_is_trained(training, packaged, llama, changed):
    if changed == "digest":
        stale = replace(packaged(), behaviour=BehaviourRef("happy", "of another time"))
    else:
        other = {"fingerprint": "other"} if changed == "fingerprint" else {"layers": llama.info.layers + 1}
        stale = replace(packaged(), model=replace(llama.info, **other))
    stale.save(vectors_folder() / "packaged" / "happy.safetensors")
    assert existing_zoo_vector("happy", llama.info) is None
    assert zoo_vector(llama, "happy").layers == (1,)
    assert len(training) == 1


def test_zoo_vector_of_newer_training_replaces_packaged_one(training, packaged, llama):
    packaged(created="2026-05-01T00:00:00+00:00")
    made = zoo_vector(llama, "happy", rebuild=True)
    for created, is_used in (("2026-04-01T00:00:00+00:00", False), ("2026-06-01T00:00:00+00:00", True)):
        replace(made, created=created).save(zoo_path("happy", llama.info))
        assert (zoo_vector(llama, "happy").layers == made.layers) is is_used


def test_packaged_vectors_are_current_and_of_default_model(smollm2):
    """They are written by ``trimtab zoo train``, as CONTRIBUTING.md says."""
    for path in PACKAGED.iterdir() if PACKAGED.is_dir() else ():
        vector = ControlVector.load(path, model=smollm2)
        assert path.stem in zoo_names()
        assert vector.behaviour.digest == Behaviour.load(path.stem).digest, f"{path.stem} has changed: train it again"
        assert vector.safe is not None
        assert vector.calibration.held_out.written


def test_wheel_and_repository_have_packaged_vectors():
    path = f"{PACKAGED.relative_to(ROOT)}/happy.safetensors"
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert any(Path(path).match(pattern) for pattern in wheel["artifacts"])
    assert any(path.startswith(f"{package}/") for package in wheel["packages"])
    ignored = subprocess.run(["git", "check-ignore", "--no-index", "-q", path], cwd=ROOT)
    assert ignored.returncode == 1
