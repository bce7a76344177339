"""Arms: what stands before a question, and that writing and scoring do what slow references do."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from by_hand import added_by_hand, greedily, logits_of, steering_by_hand
from tiny_models import BY_NAME, vector_for
from trimtab import Steering, Term
from trimtab.behaviours import Message
from trimtab.evaluation.interventions import TOGETHER, Intervention, changes_of, score, write, write_all

TEXTS = ("Hello!", "What is rain?", "Tell me of a walk.")
OPENINGS = (
    (Message("system", "Be brief."),),
    (Message("user", "Hi."), Message("assistant", "Hello, you.")),
)
KINDS = ("base", "opened", "steered", "opened and steered")


def arm_of(engine, kind: str) -> Intervention:
    steering = Steering.of([(vector_for(engine, layers=[1, 2]), -1.0)])
    return Intervention(OPENINGS if "opened" in kind else (), steering if "steered" in kind else Steering())


def terms_of(arm: Intervention):
    return [(term.vector, term.strength) for term in arm.steering.terms]


def blocks_of(engine):
    return BY_NAME["llama"].blocks(engine.model)


@contextmanager
def turned_head(engine):
    """What plays an adapter: the head says the opposite of what it says."""
    head = engine.model.lm_head.weight
    with torch.no_grad():
        head.mul_(-1.0)
        try:
            yield
        finally:
            head.mul_(-1.0)


def test_without_openings_the_question_stands_alone():
    assert Intervention().chat(5, "Hello!") == (Message("user", "Hello!"),)


def test_openings_stand_before_the_questions_in_turn():
    arm = Intervention(OPENINGS)
    for number in range(5):
        assert arm.chat(number, "Hello!") == (*OPENINGS[number % 2], Message("user", "Hello!"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_arm_writes_the_likeliest_token_again_and_again(tiny_llama, kind):
    arm = arm_of(tiny_llama, kind)
    found = write(tiny_llama, arm, TEXTS, max_new_tokens=5)
    for number, (text, completion) in enumerate(zip(TEXTS, found, strict=True)):
        prompt = tiny_llama.encode(tiny_llama.render(arm.chat(number, text)))
        assert completion.tokens == greedily(tiny_llama, blocks_of(tiny_llama), prompt, 5, *terms_of(arm))


def test_openings_and_steering_change_what_is_written(tiny_llama):
    written = {kind: write(tiny_llama, arm_of(tiny_llama, kind), TEXTS, max_new_tokens=5) for kind in KINDS}
    assert len({tuple(completion.tokens for completion in found) for found in written.values()}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_given_answers_are_scored_as_by_reading_them_one_at_a_time(tiny_llama, kind):
    arm = arm_of(tiny_llama, kind)
    answers = [[tiny_llama.encode(text)[1:] for text in pair] for pair in (("Hi", "Go away"), ("Wet.",), ("a", "b"))]
    found = score(tiny_llama, arm, TEXTS, answers)
    for number, (text, given) in enumerate(zip(TEXTS, answers, strict=True)):
        prompt = tiny_llama.encode(tiny_llama.render(arm.chat(number, text)))
        assert found.tokens[number].tolist() == [len(answer) for answer in given]
        for answer, logprob in zip(given, found.logprob[number], strict=True):
            with steering_by_hand(blocks_of(tiny_llama), *terms_of(arm)):
                logits = logits_of(tiny_llama.model, [*prompt, *answer])[len(prompt) - 1 : -1]
            slow = logits.double().log_softmax(-1)[torch.arange(len(answer)), list(answer)].sum()
            assert logprob == pytest.approx(float(slow), abs=1e-3)


def test_an_adapter_is_on_for_its_arm_and_off_again(tiny_llama):
    arm = Intervention(activate=lambda: turned_head(tiny_llama))
    answers = [[completion.tokens] for completion in write(tiny_llama, Intervention(), TEXTS, max_new_tokens=3)]
    before = score(tiny_llama, Intervention(), TEXTS, answers)
    with turned_head(tiny_llama):
        turned = [completion.tokens for completion in write(tiny_llama, Intervention(), TEXTS, max_new_tokens=3)]
    assert [completion.tokens for completion in write(tiny_llama, arm, TEXTS, max_new_tokens=3)] == turned
    scored = score(tiny_llama, arm, TEXTS, answers)
    after = score(tiny_llama, Intervention(), TEXTS, answers)
    for was, unlike, again in zip(before.logprob, scored.logprob, after.logprob, strict=True):
        assert unlike[0] < was[0] - 1.0
        assert again[0] == was[0]


def test_the_changes_of_a_steering_are_those_of_its_terms_by_layer_and_in_order(tiny_llama):
    one, other = vector_for(tiny_llama, layers=[1, 2]), vector_for(tiny_llama, seed=1, layers=[2, 3])
    changes = changes_of(Steering((Term(one, 0.5), Term(other, -1.0))), tiny_llama.info)
    first, second = added_by_hand((one, 0.5)), added_by_hand((other, -1.0))
    expected = {1: [first[1]], 2: [first[2], second[2]], 3: [second[3]]}
    assert {layer: len(found) for layer, found in changes.items()} == {1: 1, 2: 2, 3: 1}
    for layer, found in changes.items():
        for change, by_hand in zip(found, expected[layer], strict=True):
            np.testing.assert_allclose(change.added, by_hand, atol=1e-6)


def test_the_base_changes_nothing(tiny_llama):
    assert changes_of(Steering(), tiny_llama.info) == {}


def test_arms_that_are_asked_together_write_what_each_writes_alone(tiny_llama):
    plain = [arm_of(tiny_llama, kind) for kind in KINDS] * 2
    arms = [*plain[: TOGETHER + 1], Intervention(activate=lambda: turned_head(tiny_llama)), *plain[TOGETHER + 1 :]]
    done = []
    found = write_all(tiny_llama, arms, TEXTS, max_new_tokens=4, on_arm=lambda: done.append(1))
    assert len(done) == len(arms)
    for arm, together in zip(arms, found, strict=True):
        alone = [completion.tokens for completion in write(tiny_llama, arm, TEXTS, max_new_tokens=4)]
        assert [completion.tokens for completion in together] == alone
