"""Clients of others against a server in a process of its own, as docs/clients.md shows them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLIENTS = Path(os.environ.get("TRIMTAB_CLIENTS", ROOT / ".venv-clients"))
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
PORT = "8421"  # on the page
BLOCKS = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PRINTED = {  # what each client must have got
    "openai for Python": r"\w",
    "openai for JavaScript": r"\n[1-9]\d*\n",
    "pydantic-ai": r"name=.* age=\d+\nname=.* age=\d+\n",
    "openai-agents": r"name=.* age=\d+\nThe tool was called for .*\n.*\w",
    "instructor": r"JSON.*name=.* age=\d+\n.*TOOLS.*name=.* age=\d+\n",
}
CASES = int(os.environ.get("TRIMTAB_SCHEMA_CASES", "20"))
HOOK = '''
import schemathesis

@schemathesis.hook
def map_body(context, body):
    """Name the model that there is, so that the rest of the body is tried, too."""
    if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) <= 64:
        body["model"] = "fake"
    return body
'''
CONFIG = """
[checks]
positive_data_acceptance.enabled = false  # a body that follows the schema may still name what does not exist
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415, 429]
use_after_free.enabled = false  # a job that was stopped is kept, and may be resumed
"""
FAKE = """
import sys
import uvicorn
from pathlib import Path
from trimtab.engines.fake import FakeEngine
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings
settings = ServerSettings(model="fake", vectors=Path(sys.argv[2]), answer_tokens=16, max_answer_tokens=16)
uvicorn.run(create_app(FakeEngine(), settings), port=int(sys.argv[1]), log_level="warning")
"""


def client(name: str) -> Path:
    """Return a program of the clients' environment."""
    path = CLIENTS / "bin" / name
    if not path.exists():
        pytest.skip("make test-interop installs the clients")
    return path


@contextmanager
def process(command: list[str], port: int, log: Path) -> Iterator[str]:
    """Run a server until the end of the ``with`` block; yields its address."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            assert server.poll() is None, log.read_text()
            try:
                httpx2.get(f"{address}/healthz")
                break
            except httpx2.TransportError:
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        assert server.wait(30) in (0, -15)
    assert "Traceback" not in log.read_text()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """``trimtab serve`` with the default model."""
    client("python")
    folder, port = tmp_path_factory.mktemp("serve"), free_port()
    command = [sys.executable, "-m", "trimtab", "serve", "--port", str(port), "--vectors", str(folder)]
    with process(command, port, folder / "log") as address:
        yield address


def snippet(name: str) -> str:
    """Return the code under a heading of the page."""
    (found,) = (code for heading, _, code in BLOCKS if heading == name)
    return found


@pytest.mark.parametrize("name", [name for name, language, _ in BLOCKS if language in ("python", "js")])
def test_snippet_of_a_client_runs(name, server, tmp_path):
    code = snippet(name).replace(PORT, server.rpartition(":")[2])
    if "JavaScript" in name:
        node, modules = shutil.which("node"), CLIENTS / "node_modules"
        if node is None or not (modules / "openai").is_dir():
            pytest.skip("needs node; make test-interop then installs the package")
        (tmp_path / "node_modules").symlink_to(modules)
        command = [node, "snippet.mjs"]
        (tmp_path / "snippet.mjs").write_text(code, encoding="utf-8")
    else:
        command = [str(client("python")), "-c", code]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTED[name], done.stdout), done.stdout


@pytest.mark.parametrize("way", ["addParams", "headers"])
def test_parameters_of_librechat_steer(server, way):
    (endpoint,) = yaml.safe_load(snippet("LibreChat"))["endpoints"]["custom"]
    (model,) = endpoint["models"]["default"]
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8, "stream": False}
    more = {
        "addParams": {"json": body | endpoint["addParams"]},
        "headers": {"json": body, "headers": endpoint["headers"]},
    }
    answer = httpx2.post(f"{server}/v1/chat/completions", **more[way], timeout=120)
    assert answer.json()["trimtab"]["answers"][0]["receipt"]["steering"] == "happy:0.5"
    assert endpoint["baseURL"].endswith(f":{PORT}/v1")
    listed = httpx2.get(f"{server}/v1/models").json()["data"]
    assert model in [each["id"] for each in listed]


def test_custom_parameter_of_open_webui_steers(server):
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}
    answer = httpx2.post(f"{server}/v1/chat/completions", json=body | json.loads(snippet("Open WebUI")), timeout=120)
    assert answer.json()["trimtab"]["answers"][0]["receipt"]["steering"] == "happy:0.5"


def test_schemathesis_finds_no_failure(tmp_path):
    (tmp_path / "hook.py").write_text(HOOK, encoding="utf-8")
    (tmp_path / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    port = free_port()
    with process([sys.executable, "-c", FAKE, str(port), str(tmp_path)], port, tmp_path / "log") as address:
        done = subprocess.run(
            [
                client("schemathesis"),
                *("run", f"{address}/openapi.json", "--seed", "1", "--max-examples", str(CASES)),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "SCHEMATHESIS_HOOKS": "hook"},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stdout[-8000:]
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > CASES, done.stdout[-2000:]
