"""The application around the verbs: output in any encoding, full disks, closed pipes and missing homes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from trimtab.cli.vector import resumable
from trimtab.errors import InUseError
from trimtab.training.checkpoint import Checkpoint, open_checkpoint


@pytest.fixture
def vector_file(random_vector, llama, tmp_path) -> Path:
    return random_vector(llama, layers=[1, 2], name="glücklich").save(tmp_path / "v [x].safetensors")


def trimtab(*arguments: str | Path | bytes, out: int = subprocess.PIPE, **variables: str | None):
    """Run the command line in another process; None removes a variable."""
    env = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    command = [sys.executable, "-m", "trimtab", *arguments]
    return subprocess.run(command, stdout=out, stderr=subprocess.PIPE, env=env, timeout=120, check=False)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "utf-8"])
def test_output_of_any_encoding_is_written(vector_file, encoding):
    shown = trimtab("show", vector_file, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert shown.returncode == 0, shown.stderr
    text = shown.stdout.decode(encoding)
    assert "layers 1" in text
    assert "?" not in text.replace("gl?cklich", "")
    described = trimtab("show", vector_file, "--json", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert json.loads(described.stdout.decode(encoding))["behaviour"]["name"] == "glücklich"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_output_on_full_disk_is_one_line(vector_file, options):
    with Path("/dev/full").open("wb") as full:
        shown = trimtab("show", vector_file, *options, out=full.fileno())
    assert shown.returncode == 1
    assert shown.stderr.decode().strip() == "trimtab: cannot read or write the output: No space left on device"


def test_output_to_closed_pipe_is_silent(vector_file):
    reading, writing = os.pipe()
    os.close(reading)
    shown = trimtab("show", vector_file, "--json", out=writing)
    os.close(writing)
    assert shown.stderr == b""


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_path_with_invalid_utf8_is_one_line():
    shown = trimtab("show", b"happy\xff.safetensors")
    assert shown.returncode == 2
    assert shown.stderr.count(b"\n") == 1
    assert b"does not exist" in shown.stderr


# Checkpoints of the same output, and a cache that cannot be written


def test_second_training_of_an_output_keeps_the_first_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    output = tmp_path / "v.safetensors"
    with resumable(output, resume=False) as path, open_checkpoint(path, job="first") as first:
        first.put("answers", b"kept")
        with pytest.raises(InUseError, match="another process"), resumable(output, resume=False):
            pass
        assert first.get("answers") == b"kept"


def test_interrupted_training_is_kept_for_resume_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    output = tmp_path / "v.safetensors"
    with (
        suppress(KeyboardInterrupt),
        resumable(output, resume=False) as path,
        open_checkpoint(path, job="a") as checkpoint,
    ):
        checkpoint.put("answers", b"kept")
        raise KeyboardInterrupt
    with resumable(output, resume=True) as path:
        checkpoint = Checkpoint(path, job="a")
        assert checkpoint.get("answers") == b"kept"
        checkpoint.close()
    with resumable(output, resume=False) as path:
        checkpoint = Checkpoint(path, job="a")
        assert checkpoint.get("answers") is None
        checkpoint.close()


def test_cache_that_cannot_be_written_is_only_needed_to_resume(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path / "file" / "cache"))
    with resumable(tmp_path / "v.safetensors", resume=False) as path:
        assert path is None
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot be resumed" in said
    assert "TRIMTAB_CACHE" in said


# Nothing given is dropped


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("generate", "hi", "--system", "a", "--system", "b"), "--system"),
        (("train", "happy", "--seed", "1", "--seed", "2"), "--seed"),
        (("train", "happy", "-o", "a", "--output", "b"), "--output"),
        (("condition", "fit", "x", "--negative", "a", "--negative", "b"), "--negative"),
        (("zoo", "card", "happy", "--folder", "a", "--folder", "b"), "--folder"),
    ],
)
def test_option_given_twice_is_refused(run_on, llama, arguments, option):
    code, out, err = run_on(llama)(*arguments)
    assert (code, out) == (2, "")
    assert f"{option} was given 2 times" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--no-calibrate", "--budget", "0.6"), "without calibration"),
        (("--temperature", "0.7"), "has no effect on prompts"),
    ],
)
def test_option_without_effect_is_refused(run_on, llama, arguments, says):
    code, _, err = run_on(llama)("train", "happy", *arguments)
    assert code == 2
    assert says in err
