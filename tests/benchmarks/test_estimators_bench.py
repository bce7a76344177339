"""Comparison of estimators: same pairs, same KL, and the ranking."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import estimators, processes
from benchmarks.estimators import (
    CAA,
    RANDOM,
    TRIMTAB,
    Estimate,
    Plan,
    benchmark,
    measure,
    random_estimate,
    trimtab_estimate,
)
from benchmarks.ranking import draw_ranking, rank, swing_of, table
from trimtab.behaviours import Behaviour
from trimtab.errors import BenchmarkError, MissingDependencyError
from trimtab.steering import Steering, Term
from trimtab.training.progress import ignore
from trimtab.training.questions import EffectSet, KlSet, add_persona_answers, ask
from trimtab.training.search import Steerable
from trimtab.training.train import train, zoo_vector
from trimtab.training.written import Written, persona_scores

FAKE = Path(__file__).with_name("fake_worker.py")
SMALL = Plan(behaviours=("happy",), questions=3, answer_tokens=4, written_tokens=5)


@pytest.fixture
def quick(monkeypatch, tiny_llama):
    """Train on few pairs, with random vectors for repeng; gives the names of trained behaviours."""
    trained = []

    def few(*arguments, **options):
        trained.append(arguments[1].name)
        return train(*arguments, **options, max_pairs=6, layers=[1, 2], check=False, refine=0)

    info = tiny_llama.info
    monkeypatch.setattr("trimtab.training.train.train", few)
    monkeypatch.setattr(processes, "repeng_command", lambda interpreter, job: [interpreter, str(FAKE)])
    monkeypatch.setattr(estimators, "default_folder", lambda: Path("nowhere"))
    monkeypatch.setenv("FAKE_WORKER_SHAPE", f"{info.layers}x{info.hidden_size}")
    return trained


def results(plan, folder, engine):
    with closing(benchmark(plan, folder, engine=engine)) as found:
        return list(found)


def test_estimators_spend_the_same_kl(quick, tiny_llama, tmp_path):
    [found] = results(replace(SMALL, peer=sys.executable), tmp_path, tiny_llama)
    assert list(found["estimators"]) == [TRIMTAB, "repeng pca_diff", "repeng pca_center", CAA, RANDOM]
    assert found["estimators"][TRIMTAB]["layers"] == [1, 2]
    assert len(found["estimators"][CAA]["layers"]) == 1
    assert 0 not in found["estimators"]["repeng pca_diff"]["layers"]
    texts = estimators.neutral_prompts().held_out[:3]
    asked = ask(tiny_llama, texts, None, personas=0, max_new_tokens=4, progress=ignore)
    kl = KlSet(tiny_llama, asked)
    effects = EffectSet(tiny_llama, add_persona_answers(tiny_llama, asked, Behaviour.load("happy"), max_new_tokens=4))
    estimate = trimtab_estimate(zoo_vector(tiny_llama, "happy"))
    for key, sign in (("+", 1.0), ("-", -1.0)):
        added = estimate.steerable.additions(estimate.layers, sign * found["estimators"][TRIMTAB]["scale"][key])
        assert kl.measure(added) == pytest.approx(0.4, rel=0.02)
        np.testing.assert_allclose(effects.measure(added), found["estimators"][TRIMTAB]["effect"][key], atol=1e-5)
        raw = estimate.steerable.additions(estimate.layers, sign * estimate.raw[key])
        assert found["estimators"][TRIMTAB]["raw"]["kl"][key] == pytest.approx(kl.measure(raw), rel=1e-4)


def test_further_estimators_are_measured_if_requested(quick, tiny_llama, tmp_path, monkeypatch):
    asked = []

    def quickly(*arguments, **options):
        asked.append(options)
        return train(*arguments, **{**options, "method": "mean_difference", "max_pairs": 6, "layers": [2]})

    monkeypatch.setattr(estimators, "train", quickly)
    [found] = results(replace(SMALL, also=("lda", "distilled")), tmp_path, tiny_llama)
    assert list(found["estimators"]) == [TRIMTAB, CAA, "lda", "distilled", RANDOM]
    assert found["estimators"]["distilled"]["layers"] == [2]
    assert [(options["method"], options["refine"]) for options in asked] == [("lda", 0), ("distilled", 0)]
    with pytest.raises(BenchmarkError, match="no estimator named 'luck'"):
        replace(SMALL, also=("luck",))


def test_what_is_written_is_that_of_the_vector_at_the_budget(quick, tiny_llama, tmp_path):
    path = tmp_path / "vectors" / "happy.safetensors"
    path.parent.mkdir()
    zoo_vector(tiny_llama, "happy").save(path)
    plan = replace(SMALL, vectors={"before": path.parent})
    [found] = results(plan, tmp_path, tiny_llama)
    both = found["estimators"]
    assert both["before"]["written"] == both[TRIMTAB]["written"]  # they are the same vector
    vector = replace(zoo_vector(tiny_llama, "happy"), scale=both[TRIMTAB]["scale"])
    texts = estimators.neutral_prompts().held_out[:3]
    happy = Behaviour.load("happy")
    scores = []
    for sign in (1.0, -1.0):
        answers = [
            tiny_llama.generate(text, steering=Steering((Term(vector, sign),)), max_new_tokens=5) for text in texts
        ]
        scores.append(persona_scores(tiny_llama, happy, texts, [Written.of(answers)])[0])
    np.testing.assert_allclose(both[TRIMTAB]["written"], scores[0] - scores[1], atol=1e-4)
    assert len(found["prompt_written"]) == 3
    with pytest.raises(BenchmarkError, match="no vector of 'calm'"):
        replace(plan, behaviours=("calm",))


def test_results_are_reused_only_for_the_same_plan(quick, tiny_llama, tmp_path):
    plan = replace(SMALL, behaviours=("happy", "calm"))
    with closing(benchmark(plan, tmp_path, engine=tiny_llama)) as found:
        first = next(found)  # then it is interrupted
    assert json.loads((tmp_path / "happy.json").read_text()) == first
    steps = []
    both = list(benchmark(plan, tmp_path, engine=tiny_llama, on_step=steps.append))
    assert both[0] == first
    assert [one["behaviour"] for one in both] == ["happy", "calm"]
    assert not any(step.what.startswith("happy") for step in steps)
    assert quick == ["happy", "calm"]
    (tmp_path / "happy.json").write_text("no JSON")
    assert results(SMALL, tmp_path, tiny_llama)[0]["estimators"][TRIMTAB] == first["estimators"][TRIMTAB]
    fewer = results(replace(SMALL, questions=2), tmp_path, tiny_llama)[0]
    assert len(fewer["prompt_swing"]) == 2


def test_estimate_that_cannot_spend_the_budget_is_reported(tiny_llama):
    asked = ask(tiny_llama, ["What?", "Why?"], None, personas=0, max_new_tokens=3, progress=ignore)
    effects = EffectSet(tiny_llama, add_persona_answers(tiny_llama, asked, Behaviour.load("happy"), max_new_tokens=3))
    nothing = np.zeros(tiny_llama.info.hidden_size, np.float32)
    one = dict.fromkeys("+-", 1.0)
    found = measure(
        Estimate((1,), Steerable({1: nothing}, {1: 1.0}), one, one), KlSet(tiny_llama, asked), effects, budget=0.4
    )
    assert "no strength spends 0.4 nat" in found["problem"]
    assert "effect" not in found
    assert found["raw"]["kl"] == {"+": 0.0, "-": 0.0}


def test_random_estimate_keeps_layers_and_lengths_only(quick, tiny_llama):
    ours = trimtab_estimate(zoo_vector(tiny_llama, "happy"))
    random = random_estimate(ours)
    assert random.layers == ours.layers
    assert random.steerable.norms == ours.steerable.norms
    for layer in ours.layers:
        assert np.linalg.norm(random.steerable.directions[layer]) == pytest.approx(1.0, abs=1e-6)
        assert abs(random.steerable.directions[layer] @ ours.steerable.directions[layer]) < 0.9


@pytest.mark.parametrize("names", [(), ("happy", "nonsense")])
def test_behaviours_outside_the_zoo_are_refused(names):
    with pytest.raises(BenchmarkError, match=r"use some of .*happy"):
        Plan(behaviours=names)


def result_of(name, **swings):
    """Make the result of one behaviour; a swing of None cannot spend the budget."""
    estimates = {}
    for estimator, swing in swings.items():
        raw = {"coefficient": {"+": 1.0, "-": 1.0}, "kl": {"+": 0.1, "-": 0.1}, "effect": {"+": 0.0, "-": 0.0}}
        effect = {"+": [swing, swing], "-": [0.0, 0.0]}
        written = [swing and swing / 2] * 2
        at_budget = {"scale": {"+": 1.0, "-": 1.0}, "effect": effect, "written": written} if swing else {}
        estimates[estimator] = {"layers": [1], "raw": raw, **(at_budget or {"problem": "no strength spends it"})}
    job = {"model": "toy", "device": "cpu", "budget": 0.4, "questions": 2, "versions": {"python": "3"}}
    return {
        "behaviour": name, "job": job, "peer": None, "digest": "", "pairs": 4, "method": "mean_difference",
        "prompt_swing": [0.1, 0.3], "prompt_written": [0.1, 0.2], "estimators": estimates,
    }  # fmt: skip


MEASURED = [
    result_of("happy", trimtab=0.8, CAA=0.4, random=0.01),
    result_of("calm", trimtab=0.6, CAA=0.5, random=0.02),
    result_of("lazy", trimtab=0.2, CAA=None, random=-0.01),
]


def test_rank_counts_behaviours_that_both_could_spend_on():
    found = rank(MEASURED, wanted=4)
    assert found["complete"] is False
    assert found["preference"]["estimators"]["trimtab"]["swing"]["value"] == pytest.approx((0.8 + 0.6 + 0.2) / 3)
    assert found["written"]["estimators"]["trimtab"]["swing"]["value"] == pytest.approx((0.8 + 0.6 + 0.2) / 6)
    assert found["written"]["ahead"]["CAA"]["difference"]["value"] == pytest.approx(0.125)
    ahead = found["preference"]["ahead"]["CAA"]
    assert ahead["behaviours"] == ahead["better"] == 2
    assert ahead["difference"]["value"] == pytest.approx(0.25)
    assert ahead["difference"]["low"] == pytest.approx(0.1)
    assert ahead["ratio"]["value"] == pytest.approx(0.7 / 0.45)
    assert found["behaviours"]["lazy"]["estimators"]["CAA"]["problem"] == "no strength spends it"
    assert swing_of(MEASURED[2], "CAA") is None
    json.dumps(found, allow_nan=False)
    assert rank(MEASURED, wanted=3)["complete"] is True


def test_rank_estimator_that_never_spent_is_not_compared():
    found = rank([result_of("lazy", trimtab=0.2, CAA=None)], wanted=1)
    assert found["written"]["ahead"]["CAA"] is None
    assert found["written"]["estimators"]["CAA"]["swing"] is None
    assert "| lazy | 0.100 | – |" in table(found)


def test_rank_of_no_results_is_refused():
    with pytest.raises(BenchmarkError):
        rank([], wanted=3)


def test_table_has_behaviours_means_and_differences():
    written, preference = table(rank(MEASURED, wanted=3)).split("Swing of given")
    assert "| happy | 0.400 | 0.200 | 0.005 |" in written.splitlines()
    lines = preference.splitlines()[2:]
    assert lines[0] == "| behaviour | trimtab | CAA | random |"
    assert lines[2] == "| happy | 0.800 | 0.400 | 0.010 |"
    assert lines[4] == "| lazy | 0.200 | – | -0.010 |"
    assert lines[5].startswith("| **mean** | 0.533 | 0.450 |")
    assert any(line.startswith("trimtab − CAA: +0.250 (+0.100 to +0.400), 1.56 times") for line in lines)
    assert any(line.endswith("ahead on 2 of 2") for line in lines)


def test_draw_ranking_writes_a_png(tmp_path):
    draw_ranking(rank(MEASURED, wanted=3), tmp_path / "estimators.png")
    assert (tmp_path / "estimators.png").read_bytes().startswith(b"\x89PNG")


def test_draw_ranking_without_matplotlib_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"pip install -r benchmarks/requirements\.txt"):
        draw_ranking(rank(MEASURED, wanted=3), tmp_path / "estimators.png")
