"""``trimtab serve``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from urllib.request import Request, urlopen

import pytest

from trimtab.server.keys import find_key


@pytest.fixture
def run(run_on, llama):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(llama)


def test_missing_folder_is_reported_before_loading(no_model):
    code, _, err = no_model("serve", "--vectors", "nowhere")
    assert code == 2
    assert "nowhere" in err


def test_missing_extra_is_reported_with_its_installation(no_model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = no_model("serve")
    assert code == 2
    assert "pip install 'trimtab[server]'" in err


def test_options_become_settings(run, monkeypatch, tmp_path, llama):
    served = []
    monkeypatch.setattr("trimtab.cli.serve.run_server", lambda *args, keys: served.append((*args, keys)))
    code, _, _ = run("serve", "--port", 99, "--vectors", tmp_path, "--name", "mine")
    assert code == 0
    ((engine, settings, keys),) = served
    assert engine is llama
    assert (settings.model, settings.port, settings.vectors, keys) == ("mine", 99, tmp_path, ())


def test_other_addresses_need_keys_or_a_flag(run, monkeypatch, tmp_path):
    served = []
    monkeypatch.setattr("trimtab.cli.serve.run_server", lambda *args, keys: served.append(keys))
    code, _, err = run("serve", "--host", "0.0.0.0")
    assert code == 2
    assert "--api-key-file" in err
    code, key, entry = run("serve", "--new-key")
    path = tmp_path / "keys.toml"
    path.write_text(entry.partition("\n\n")[2].replace("…", "shop"))
    assert run("serve", "--host", "0.0.0.0", "--api-key-file", path)[0] == 0
    assert run("serve", "--host", "0.0.0.0", "--no-auth")[0] == 0
    ((found,), none) = served
    assert (found.name, find_key((found,), key.strip())) == ("shop", found)
    assert none == ()


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_server_says_where_it_listens_and_stops_cleanly(ending, tmp_path):
    command = [sys.executable, "-m", "trimtab", "serve", "--port", "8497"]
    environment = {**os.environ, "TRIMTAB_VECTORS": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        lines = iter(process.stderr.readline, "")
        assert any("http://127.0.0.1:8497" in line for line in lines)
        body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        request = Request(
            "http://127.0.0.1:8497/v1/chat/completions",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        assert json.load(urlopen(request))["usage"]["completion_tokens"] == 4
        process.send_signal(ending)
        assert process.wait(20) == (0 if ending == signal.SIGINT else -ending)
        assert "Traceback" not in process.stderr.read()
