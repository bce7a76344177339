"""Vectors of the zoo's behaviours, made when first wanted and kept for each model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiny_models import vector_for
from trimtab import Behaviour
from trimtab.errors import BehaviourError
from trimtab.training.train import zoo_path, zoo_vector
from trimtab.vectors import BehaviourRef, vectors_folder


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
