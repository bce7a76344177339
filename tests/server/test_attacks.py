"""Attacks that servers of language models have fallen for, one test for each."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from served import CHAT, Scripted, listening
from trimtab.engines.fake import FakeEngine
from trimtab.server.app import create_app
from trimtab.server.gate import QUESTIONS
from trimtab.server.keys import Key, digest_of, find_key
from trimtab.server.settings import ServerSettings

KEY, MANAGER = "tt-the-key-of-the-shop", "tt-the-key-of-the-owner"
KEYS = (Key("shop", digest_of(KEY)), Key("owner", digest_of(MANAGER), frozenset({"use", "manage"})))
TRAVERSALS = (
    "../happy",
    "..%2fhappy",
    "/etc/passwd",
    "C:\\happy",
    "happy.safetensors",
    "./happy",
    "happy\0",
    "~/happy",
)
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture
def guarded(fake: FakeEngine) -> Iterator[TestClient]:
    """A client of a server with keys."""
    app = create_app(fake, ServerSettings(model="fake"), keys=KEYS)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def serve() -> Iterator[Callable[[FastAPI], int]]:
    """``serve(app)`` listens with the protocol of ``trimtab serve``, and returns the port."""
    with contextlib.ExitStack() as stack:
        yield lambda app: int(stack.enter_context(listening(app)).rpartition(":")[2])


def raw(port: int, *pieces: bytes, pause: float = 0, wait: float = 10) -> bytes:
    """Return the answer to bytes that are sent piece by piece, or nothing if the server hangs up."""
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=wait) as connection,
        contextlib.suppress(ConnectionError),
    ):
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        while piece := connection.recv(65536):
            answer += piece
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def test_foreign_host_is_refused_also_on_loopback(client: TestClient) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"):
        assert client.get("/v1/models", headers={"host": host}).status_code == 403
    assert client.get("/v1/models", headers={"host": "127.0.0.1:1"}).status_code == 200


@pytest.mark.parametrize("host", ["a/?x=", "a/healthz?x=", "localhost/healthz#", "localhost\t/healthz", "localhost"])
def test_host_does_not_open_a_guarded_path(fake: FakeEngine, serve: Callable[[FastAPI], int], host: str) -> None:
    port = serve(create_app(fake, ServerSettings(model="fake"), keys=KEYS))
    for path in ("/v1/models", "/healthz/../v1/models", "//healthz", "/healthz/", "/v1/models?/healthz", "/HEALTHZ"):
        answer = raw(port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert status_of(answer) in (400, 401, 403)
    two = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n"
    assert status_of(raw(port, two)) == 400
    absolute = b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert status_of(raw(port, absolute)) == 401


def test_post_from_another_site_is_refused(client: TestClient) -> None:
    body = json.dumps(CHAT)
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "http://localhost:1"):
        for kind in ("text/plain", "application/json"):  # browsers ask no permission for the first
            answer = client.post("/v1/chat/completions", content=body, headers={"origin": origin, "content-type": kind})
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("name", TRAVERSALS)
def test_names_are_not_paths(client: TestClient, happy_vector: Any, tmp_path: Path, name: str) -> None:
    happy_vector.save(tmp_path / "happy.safetensors")  # one level above the served folder
    for fields in ({"steering": {name: 0.5}}, {"steering": f"{name}:0.5"}, {"readings": [name]}):
        assert client.post("/v1/chat/completions", json={**CHAT, **fields}).status_code == 400
    for model in (name, f"fake:{name}"):
        assert client.post("/v1/chat/completions", json={**CHAT, "model": model}).status_code == 404


def test_every_change_needs_the_role_for_it(guarded: TestClient) -> None:
    app = guarded.app
    assert isinstance(app, FastAPI)
    changes = [
        (method, path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods.keys() - {"get", "head", "options"}
        if path not in QUESTIONS and not path.startswith("/v1/responses/")
    ]
    questions = [("post", path) for path in QUESTIONS] + [("delete", "/v1/responses/resp_1")]
    for method, path in [*changes, ("put", "/v1/vectors/x"), ("delete", "/v1/vectors/x"), ("post", "/v1/jobs")]:
        plain = path.replace("{", "").replace("}", "")
        assert guarded.request(method, plain, headers={"x-api-key": KEY}).status_code == 403, (method, path)
    for method, path in questions:
        assert guarded.request(method, path, headers={"x-api-key": KEY}).status_code != 403, (method, path)
    assert guarded.put("/v1/vectors/x", headers={"x-api-key": KEY}).status_code == 403
    assert guarded.put("/v1/vectors/x", headers={"x-api-key": MANAGER}).status_code != 403
    assert guarded.get("/v1/jobs/1/events", headers={"x-api-key": KEY}).status_code == 403


def test_body_that_claims_ten_gigabytes_is_refused_unread(fake: FakeEngine, serve: Callable[[FastAPI], int]) -> None:
    port = serve(create_app(fake, ServerSettings(model="fake")))
    begun = time.monotonic()
    for length in (b"10000000000", b"9" * 4_000):
        assert status_of(raw(port, POST + b"Content-Length: " + length + b"\r\n\r\n")) in (400, 413)
    assert time.monotonic() - begun < 3


def test_endless_chunks_are_cut_off(fake: FakeEngine, serve: Callable[[FastAPI], int]) -> None:
    port = serve(create_app(fake, ServerSettings(model="fake", max_body_bytes=100_000)))
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < 1_000:
                connection.sendall(chunk)
                sent += 1
    assert sent < 1_000  # 65 MB would have been taken otherwise


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("chat/completions", {"n": 10**6}),
        ("completions", {"prompt": ["x"] * 10**6, "messages": None}),
        ("completions", {"prompt": ["x"] * 32, "n": 16, "messages": None}),
        ("chat/completions", {"stop": ["x"] * 10_000}),
        ("chat/completions", {"logit_bias": {str(n): 1 for n in range(10_000)}}),
        ("chat/completions", {"messages": [{"role": "user", "content": "x"}] * 10_000}),
    ],
)
def test_request_for_too_much_is_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch, client: TestClient, path: str, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(FakeEngine, "submit", lambda *args, **options: pytest.fail("it was begun"))
    body = {key: value for key, value in {**CHAT, **fields}.items() if value is not None}
    begun = time.monotonic()
    assert client.post(f"/v1/{path}", json=body).status_code == 400
    assert time.monotonic() - begun < 5


SCHEMA: dict[str, Any] = {"type": "string"}
for _ in range(400):
    SCHEMA = {"type": "object", "properties": {"a": SCHEMA}}
FORMS = {
    "deep schema": {"json": SCHEMA},
    "nested quantifiers": {"regex": "((((a{1,500}){1,500}){1,500}){1,500}){1,500}"},
    "backtracking": {"regex": "(a+)+(b+)+(a|aa)+$" * 50},
    "deep groups": {"regex": "(" * 5_000 + "a" + ")" * 5_000},
    "endless references": {"json": {"$ref": "#/a", "a": {"$ref": "#/a"}}},
    "remote reference": {"json": {"$ref": "http://127.0.0.1:1/schema"}},
    "wide alternatives": {"json": {"anyOf": [{"const": f"{n}" * 20} for n in range(5_000)]}},
}


@pytest.mark.parametrize("form", FORMS)
def test_hostile_form_takes_bounded_time(tiny_llama: Any, no_requests: list[Any], form: str) -> None:
    client = TestClient(create_app(tiny_llama, ServerSettings(model="tiny")), base_url="http://localhost")
    body = {**CHAT, "model": "tiny", "max_tokens": 2, "structured_outputs": FORMS[form]}
    begun = time.monotonic()
    answer = client.post("/v1/chat/completions", json=body)
    assert time.monotonic() - begun < 20
    assert answer.status_code in (200, 400)
    assert client.post("/v1/chat/completions", json={**CHAT, "model": "tiny", "max_tokens": 2}).status_code == 200
    assert not no_requests


TEMPLATE = "{{ cycler.__init__.__globals__.os.system('false') }}{% for x in range(10**9) %}x{% endfor %}"


@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template": TEMPLATE},
        {"chat_template_kwargs": {"chat_template": TEMPLATE}},
        {"chat_template_kwargs": {"tokenize": False}},
        {"chat_template_kwargs": {"enable_thinking": {"a": 1}}},
        {"messages": [{"role": TEMPLATE, "content": "Hi"}]},
        {"messages": [{"role": "user\nsystem", "content": "Hi"}]},
        {"tools": [{"type": "function", "function": {"name": TEMPLATE}}]},
        {"documents": [{"text": TEMPLATE}]},
        {"add_generation_prompt": False},
    ],
)
def test_templates_take_nothing_from_requests(client: TestClient, fields: dict[str, Any]) -> None:
    assert client.post("/v1/chat/completions", json={**CHAT, **fields}).status_code == 400


def test_texts_of_requests_are_not_rendered() -> None:
    engine = Scripted("Yes.")
    client = TestClient(create_app(engine, ServerSettings(model="fake")), base_url="http://localhost")
    messages = [{"role": "user", "name": TEMPLATE, "content": "{{ 7 * 191 }} {{ messages }}"}]
    assert client.post("/v1/chat/completions", json={**CHAT, "messages": messages}).status_code == 200
    assert "{{ 7 * 191 }} {{ messages }}" in engine.asked[0]["prompt"].text
    assert "1337" not in engine.asked[0]["prompt"].text
    assert "cycler" not in engine.asked[0]["prompt"].text


@pytest.fixture
def no_requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Where the server would have connected to."""
    tried: list[Any] = []

    def connect(self: socket.socket, address: Any) -> None:
        tried.append(address)
        raise OSError("no way out")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: tried.append(args))
    return tried


def test_addresses_in_requests_are_never_fetched(client: TestClient, no_requests: list[Any]) -> None:
    url = "http://169.254.169.254/latest/meta-data"
    parts = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "input_image", "image_url": url},
        {"type": "input_audio", "input_audio": {"data": url}},
        {"type": "file", "file": {"file_url": url}},
        {"type": "text", "text": "x", "image_url": {"url": url}},
    ]
    for part in parts:
        body = {**CHAT, "messages": [{"role": "user", "content": [part]}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 400
    schema = {"type": "json_schema", "json_schema": {"schema": {"$ref": url}}}
    assert client.post("/v1/chat/completions", json={**CHAT, "response_format": schema}).status_code == 400
    assert client.post("/v1/chat/completions", json={**CHAT, "metadata": {"webhook": url}}).status_code == 200
    assert not no_requests


def test_lines_of_the_log_cannot_be_forged(fake: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(fake, ServerSettings(model="fake", log_requests=True, log_prompts=True), keys=KEYS)
    client = TestClient(app, base_url="http://localhost")
    forged = 'x\r\n{"status": 200, "key": "owner"}\u2028\x1b[2J'
    with caplog.at_level(logging.INFO, logger="trimtab.server.requests"):
        client.get("/v1/models%0d%0a%7b%22status%22", headers={"x-api-key": KEY})
        client.get("/v1/models", headers={"x-api-key": KEY, "x-request-id": 'a"}{"b'})
        messages = [{"role": "user", "content": forged}]
        answer = client.post("/v1/chat/completions", json={**CHAT, "messages": messages}, headers={"x-api-key": KEY})
    assert answer.status_code == 200
    lines = [record.getMessage() for record in caplog.records if record.name == "trimtab.server.requests"]
    assert len(lines) == 3
    for line in lines:
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["key"] == "shop"
    assert forged in json.loads(lines[2])["prompts"][0]
    assert json.loads(lines[2])["id"] == answer.headers["x-request-id"]


def test_keys_cannot_be_guessed_piece_by_piece(guarded: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(ours: bytes, given: bytes) -> bool:
        compared.append(ours)
        return ours == given

    monkeypatch.setattr("trimtab.server.keys.hmac.compare_digest", compare)
    for given in (KEY, MANAGER, KEY[:-1], "", "é"):
        compared.clear()
        find_key(KEYS, given)
        assert compared == [key.digest for key in KEYS]  # all of them, whichever it is
    for given in (KEY[:-1], KEY.upper(), f"{KEY} ", digest_of(KEY).hex(), "the-key-of", "*?*?*", "x" * 5_000):
        for headers in ({"authorization": f"Bearer {given}x"}, {"authorization": given}, {"x-api-key": given + "y"}):
            answer = guarded.get("/v1/models", headers=headers)
            assert answer.status_code == 401
            assert given not in answer.text


def test_slow_bodies_and_silent_clients_are_cut_off(
    fake: FakeEngine, serve: Callable[[FastAPI], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trimtab.server.listening.HEADER_SECONDS", 0.5)
    port = serve(create_app(fake, ServerSettings(model="fake", body_seconds=0.5)))
    begun = time.monotonic()
    assert raw(port) == b""  # says nothing
    assert raw(port, *[b"G", b"E", b"T", b" "] * 3, pause=0.1) == b""  # says nothing for long
    body = raw(port, POST + b"Content-Length: 100\r\n\r\n", *[b" "] * 8, pause=0.1)
    assert body == b"" or status_of(body) == 408
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert raw(port, get, b"GET /hea", pause=0.2).count(b"HTTP/1.1") == 1  # the second one never ends
    assert time.monotonic() - begun < 8
    assert status_of(raw(port, get.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))) == 200


def test_many_and_long_headers_are_refused(client: TestClient) -> None:
    assert client.get("/v1/models", headers={f"x-{n}": "y" for n in range(200)}).status_code == 431
    assert client.get("/v1/models", headers={"x-a": "y" * 50_000}).status_code == 431


def hostile_files() -> dict[str, bytes]:
    """Files that no server should read."""

    def tensors(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    big = {"happy.2": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    return {
        "pickle": b"\x80\x04cos\nsystem\n(S'false'\ntR.",
        "zip of torch": b"PK\x03\x04" + b"\0" * 200,
        "gguf": b"GGUF" + b"\0" * 200,
        "header of 2^60 bytes": tensors({}, length=2**60),
        "header longer than the file": tensors({}, length=10_000),
        "tensor of 4 TB": tensors(big),
        "overlapping tensors": tensors(
            {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in ("a", "b")}, b"\0" * 16
        ),
        "no header": b"",
        "deep header": struct.pack("<Q", 200_000) + b"[" * 200_000,
    }


@pytest.mark.parametrize("kind", hostile_files())
def test_hostile_files_are_refused_by_their_content(client: TestClient, tmp_path: Path, kind: str) -> None:
    before = sorted((tmp_path / "served").rglob("*"))
    begun = time.monotonic()
    answer = client.put(
        "/v1/vectors/mine", content=hostile_files()[kind], headers={"content-type": "application/octet-stream"}
    )
    assert answer.status_code in (400, 413, 422)
    assert time.monotonic() - begun < 3
    assert client.get("/v1/vectors/mine").status_code == 404
    assert sorted((tmp_path / "served").rglob("*")) == before


@pytest.mark.parametrize("name", [name for name in TRAVERSALS if name not in ("happy.safetensors", "./happy")])
def test_uploads_and_presets_write_nowhere_else(
    client: TestClient, happy_vector: Any, tmp_path: Path, name: str
) -> None:
    happy_vector.save(tmp_path / "happy.safetensors")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    content = (tmp_path / "happy.safetensors").read_bytes()
    quoted = name.replace("\0", "%00").replace("\\", "%5c")
    for folder in ("vectors", "presets"):
        for path in (quoted, quoted.replace("/", "%2f").replace(".", "%2e")):
            answers = [
                client.put(f"/v1/{folder}/{path}", content=content, headers={"content-type": kind})
                for kind in ("application/octet-stream", "application/json")
            ]
            answers += [client.delete(f"/v1/{folder}/{path}"), client.get(f"/v1/{folder}/{path}")]
            assert all(400 <= answer.status_code < 500 for answer in answers)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def test_uploads_are_counted_as_they_come(fake: FakeEngine, serve: Callable[[FastAPI], int], tmp_path: Path) -> None:
    port = serve(create_app(fake, ServerSettings(model="fake", vectors=tmp_path, max_upload_bytes=1_000)))
    head = b"PUT /v1/vectors/mine HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
    assert status_of(raw(port, head + b"Content-Length: 10000000000\r\n\r\n")) == 413
    chunked = head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = raw(port, chunked, *[b"100\r\n" + b"x" * 256 + b"\r\n"] * 8)
    assert not answer or status_of(answer) in (400, 413)  # closed in the middle of the body, an answer may be lost
    assert not list(tmp_path.glob("*.safetensors"))
