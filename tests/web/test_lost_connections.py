"""Servers that are killed, and pages that are closed, in the middle of something."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

WORDS = " ".join(f"word{number}" for number in range(60))
SERVER = f"""
import sys
from pathlib import Path
from served import Scripted
from trimtab.server.app import create_app
from trimtab.server.listening import listen
from trimtab.server.settings import ServerSettings
folder, port = Path(sys.argv[1]), int(sys.argv[2])
engine = Scripted(*[{WORDS!r}] * 9, piece=7, seconds=0.05)
listen(create_app(engine, ServerSettings(model="fake", port=port, vectors=folder, presets=folder, drain=0))).run()
"""
LOST = r"net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)"


@contextmanager
def server(folder, port):
    """Run a server in a process of its own, which the ``with`` block may kill."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder), str(port)], env=environment)
    try:
        for _ in range(600):
            try:
                urlopen(f"http://127.0.0.1:{port}/healthz").close()
                break
            except URLError:
                time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_killed_server_leaves_the_text_and_the_page_goes_on(open_page, fake_vectors, tmp_path, port):
    fake_vectors[0].save(tmp_path / "happy.safetensors")
    with server(tmp_path, port) as process:
        page = open_page(f"http://127.0.0.1:{port}", allowed=LOST, stored={"columns": ["steered"]})
        page.get_by_label("Your message").fill("Count.")
        page.keyboard.press("Enter")
        log = page.get_by_role("log", name="Steered, turn 1")
        expect(log).to_contain_text("word3")
        process.send_signal(signal.SIGKILL)
        process.wait()
        column = page.get_by_role("group", name="Steered")
        go_on = column.get_by_role("button", name="Go on")
        expect(go_on).to_be_visible()
        left = log.inner_text()
        assert WORDS.startswith(left.strip())
        assert "word3" in left
        expect(page.get_by_role("alert").first).to_be_visible()
    with server(tmp_path, port):
        go_on.click()
        expect(log).to_contain_text("word59")
        assert log.inner_text().startswith(left)
        page.reload()
        expect(log).to_contain_text("word59")


def test_training_is_found_again_after_the_tab_was_closed(open_page, serve, fake, held, train_pirate):
    with serve(fake) as address:
        page = open_page(f"{address}/#make")
        train_pirate(page)
        running = re.compile("^pirate is being made")
        expect(page.get_by_role("article", name=running)).to_be_visible()
        page.close()
        again = open_page(f"{address}/#make")
        expect(again.get_by_role("article", name=running)).to_be_visible()
        held.set()
        expect(again.get_by_role("article", name=re.compile("^pirate is ready"))).to_be_visible(timeout=30_000)
        again.context.close()
        again.close()  # before its server, which it would miss
