"""Checking a behaviour by hidden states: what sound behaviours get, and what senseless ones do."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from trimtab import Behaviour
from trimtab.behaviours import ContrastiveText, Message, Pole, Template
from trimtab.behaviours.pairs import build_pairs
from trimtab.errors import BehaviourError
from trimtab.training.agreement import LEAST, StateLint, lint_states, predict
from trimtab.training.search import band_layers

HAPPY = Behaviour.load("happy")
SENSELESS = (
    ("lantern with a spoon", "teapot on a tractor", "glove under a ladder", "violin beside a bucket"),
    ("cactus with a zipper", "biscuit on a magnet", "saddle under a kettle", "carpet beside a trumpet"),
)


def with_personas(positive, negative) -> Behaviour:
    return replace(HAPPY, positive=Pole("plus", tuple(positive)), negative=Pole("minus", tuple(negative)))


def problems(lint: StateLint) -> dict[str, str]:
    return {finding.where: finding.problem for finding in lint.findings}


def test_happy_is_predicted_to_work(smollm2):
    steps = []
    lint = lint_states(smollm2, HAPPY, progress=steps.append)
    assert lint.prediction in ("high", "medium")
    assert lint.pairwise_cosine > 0.15
    assert lint.agreement > 0.5
    assert lint.separation > 0.95
    assert lint.layers == band_layers(smollm2.info.layers)
    assert not [finding for finding in lint.findings if finding.level != "note"]
    assert [group.positive for group in lint.by_persona] == list(HAPPY.positive.personas)
    assert sum(group.pairs for group in lint.by_template) == lint.pairs == 96
    assert steps[-1].done == steps[-1].total == 192


def test_unrelated_words_are_predicted_to_fail(smollm2):
    lint = lint_states(smollm2, with_personas(*SENSELESS))
    assert lint.prediction == "low"
    assert "hardly agree" in problems(lint)["personas"]
    assert any("does not point where" in finding.problem for finding in lint.findings)


def test_lint_persona_in_wrong_pole_is_reported(smollm2):
    positive, negative = HAPPY.positive.personas, HAPPY.negative.personas
    swapped = with_personas((*positive[:3], negative[3]), (*negative[:3], positive[3]))
    lint = lint_states(smollm2, swapped, max_pairs=32)
    assert "points the opposite way" in problems(lint)["personas[3]"]
    assert lint.by_persona[3].agreement < 0 < min(group.agreement for group in lint.by_persona[:3])


def test_lint_figures_equal_pairwise_reference(tiny_llama):
    lint = lint_states(tiny_llama, HAPPY, max_pairs=16)
    pairs = build_pairs(HAPPY, tiny_llama, max_pairs=16, max_cuts=4)
    states = [tiny_llama.hidden_states([pair.positive, pair.negative]) for pair in pairs]
    differences = np.array([both[0] - both[1] for both in states], dtype=np.float64)[:, list(lint.layers)]

    def cosine(one, other):
        return np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(one, other, strict=True)])

    slow = np.mean([cosine(one, other) for one, other in combinations(differences, 2)])
    assert lint.pairwise_cosine == pytest.approx(slow, abs=1e-4)
    which = [next(n for n, text in enumerate(HAPPY.positive.personas) if text in pair.positive) for pair in pairs]
    means = [np.mean([d for d, n in zip(differences, which, strict=True) if n == m], axis=0) for m in range(4)]
    for group in lint.by_persona:
        rest = np.mean([mean for n, mean in enumerate(means) if n != group.index], axis=0)
        assert group.agreement == pytest.approx(cosine(means[group.index], rest), abs=1e-4)
    lengths = [len(tiny_llama.encode(p.positive)) - len(tiny_llama.encode(p.negative)) for p in pairs]
    assert lint.tokens_apart == pytest.approx(np.mean(lengths))


def test_lint_longer_side_is_noted(tiny_llama):
    uneven = with_personas(["bad", "odd", "mad"], ["overwhelming", "unbelievable", "astonishing"])
    even = with_personas(["bad", "odd", "mad"], ["sad", "big", "hot"])
    assert any("tokens longer" in f.problem for f in lint_states(tiny_llama, uneven, max_pairs=12).findings)
    assert not any("tokens longer" in f.problem for f in lint_states(tiny_llama, even, max_pairs=12).findings)


def test_lint_single_persona_has_no_agreement(smollm2):
    lint = lint_states(smollm2, with_personas(["extremely happy"], ["extremely sad"]), max_pairs=16)
    assert lint.agreement is None
    assert lint.prediction == "medium"
    assert "only one persona" in problems(lint)["personas"]


def test_lint_phrasings_sharing_one_word_names_it(smollm2):
    behaviour = with_personas(["a pirate", "the picture of a pirate"], ["a lawyer", "the picture of a lawyer"])
    lint = lint_states(smollm2, behaviour, max_pairs=16)
    assert "'pirate' and 'lawyer'" in problems(lint)["personas"]


def test_lint_unequal_personas_are_grouped_once(tiny_llama):
    lint = lint_states(tiny_llama, with_personas(["glad", "merry", "glad"], ["sad"]), max_pairs=24)
    assert [(group.positive, group.negative) for group in lint.by_persona] == [("glad", "sad"), ("merry", "sad")]


def test_lint_given_pairs_are_compared_in_parts(smollm2):
    subjects = ("walk", "dinner", "journey", "letter", "garden", "party", "film", "lesson")
    chats = [
        (
            (Message("user", f"I am so glad! What a wonderful {subject} it was!"),),
            (Message("user", f"I am so sad. What a miserable {subject} it was."),),
        )
        for subject in subjects
    ]
    given = replace(HAPPY, pairs=tuple(ContrastiveText(*sides) for sides in chats))
    lint = lint_states(smollm2, given)
    assert lint.pairs == len(subjects)
    assert len(lint.by_persona) == 4
    assert lint.by_template == ()
    assert lint.prediction == "high"
    mixed = replace(given, pairs=tuple(ContrastiveText(*sides[:: (-1) ** n]) for n, sides in enumerate(chats)))
    lint = lint_states(smollm2, mixed)
    assert lint.prediction == "low"
    assert any("hardly agree" in finding.problem for finding in lint.findings)
    assert all(finding.where == "pairs" for finding in lint.findings)


def test_lint_inverting_template_is_reported(smollm2):
    templates = (Template(user="You are {persona}."), Template(user="You are the very opposite of {persona}."))
    lint = lint_states(smollm2, replace(HAPPY, templates=templates), max_pairs=16)
    assert lint.by_template[0].agreement == pytest.approx(lint.by_template[1].agreement)
    assert {group.positive for group in lint.by_template} == {template.user for template in templates}


def test_lint_behaviour_without_contrast_raises(tiny_llama):
    single = replace(with_personas(["a"], ["b"]), templates=HAPPY.templates[:1], suffixes=("I",))
    with pytest.raises(BehaviourError, match="only one distinct pair"):
        lint_states(tiny_llama, single)


def test_predict_requires_both_figures():
    (cosine, agreement), (medium_cosine, medium_agreement) = LEAST["high"], LEAST["medium"]
    assert predict(cosine, agreement) == "high"
    assert predict(cosine - 0.01, agreement) == "medium"
    assert predict(cosine, agreement - 0.01) == "medium"
    assert predict(medium_cosine - 0.01, 0.9) == "low"
    assert predict(0.9, medium_agreement - 0.01) == "low"
    assert predict(0.9, None) == "medium"
