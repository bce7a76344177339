"""Interrupted training goes on where it stopped, to the same vector."""

from __future__ import annotations

import numpy as np
import pytest

import trimtab
from trimtab import Behaviour, ControlVector
from trimtab.engines import ForcedItem
from trimtab.errors import OutputError
from trimtab.training.checkpoint import CheckpointedEngine, FileCheckpoint, NoCheckpoint
from trimtab.training.progress import Progress

TINY = {"max_pairs": 20, "memory": 8 * 2 * 4 * 32 * 4}
ITEMS = [ForcedItem((1, 2, 3), ((4, 5), (6,)), reference=0), ForcedItem((7, 8), ((9,),))]


@pytest.fixture(scope="module")
def undisturbed(tiny_llama) -> ControlVector:
    return trimtab.train(tiny_llama, Behaviour.load("happy"), **TINY)


@pytest.mark.parametrize(
    "phase",
    [
        "Collecting hidden states",
        "Trying layers at equal KL",
        "Calibrating the strength",
        "Checking on held-out prompts",
    ],
)
def test_training_again_goes_on_to_the_same_vector(tiny_llama, undisturbed, tmp_path, phase):
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


def test_what_was_found_out_is_not_found_out_again(tiny_llama, tmp_path):
    path = tmp_path / "checkpoint.sqlite"
    read = 0

    def count(_, __, output) -> None:
        nonlocal read
        read += output.shape[0] * output.shape[1]

    def stop(step: Progress) -> None:
        if step.phase == "Checking on held-out prompts" and step.done:
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


def test_a_checkpoint_of_another_training_is_begun_anew(tiny_llama, tmp_path):
    path = tmp_path / "checkpoint.sqlite"
    first = FileCheckpoint(path, job="one")
    first.put("answer", b"42")
    first.close()
    same = FileCheckpoint(path, job="one")
    assert same.get("answer") == b"42"
    assert len(same) == 1
    same.close()
    other = FileCheckpoint(path, job="two")
    assert other.get("answer") is None
    other.forget()
    assert not path.exists()


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="checkpoint"):
        FileCheckpoint(tmp_path / "file" / "x.sqlite", job="")
    (tmp_path / "broken.sqlite").write_text("this is no database, and it is long enough to be read as one" * 20)
    with pytest.raises(OutputError, match="checkpoint"):
        FileCheckpoint(tmp_path / "broken.sqlite", job="")


def test_a_remembering_engine_answers_as_the_engine_does(tiny_llama, random_vector, tmp_path):
    vector = random_vector(tiny_llama)
    added = vector.addition(1.0)
    journal = FileCheckpoint(tmp_path / "x.sqlite", job="")
    for _ in range(2):  # asked, and remembered
        engine = CheckpointedEngine(tiny_llama, journal)
        assert engine.info == tiny_llama.info
        for steering in (None, [(vector, 1.0)]):
            expected = tiny_llama.generate(["hi", "ho"], steering=steering, max_new_tokens=5)
            found = engine.generate(["hi", "ho"], steering=steering, max_new_tokens=5)
            assert [c.tokens for c in found] == [c.tokens for c in expected]
            assert [c.logprob for c in found] == [c.logprob for c in expected]
        forced, plain = engine.teacher_forcing(ITEMS), tiny_llama.teacher_forcing(ITEMS)
        for additions in ({}, added):
            found, expected = forced.measure(additions), plain.measure(additions)
            for mine, theirs in zip(found.logprob, expected.logprob, strict=True):
                np.testing.assert_array_equal(mine, theirs)
            for mine, theirs in zip(found.tokens, expected.tokens, strict=True):
                np.testing.assert_array_equal(mine, theirs)
            np.testing.assert_array_equal(found.kl, expected.kl)
            np.testing.assert_array_equal(found.kl_tokens, expected.kl_tokens)
        np.testing.assert_array_equal(forced.norms, plain.norms)


def test_samples_without_a_seed_are_never_remembered(tiny_llama, tmp_path):
    journal = FileCheckpoint(tmp_path / "x.sqlite", job="")
    engine = CheckpointedEngine(tiny_llama, journal)
    engine.generate(["hi"], max_new_tokens=3, temperature=1.0)
    assert len(journal) == 0
    engine.generate(["hi"], max_new_tokens=3, temperature=1.0, seed=1)
    assert len(journal) == 1


def test_no_journal_knows_nothing():
    NoCheckpoint().put("a", b"b")
    assert NoCheckpoint().get("a") is None


def test_answers_under_other_scopes_operators_and_conditions_are_other_answers(tiny_llama, random_vector, tmp_path):
    from dataclasses import replace

    from trimtab.steering import Ablate, Add, Comparison, Term
    from trimtab.training.neutral import measure_neutral

    vector = random_vector(tiny_llama)
    vector = replace(vector, neutral=measure_neutral(tiny_llama, vector.directions))
    terms = [
        Term(vector, 1.0),
        Term(vector, 1.0, tokens="generated"),
        Term(vector, coefficient=0.2, operator=Add(preserve_norm=True)),
        Term(vector, operator=Ablate()),
        Term(vector, 1.0, condition=Comparison(vector, "above", 0.0)),
        Term(vector, 1.0, condition=Comparison(vector, "above", 0.5)),
        Term(vector, 1.0, condition=Comparison(vector, "below", 0.5)),
    ]
    journal = FileCheckpoint(tmp_path / "x.sqlite", job="")
    engine = CheckpointedEngine(tiny_llama, journal)
    first = [engine.generate(["hi"], steering=[term], max_new_tokens=3) for term in terms]
    assert len(journal) == len(terms)
    assert [engine.generate(["hi"], steering=[term], max_new_tokens=3) for term in terms] == first
    assert len(journal) == len(terms)


def test_scores_under_other_changes_are_other_scores(tiny_llama, random_vector, tmp_path):
    from trimtab.training.calibrate import changes_of

    vector = random_vector(tiny_llama)
    journal = FileCheckpoint(tmp_path / "x.sqlite", job="")
    forced = CheckpointedEngine(tiny_llama, journal).teacher_forcing(ITEMS)
    asked = [changes_of(vector, name, 0.2) for name in ("rotate", "add_preserving_norm")]
    asked += [changes_of(vector, "rotate", 0.3), vector.addition(coefficient=0.2)]
    first = [forced.measure(changes).kl for changes in asked]
    assert len(journal) == len(asked)
    for changes, kl in zip(asked, first, strict=True):
        np.testing.assert_array_equal(forced.measure(changes).kl, kl)
    assert len({tuple(kl) for kl in first}) == len(asked)
