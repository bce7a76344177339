"""Servers that are killed at any moment: no half file, jobs go on, and what was there is served again."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager, suppress
from itertools import count
from threading import Thread

import httpx2 as httpx
import pytest

from trimtab.vectors import ControlVector

SERVER = """
import sys
from pathlib import Path
import uvicorn
from trimtab.engines.fake import FakeEngine
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings
folder, port = Path(sys.argv[1]), int(sys.argv[2])
settings = ServerSettings(model="fake", port=port, vectors=folder / "vectors", presets=folder / "presets")
uvicorn.run(create_app(FakeEngine(), settings), port=port, log_level="error")
"""
OCTETS = {"content-type": "application/octet-stream"}


@pytest.fixture
def folder(tmp_path, happy_vector):
    (tmp_path / "vectors").mkdir()
    (tmp_path / "presets").mkdir()
    happy_vector.save(tmp_path / "vectors" / "happy.safetensors")
    return tmp_path


@contextmanager
def server(folder):
    """Run a server in a process of its own, and kill it at the end of the ``with`` block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder), str(port)])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            for _ in range(600):
                try:
                    client.get("/healthz")
                    break
                except httpx.TransportError:
                    time.sleep(0.05)
            yield client, process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_upload_that_is_killed_leaves_no_half_vector(folder):
    content = (folder / "vectors" / "happy.safetensors").read_bytes()
    for part in (1, len(content) // 2, len(content) - 1):
        with server(folder) as (client, process):
            address = (client.base_url.host, client.base_url.port)
            with socket.create_connection(address) as connection:
                head = f"PUT /v1/vectors/mine HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
                head += f"content-type: application/octet-stream\r\ncontent-length: {len(content)}\r\n\r\n"
                connection.sendall(head.encode() + content[:part])
                time.sleep(0.2)
                kill(process)
        assert not (folder / "vectors" / "mine.safetensors").exists()
    with server(folder) as (client, _):
        assert [each["name"] for each in client.get("/v1/vectors").json()["data"]] == ["happy"]
        assert client.put("/v1/vectors/mine", content=content, headers=OCTETS).status_code == 200


@pytest.mark.parametrize("moment", [0.3, 0.35, 0.4])
def test_files_are_whole_after_a_kill_amid_many_writes(folder, moment):
    content = (folder / "vectors" / "happy.safetensors").read_bytes()
    answered = set()

    def write(url, worker):
        with httpx.Client(base_url=url, timeout=20) as own, suppress(httpx.TransportError):
            for number in count():
                body = {"steering": f"happy:0.{1 + number % 9}", "system": "x" * 90_000}
                assert own.put(f"/v1/presets/p{worker}", json=body).status_code == 200
                path = f"/v1/vectors/v{worker}?overwrite=true"
                assert own.put(path, content=content, headers=OCTETS).status_code == 200
                answered.add(worker)

    with server(folder) as (client, process):
        writers = [Thread(target=write, args=(str(client.base_url), worker)) for worker in range(4)]
        for writer in writers:
            writer.start()
        while not answered:
            time.sleep(0.01)
        time.sleep(moment)
        kill(process)
        for writer in writers:
            writer.join()
    for path in (folder / "presets").glob("*.toml"):
        assert len(tomllib.loads(path.read_text())["system"]) == 90_000
    for path in (folder / "vectors").glob("*.safetensors"):
        assert path.read_bytes() == content
    with server(folder) as (client, _):
        models = {model["id"] for model in client.get("/v1/models").json()["data"]}
        vectors = {each["name"] for each in client.get("/v1/vectors").json()["data"]}
    assert {f"fake:p{worker}" for worker in answered} <= models
    assert {"happy", *(f"v{worker}" for worker in answered)} <= vectors


def test_killed_job_goes_on_to_the_vector_of_an_undisturbed_one(folder):
    body = {"kind": "train", "name": "mine", "behaviour": "calm", "effort": "default", "seed": 3}
    with server(folder) as (client, process):
        job = client.post("/v1/jobs", json=body).json()
        seen = 0
        while seen < 3:
            seen = len(client.get(f"/v1/jobs/{job['id']}").json()["phases"])
        kill(process)
    assert not (folder / "vectors" / "mine.safetensors").exists()
    assert list((folder / "vectors" / ".jobs").glob("*.sqlite"))
    with server(folder) as (client, _):
        for _ in range(1_200):
            found = client.get(f"/v1/jobs/{job['id']}").json()
            if found["status"] in ("done", "failed"):
                break
            time.sleep(0.05)
        assert found["status"] == "done", found
        again = client.post("/v1/jobs", json={**body, "name": "undisturbed"}).json()
        while client.get(f"/v1/jobs/{again['id']}").json()["status"] != "done":
            time.sleep(0.05)
        assert {each["name"] for each in client.get("/v1/vectors").json()["data"]} == {"happy", "mine", "undisturbed"}
    first, second = (ControlVector.load(folder / "vectors" / f"{name}.safetensors") for name in ("mine", "undisturbed"))
    assert (first.scale, first.safe) == (second.scale, second.safe)
    assert all((first.directions[layer] == second.directions[layer]).all() for layer in first.directions)
