"""The benchmark of methods: the same pairs for every side, the same KL, and what follows from the swings."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trimtab.behaviours import Behaviour
from trimtab.benches import methods, workers
from trimtab.benches.methods import CAA, OWN, RANDOM, Plan, Way, benchmark, measure, own_way, random_way
from trimtab.benches.standings import draw_standings, standings, swing_of, table
from trimtab.errors import BenchmarkError
from trimtab.training import train as zoo
from trimtab.training.progress import ignore
from trimtab.training.questions import EffectSet, KlSet, answered_in_character, ask
from trimtab.training.search import Steerable
from trimtab.training.train import train

FAKE = Path(__file__).with_name("fake_worker.py")
SMALL = Plan(behaviours=("happy",), questions=3, answer_tokens=4)


@pytest.fixture
def quick(monkeypatch, tiny_llama):
    """Vectors of few pairs, and a peer that draws at random; gives the names of what was trained."""
    trained = []

    def few(*arguments, **options):
        trained.append(arguments[1].name)
        return train(*arguments, **options, max_pairs=6, layers=[1, 2], check=False, refine=0)

    info = tiny_llama.info
    monkeypatch.setattr(zoo, "train", few)
    monkeypatch.setattr(workers, "PEER_SCRIPT", FAKE)
    monkeypatch.setattr(methods, "default_folder", lambda: Path("nowhere"))
    monkeypatch.setenv("FAKE_WORKER_SHAPE", f"{info.layers}x{info.hidden_size}")
    return trained


def results(plan, folder, engine):
    with closing(benchmark(plan, folder, engine=engine)) as found:
        return list(found)


def test_every_side_is_brought_to_the_same_kl_on_the_same_questions(quick, tiny_llama, tmp_path):
    [found] = results(replace(SMALL, peer=sys.executable), tmp_path, tiny_llama)
    assert list(found["ways"]) == [OWN, "repeng pca_diff", "repeng pca_center", CAA, RANDOM]
    assert found["ways"][OWN]["layers"] == [1, 2]
    assert len(found["ways"][CAA]["layers"]) == 1
    assert 0 not in found["ways"]["repeng pca_diff"]["layers"]
    texts = methods.neutral_prompts().held_out[:3]
    asked = ask(tiny_llama, texts, None, in_character=0, max_new_tokens=4, progress=ignore)
    kl = KlSet(tiny_llama, asked)
    effects = EffectSet(tiny_llama, answered_in_character(tiny_llama, asked, Behaviour.load("happy"), max_new_tokens=4))
    way = own_way(zoo.zoo_vector(tiny_llama, "happy"))
    for key, sign in (("+", 1.0), ("-", -1.0)):
        added = way.steerable.additions(way.layers, sign * found["ways"][OWN]["scale"][key])
        assert kl.measure(added) == pytest.approx(0.4, rel=0.02)
        np.testing.assert_allclose(effects.measure(added), found["ways"][OWN]["effect"][key], atol=1e-5)
        raw = way.steerable.additions(way.layers, sign * way.raw[key])
        assert found["ways"][OWN]["raw"]["kl"][key] == pytest.approx(kl.measure(raw), rel=1e-4)


def test_other_methods_stand_beside_it_if_they_are_asked_for(quick, tiny_llama, tmp_path, monkeypatch):
    asked = []

    def quickly(*arguments, **options):
        asked.append(options)
        return train(*arguments, **{**options, "method": "mean_difference", "max_pairs": 6, "layers": [2]})

    monkeypatch.setattr(methods, "train", quickly)
    [found] = results(replace(SMALL, also=("lda", "distilled")), tmp_path, tiny_llama)
    assert list(found["ways"]) == [OWN, CAA, "lda", "distilled", RANDOM]
    assert found["ways"]["distilled"]["layers"] == [2]
    assert [(options["method"], options["refine"]) for options in asked] == [("lda", 0), ("distilled", 0)]
    with pytest.raises(BenchmarkError, match="no method named 'luck'"):
        replace(SMALL, also=("luck",))


def test_what_was_measured_is_kept_and_another_plan_measures_anew(quick, tiny_llama, tmp_path):
    plan = replace(SMALL, behaviours=("happy", "calm"))
    with closing(benchmark(plan, tmp_path, engine=tiny_llama)) as found:
        first = next(found)  # and then it is stopped
    assert json.loads((tmp_path / "happy.json").read_text()) == first
    steps = []
    both = list(benchmark(plan, tmp_path, engine=tiny_llama, on_step=steps.append))
    assert both[0] == first
    assert [one["behaviour"] for one in both] == ["happy", "calm"]
    assert not any(step.what.startswith("happy") for step in steps)
    assert quick == ["happy", "calm"]
    (tmp_path / "happy.json").write_text("no JSON")
    assert results(SMALL, tmp_path, tiny_llama)[0]["ways"][OWN] == first["ways"][OWN]
    fewer = results(replace(SMALL, questions=2), tmp_path, tiny_llama)[0]
    assert len(fewer["prompt_swing"]) == 2


def test_a_way_that_cannot_spend_the_budget_says_so(tiny_llama):
    asked = ask(tiny_llama, ["What?", "Why?"], None, in_character=0, max_new_tokens=3, progress=ignore)
    effects = EffectSet(tiny_llama, answered_in_character(tiny_llama, asked, Behaviour.load("happy"), max_new_tokens=3))
    nothing = np.zeros(tiny_llama.info.hidden_size, np.float32)
    one = dict.fromkeys("+-", 1.0)
    found = measure(
        Way((1,), Steerable({1: nothing}, {1: 1.0}), one, one), KlSet(tiny_llama, asked), effects, budget=0.4
    )
    assert "no strength spends 0.4 nat" in found["problem"]
    assert "effect" not in found
    assert found["raw"]["kl"] == {"+": 0.0, "-": 0.0}


def test_a_random_way_has_the_layers_and_lengths_of_ours_and_nothing_of_its_directions(quick, tiny_llama):
    own = own_way(zoo.zoo_vector(tiny_llama, "happy"))
    other = random_way(own)
    assert other.layers == own.layers
    assert other.steerable.norms == own.steerable.norms
    for layer in own.layers:
        assert np.linalg.norm(other.steerable.directions[layer]) == pytest.approx(1.0, abs=1e-6)
        assert abs(other.steerable.directions[layer] @ own.steerable.directions[layer]) < 0.9


@pytest.mark.parametrize("names", [(), ("happy", "nonsense")])
def test_only_behaviours_of_the_zoo_are_measured(names):
    with pytest.raises(BenchmarkError, match=r"use some of .*happy"):
        Plan(behaviours=names)


def told(name, **swings):
    """What one behaviour might have given; None where the budget could not be spent."""
    ways = {}
    for way, swing in swings.items():
        raw = {"coefficient": {"+": 1.0, "-": 1.0}, "kl": {"+": 0.1, "-": 0.1}, "effect": {"+": 0.0, "-": 0.0}}
        at_budget = {"scale": {"+": 1.0, "-": 1.0}, "effect": {"+": [swing, swing], "-": [0.0, 0.0]}} if swing else {}
        ways[way] = {"layers": [1], "raw": raw, **(at_budget or {"problem": "no strength spends it"})}
    job = {"model": "toy", "device": "cpu", "budget": 0.4, "questions": 2, "versions": {"python": "3"}}
    return {
        "behaviour": name, "job": job, "peer": None, "digest": "", "pairs": 4, "method": "mean_difference",
        "prompt_swing": [0.1, 0.3], "ways": ways,
    }  # fmt: skip


MEASURED = [
    told("happy", trimtab=0.8, CAA=0.4, random=0.01),
    told("calm", trimtab=0.6, CAA=0.5, random=0.02),
    told("lazy", trimtab=0.2, CAA=None, random=-0.01),
]


def test_who_is_ahead_is_counted_over_the_behaviours_that_both_sides_could_spend_on():
    found = standings(MEASURED, wanted=4)
    assert found["complete"] is False
    assert found["ways"]["trimtab"]["swing"]["value"] == pytest.approx((0.8 + 0.6 + 0.2) / 3)
    ahead = found["ahead"]["CAA"]
    assert ahead["behaviours"] == ahead["better"] == 2
    assert ahead["difference"]["value"] == pytest.approx(0.25)
    assert ahead["difference"]["low"] == pytest.approx(0.1)
    assert ahead["ratio"]["value"] == pytest.approx(0.7 / 0.45)
    assert found["behaviours"]["lazy"]["ways"]["CAA"]["problem"] == "no strength spends it"
    assert swing_of(MEASURED[2], "CAA") is None
    json.dumps(found, allow_nan=False)
    assert standings(MEASURED, wanted=3)["complete"] is True


def test_a_side_that_never_spent_the_budget_is_neither_ahead_nor_behind():
    found = standings([told("lazy", trimtab=0.2, CAA=None)], wanted=1)
    assert found["ahead"]["CAA"] is None
    assert found["ways"]["CAA"]["swing"] is None
    assert "| lazy | 0.200 | – |" in table(found)


def test_nothing_measured_has_no_standings():
    with pytest.raises(BenchmarkError):
        standings([], wanted=3)


def test_the_table_has_a_row_a_behaviour_and_says_how_far_ahead_trimtab_is():
    lines = table(standings(MEASURED, wanted=3)).splitlines()
    assert lines[0] == "| behaviour | trimtab | CAA | random |"
    assert lines[2] == "| happy | 0.800 | 0.400 | 0.010 |"
    assert lines[4] == "| lazy | 0.200 | – | -0.010 |"
    assert lines[5].startswith("| **mean** | 0.533 | 0.450 |")
    assert any(line.startswith("trimtab − CAA: +0.250 (+0.100 to +0.400), 1.56 times") for line in lines)
    assert any(line.endswith("ahead on 2 of 2") for line in lines)


def test_the_picture_is_a_picture(tmp_path):
    draw_standings(standings(MEASURED, wanted=3), tmp_path / "methods.png")
    assert (tmp_path / "methods.png").read_bytes().startswith(b"\x89PNG")
