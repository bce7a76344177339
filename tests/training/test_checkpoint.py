"""Interrupted training resumes where it stopped, to the same vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trimtab
from trimtab import Behaviour, ControlVector
from trimtab.errors import OutputError
from trimtab.training.calibrate import changes_of
from trimtab.training.checkpoint import NO_CHECKPOINT, Checkpoint
from trimtab.training.progress import Progress, ignore
from trimtab.training.questions import EffectSet, KlSet, ask

TINY = {"max_pairs": 20, "memory": 8 * 2 * 4 * 32 * 4}


@pytest.fixture(scope="module")
def undisturbed(tiny_llama) -> ControlVector:
    return trimtab.train(tiny_llama, Behaviour.load("happy"), **TINY)


@pytest.mark.parametrize(
    "phase",
    [
        "Collecting hidden states",
        "Letting the model answer",
        "Learning from the personas",
        "Refining the directions",
        "Calibrating the strength",
        "Checking on held-out prompts",
    ],
)
def test_interrupted_training_resumes_to_the_same_vector(tiny_llama, undisturbed, tmp_path, phase):
    path = tmp_path / "checkpoint.sqlite"

    def stop(step: Progress) -> None:
        if step.phase == phase and step.done >= step.total / 2 and step.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trimtab.train(tiny_llama, Behaviour.load("happy"), checkpoint=path, progress=stop, **TINY)
    assert path.exists()
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), checkpoint=path, **TINY)
    assert not path.exists()
    assert dict(vector.scale) == dict(undisturbed.scale)
    assert vector.calibration == undisturbed.calibration
    assert vector.reliability == undisturbed.reliability
    for layer, direction in vector.directions.items():
        np.testing.assert_array_equal(direction, undisturbed.directions[layer])


def test_sweep_interrupted_resumes_to_the_same_vector(tiny_llama, tmp_path):
    path, options = tmp_path / "checkpoint.sqlite", {**TINY, "refine": 0, "check": False}
    undisturbed = trimtab.train(tiny_llama, Behaviour.load("happy"), **options)

    def stop(step: Progress) -> None:
        if step.phase == "Trying layers at equal KL" and step.done >= step.total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trimtab.train(tiny_llama, Behaviour.load("happy"), checkpoint=path, progress=stop, **options)
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), checkpoint=path, **options)
    assert vector.calibration == undisturbed.calibration
    assert dict(vector.scale) == dict(undisturbed.scale)


def test_resumed_training_repeats_little_model_work(tiny_llama, tmp_path):
    path = tmp_path / "checkpoint.sqlite"
    read = 0

    def count(_, __, output) -> None:
        nonlocal read
        read += output.shape[0] * output.shape[1]

    def stop(step: Progress) -> None:
        if step.phase == "Checking on held-out prompts" and step.done > 1:
            raise KeyboardInterrupt

    handle = tiny_llama.model.get_input_embeddings().register_forward_hook(count)
    try:
        with pytest.raises(KeyboardInterrupt):
            trimtab.train(tiny_llama, Behaviour.load("happy"), checkpoint=path, progress=stop, **TINY)
        before, read = read, 0
        trimtab.train(tiny_llama, Behaviour.load("happy"), checkpoint=path, **TINY)
    finally:
        handle.remove()
    assert read < before / 3


def test_checkpoint_of_another_job_is_emptied(tmp_path):
    path = tmp_path / "checkpoint.sqlite"
    first = Checkpoint(path, job="one")
    first.put("answer", b"42")
    first.close()
    same = Checkpoint(path, job="one")
    assert same.get("answer") == b"42"
    assert len(same) == 1
    same.close()
    other = Checkpoint(path, job="two")
    assert other.get("answer") is None
    other.delete()
    assert not path.exists()


def test_training_with_other_options_reuses_nothing(tiny_llama, undisturbed, tmp_path):
    path = tmp_path / "checkpoint.sqlite"

    def stop(step: Progress) -> None:
        if step.phase == "Checking on held-out prompts":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trimtab.train(tiny_llama, Behaviour.load("formal"), checkpoint=path, progress=stop, **TINY)
    vector = trimtab.train(tiny_llama, Behaviour.load("happy"), checkpoint=path, **TINY)
    assert vector.calibration == undisturbed.calibration


def test_checkpoint_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="checkpoint"):
        Checkpoint(tmp_path / "file" / "x.sqlite", job="")
    (tmp_path / "broken.sqlite").write_text("this is no database, and it is long enough to be read as one" * 20)
    with pytest.raises(OutputError, match="checkpoint"):
        Checkpoint(tmp_path / "broken.sqlite", job="")


def test_checkpoint_in_use_is_refused_until_closed(tmp_path):
    path = tmp_path / "x.sqlite"
    first = Checkpoint(path, job="one")
    first.put("answer", b"42")
    for job in ("one", "two"):
        with pytest.raises(OutputError, match="in use by another process"):
            Checkpoint(path, job=job)
    first.put("question", b"6 x 9")
    first.close()
    second = Checkpoint(path, job="one")
    assert (second.get("answer"), second.get("question")) == (b"42", b"6 x 9")


def test_checkpoint_without_path_keeps_nothing():
    nothing = Checkpoint()
    nothing.put("a", b"b")
    nothing.put_arrays("c", {"d": np.zeros(1)})
    assert nothing.get("a") is nothing.get_arrays("c") is None
    calls = iter([1.0, 2.0])
    assert [nothing.remember("e", float, lambda: next(calls)) for _ in range(2)] == [1.0, 2.0]


@given(values=st.lists(st.floats()))
def test_remember_returns_floats_bit_for_bit(values, tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "x.sqlite"
    calls = iter([values])
    for _ in range(2):
        store = Checkpoint(path)
        values_read = np.array(store.remember("a", list[float], lambda: next(calls)), dtype=np.float64)
        np.testing.assert_array_equal(values_read, values)
        store.close()


def test_remember_returns_questions_as_they_were(fake, tmp_path):
    def asked(store):
        return ask(
            fake,
            ["hi", "ho"],
            Behaviour.load("happy"),
            personas=1,
            max_new_tokens=5,
            checkpoint=store,
            progress=ignore,
        )

    store = Checkpoint(tmp_path / "x.sqlite")
    assert asked(store) == asked(store) == asked(NO_CHECKPOINT)
    assert len(store) == 1


def test_kept_measurements_equal_those_of_the_model(tiny_llama, random_vector, monkeypatch, tmp_path):
    behaviour = Behaviour.load("happy")
    questions = ask(tiny_llama, ["hi", "ho"], behaviour, personas=2, max_new_tokens=5, progress=ignore)
    added = random_vector(tiny_llama).addition(1.0)
    store = Checkpoint(tmp_path / "x.sqlite")
    plain_kl, plain_effects = KlSet(tiny_llama, questions), EffectSet(tiny_llama, questions)
    expected = (plain_kl.norms, plain_kl.base_logprob, plain_kl.measure(added))
    expected += (plain_effects.base, plain_effects.measure(added), plain_effects.prompt_swing)
    for _ in range(2):
        kl, effects = KlSet(tiny_llama, questions, store), EffectSet(tiny_llama, questions, store)
        values_read = (kl.norms, kl.base_logprob, kl.measure(added))
        values_read += (effects.base, effects.measure(added), effects.prompt_swing)
        for mine, theirs in zip(values_read, expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        monkeypatch.setattr(type(tiny_llama), "teacher_forcing", None)  # the second time nothing is computed


def test_kept_measurements_differ_by_change(tiny_llama, random_vector, tmp_path):
    vector = random_vector(tiny_llama)
    store = Checkpoint(tmp_path / "x.sqlite")
    questions = ask(tiny_llama, ["hi"], None, personas=0, max_new_tokens=5, progress=ignore)
    kl = KlSet(tiny_llama, questions, store)
    tried = [changes_of(vector, name, 0.2) for name in ("rotate", "add_preserving_norm")]
    tried += [changes_of(vector, "rotate", 0.3), vector.addition(coefficient=0.2)]
    first = [kl.measure(changes) for changes in tried]
    assert len(store) == len(tried)
    assert [kl.measure(changes) for changes in tried] == first
    assert len(set(first)) == len(tried)


def test_kept_measurements_differ_by_questions(tiny_llama, random_vector, tmp_path):
    added = random_vector(tiny_llama).addition(1.0)
    store = Checkpoint(tmp_path / "x.sqlite")
    questions = ask(tiny_llama, ["hi", "ho"], None, personas=0, max_new_tokens=5, progress=ignore)
    for part in (questions, questions[:1]):
        assert KlSet(tiny_llama, part, store).measure(added) == KlSet(tiny_llama, part).measure(added)
