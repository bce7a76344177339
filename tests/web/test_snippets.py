"""Code that the page offers for other applications, executed as it is against the server that offers it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from trimtab.vectors import ControlVector, packaged_path

ROOT = Path(__file__).parents[2]
CLIENTS = Path(os.environ.get("TRIMTAB_CLIENTS", ROOT / ".venv-clients"))
TABS = {
    "curl": "curl",
    "python-openai": "Python (openai)",
    "python-trimtab": "Python (trimtab)",
    "js-openai": "JavaScript (openai)",
    "litellm": "LiteLLM",
    "cli": "Command line",
    "model-name": "As a model name",
}


def python_with(package: str) -> str:
    """Return a Python that has a package: that of the clients, else this one."""
    theirs = CLIENTS / "bin" / "python"
    if theirs.exists() and subprocess.run([theirs, "-c", f"import {package}"], capture_output=True).returncode == 0:
        return str(theirs)
    if find_spec(package) is not None:
        return sys.executable
    pytest.skip(f"{package} is not installed: make test-interop installs the clients")


def run(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def snippet(page, tab: str) -> str:
    """Return the code of a tab, which is chosen by keyboard."""
    page.get_by_role("button", name="Use in my app").first.click()
    dialog = page.get_by_role("dialog", name="Use in my app")
    dialog.get_by_text("happy:0.5").first.wait_for()
    selected = dialog.get_by_role("tab", selected=True)
    selected.focus()
    for _ in TABS:
        if dialog.get_by_role("tab", selected=True).inner_text() == tab:
            break
        page.keyboard.press("ArrowRight")
    assert dialog.get_by_role("tab", selected=True).inner_text() == tab
    return dialog.locator("pre").inner_text()


def answer(page, body: dict[str, object]) -> str:
    """Return the server's own answer to the question of the snippets."""
    asked = {"messages": [{"role": "user", "content": "How was your day?"}], "max_tokens": 40, "temperature": 0, **body}
    reply = page.request.post(page.url.partition("#")[0] + "v1/chat/completions", data=asked)
    assert reply.ok, reply.text()
    return str(reply.json()["choices"][0]["message"]["content"])


@pytest.fixture
def steered(page):
    """The page over the fake engine with its first dial at 0.5."""
    return page


def test_curl_is_answered_as_the_page_is(steered, tmp_path):
    reply = json.loads(run(["bash", "-c", snippet(steered, TABS["curl"])], tmp_path))
    assert reply["trimtab"]["answers"][0]["receipt"]["steering"] == "happy:0.5"
    assert reply["choices"][0]["message"]["content"] == answer(steered, {"model": "fake", "steering": "happy:0.5"})


@pytest.mark.parametrize(("tab", "package"), [("python-openai", "openai"), ("litellm", "litellm")])
def test_python_client_gets_the_steered_answer(steered, tmp_path, tab, package):
    python = python_with(package)
    printed = run([python, "-c", snippet(steered, TABS[tab])], tmp_path, PYTHONPATH="")
    assert printed.rstrip("\n") == answer(steered, {"model": "fake", "steering": "happy:0.5"}).rstrip("\n")


def test_javascript_client_gets_the_steered_answer(steered, tmp_path):
    node, modules = shutil.which("node"), CLIENTS / "node_modules"
    if node is None or not (modules / "openai").is_dir():
        pytest.skip("needs node; make test-interop then installs the package")
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "snippet.mjs").write_text(snippet(steered, TABS["js-openai"]), encoding="utf-8")
    printed = run([node, "snippet.mjs"], tmp_path)
    assert printed.rstrip("\n") == answer(steered, {"model": "fake", "steering": "happy:0.5"}).rstrip("\n")


def test_preset_is_saved_and_steers_as_a_model_name(steered, tmp_path):
    steered.get_by_role("spinbutton").first.fill("0.35")  # the strength of no preset that comes with trimtab
    steered.keyboard.press("Tab")
    steered.get_by_role("button", name="Use in my app").first.click()
    steered.get_by_role("dialog").get_by_text("happy:0.35").first.wait_for()
    steered.get_by_role("tab", name=TABS["model-name"]).click()
    steered.get_by_role("tabpanel").get_by_role("button", name="Save as preset").click()
    steered.get_by_label("Name", exact=True).fill("from-the-page")
    steered.get_by_role("button", name="Save", exact=True).click()
    steered.get_by_role("button", name="Done").click()
    code = steered.get_by_role("tabpanel").locator("pre").inner_text()
    assert "fake:from-the-page" in code
    assert "steering" not in code
    reply = json.loads(run(["bash", "-c", code], tmp_path))
    assert reply["choices"][0]["message"]["content"] == answer(steered, {"model": "fake", "steering": "happy:0.35"})


def test_copied_code_is_the_shown_one(steered):
    steered.context.grant_permissions(["clipboard-read", "clipboard-write"])
    code = snippet(steered, TABS["python-openai"])
    steered.get_by_role("button", name="Copy", exact=True).click()
    steered.get_by_text("Copied", exact=True).wait_for()
    assert steered.evaluate("navigator.clipboard.readText()") == code


@pytest.mark.parametrize("tab", ["python-trimtab", "cli"])
def test_code_without_a_server_gives_the_steered_answer(open_page, true_address, smollm2, tmp_path, tab):
    code = snippet(open_page(true_address), TABS[tab])
    packaged = {"TRIMTAB_VECTORS": str(tmp_path)}  # no vectors but those that come with trimtab
    if tab == "cli":
        script = tmp_path / "trimtab"
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m trimtab "$@"\n', encoding="utf-8")
        script.chmod(0o755)
        printed = run(["bash", "-c", code], tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}", **packaged)
    else:
        printed = run([sys.executable, "-c", code], tmp_path, **packaged)
    happy = ControlVector.load(packaged_path("happy"))
    expected = smollm2.generate("How was your day?", steering=[(happy, 0.5)], max_new_tokens=40).text
    assert " ".join(expected.split()) in " ".join(printed.split())
