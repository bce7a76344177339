"""Vectors over HTTP: what is uploaded is checked before it is used, and nothing is lost."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from trimtab.server import uploads
from trimtab.vectors import ControlVector

OCTETS = {"content-type": "application/octet-stream"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "served"


@pytest.fixture
def content(folder, client):
    return (folder / "happy.safetensors").read_bytes()


def put(client, content, *, name="mine", headers=OCTETS, overwrite=False):
    path = f"/v1/vectors/{name}" + ("?overwrite=true" if overwrite else "")
    return client.put(path, content=content, headers=headers)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def packed(header, data=b"", *, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def test_listed_vector_has_its_card_and_safe_range(client, happy_vector):
    (listed,) = client.get("/v1/vectors").json()["data"]
    assert listed["name"] == "happy"
    assert listed["own"]
    assert (listed["safe"]["low"], listed["safe"]["high"]) == (-0.5, 0.75)
    assert listed["layers"] == list(happy_vector.layers)
    one = client.get("/v1/vectors/happy").json()
    assert {key: one[key] for key in listed} == listed
    assert one["header"] == json.loads(json.dumps(happy_vector.describe()))
    assert client.get("/v1/vectors/sad").status_code == 404


def test_zoo_vector_has_the_verdict_of_its_card():
    from importlib import resources

    from trimtab.evaluation.cards import zoo_cards
    from trimtab.server.routes.vectors import _zoo_card_of

    vector = ControlVector.load(str(resources.files("trimtab.vectors") / "zoo" / "happy.safetensors"))
    assert _zoo_card_of(vector) == zoo_cards()["happy"]
    assert _zoo_card_of(replace(vector, behaviour=replace(vector.behaviour, digest="other"))) is None


def test_upload_is_the_download_and_steers_at_once(client, chat, content, folder):
    assert put(client, content).status_code == 200
    assert client.get("/v1/vectors/mine/file").content == content
    assert client.get("/v1/vectors/mine/file").headers["content-type"] == "application/octet-stream"
    steered = chat(steering="mine:0.5")["choices"][0]["message"]["content"]
    assert steered == chat(steering="happy:0.5")["choices"][0]["message"]["content"]
    assert files(folder) == ["happy.safetensors", "mine.safetensors"]


def test_another_vector_is_overwritten_only_if_asked(client, content, folder, happy_vector):
    other = folder.parent / "other.safetensors"
    replace(happy_vector, created="2020-01-01T00:00:00+00:00").save(other)
    answer = put(client, other.read_bytes(), name="happy")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "exists")
    assert (folder / "happy.safetensors").read_bytes() == content
    assert put(client, other.read_bytes(), name="happy", overwrite=True).status_code == 200
    assert client.get("/v1/vectors/happy").json()["created"] == "2020-01-01T00:00:00+00:00"
    assert files(folder) == ["happy.safetensors"]


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"direction.0": 1}))
    return buffer.getvalue()


def tensor(width=16, **changes):
    return {"dtype": "F32", "shape": [width], "data_offsets": [0, 4 * width], **changes}


ATTACKS = {
    "empty": b"",
    "short": b"\x01\x00\x00",
    "pickle": pickle.dumps({"direction.0": [1.0]}),
    "pt": zipped(),
    "gguf": b"GGUF\x03\x00\x00\x00" + b"\x00" * 64,
    "npy": b"\x93NUMPY\x01\x00" + b"\x00" * 64,
    "header beyond the file": packed(b"{}", length=2**40),
    "header beyond the limit": packed(b"{" + b" " * uploads.MAX_HEADER + b"}"),
    "header of 2^64": packed(b"{}", length=2**64 - 1),
    "no JSON": packed(b"{nonsense"),
    "deep JSON": packed(b'{"a":' * 100_000),
    "no bytes": packed({"direction.0": tensor()}),
    "fewer bytes": packed({"direction.0": tensor()}, b"\x00" * 60),
    "more bytes": packed({"direction.0": tensor()}, b"\x00" * 68),
    "lying shape": packed({"direction.0": tensor(shape=[2**40])}, b"\x00" * 64),
    "negative": packed({"direction.0": tensor(shape=[-16])}, b"\x00" * 64),
    "overflowing shape": packed({"direction.0": tensor(shape=[2**33, 2**33])}, b"\x00" * 64),
    "backwards": packed({"direction.0": tensor(data_offsets=[64, 0])}, b"\x00" * 64),
    "overlapping": packed({"direction.0": tensor(), "direction.1": tensor()}, b"\x00" * 64),
    "gap": packed({"direction.0": tensor(data_offsets=[64, 128])}, b"\x00" * 128),
    "dtype": packed({"direction.0": tensor(dtype="F64")}, b"\x00" * 64),
    "huge number": packed(b'{"direction.0": {"dtype": "F32", "shape": [' + b"9" * 5_000 + b"]}}"),
    "layer": packed({"direction.99": tensor()}, b"\x00" * 64),
    "name": packed({"../../etc/passwd": tensor()}, b"\x00" * 64),
    "no object": packed({"direction.0": [1, 2]}, b"\x00" * 64),
    "many tensors": packed({f"x{n}": tensor() for n in range(1_000)}, b"\x00" * 64),
    "not a vector": packed({"direction.0": tensor()}, np.eye(1, 16, dtype=np.float32).tobytes()),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_lying_file_is_refused_and_leaves_nothing(client, folder, attack):
    answer = put(client, ATTACKS[attack])
    assert answer.status_code == 400, answer.text
    assert str(folder) not in answer.text
    assert files(folder) == ["happy.safetensors"]
    assert client.get("/v1/vectors/mine").status_code == 404


def test_pickle_is_named(client):
    assert "pickle" in put(client, ATTACKS["pickle"]).json()["error"]["what"]
    assert "PyTorch" in put(client, ATTACKS["pt"]).json()["error"]["what"]


def test_vector_with_nan_or_of_another_model_is_refused(client, folder, content, happy_vector):
    broken = bytearray(content)
    broken[-4:] = struct.pack("<f", float("nan"))
    assert put(client, bytes(broken)).status_code == 400
    foreign = replace(happy_vector, model=replace(happy_vector.model, fingerprint="other"))
    foreign.save(folder.parent / "foreign.safetensors")
    answer = put(client, (folder.parent / "foreign.safetensors").read_bytes())
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "vector_mismatch")
    assert files(folder) == ["happy.safetensors"]


def test_long_and_endless_bodies_are_refused(client, folder, fake):
    limit = uploads.max_bytes(fake.info)
    assert put(client, b"\x00" * (limit + 1)).status_code == 413

    def endless():
        for _ in range(limit // 1024 + 2):
            yield b"\x00" * 1024

    assert put(client, endless()).status_code == 413
    assert files(folder) == ["happy.safetensors"]


def test_body_of_another_type_is_refused(client, content):
    assert put(client, content, headers={"content-type": "multipart/form-data; boundary=x"}).status_code == 415
    assert put(client, content, headers={}).status_code == 415


@pytest.mark.parametrize("name", ["..", "a%2Fb", "%2e%2e%2fetc", ".hidden", "a" * 65, "a%00b", "-a", "a%0Ab"])
def test_name_is_no_path(client, content, folder, name):
    for method in ("PUT", "GET", "DELETE"):
        answer = client.request(method, f"/v1/vectors/{name}", content=content, headers=OCTETS)
        assert answer.status_code in (400, 404, 405)
    assert files(folder) == ["happy.safetensors"]


def test_deleted_vector_is_restored(client, content, folder):
    deleted = client.delete("/v1/vectors/happy").json()
    assert (deleted["id"], deleted["deleted"]) == ("happy", True)
    assert client.get("/v1/vectors/happy").status_code == 404
    assert files(folder) == [".bin"]
    assert client.delete("/v1/vectors/happy").status_code == 404
    wrong = client.post("/v1/vectors/happy/restore", json={"undo": "0" * 20})
    assert wrong.status_code == 404
    assert client.post("/v1/vectors/other/restore", json={"undo": deleted["undo"]}).status_code == 404
    assert client.post("/v1/vectors/happy/restore", json={"undo": deleted["undo"]}).status_code == 200
    assert (folder / "happy.safetensors").read_bytes() == content
    assert list((folder / ".bin").iterdir()) == []


def test_restore_never_overwrites(client, content, folder):
    undo = client.delete("/v1/vectors/happy").json()["undo"]
    assert put(client, content, name="happy").status_code == 200
    assert client.post("/v1/vectors/happy/restore", json={"undo": undo}).status_code == 409
    assert len(list((folder / ".bin").iterdir())) == 1


def test_unusable_file_in_the_folder_is_listed_with_its_reason_and_may_be_deleted(client, folder):
    (folder / "broken.safetensors").write_bytes(b"PK\x03\x04")
    client.app.state.serving.refresh()
    assert "broken" in client.get("/v1/vectors").json()["unusable"]
    assert client.delete("/v1/vectors/broken").status_code == 200


def test_half_files_of_killed_servers_are_deleted_once_old(tmp_path):
    import os

    old, new = tmp_path / f".a{uploads.PART}", tmp_path / f".b{uploads.PART}"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    uploads.delete_abandoned(tmp_path)
    assert files(tmp_path) == [new.name]
