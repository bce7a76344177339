"""The whole evaluation: on a tiny random model (every path), and what it must say on the default one (the truth)."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import trimtab
from by_hand import digest_of, traces_in
from evaluation.writing import write
from sample_vectors import calibration_record
from trimtab import Behaviour, ControlVector
from trimtab.behaviours import ChoiceText, neutral_prompts
from trimtab.engines import ForcedItem
from trimtab.errors import EvaluationError, StrongSteeringWarning, VectorError, VectorMismatchError
from trimtab.evaluation.comparison import BASELINES, chance_of, random_seeds, shuffled_directions
from trimtab.evaluation.evaluate import evaluate
from trimtab.evaluation.interventions import Intervention, changes_of
from trimtab.evaluation.measurement import Baseline, Evaluator, Sizes
from trimtab.evaluation.metrics.facts import Fact
from trimtab.evaluation.metrics.scorers import Keywords
from trimtab.evaluation.records import Report
from trimtab.evaluation.report import report_json
from trimtab.stats import mean_interval
from trimtab.steering import Steering, Term
from trimtab.training.controls import RANDOM_GUESS, try_randoms
from trimtab.training.progress import Progress
from trimtab.training.questions import EffectSet
from trimtab.training.search import Steerable

SMALL = Sizes(
    questions=5,
    kl=4,
    controls_kl=3,
    randoms=2,
    pairs=12,
    facts=8,
    harmful=2,
    answer_tokens=4,
    written_tokens=6,
    halvings=1,
)
HAPPY = Behaviour.load("happy")
COMPARED = ("system prompt", "vector at the prompts' KL")
TEA = """
name = "tea"
[positive]
label = "tea"
personas = ["very fond of tea", "a friend of tea"]
[negative]
label = "coffee"
personas = ["very fond of coffee", "a friend of coffee"]
[evaluation]
prompts = ["What do you drink?", "What is in your cup?", "Tell me of a break."]
[evaluation.keywords]
positive = ["tea"]
negative = ["coffee"]
[[evaluation.choices]]
question = "Tea?"
positive = "Yes"
negative = "No"
"""
POLITE = (
    'name = "polite"\npairs = "pairs.jsonl"\n[positive]\nlabel = "polite"\n[negative]\nlabel = "rude"\n',
    "\n".join(
        json.dumps({"positive": f"Please, would you kindly {ask}?", "negative": f"{ask} now!"})
        for ask in ("open the door", "wait", "sing", "write a note")
    ),
)


class Vowels:
    """A scorer of somebody's own; answers without vowels have no score."""

    name, unit = "vowels", "how many"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def score(self, questions, answers):
        self.seen += zip(questions, answers, strict=True)
        return np.array([sum(letter in "aeiou" for letter in answer) or np.nan for answer in answers], float)


@pytest.fixture(scope="module")
def trained(tiny_llama) -> ControlVector:
    return trimtab.train(tiny_llama, HAPPY, max_pairs=24, layers=[1, 2], check=False, refine=2)


@pytest.fixture(scope="module")
def baseline(tiny_llama) -> Baseline:
    return Baseline(tiny_llama, sizes=SMALL)


@pytest.fixture(scope="module")
def report(tiny_llama, trained, baseline) -> Report:
    return evaluate(tiny_llama, trained, baseline=baseline, baselines=COMPARED)


# A trained vector


def test_evaluate_trained_vector_fills_the_report(tiny_llama, trained, report):
    subject = report.subject
    assert (subject.vector, subject.behaviour, subject.digest) == ("happy", "happy", HAPPY.digest)
    assert (subject.layers, subject.budget, subject.calibrated_here) == ((1, 2), 0.4, False)
    assert subject.kl == trained.calibration.kl
    assert [method.name for method in report.interventions] == ["vector", "vector at the prompts' KL", "system prompt"]
    assert [point.strength for point in report.sweep] == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert set(report.written) == {"default", "safe"}
    assert report.ceiling is None or report.ceiling.questions == 3
    assert len(report.controls.random) == 2
    assert report.controls.chance is not None
    assert report.controls.shuffled is not None
    assert report.controls.band is None  # it steers the usual layers already
    assert report.setting.questions == neutral_prompts().held_out[:5]
    assert report.setting.facts == 8
    assert report.verdict.word in ("works", "weak", "one way only", "does not work")
    assert report.verdict.sentences
    for method in report.interventions:
        for side in method.sides.values():
            assert len(side.answers) == 5
            assert side.effect is not None
            assert side.damage.accuracy_change is not None
            assert side.choices is side.chosen is None
    assert report.interventions[0].sides["+"].damage.refuses_harmful is not None
    assert report.intervention("system prompt").prompt_tokens > 10
    assert report.intervention("vector").prompt_tokens == 0


def test_evaluate_chance_size_limits_random_directions_only(tiny_llama, trained, report):
    baseline = Baseline(tiny_llama, sizes=replace(SMALL, chance=2))
    found = evaluate(tiny_llama, trained, baseline=baseline)

    evaluator = Evaluator.of(baseline, HAPPY)
    spent = [baseline.controls_kl.measure(trained.addition(sign)) for sign in (1.0, -1.0)]
    expected = try_randoms(
        baseline.controls_kl,
        [EffectSet(tiny_llama, evaluator.questions[:2])],
        Steerable.of(trained, trained.layers),
        trained.layers,
        budget=sum(spent) / 2,
        guess=RANDOM_GUESS * trained.scale["+"],
        seeds=random_seeds(2, seed=0),
    )
    assert all(len(trial.effects["+"]) == 2 for trial in expected)
    assert found.controls.chance == chance_of(expected)
    assert found.controls.chance != report.controls.chance
    assert (found.controls.shuffled, found.interventions[0].swing) == (
        report.controls.shuffled,
        report.interventions[0].swing,
    )


def test_evaluate_lora_failure_is_reported_as_missing(tiny_llama, trained, baseline, report, monkeypatch):
    def fails(*_, **__):
        raise EvaluationError("LoRA for happy+ learned nothing", fix="use more questions")

    monkeypatch.setattr("trimtab.evaluation.lora.train_lora", fails)
    found = evaluate(tiny_llama, trained, baseline=baseline, baselines=COMPARED, lora=True)
    assert found.interventions == report.interventions
    assert "fine-tuning: LoRA for happy+ learned nothing; use more questions" in found.setting.missing


def test_evaluate_effects_kl_answers_equal_steered_model(tiny_llama, trained, baseline, report):
    for key, strength in (("+", 1.0), ("-", -1.0)):
        side = report.interventions[0].sides[key]
        steering = Steering.of([(trained, strength)])
        answers = tiny_llama.generate(list(baseline.texts), steering=steering, max_new_tokens=6)
        assert side.answers == tuple(answer.text for answer in answers)
        assert side.damage.kl == baseline.kl.measure(changes_of(steering, tiny_llama.info))
        assert side.damage.accuracy == baseline.facts.measure(changes_of(steering, tiny_llama.info)).interval
        (point,) = (point for point in report.sweep if point.strength == strength)
        assert point.effect == side.effect
        assert point.answers == side.answers
        assert side.effect.value == pytest.approx(side.halves.positive.value - side.halves.negative.value)
    assert report.base.answers == baseline.written.texts
    assert report.base.damage.perplexity_ratio == 1.0


def test_evaluate_prompt_swing_equals_system_prompt_effects(report):
    system = report.intervention("system prompt")
    plus, minus = (system.sides[key].effect.value for key in "+-")
    assert report.prompt_swing.value == pytest.approx(plus - minus)
    unit = report.written["safe"].effect
    assert system.written == unit.prompt_swing
    if unit.reason:
        assert system.times_prompt is None
    else:
        assert system.times_prompt == pytest.approx(1.0)
        vector = report.interventions[0]
        assert vector.times_prompt == pytest.approx(vector.written.value / unit.prompt_swing.value)


def test_evaluate_halves_equal_scores_of_each_answer(tiny_llama, trained, report):
    evaluator = Evaluator.of(Baseline(tiny_llama, sizes=SMALL), HAPPY)
    halves = report.interventions[0].sides["+"].halves
    persona = [question.persona_answers for question in evaluator.questions]
    for kind, half in (("positive", halves.positive), ("negative", halves.negative)):
        items = [
            ForcedItem(question.prompt, (getattr(each, kind),))
            for question, each in zip(evaluator.questions, persona, strict=True)
        ]
        forcing = tiny_llama.teacher_forcing(items)
        steered = forcing.measure(changes_of(Steering.of([(trained, 1.0)]), tiny_llama.info))
        before, after = (
            [logprob[0] / tokens[0] for logprob, tokens in zip(scores.logprob, scores.tokens, strict=True)]
            for scores in (forcing.base, steered)
        )
        assert half.value == pytest.approx(np.mean(np.subtract(after, before)), abs=1e-5)


def test_evaluate_twice_gives_equal_bytes(tiny_llama, trained, report):
    again = evaluate(tiny_llama, trained, sizes=SMALL, baselines=COMPARED)
    one, two = (json.dumps(report_json(found, run=False)).encode() for found in (report, again))
    assert one == two
    assert again.run.seconds["Measuring the base model"] > 0


def test_evaluate_other_seed_changes_random_directions_only(tiny_llama, trained, baseline, report):
    other = evaluate(tiny_llama, trained, baseline=baseline, baselines=(), seed=1)
    assert other.controls.random != report.controls.random
    assert other.interventions[0].sides["+"].answers == report.interventions[0].sides["+"].answers
    assert other.interventions[0].swing.value == report.interventions[0].swing.value
    assert [method.name for method in other.interventions] == ["vector"]
    assert other.prompt_swing is not None  # which is measured in any case


def test_evaluate_progress_ends_every_phase(tiny_llama, trained):
    steps: list[Progress] = []
    found = evaluate(tiny_llama, trained, sizes=SMALL, baselines=(), progress=steps.append, making={"vector": 9.0})
    last = {step.phase: step for step in steps}
    assert len(last) >= 8
    assert all(step.done == step.total for step in last.values())
    assert list(last) == list(found.run.seconds)
    for one, two in pairwise(steps):
        assert one.phase != two.phase or one.done <= two.done
    assert found.run.making["vector"] == 9.0


def test_evaluate_leaves_the_model_unchanged(tiny_llama, trained, baseline):
    before = digest_of(tiny_llama.model)
    evaluate(tiny_llama, trained, baseline=baseline, baselines=())
    assert digest_of(tiny_llama.model) == before
    assert traces_in(tiny_llama.model) == []


# Other vectors


def test_evaluate_vector_without_unit_is_calibrated(tiny_llama, baseline, random_vector):
    plain = replace(random_vector(tiny_llama, layers=[0, 3]), scale=None)
    found = evaluate(tiny_llama, plain, behaviour=HAPPY, baseline=baseline, baselines=())
    assert found.subject.calibrated_here
    assert (found.subject.vector, found.subject.behaviour, found.subject.budget) == ("random", "happy", 0.4)
    for key in "+-":
        assert found.subject.kl[key] == pytest.approx(0.4, rel=0.03)
        assert found.interventions[0].sides[key].damage.kl == pytest.approx(found.subject.kl[key])


def test_evaluate_unmeasured_scale_is_a_first_guess(tiny_llama, baseline, random_vector):
    mix = random_vector(tiny_llama, layers=[1], size=5.0)
    found = evaluate(tiny_llama, mix, behaviour=HAPPY, baseline=baseline, baselines=())
    assert found.subject.calibrated_here
    assert found.interventions[0].sides["-"].damage.kl == pytest.approx(0.4, rel=0.03)


def test_evaluate_other_layers_has_default_band_control(tiny_llama, trained, baseline):
    moved = replace(
        trained, weights={layer: float(layer == 0) for layer in trained.weights}, scale=None, calibration=None
    )
    found = evaluate(tiny_llama, moved, baseline=baseline, baselines=())
    assert found.subject.layers == (0,)
    assert found.controls.band is not None
    bare = replace(moved, directions={0: moved.directions[0]}, norms={0: moved.norms[0]}, weights={0: 1.0})
    assert evaluate(tiny_llama, bare, baseline=baseline, baselines=()).controls.band is None


def test_evaluate_other_models_vector_is_refused(tiny, tiny_llama, trained, random_vector):
    with pytest.raises(VectorMismatchError):
        evaluate(tiny("llama", seed=1), trained)
    with pytest.raises(VectorError, match="steers no layer"):
        evaluate(tiny_llama, trained - trained, behaviour=HAPPY)


def test_evaluate_unknown_behaviour_is_refused(tiny_llama, random_vector):
    with pytest.raises(EvaluationError, match="no behaviour named 'random' is in the zoo; name a behaviour"):
        evaluate(tiny_llama, random_vector(tiny_llama))


# Other behaviours


def test_evaluate_without_personas_has_no_effects(tiny_llama, baseline, random_vector, tmp_path):
    (tmp_path / "polite.toml").write_text(POLITE[0])
    (tmp_path / "pairs.jsonl").write_text(POLITE[1])
    behaviour = Behaviour.load(tmp_path / "polite.toml")
    vector = replace(random_vector(tiny_llama, layers=[1]), calibration=calibration_record())
    found = evaluate(tiny_llama, vector, behaviour=behaviour, baseline=baseline, baselines=BASELINES)
    assert found.verdict.word == "not measured"
    assert [method.name for method in found.interventions] == ["vector"]  # there are no words to prompt with
    assert found.interventions[0].swing is found.prompt_swing is found.controls.chance is None
    assert found.controls.random == ()
    assert found.controls.anti_steerable == {}
    assert found.written == {}
    assert found.ceiling is None
    assert found.safe.questions == 5
    assert all(point.effect is None for point in found.sweep)
    assert found.interventions[0].sides["+"].damage.kl > 0.0
    assert json.dumps(report_json(found), allow_nan=False)


def test_evaluate_custom_scorers_choices_and_facts_are_used(tiny_llama, trained, tmp_path):
    (tmp_path / "tea.toml").write_text(TEA)
    behaviour, vowels = Behaviour.load(tmp_path / "tea.toml"), Vowels()
    more = (ChoiceText("Coffee?", "No", "Yes"),)
    facts = (Fact("Is rain wet?", ("Yes", "No"), hint=""), Fact("Is ice hot?", ("No", "Yes"), hint=""))
    found = evaluate(
        tiny_llama,
        trained,
        behaviour=behaviour,
        sizes=SMALL,
        scorers=[vowels],
        choices=more,
        truthfulqa=facts,
        baselines=("system prompt",),
    )
    assert found.setting.questions == behaviour.evaluation_prompts
    assert found.setting.scorers["vowels"] == "how many"
    assert Keywords(("tea",)).name in found.setting.scorers
    assert {question for question, _ in vowels.seen} == set(behaviour.evaluation_prompts)
    for side in (found.base, *(side for method in found.interventions for side in method.sides.values())):
        assert side.choices is not None
        assert side.chosen in (0.0, 0.5, 1.0)
        assert side.damage.truthfulqa is not None
        counted = [sum(letter in "aeiou" for letter in answer) for answer in side.answers]
        scored = np.array([count for count in counted if count], float)
        assert ("vowels" in side.scores) == bool(len(scored))
        if len(scored):
            assert side.scores["vowels"] == mean_interval(scored)


def test_evaluate_all_baselines_are_measured_alike(tiny_llama, trained, baseline):
    found = evaluate(tiny_llama, trained, baseline=baseline, baselines=BASELINES)
    assert {method.name for method in found.interventions} == {"vector", *BASELINES}
    for method in found.interventions:
        assert method.swing is not None
        assert set(method.sides) == {"+", "-"}
        assert method.dial == ("vector" in method.name)
        for side in method.sides.values():
            assert side.damage.kl > 0
            assert side.damage.perplexity_ratio > 0
            assert (side.strength is None) == (not method.dial)
            assert set(side.scores) <= set(found.setting.scorers)
    equal, system = found.intervention("vector at the prompts' KL"), found.intervention("system prompt")
    for key in "+-":
        assert equal.sides[key].damage.kl == pytest.approx(system.sides[key].damage.kl, rel=0.1)
    assert found.intervention("few-shot").prompt_tokens > system.prompt_tokens
    assert set(found.run.making) == {"system prompt", "few-shot"}


def test_write_strong_steering_does_not_warn(tiny_llama, trained):
    strong = Intervention(steering=Steering((Term(trained, 4.0),)))
    with pytest.warns(StrongSteeringWarning):
        tiny_llama.generate("Hi", steering=strong.steering, max_new_tokens=2)
    assert len(write(tiny_llama, strong, ["Hi"], max_new_tokens=2)) == 1  # warnings are errors in tests


def test_evaluate_unknown_baseline_is_refused(tiny_llama, trained, baseline):
    with pytest.raises(EvaluationError, match="no baseline named 'magic'; use some of "):
        evaluate(tiny_llama, trained, baseline=baseline, baselines=("magic",))


def test_baseline_facts_are_evenly_spaced(tiny_llama, baseline):
    everything = Baseline(tiny_llama, sizes=replace(SMALL, facts=999, questions=2)).facts.facts
    assert len(everything) == 240
    assert baseline.facts.facts == tuple(everything[n * 30] for n in range(8))


# The truth: the default model ------------------------------------------------------------------------------------

PROPER = Sizes(
    questions=24,
    kl=8,
    controls_kl=6,
    pairs=48,
    facts=12,
    harmful=2,
    written=24,
)


@pytest.fixture(scope="module")
def pretenders(smollm2, happy):
    """Return the happy vector, and vectors with its layers or its directions but not both, with a strength each."""
    depth, width = smollm2.info.layers, smollm2.info.hidden_size
    noise = np.random.default_rng(1)
    drawn = {layer: noise.standard_normal(width) for layer in range(depth)}

    def like_happy(**changes) -> ControlVector:
        return replace(happy, scale=None, calibration=None, **changes)

    def only(layer: int) -> dict[int, float]:
        return {other: float(other == layer) for other in range(depth)}

    return {
        "happy": happy,
        "random": like_happy(directions={n: (d / np.linalg.norm(d)).astype(np.float32) for n, d in drawn.items()}),
        "shuffled labels": like_happy(directions=shuffled_directions(smollm2, HAPPY, range(depth), pairs=96, seed=7)),
        "first layer": like_happy(weights=only(0)),
        "turned round": like_happy(directions={n: -direction for n, direction in happy.directions.items()}),
    }


@pytest.fixture(scope="module")
def proper_baseline(smollm2) -> Baseline:
    return Baseline(smollm2, sizes=PROPER)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["happy", "random", "shuffled labels", "first layer", "turned round"])
def test_evaluate_happy_works_and_imitations_do_not(smollm2, pretenders, proper_baseline, name):
    found = evaluate(smollm2, pretenders[name], baseline=proper_baseline, baselines=())
    if name == "happy":  # unrefined, its safe range towards happy is narrow
        assert found.verdict.word in ("works", "one way only"), found.verdict.sentences
        assert found.verdict.clear["-"]
    else:
        assert found.verdict.word == "does not work", found.verdict.sentences
        assert found.verdict.clear == {"+": False, "-": False}
