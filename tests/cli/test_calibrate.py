"""``trimtab calibrate``, and what a vector's card then shows."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import trimtab
from trimtab import ControlVector
from trimtab.cli import main
from trimtab.vectors import Reader, ThresholdFit, vectors_folder


@pytest.fixture
def run(run_on, tiny_llama):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(tiny_llama)


@pytest.fixture
def vector(tiny_llama, random_vector) -> ControlVector:
    """Save an uncalibrated vector as 'plain' in the vectors folder."""
    vector = replace(random_vector(tiny_llama, layers=[1, 2], name="plain"), scale=None)
    vector.save(vectors_folder() / "plain.safetensors")
    return vector


def test_calibrate_updates_vector_file(run, vector):
    code, out, _ = run("calibrate", "plain", "--no-check", "--budget", "0.2", "--json")
    assert code == 0
    said = json.loads(out)
    kept = ControlVector.load(said["path"])
    assert said["path"] == str(vectors_folder() / "plain.safetensors")
    assert dict(kept.scale) == said["scale"]
    assert kept.calibration.kl["+"] == pytest.approx(0.2, rel=0.05)
    assert kept.neutral.prompts == 96
    assert kept.layers == (1, 2)


def test_calibrate_operator_writes_output_file(run, vector, tmp_path):
    path = tmp_path / "turned.safetensors"
    code, _, _ = run("calibrate", "plain", "--operator", "rotate", "--budget", "0.2", "-o", path)
    assert code == 0
    kept = ControlVector.load(path)
    assert set(kept.operator_scales) == {"rotate"}
    assert kept.scale is None
    assert ControlVector.load(vectors_folder() / "plain.safetensors").operator_scales == {}


def test_calibrate_takes_layers_and_behaviour(run, vector, tmp_path):
    path = tmp_path / "v.safetensors"
    code, _, _ = run("calibrate", "plain", "--layers", "2", "--behaviour", "happy", "-o", path)
    assert code == 0
    kept = ControlVector.load(path)
    assert kept.layers == (2,)
    assert kept.calibration.held_out.effect is not None


MISTAKES = [
    (("nobody",), "no vector named 'nobody'"),
    (("plain", "--operator", "dance"), "no strength to calibrate for 'dance'"),
    (("plain", "--operator", "rotate", "--layers", "1"), "own layers"),
    (("plain", "--layers", "auto"), "cannot be ranked"),
    (("plain", "--layers", "3"), "no direction for layers [3]"),
    (("plain", "--behaviour", "hapy"), "did you mean 'happy'"),
    (("plain", "--budget", "0"), "makes no sense"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES)
def test_calibrate_mistake_is_one_line_and_code_2(run, vector, arguments, says):
    code, out, err = run("calibrate", *arguments)
    assert code == 2
    assert out == ""
    assert says in err.strip().splitlines()[-1]
    assert "Traceback" not in err


def test_show_card_has_reading_and_operators(run, tiny_llama, vector):
    from trimtab.training.neutral import measure_neutral

    code, bare, _ = run("show", "plain")
    assert code == 0
    assert "Reading" not in bare
    full = replace(
        vector,
        neutral=measure_neutral(tiny_llama, vector.directions),
        reader=Reader((1,), "last", 0.987, {1: 0.987, 2: 0.5}, 40, 50),
        fits=(ThresholdFit("prompt", (-1.5, 2.25), 120),),
        operator_scales={"rotate": {"+": 0.3, "-": 0.4}},
    )
    full.save(vectors_folder() / "plain.safetensors")
    _, out, _ = run("show", "plain")
    card = " ".join(out.split())
    for shown in (
        "at its last token",
        "0.987 on texts left out (40 texts against 50)",
        "measured on 96 chats",
        "at prompt on 120 texts, which read -1.50 to +2.25",
        "+0.3000 -0.4000 radians",
    ):
        assert shown in card


def test_calibrate_help_shows_example(capsys):
    with pytest.raises(SystemExit):
        main(["calibrate", "--help"])
    assert "trimtab calibrate happy --operator rotate" in " ".join(capsys.readouterr().out.split())


def test_package_exports_reader_functions():
    for name in ("fit_reader", "fit_threshold"):
        assert name in trimtab.__all__
