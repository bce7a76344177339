"""The examples for nginx and systemd in the documentation, in front of a server."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx2
import pytest

from served import CHAT, listening
from trimtab.engines.fake import FakeEngine
from trimtab.engines.generation import Generation, Mailbox
from trimtab.engines.protocol import Completion, Receipt, StreamedToken
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
NAME = "llm.example.org"
BINARY = {"content-type": "application/octet-stream"}
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
NGINX, OPENSSL, SYSTEMD = (shutil.which(name, path=PATHS) for name in ("nginx", "openssl", "systemd-analyze"))


def example(begin: str) -> str:
    """Return the indented block of the page that begins with a line."""
    found = re.search(rf"^    {re.escape(begin)}\n(?:(?:    .*)?\n)+", PAGE, re.MULTILINE)
    assert found is not None
    return textwrap.dedent(found[0])


class Slow:
    """Engine that writes one token, and the others once it is let go on."""

    def __init__(self) -> None:
        self.go_on = Event()
        self._fake = FakeEngine()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fake, name)

    def submit(self, prompt: Any, **options: Any) -> Generation:
        mailbox = Mailbox()
        mailbox.put(StreamedToken(1, "first"))

        def rest() -> None:
            self.go_on.wait(20)
            mailbox.put(StreamedToken(2, " last"))
            mailbox.close(Completion("first last", (1, 2), "stop", prompt, Receipt("none", (), 0)))

        Thread(target=rest, daemon=True).start()
        return Generation(mailbox)


@contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[int]:
    """Run the example in front of a server; yields its port."""
    assert NGINX is not None
    assert OPENSSL is not None
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    certificate = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}", "-days", "1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([OPENSSL, *certificate, *files], check=True, capture_output=True)
    server = example("server {")
    for written, meant in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("http://127.0.0.1:8421;", f"{upstream};"),
        ("/etc/ssl/llm.example.org.pem", str(folder / "cert.pem")),
        ("/etc/ssl/private/llm.example.org.key", str(folder / "key.pem")),
    ):
        assert written in server
        server = server.replace(written, meant)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; {user} worker_processes 1; pid {folder / 'pid'}; error_log {folder / 'errors'};\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}\n{server} }}\n"
    )
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(config), "-e", str(folder / "errors")])
    try:
        end = time.monotonic() + 10
        while time.monotonic() < end:
            assert process.poll() is None, (folder / "errors").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[Slow, Callable[..., Any]]]:
    engine = Slow()
    app = create_app(engine, ServerSettings(model="fake", allowed_hosts=(NAME,)))  # type: ignore[arg-type]
    with (
        listening(app) as address,
        nginx(tmp_path, address) as port,
        httpx2.Client(base_url=f"https://127.0.0.1:{port}", verify=False, headers={"host": NAME}, timeout=30) as client,
    ):
        yield engine, client


@pytest.mark.skipif(NGINX is None or OPENSSL is None, reason="nginx is not there")
def test_stream_comes_through_nginx_token_by_token(proxied: tuple[Slow, httpx2.Client]) -> None:
    engine, client = proxied
    with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        assert answer.status_code == 200
        seen = ""
        for piece in answer.iter_text():
            seen += piece
            if "first" in seen:
                engine.go_on.set()  # not before the first token has arrived
    assert engine.go_on.is_set()
    assert " last" in seen
    assert seen.endswith("data: [DONE]\n\n")


@pytest.mark.skipif(NGINX is None or OPENSSL is None, reason="nginx is not there")
def test_refusals_come_through_nginx(proxied: tuple[Slow, httpx2.Client]) -> None:
    _, client = proxied
    large = client.post("/v1/chat/completions", content=b"x" * (5 * 1024**2))
    assert large.status_code == 413
    upload = client.put("/v1/vectors/mine", content=b"no vector", headers=BINARY)
    assert (upload.status_code, upload.json()["error"]["type"]) == (400, "invalid_request_error")
    evil = client.get("/v1/models", headers={"host": "evil.example"})
    assert (evil.status_code, evil.json()["error"]["code"]) == (403, "bad_host")
    assert client.get("/v1/models").status_code == 200
    page = client.get("/v1/models", headers={"origin": "https://elsewhere.example"})
    assert (page.status_code, page.json()["error"]["code"]) == (403, "bad_origin")
    assert client.get("/healthz").status_code == 200


@pytest.mark.skipif(SYSTEMD is None, reason="systemd is not there")
def test_unit_of_systemd_has_no_mistake(tmp_path: Path) -> None:
    assert SYSTEMD is not None
    command = tmp_path / "trimtab"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    unit = example("[Unit]")
    assert "/opt/trimtab/bin/trimtab" in unit
    (tmp_path / "trimtab.service").write_text(unit.replace("/opt/trimtab/bin/trimtab", str(command)))
    checked = subprocess.run(
        [SYSTEMD, "verify", "--man=no", str(tmp_path / "trimtab.service")], capture_output=True, text=True, timeout=60
    )
    told = [line for line in checked.stderr.splitlines() if "trimtab" in line]
    assert (checked.returncode, told) == (0, [])
