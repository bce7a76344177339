"""``trimtab play``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest

import trimtab.cli.play as module
from trimtab.server.settings import HOST, PORT


@pytest.fixture
def run(run_on, llama):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(llama)


@pytest.fixture
def served(monkeypatch):
    """Settings of the servers that were begun; their pages are opened at once."""
    begun = []

    def run_server(engine, settings, *, ready):
        begun.append(settings)
        ready(f"http://{settings.host}:{settings.port}")

    monkeypatch.setattr(module, "run_server", run_server)
    return begun


@pytest.fixture
def opened(monkeypatch):
    """Addresses that were opened in a browser."""
    addresses = []

    class Now:
        def __init__(self, *, target, args, daemon):
            self.start = lambda: target(*args)

    monkeypatch.setattr(module, "Thread", Now)
    monkeypatch.setattr("webbrowser.open", addresses.append)
    return addresses


@pytest.fixture
def taken_port():
    """A port that another program listens on."""
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        yield other.getsockname()[1]


def test_page_on_loopback_is_opened(run, served, opened, monkeypatch):
    monkeypatch.setattr(module, "_is_taken", lambda host, port: False)
    assert run("play")[0] == 0
    assert [(settings.host, settings.port) for settings in served] == [(HOST, PORT)]
    assert opened == [f"http://{HOST}:{PORT}"]


def test_no_browser_prints_the_address(run, served, opened, monkeypatch):
    monkeypatch.setattr(module, "_is_taken", lambda host, port: False)
    code, _, err = run("play", "--no-browser")
    assert code == 0
    assert f"http://{HOST}:{PORT}" in err
    assert opened == []


def test_taken_default_port_is_replaced(run, served, opened, monkeypatch, taken_port):
    monkeypatch.setattr("trimtab.server.settings.PORT", taken_port)
    assert run("play")[0] == 0
    (settings,) = served
    assert settings.port != taken_port
    assert opened == [f"http://{HOST}:{settings.port}"]


def test_taken_given_port_is_reported_before_loading(no_model, taken_port):
    code, _, err = no_model("play", "--port", taken_port)
    assert code == 2
    assert str(taken_port) in err


def test_missing_server_extra_is_reported(no_model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = no_model("play")
    assert code == 2
    assert "pip install 'trimtab[server]'" in err


@pytest.mark.slow
def test_play_opens_the_page_and_ends_with_ctrl_c(tmp_path):
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/address\n')
    script.chmod(0o755)
    environment = {**os.environ, "BROWSER": f"{script} %s", "TRIMTAB_VECTORS": str(tmp_path)}
    command = [sys.executable, "-m", "trimtab", "play"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        lines = iter(process.stderr.readline, "")
        assert any("Opening http://" in line for line in lines)
        for _ in range(200):
            if (tmp_path / "address").exists() and (address := (tmp_path / "address").read_text().strip()):
                break
            time.sleep(0.05)
        assert b'id="app"' in urlopen(address).read()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
