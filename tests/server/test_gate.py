"""The gate in front of all routes: hosts, origins, keys, pace and size."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from served import CHAT, listening
from trimtab.engines.fake import FakeEngine
from trimtab.errors import OutputError
from trimtab.server.app import create_app
from trimtab.server.keys import Key, digest_of, find_key, new_key, read_keys
from trimtab.server.settings import ServerSettings

KEY, OTHER = "tt-the-key-of-the-shop", "tt-another-key-altogether"
KEYS = (Key("shop", digest_of(KEY)), Key("owner", digest_of(OTHER), frozenset({"use", "manage"})))
HOST = {"host": "localhost:8421"}


@pytest.fixture
def ask(fake: FakeEngine) -> Callable[..., TestClient]:
    """``ask(keys=KEYS, requests_per_minute=3)`` is a client of a guarded server."""

    def make(*, keys: tuple[Key, ...] = (), **settings: Any) -> TestClient:
        app = create_app(fake, ServerSettings(model="fake", **settings), keys=keys)
        return TestClient(app, base_url="http://localhost:8421", raise_server_exceptions=False)

    return make


def code_of(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["error"]["code"])


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "a/?x=", "localhost:1:2", "", "127.0.0.1@evil"]
)
def test_other_hosts_are_refused(ask: Callable[..., TestClient], host: str) -> None:
    answer = ask().get("/v1/models", headers={"host": host})
    assert code_of(answer, answer.status_code) == "bad_host"
    assert answer.status_code in (400, 403)
    assert ask().get("/v1/models", headers={"host": "LOCALHOST:8421"}).status_code == 200
    assert ask(allowed_hosts=("steer.example",)).get("/v1/models", headers={"host": "steer.example"}).status_code == 200


def test_pages_from_elsewhere_are_refused(ask: Callable[..., TestClient]) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:9999"):
        assert code_of(ask().post("/v1/chat/completions", json=CHAT, headers={"origin": origin}), 403) == "bad_origin"
    own = {"origin": "http://localhost:8421"}
    assert ask().post("/v1/chat/completions", json=CHAT, headers=own).status_code == 200
    client = ask(allowed_origins=("https://app.example",), keys=KEYS)
    asked = {"origin": "https://app.example", "access-control-request-method": "POST"}
    allowed = client.options("/v1/chat/completions", headers=asked)
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in ask().get("/v1/models").headers


def test_everything_but_health_needs_a_key(ask: Callable[..., TestClient]) -> None:
    client = ask(keys=KEYS)
    paths = {*client.app.openapi()["paths"], "/openapi.json", "/nothing"}
    assert {"/v1/chat/completions", "/metrics", "/healthz"} <= paths
    for path in paths - {"/healthz", "/readyz"}:
        assert code_of(client.get(path), 401) == "invalid_api_key"
    for path in ("/healthz", "/readyz"):
        assert client.get(path).status_code == 200
    for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": OTHER}, {"authorization": f"bearer  {KEY}"}):
        assert client.get("/v1/models", headers=headers).status_code == 200
    for wrong in (KEY[:-1], KEY + "x", "", "tt-" * 40):
        assert client.get("/v1/models", headers={"x-api-key": wrong}).status_code == 401


def test_the_routed_path_decides_whatever_the_host_says(fake: FakeEngine) -> None:
    app = create_app(fake, ServerSettings(model="fake"), keys=KEYS)
    with listening(app) as address:
        port = int(address.rpartition(":")[2])
        for host in ("a/healthz?x=", "localhost/healthz?x=", "localhost"):
            answer = raw(port, f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert answer.split()[1] in (b"400", b"401", b"403")
        assert raw(port, b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n").split()[1] == b"400"


def raw(port: int, request: bytes, *, wait: float = 10) -> bytes:
    """Return the answer to bytes that no client would send."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        connection.sendall(request)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def test_large_and_endless_bodies_are_refused(fake: FakeEngine) -> None:
    app = create_app(fake, ServerSettings(model="fake", max_body_bytes=1000, body_seconds=0.5))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with listening(app) as address:
        port = int(address.rpartition(":")[2])
        assert raw(port, head + b"Content-Length: 10000000000\r\n\r\n").split()[1] == b"413"
        chunk = b"100\r\n" + b"x" * 256 + b"\r\n"
        assert raw(port, head + b"Transfer-Encoding: chunked\r\n\r\n" + 8 * chunk).split()[1] == b"413"
        assert raw(port, head + b"Content-Length: -5\r\n\r\n").split()[1] == b"400"
        begun = time.monotonic()
        assert raw(port, head + b"Content-Length: 100\r\n\r\n{").split()[1] == b"408"
        assert time.monotonic() - begun < 5


def test_a_key_has_its_pace(ask: Callable[..., TestClient]) -> None:
    client = ask(keys=KEYS, requests_per_minute=3)
    shop, owner = {"x-api-key": KEY}, {"x-api-key": OTHER}
    statuses = [client.post("/v1/chat/completions", json=CHAT, headers=shop).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    refused = client.post("/v1/chat/completions", json=CHAT, headers=shop)
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert client.get("/v1/models", headers=shop).status_code == 200
    assert client.post("/v1/chat/completions", json=CHAT, headers=owner).status_code == 200


def test_refusals_of_messages_have_anthropics_shape(ask: Callable[..., TestClient]) -> None:
    owner = Key("ops", digest_of(OTHER), frozenset({"manage"}))
    client = ask(keys=(KEYS[0], owner), requests_per_minute=1, max_body_bytes=1000)
    shop, ops = {"x-api-key": KEY}, {"x-api-key": OTHER}
    body = {"model": "fake", "messages": CHAT["messages"], "max_tokens": 4}

    def refusal(status: int, path: str = "/v1/messages", *, method: str = "POST", **options: Any) -> Any:
        answer = client.request(method, path, **options)
        assert answer.status_code == status, answer.text
        told = answer.json()
        assert told["type"] == "error"
        assert told["error"]["message"]
        return told["error"]["type"], answer.headers.get("retry-after")

    assert refusal(401, json=body) == ("authentication_error", None)
    assert refusal(401, "/v1/messages/count_tokens", json=body) == ("authentication_error", None)
    assert refusal(403, json=body, headers={**shop, "origin": "https://evil.example"}) == ("permission_error", None)
    assert refusal(403, json=body, headers=ops) == ("permission_error", None)
    assert refusal(413, content=b"x" * 2000, headers=shop) == ("request_too_large", None)
    kind, wait = refusal(429, json=body, headers=shop)
    assert kind == "rate_limit_error"
    assert int(wait) > 0
    assert refusal(404, "/v1/messages/nothing", method="GET", headers=shop) == ("not_found_error", None)
    assert refusal(405, method="GET", headers=shop) == ("invalid_request_error", None)
    elsewhere = client.post("/v1/messagesx", json=body).json()
    assert "type" not in elsewhere
    assert elsewhere["error"]["type"] == "authentication_error"


def test_requests_are_logged_in_one_line_without_their_words(
    ask: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    client = ask(keys=KEYS, log_requests=True)
    with caplog.at_level(logging.INFO, logger="trimtab.server.requests"):
        client.post("/v1/chat/completions", json=CHAT, headers={"x-api-key": KEY, "x-request-id": "one-2"})
        client.get("/v1/models%0a{}", headers={"x-request-id": 'two" forged'})
    lines = [record.getMessage() for record in caplog.records if record.name == "trimtab.server.requests"]
    first, second = map(json.loads, lines)
    assert (first["id"], first["key"], first["status"], first["path"]) == ("one-2", "shop", 200, "/v1/chat/completions")
    assert second["path"] == "/v1/models\n{}"
    assert second["status"] == 401
    assert len(second["id"]) == 32
    assert not any("Hello" in line or KEY in line or "\n" in line for line in lines)


@pytest.fixture
def keys_file(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """``keys_file(text)`` writes a file of keys."""

    def write(text: str) -> Path:
        path = tmp_path / "keys.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_files_of_keys_have_digests_or_keys(keys_file: Callable[[str], Path]) -> None:
    key, digest = new_key()
    found = read_keys(
        keys_file(f'[[keys]]\nname = "a"\nsha256 = "{digest}"\n[[keys]]\nname = "b"\nkey = "{KEY}"\nroles = ["manage"]')
    )
    assert [entry.name for entry in found] == ["a", "b"]
    assert find_key(found, key) == found[0]
    assert find_key(found, KEY) == found[1]
    assert find_key(found, "nothing") is None
    assert found[1].roles == {"manage"}


@pytest.mark.parametrize(
    "text",
    [
        "", "keys = 3", "[[keys]]", '[[keys]]\nname = "a"', '[[keys]]\nname = "a"\nkey = "short"', "[[keys",
        '[[keys]]\nname = "a"\nsha256 = "zz"', '[[keys]]\nname = "a"\nkey = "0123456789abcdef"\nroles = ["root"]',
        2 * '[[keys]]\nname = "a"\nkey = "0123456789abcdef"\n',
    ],
)  # fmt: skip
def test_other_files_are_no_files_of_keys(keys_file: Callable[[str], Path], text: str) -> None:
    with pytest.raises(OutputError):
        read_keys(keys_file(text))
