"""The index of vectors that requests may name."""

from __future__ import annotations

import os
import pickle

import pytest

from sample_vectors import directions, make_vector
from trimtab.errors import VectorError
from trimtab.server.vectors import VectorIndex


@pytest.fixture
def vector_of(fake):
    def make(name="happy", seed=0):
        return make_vector(name, seed=seed, model=fake.info, directions=directions((0, 2), size=16, seed=seed))

    return make


def test_files_of_the_folder_are_found_by_name(fake, tmp_path, vector_of):
    vector_of().save(tmp_path / "glad.safetensors")
    index = VectorIndex(fake.info, folder=tmp_path)
    assert list(index.vectors) == ["glad"]
    assert index.find("glad") == vector_of()
    with pytest.raises(VectorError, match="did you mean 'glad'"):
        index.find("gladd")


def test_unusable_files_are_left_out(fake, tmp_path, vector_of):
    make_vector("other").save(tmp_path / "other-model.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "short.safetensors").write_bytes(b"\x10")
    (tmp_path / ".hidden.safetensors").write_bytes(b"")
    vector_of().save(tmp_path / "good.safetensors")
    (tmp_path / "with space.safetensors").write_bytes((tmp_path / "good.safetensors").read_bytes())
    assert list(VectorIndex(fake.info, folder=tmp_path).vectors) == ["good"]


def test_refresh_reads_what_has_changed(fake, tmp_path, vector_of):
    path = tmp_path / "happy.safetensors"
    vector_of().save(path)
    index = VectorIndex(fake.info, folder=tmp_path)
    first = index.find("happy")
    index.refresh()
    assert index.find("happy") is first
    vector_of(seed=1).save(path)
    os.utime(path, ns=(1, 1))
    vector_of("new").save(tmp_path / "new.safetensors")
    index.refresh()
    assert index.find("happy") == vector_of(seed=1)
    assert index.find("new") == vector_of("new")
    path.unlink()
    index.refresh()
    assert list(index.vectors) == ["new"]


def test_vector_of_another_model_does_not_hide_the_zoos(fake, tmp_path, vector_of, monkeypatch):
    packaged = tmp_path / "packaged"
    monkeypatch.setattr("trimtab.vectors.vector.PACKAGED", packaged)
    vector_of().save(packaged / "happy.safetensors")
    make_vector("happy").save(tmp_path / "served" / "happy.safetensors")
    assert VectorIndex(fake.info, folder=tmp_path / "served").find("happy") == vector_of()
    vector_of(seed=1).save(tmp_path / "served" / "happy.safetensors")
    assert VectorIndex(fake.info, folder=tmp_path / "served").find("happy") == vector_of(seed=1)
