"""``trimtab demo``: answers at once, then a vector that is trained and measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sample_vectors import calibration_record, safe_range, written_effect
from trimtab import Behaviour, ControlVector
from trimtab.cli.demo import SAILOR
from trimtab.vectors import BehaviourRef, vectors_folder


@pytest.fixture
def run(run_on, tiny_llama):
    """Run ``trimtab ARGUMENTS``; gives (code, stdout, stderr)."""
    return run_on(tiny_llama)


@pytest.fixture
def made(random_vector, tiny_llama):
    """Give a function that makes a measured vector of a behaviour."""

    def make(behaviour: Behaviour, **changes) -> ControlVector:
        return replace(
            random_vector(tiny_llama, layers=[1, 2]),
            behaviour=BehaviourRef(behaviour.name, behaviour.digest),
            **{"calibration": calibration_record(written=(written_effect(),)), "safe": safe_range(), **changes},
        )

    return make


@pytest.fixture
def trained(monkeypatch, made):
    """Return the names of the trained behaviours, and the fields that their vectors are to have."""
    names, changes = [], {}

    def train(model, behaviour, *, progress):
        names.append(behaviour.name)
        return made(behaviour, **changes)

    monkeypatch.setattr("trimtab.training.train.train", train)
    return names, changes


@pytest.fixture
def packaged(monkeypatch, tmp_path, made):
    """Put a vector of happiness for the tiny model into the package."""
    monkeypatch.setattr("trimtab.vectors.vector.PACKAGED", tmp_path / "zoo")
    made(Behaviour.load("happy")).save(tmp_path / "zoo" / "happy.safetensors")


def flat(text: str) -> str:
    return " ".join(text.split())


def test_demo_answers_first_then_trains_and_measures(run, trained, packaged):
    code, out, err = run("demo")
    assert code == 0
    assert trained[0] == ["sailor"]
    order = [
        "The vector happy, which is ready to use",
        "+ happy:0.5",
        "Now a new vector, sailor",
        "1.2 times what its system prompts do (95 % interval 1.0 to 1.5), on 24 questions it never saw",
        "holds together from -0.5 to +0.75 (below, answers repeat themselves; above, answers leave the question)",
        "+ sailor:0.5",
        "trimtab chat --steer sailor",
    ]
    places = [flat(out).find(text) for text in order]
    assert places == sorted(places)
    assert -1 not in places
    assert "beyond its safe range" not in err
    assert ControlVector.load(vectors_folder() / "sailor.safetensors").behaviour.name == "sailor"


def test_demo_without_packaged_vector_begins_with_training(run, trained):
    code, out, _ = run("demo")
    assert code == 0
    assert trained[0] == ["sailor"]
    assert "ready to use" not in out
    assert "+ sailor:0.5" in out


def test_demo_without_written_effect_prints_no_number(run, trained, packaged):
    trained[1].update(calibration=calibration_record(), safe=None)
    _, out, _ = run("demo")
    assert "times" not in flat(out)
    assert "holds together" not in out


def test_demo_explains_effect_that_is_not_compared(run, trained):
    trained[1].update(calibration=calibration_record(written=(written_effect(None),)))
    assert "not compared with its system prompts: the prompts hardly move" in flat(run("demo")[1])


def test_demo_answers_at_safe_strengths_alone(run, trained):
    trained[1].update(safe=safe_range(-0.25, 0.25))
    _, out, err = run("demo")
    assert "+ sailor:0.25" in out
    assert "− sailor:-0.25" in out
    assert "beyond" not in flat(err)
    trained[1].update(safe=safe_range(-0.25, 0.0))
    code, out, _ = run("demo", "--fresh")
    assert code == 0
    assert "it has no strength to answer with" in flat(out)
    assert "+ sailor" not in out


def test_demo_reuses_vector_until_fresh(run, trained):
    run("demo")
    assert "--fresh trains it again" in flat(run("demo")[2])
    assert trained[0] == ["sailor"]
    run("demo", "--fresh")
    assert trained[0] == ["sailor"] * 2


def test_demo_of_named_behaviour_trains_it(run, trained, packaged):
    _, out, _ = run("demo", "calm", "--json")
    shown = json.loads(out)
    assert trained[0] == ["calm"]
    assert shown["vector"] == str(vectors_folder() / "calm.safetensors")
    assert shown["first"][0]["plus"]["receipt"]["steering"] == "happy:0.5"
    assert [answers["minus"]["receipt"]["steering"] for answers in shown["answers"]] == ["calm:-0.5"] * 2
    assert shown["safe"]["high"] == 0.75
    assert any("1.2 times" in sentence for sentence in shown["measured"])


def test_sailor_is_behaviour_of_demo_alone():
    sailor = Behaviour.load(SAILOR)
    assert (sailor.name, len(sailor.positive.personas)) == ("sailor", len(sailor.negative.personas))
