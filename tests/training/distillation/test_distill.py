"""Prompts compiled into vectors."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import trimtab
from tiny_models import byte_tokenizer, small_t5, vector_for
from trimtab.behaviours import Message, neutral_prompts
from trimtab.errors import DistillError, PromptError
from trimtab.steering import Add, Scope, Steering, Term
from trimtab.steering.operators import Ablate
from trimtab.training.distillation.distill import Effort, distill
from trimtab.training.distillation.examples import Teacher
from trimtab.training.distillation.fit import Schedule

TEXTS = ("Hello!", "What is rain?", "Tell me of a walk.", "Who is there?", "Why?", "Sing.")
QUICK = Effort(
    held_out_every=3,
    answers=1,
    answer_tokens=6,
    schedule=Schedule(steps=30, batch=4, stride=0.05, check_every=5, patience=9),
)
PROMPT = "Speak of the sea, and of nothing else."


def distilled(engine, prompt=PROMPT, **changes):
    options = {"prompts": TEXTS, "effort": QUICK, **changes}
    return distill(engine, prompt, **options)


def gap(engine, answer, *, steering=None, prompt=PROMPT, text="Well?"):
    """KL from the prompted to the steered model over the whole vocabulary, along one answer."""

    def logprobs(messages):
        read = engine.encode(engine.render(messages))
        with torch.no_grad():
            logits = engine.model(torch.tensor([[*read, *answer[:-1]]]), use_cache=False).logits[0]
        return logits[len(read) - 1 :].double().log_softmax(-1)

    prompted = logprobs([Message("system", prompt), Message("user", text)])
    with engine.steered(steering or []):
        steered = logprobs([Message("user", text)])
    return float((prompted.exp() * (prompted - steered)).sum(-1).mean())


def test_distill_strength_one_nears_the_prompted_model(llama):
    vector = distilled(llama, effort=replace(QUICK, answers=6))
    answer = llama.generate([[Message("system", PROMPT), Message("user", "Well?")]], max_new_tokens=8)[0].tokens
    half, whole = (gap(llama, answer, steering=[(vector, strength)]) for strength in (0.5, 1.0))
    assert whole < half < gap(llama, answer)
    record = vector.distillation
    assert record.kl_after < 0.8 * record.kl_before
    assert (record.lessons, record.others, record.tokens) == (24, 12, "all")


def test_distill_gives_an_ordinary_vector(llama, tmp_path):
    vector = distilled(llama, name="sea")
    assert vector.method == "distilled"
    assert vector.layers == (0, 1, 2, 3)
    assert vector.behaviour.name == "sea"
    assert dict(vector.scale) == {"+": 1.0, "-": 1.0}
    assert vector.neutral is not None
    again = trimtab.ControlVector.load(vector.save(tmp_path / "sea.safetensors"), model=llama)
    assert again.distillation == vector.distillation
    mixed = vector + vector_for(llama, layers=[1])
    assert mixed.distillation is None
    assert llama.generate("Hi", steering=[(again, 1), (mixed, 0.1)], max_new_tokens=2).tokens
    assert vector.calibration.kl["+"] == pytest.approx(vector.calibration.budget)
    assert (2 * vector).distillation is None


def test_distill_same_seed_gives_the_same_vector(llama):
    one, same, other = (distilled(llama, seed=seed) for seed in (3, 3, 4))
    for layer in one.layers:
        assert one.directions[layer].tobytes() == same.directions[layer].tobytes()
        assert one.directions[layer].tobytes() != other.directions[layer].tobytes()


def test_distill_halfway_comes_from_the_schedule(llama):
    schedules = [replace(QUICK.schedule, halfway=halfway) for halfway in (math.inf, 1e6, 0.01)]
    plain, nearly, bent = (distilled(llama, effort=replace(QUICK, schedule=each)).directions[1] for each in schedules)
    assert plain @ nearly > 0.999
    assert plain @ bent < 0.99


@pytest.mark.parametrize(("layers", "expected"), [("all", (0, 1, 2, 3)), ([2], (2,)), ("band", None)])
def test_distill_layers_limits_the_directions(llama, layers, expected):
    from trimtab.training.search import band_layers

    assert distilled(llama, layers=layers).layers == (expected or band_layers(4))


def test_distill_accepts_whole_chats(llama):
    shots = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ahoy! " * 4}]
    vector = distilled(llama, shots)
    assert vector.distillation.prompt_tokens > 20
    assert vector.distillation.kl_after < vector.distillation.kl_before


def test_distill_generated_tokens_nears_the_teacher(llama):
    vector = distilled(llama, tokens="generated")
    assert vector.distillation.tokens == "generated"
    assert vector.distillation.kl_after < vector.distillation.kl_before


def test_distill_on_top_of_a_vector_adds_to_it(llama):
    active = vector_for(llama, layers=[1, 2])
    vector = distilled(llama, on_top_of=[(active, 1.0)])
    assert vector.distillation.kl_after < vector.distillation.kl_before
    alone = distilled(llama)
    assert not np.allclose(alone.directions[1], vector.directions[1], atol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": Scope.of("generated")},
        {"operator": Add(preserve_norm=True)},
        {"operator": Ablate(), "strength": None},
    ],
)
def test_distill_on_top_of_other_operators_is_refused(llama, changes):
    vector = replace(vector_for(llama, layers=[1, 2]), operator_scales={"add_preserving_norm": {"+": 0.1, "-": 0.1}})
    with pytest.raises(DistillError, match="cannot distil on top of"):
        distilled(llama, on_top_of=Steering((Term(vector, **{"strength": 1.0, **changes}),)))


def test_distill_invent_adds_generated_messages(llama, monkeypatch):
    more = ("What is a boat?", "Why is it wet?", "Hello!")
    monkeypatch.setattr("trimtab.training.distillation.distill.invent_messages", lambda *_, count, **__: more[:count])
    record = distilled(llama, invent=3).distillation
    assert record.lessons + record.others == len(TEXTS) + 2
    with pytest.raises(DistillError, match="cannot be written"):
        distilled(llama, invent=-1)


def test_distill_interrupted_resumes_to_the_same_vector(llama, tmp_path):
    whole = distilled(llama)
    path = tmp_path / "notes"

    def stop(step):
        if step.phase.startswith("Learning") and step.done == 17:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distilled(llama, checkpoint=path, progress=stop)
    assert path.is_file()
    reported = []
    again = distilled(llama, checkpoint=path, progress=reported.append)
    assert min(step.done for step in reported if step.phase.startswith("Learning")) == 10
    assert not path.exists()
    for layer in whole.layers:
        assert again.directions[layer].tobytes() == whole.directions[layer].tobytes()
    assert replace(again.distillation) == whole.distillation


def test_distill_progress_reports_the_kl(llama):
    reported = []
    vector = distilled(llama, progress=reported.append)
    statuses = [step.status for step in reported if step.phase == "Learning from the prompted model"]
    assert statuses[0] == f"{vector.distillation.kl_before:.3f} nat of KL"
    assert float(statuses[-1].split()[0]) < float(statuses[0].split()[0])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "the prompt is empty"),
        ("  \n", "the prompt is empty"),
        ([], "the prompt is empty"),
        ([{"role": "user", "content": "Hi"}], "end with the user's turn"),
        ([{"role": "wizard", "content": "Hi"}], "no role named 'wizard'"),
        ([{"content": "Hi"}], "no role or no content"),
    ],
)
def test_distill_invalid_prompt_is_refused(llama, given, why):
    with pytest.raises(DistillError, match=why):
        distilled(llama, given)


def test_distill_too_long_prompt_is_refused(llama):
    with pytest.raises(PromptError, match="reads 256"):
        distilled(llama, "x" * 5000)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"prompts": ["Hi"]}, "at least two messages"),
        ({"prompts": ["Hi", " "]}, "at least two messages"),
        ({"layers": "some"}, "layers 'some' are not known"),
        ({"tokens": "few"}, "no tokens named 'few'"),
    ],
)
def test_distill_invalid_options_are_refused(llama, options, why):
    with pytest.raises(DistillError, match=why):
        distilled(llama, **options)


def test_distill_without_gradients_is_refused():
    engine = trimtab.load(small_t5(), tokenizer=byte_tokenizer())
    with pytest.raises(DistillError, match=r"no gradients .* trimtab\.train"):
        distilled(engine)


def test_effort_uses_built_in_messages():
    builtin = neutral_prompts()
    assert len({*builtin.calibration, *builtin.more}) >= Effort().prompts
    assert not {*builtin.calibration, *builtin.more} & set(builtin.held_out)
    assert Teacher.of([Message("system", "a")]).chat("b")[-1] == Message("user", "b")
