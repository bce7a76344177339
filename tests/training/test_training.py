"""Training on a tiny random model (every path) and what the default model's happy vector must show (the truth)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import trimtab
from by_hand import digest_of, traces_in
from trimtab import Behaviour, ControlVector
from trimtab.behaviours import neutral_prompts
from trimtab.errors import CalibrationError, ModelError, VectorError, VectorMismatchError
from trimtab.training.progress import Progress
from trimtab.training.questions import ANSWER_TOKENS, EFFECT_QUESTIONS, KL_QUESTIONS, CalibrationSet
from trimtab.training.refine import contrasts

TINY = {"max_pairs": 24, "refine": 2}


@pytest.fixture(scope="module")
def tiny_trained(tiny_llama) -> ControlVector:
    return trimtab.train(tiny_llama, Behaviour.load("happy"), **TINY)


@pytest.mark.parametrize("method", ["mean_difference", "pca_center", "logistic", "lda"])
def test_train_each_method_gives_direction_per_layer(tiny_llama, method):
    vector = trimtab.train(tiny_llama, Behaviour.load("formal"), method=method, calibrate=False, **TINY)
    assert list(vector.directions) == list(range(tiny_llama.info.layers))
    assert vector.method == method
    assert vector.scale is None
    assert vector.calibration is None
    assert vector.reliability.pairs == 24


def test_training_twice_gives_the_same_vector(tiny_llama, tiny_trained):
    again = trimtab.train(tiny_llama, Behaviour.load("happy"), **TINY)
    assert dict(again.scale) == dict(tiny_trained.scale)
    assert again.calibration == tiny_trained.calibration
    for layer, direction in again.directions.items():
        np.testing.assert_array_equal(direction, tiny_trained.directions[layer])


def test_train_refined_vector_starts_halfway_and_is_calibrated(tiny_llama):
    reported = []
    happy = Behaviour.load("happy")
    options = {"layers": [1, 2], "check": False, "max_pairs": 24}
    plain = trimtab.train(tiny_llama, happy, refine=0, **options)
    slope = trimtab.train(tiny_llama, happy, method="distilled", refine=0, **options)
    vector = trimtab.train(tiny_llama, happy, refine=6, progress=reported.append, **options)
    assert (plain.method, vector.method) == ("mean_difference", "mean_difference+refined")
    assert vector.layers == plain.layers
    for layer in vector.directions:
        between = plain.directions[layer] + slope.directions[layer]
        cosine = float(vector.directions[layer] @ between / np.linalg.norm(between))
        if layer in vector.layers:
            assert 0.8 < cosine < 0.99999
        else:
            np.testing.assert_array_equal(vector.directions[layer], plain.directions[layer])
    assert all(abs(kl / 0.4 - 1) <= 0.05 for kl in vector.calibration.kl.values())
    steps = [(step.done, step.total) for step in reported if step.phase == "Refining the directions"]
    assert steps[0] == (0, 6)
    assert steps[-1] == (6, 6)


class Stuck:
    """Gradients that fail when they are wanted."""

    def ratio_gradients(self, items, *, bf16):
        return self

    def at(self, additions, numbers, *, factors, prices):
        raise ModelError("no gradients: a kernel knows no way back", fix="train with refine=0")


@pytest.mark.parametrize(
    ("gradients", "why"), [(None, "the model has no gradients"), (Stuck(), "a kernel knows no way back")]
)
def test_train_without_gradients_keeps_estimate_and_notes_it(tiny_llama, monkeypatch, gradients, why):
    monkeypatch.setattr(type(tiny_llama), "gradients", gradients)
    reported = []
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), layers=[1, 2], progress=reported.append, **TINY)
    assert vector.method == "mean_difference"
    [note] = [step.note for step in reported if step.note]
    assert note.startswith("no steps uphill are taken: ")
    assert why in note
    assert vector.calibration.kl["+"] == pytest.approx(0.4, rel=0.05)


def test_train_with_inert_personas_keeps_estimate_and_notes_it(tiny_llama, monkeypatch):
    def flat(*_, **__):
        raise CalibrationError("the personas' answers have no gradient", fix="use another method")

    monkeypatch.setattr("trimtab.training.calibrate.persona_directions", flat)
    reported, options = [], {"layers": [1], "check": False, "max_pairs": 24}
    plain = trimtab.train(tiny_llama, Behaviour.load("happy"), refine=0, **options)
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), refine=2, progress=reported.append, **options)
    np.testing.assert_array_equal(vector.directions[0], plain.directions[0])
    assert vector.method == "mean_difference+refined"
    [note] = [step.note for step in reported if step.note]
    assert note == "steps begin at the estimate: the personas' answers have no gradient"


def test_train_negative_refine_is_refused(tiny_llama):
    with pytest.raises(CalibrationError, match="cannot be taken"):
        trimtab.train(tiny_llama, Behaviour.load("happy"), refine=-1)


def test_directions_equal_mean_difference_of_single_passes(tiny_llama):
    from trimtab.behaviours.pairs import build_pairs

    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), calibrate=False, **TINY)
    pairs = build_pairs(Behaviour.load("happy"), tiny_llama, max_pairs=24)
    slow = np.mean(
        [
            tiny_llama.hidden_states([p.positive])[0].astype(np.float64) - tiny_llama.hidden_states([p.negative])[0]
            for p in pairs
        ],
        axis=0,
    )
    for layer, direction in vector.directions.items():
        np.testing.assert_allclose(direction, slow[layer] / np.linalg.norm(slow[layer]), atol=1e-4)


def test_trained_vector_round_trips_through_file(tiny_trained, tmp_path):
    back = ControlVector.load(tiny_trained.save(tmp_path / "v.safetensors"))
    assert back.calibration == tiny_trained.calibration
    assert back.reliability == tiny_trained.reliability
    assert dict(back.weights) == dict(tiny_trained.weights)


def test_calibration_records_candidates_chosen_first(tiny_llama):
    from trimtab.training.search import candidate_layers

    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), max_pairs=24, refine=0, check=False)
    candidates = vector.calibration.candidates
    assert {c.layers for c in candidates} <= set(candidate_layers(tiny_llama.info.layers))
    assert candidates[0].layers == vector.layers
    finalists = [c for c in candidates if c.prompts == EFFECT_QUESTIONS]
    others = [c.swing.value for c in finalists[1:]]
    assert others == sorted(others, reverse=True)


def test_given_layers_are_taken_without_a_sweep(tiny_llama):
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), layers=[1, 2], check=False, **TINY)
    assert vector.layers == (1, 2)
    assert vector.calibration.candidates == ()
    assert vector.calibration.held_out is None
    assert vector.safe is None


def test_quick_vector_is_calibrated_and_marked(tiny_llama):
    reported = []
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), effort="quick", max_pairs=24, progress=reported.append)
    assert (vector.effort, vector.method, vector.safe) == ("quick", "mean_difference", None)
    assert vector.calibration.held_out is None
    assert vector.calibration.kl == pytest.approx({"+": 0.4, "-": 0.4}, rel=0.05)
    assert not {step.phase for step in reported} & {"Refining the directions", "Trying layers at equal KL"}
    assert "quick" in dict(vector._facts())["estimator"]


def test_unknown_effort_is_refused(tiny_llama):
    with pytest.raises(VectorError, match="no effort named 'lazy'"):
        trimtab.train(tiny_llama, Behaviour.load("happy"), effort="lazy")


def test_check_records_safe_range_and_written_effects(tiny_trained):
    safe, held_out = tiny_trained.safe, tiny_trained.calibration.held_out
    assert -1 <= safe.low <= 0 <= safe.high <= 1
    assert set(safe.reasons) == {"+", "-"}
    assert safe.questions == held_out.prompts
    ends = [each.strengths for each in held_out.written]
    assert {"+": safe.high, "-": safe.low} in ends
    assert {"+": min(0.5, safe.high), "-": max(-0.5, safe.low)} in ends
    for written in held_out.written:
        assert (written.times_prompt is None) == (written.reason is not None)
        assert all(each.low <= each.value <= each.high for each in written.effect.values())


def test_progress_ends_every_phase(tiny_llama):
    steps: list[Progress] = []
    trimtab.train(tiny_llama, Behaviour.load("happy"), progress=steps.append, **TINY)
    last = {step.phase: step for step in steps}
    assert len(last) >= 5
    assert all(step.done == step.total for step in last.values())


def test_train_without_personas_calibrates_by_kl_only(tiny_llama, tmp_path):
    lines = [
        json.dumps({"positive": f"Please, would you kindly {x}?", "negative": f"{x} now!"})
        for x in ("open the door", "wait", "sing", "write a note")
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    (tmp_path / "polite.toml").write_text(
        'name = "polite"\npairs = "pairs.jsonl"\n[positive]\nlabel = "polite"\n[negative]\nlabel = "rude"\n'
    )
    vector = trimtab.train(tiny_llama, Behaviour.load(tmp_path / "polite.toml"))
    assert vector.calibration.effect is None
    assert vector.calibration.kl["+"] == pytest.approx(0.4, rel=0.05)
    assert vector.calibration.held_out.effect is None


def test_calibrate_mix_sets_scale_and_keeps_directions(tiny_llama, tiny_trained):
    other = trimtab.train(tiny_llama, Behaviour.load("formal"), layers=[1], check=False, **TINY)
    mix = 0.5 * tiny_trained - 0.3 * other
    calibrated = trimtab.calibrate(tiny_llama, mix, budget=0.2, check=False)
    assert calibrated.calibration.kl["-"] == pytest.approx(0.2, rel=0.05)
    assert dict(calibrated.weights) == dict(mix.weights)
    for layer in mix.directions:
        np.testing.assert_array_equal(calibrated.directions[layer], mix.directions[layer])


def test_train_and_calibrate_invalid_options_are_refused(tiny_llama, tiny_trained, smollm2):
    happy = Behaviour.load("happy")
    with pytest.raises(VectorError, match="no method named 'magic'"):
        trimtab.train(tiny_llama, happy, method="magic")
    for budget in (0.0, -1.0, float("nan"), 100.0):
        with pytest.raises(CalibrationError, match="makes no sense"):
            trimtab.train(tiny_llama, happy, budget=budget)
    with pytest.raises(VectorMismatchError):
        trimtab.calibrate(smollm2, tiny_trained)
    with pytest.raises(VectorError, match="steers no layer"):
        trimtab.calibrate(tiny_llama, tiny_trained - tiny_trained)
    with pytest.raises(CalibrationError, match="cannot be ranked"):
        trimtab.calibrate(tiny_llama, tiny_trained, layers="auto")


def test_training_leaves_hooks_and_weights_unchanged(tiny_llama):
    before = digest_of(tiny_llama.model)
    trimtab.train(tiny_llama, Behaviour.load("happy"), **TINY)
    assert digest_of(tiny_llama.model) == before
    assert traces_in(tiny_llama.model) == []


def reference_kl(engine, vector: ControlVector, strength: float, prompts) -> float:
    """Mean per-token KL(base ‖ steered) along the base model's own greedy answers, straight on transformers."""
    model, total, count = engine.model, 0.0, 0
    for completion, prompt in zip(engine.generate(list(prompts), max_new_tokens=ANSWER_TOKENS), prompts, strict=True):
        ids = [*engine.encode(engine.render(prompt)), *completion.tokens]
        inputs = torch.tensor([ids])
        where = slice(len(ids) - len(completion.tokens) - 1, len(ids) - 1)
        with torch.inference_mode():
            base = model(input_ids=inputs).logits[0, where].double().log_softmax(-1)
            handles = []
            for layer in vector.layers:
                sign = "+" if strength > 0 else "-"
                size = abs(strength) * vector.scale[sign] * vector.weights[layer] * vector.norms[layer]
                added = torch.tensor(np.sign(strength) * size * vector.directions[layer].astype(np.float64)).float()
                handles.append(
                    model.model.layers[layer].register_forward_hook(lambda m, a, out, added=added: out + added)
                )
            steered = model(input_ids=inputs).logits[0, where].double().log_softmax(-1)
            for handle in handles:
                handle.remove()
        total += float((base.exp() * (base - steered)).sum())
        count += len(completion.tokens)
    return total / count


@pytest.mark.slow
@pytest.mark.parametrize("strength", [1.0, -1.0])
def test_happy_spends_budget_on_calibration_and_new_prompts(smollm2, happy, strength):
    assert reference_kl(smollm2, happy, strength, neutral_prompts().calibration[:KL_QUESTIONS]) == pytest.approx(
        0.4, rel=0.05
    )
    assert 0.25 <= reference_kl(smollm2, happy, strength, neutral_prompts().held_out[:24]) <= 0.6


def test_happy_moves_answers_and_what_is_written(happy):
    held_out = happy.calibration.held_out
    assert held_out.effect.swing.low > 0
    assert (held_out.effect.prompt_equivalents is None) == (held_out.effect.reason is not None)
    assert max(each.swing.value for each in held_out.written) > 0.05
    assert happy.safe.low < happy.safe.high


def test_happy_at_plus_and_minus_one_reads_happy_and_sad(smollm2, happy):
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyser = SentimentIntensityAnalyzer()
    prompts = list(neutral_prompts().held_out[:24])

    def sentiment(strength: float) -> float:
        answers = smollm2.generate(prompts, steering=[(happy, strength)], max_new_tokens=64)
        return float(np.mean([analyser.polarity_scores(answer.text)["compound"] for answer in answers]))

    assert sentiment(1.0) - sentiment(-1.0) >= 0.7


def test_held_out_record_has_random_direction(happy):
    held_out = happy.calibration.held_out
    assert held_out.random_swing.low <= held_out.random_swing.value
    assert abs(held_out.random_swing.value) < held_out.effect.swing.value / 2


@pytest.mark.slow
def test_random_directions_swing_neither_way(smollm2, happy):
    from trimtab.training.controls import try_randoms
    from trimtab.training.progress import ignore
    from trimtab.training.questions import EffectSet, KlSet, ask
    from trimtab.training.search import Steerable

    texts = neutral_prompts().held_out[:24]
    questions = ask(
        smollm2,
        texts,
        Behaviour.load("happy"),
        personas=24,
        max_new_tokens=ANSWER_TOKENS,
        progress=ignore,
    )
    asked = EffectSet(smollm2, questions)
    randoms = try_randoms(
        KlSet(smollm2, questions),
        [asked],
        Steerable(happy.directions, happy.norms),
        happy.layers,
        budget=0.4,
        guess=3 * happy.scale["+"],
        seeds=range(100, 108),
    )
    assert abs(np.mean([trial.swing.mean() for trial in randoms]) / asked.prompt_swing.mean()) < 0.5


@pytest.mark.slow
def test_formal_spends_budget_on_both_sides(smollm2):
    formal = trimtab.train(smollm2, Behaviour.load("formal"))
    for sign in "+-":
        assert formal.calibration.kl[sign] == pytest.approx(0.4, rel=0.05)
        assert 0.25 <= formal.calibration.held_out.kl[sign] <= 0.6
    assert formal.calibration.held_out.effect.swing.low > 0
    assert formal.calibration.held_out.written[-1].swing.low > 0


def ratios_of(engine):
    """Return the gradients of the expected ratio on the questions that training learns from."""
    behaviour = Behaviour.load("happy")
    asked = CalibrationSet.prepare(engine, behaviour, count=32, personas=0, held_out=0, progress=lambda _: None)
    return engine.gradients.ratio_gradients(contrasts(engine, behaviour, asked.calibration))


def swing_of(engine, vector):
    """Return how far the vector moves the expected ratio from -1 to +1, in nats."""
    factors = {key: scale / vector.scale["+"] for key, scale in vector.scale.items()}
    found = ratios_of(engine).at(vector.addition(1.0), range(32), factors=factors, prices={"+": 0.0, "-": 0.0})
    return found.ratio["+"] - found.ratio["-"]


def test_train_distilled_without_pairs_moves_both_ways(tiny_llama, monkeypatch):
    monkeypatch.setattr("trimtab.training.train.build_pairs", None)
    reported = []
    happy = Behaviour.load("happy")
    options = {"method": "distilled", "layers": [1, 2], "check": False}
    vector = trimtab.train(tiny_llama, happy, refine=0, **options, progress=reported.append)
    assert (vector.method, vector.reliability, vector.collection) == ("distilled", None, None)
    assert vector.layers == (1, 2)
    assert sorted(vector.directions) == list(range(tiny_llama.info.layers))
    assert all(abs(kl / 0.4 - 1) <= 0.05 for kl in vector.calibration.kl.values())
    assert swing_of(tiny_llama, vector) > 0
    assert [step.done for step in reported if step.phase == "Learning from the personas"] == list(range(0, 33, 8))
    again = trimtab.train(tiny_llama, happy, refine=0, **options)
    for layer, direction in again.directions.items():
        np.testing.assert_array_equal(direction, vector.directions[layer])
    further = trimtab.train(tiny_llama, happy, refine=10, **options)
    assert further.method == "distilled+refined"
    assert swing_of(tiny_llama, further) > swing_of(tiny_llama, vector)


def test_distilled_directions_equal_ratio_gradient(tiny_llama):
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), method="distilled", calibrate=False, layers=[1])
    slopes, generator = ratios_of(tiny_llama), np.random.default_rng(0)
    both, free = {"+": 1.0, "-": 1.0}, {"+": 0.0, "-": 0.0}
    for _ in range(3):
        other = generator.standard_normal(vector.directions[1].shape).astype(np.float32)
        other /= np.linalg.norm(other)
        swings = []
        for way in (vector.directions[1], other):
            found = slopes.at({1: np.float32(0.01) * way}, range(32), factors=both, prices=free)
            swings.append(found.ratio["+"] - found.ratio["-"])
        steepest, elsewhere = swings
        assert steepest > abs(elsewhere)
        assert elsewhere / steepest == pytest.approx(float(vector.directions[1] @ other), abs=0.05)


def test_train_distilled_resumes_from_checkpoint(tiny_llama, tmp_path):
    happy, path = Behaviour.load("happy"), tmp_path / "noted"
    options = {"method": "distilled", "layers": [1], "check": False, "refine": 0, "checkpoint": path}

    def stop(step):
        if step.phase == "Learning from the personas" and step.done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trimtab.train(tiny_llama, happy, **options, progress=stop)
    reported = []
    again = trimtab.train(tiny_llama, happy, **options, progress=reported.append)
    assert next(step.done for step in reported if step.phase == "Learning from the personas") == 16
    options.pop("checkpoint")
    whole = trimtab.train(tiny_llama, happy, **options)
    np.testing.assert_array_equal(again.directions[1], whole.directions[1])


def test_train_distilled_impossible_input_raises(tiny_llama, monkeypatch):
    with pytest.raises(VectorError, match="has no pairs"):
        trimtab.train(tiny_llama, Behaviour.load("happy"), method="distilled", source="responses")
    monkeypatch.setattr(type(tiny_llama), "gradients", None)
    with pytest.raises(CalibrationError, match="no gradients"):
        trimtab.train(tiny_llama, Behaviour.load("happy"), method="distilled")
