"""``trimtab doctor``: what it prints for people and for programs, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trimtab.cli import main
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import ModelError

GIB = 1024**3
SECTIONS = ["Model", "What works", "Norm of hidden states", "Machine"]
Doctor = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _roomy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.engines.transformers.doctor.properties.free_memory", lambda: 64 * GIB)


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """Run ``trimtab doctor ARGUMENTS`` on an engine, or on an error in its place; gives (code, stdout, stderr)."""

    def call(found: TransformersEngine | Exception, *arguments: str) -> tuple[int, str, str]:
        def load(*_: Any, **__: Any) -> TransformersEngine:
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr("trimtab.engines.transformers.load", load)
        with pytest.raises(SystemExit) as ended:
            main(["doctor", *arguments])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def test_doctor_sound_model_has_no_problems(doctor: Doctor, smollm2: TransformersEngine) -> None:
    code, out, err = doctor(smollm2)
    assert code == 0
    assert out.startswith("smollm2: works, nothing to do\n")
    assert [line for line in out.splitlines() if any(map(line.startswith, SECTIONS))] == [
        "Model",
        "What works",
        "Norm of hidden states, by layer (3 neutral texts, sinks left out)",
        "Machine",
    ]
    assert "'<|im_start|>'" in out
    assert "What to do" not in out
    assert "Trying it out" in err
    assert out.count("█") > 100


def test_doctor_json_keys_do_not_depend_on_result(doctor: Doctor, llama: TransformersEngine) -> None:
    code, out, _ = doctor(llama, "--json")
    assert code == 0
    sound = json.loads(out)
    assert (sound["schema"], sound["works"], sound["name"]) == (2, True, "tiny llama")
    assert {each["state"] for each in sound["checks"]["capabilities"]} == {"yes"}
    assert sound["seconds"].keys() == {"Loading the model", "Looking at the model", "Trying it out"}
    code, out, _ = doctor(ModelError("it is gone"), "--json", "--model", "some/model")
    assert code == 1
    gone = json.loads(out)
    assert gone.keys() == sound.keys()
    assert gone["machine"].keys() == sound["machine"].keys()
    assert (gone["name"], gone["works"], gone["model"]) == ("some/model", False, None)
    assert gone["problems"][0]["what"] == "it is gone"


def test_doctor_refused_model_is_code_1(doctor: Doctor) -> None:
    code, out, err = doctor(ModelError("the [blocks] cannot be proven", fix="use another"), "--model", "odd[1]")
    assert code == 1
    assert out.startswith("odd[1]: cannot be steered: the [blocks] cannot be proven\n")
    assert out.count("cannot be proven") == 1
    assert "→ use another" in out
    assert "python" in out
    assert "Traceback" not in err


def test_doctor_missing_model_is_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--model", str(tmp_path / "nowhere.gguf")])
    assert ended.value.code == 1
    assert "does not exist" in capsys.readouterr().out.splitlines()[0]


def test_doctor_problem_shows_fix(doctor: Doctor, tiny: Callable[..., TransformersEngine]) -> None:
    code, out, _ = doctor(tiny(dtype=torch.bfloat16, chat_template=None))
    assert code == 0
    assert out.startswith("tiny llama: works, 2 remarks\n")
    assert "no chat template: prompts are read as plain text" in out
    told = out[out.index("What to do") :]
    assert "→ load it with --dtype float32" in told
    assert told.index("warning") < told.index("note")


def test_doctor_overflowing_model_is_code_1(doctor: Doctor, tiny: Callable[..., TransformersEngine]) -> None:
    engine = tiny(dtype=torch.float16)
    engine.model.model.layers[2].mlp.down_proj.weight.data.fill_(60000.0)
    code, out, _ = doctor(engine)
    assert code == 1
    assert "cannot be steered: hidden states are not finite" in out.splitlines()[0]
    assert "✗" in out


def test_doctor_help_shows_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--help"])
    assert "Example: trimtab doctor" in capsys.readouterr().out
