"""KL between two ways of asking, beside obvious references."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from by_hand import logits_of, steering_by_hand
from tiny_models import BY_NAME, vector_for
from trimtab import Steering, Term
from trimtab.behaviours import Message, neutral_prompts
from trimtab.errors import SteeringError
from trimtab.evaluation.interventions import Intervention, changes_of
from trimtab.evaluation.metrics.text_quality import kl_of_tables, kl_per_question
from trimtab.training.progress import ignore
from trimtab.training.questions import KlSet, ask

TEXTS = ("Hello!", "What is rain?", "Tell me of a walk.")


@pytest.fixture(scope="module")
def questions(tiny_llama):
    return ask(tiny_llama, TEXTS, None, personas=0, max_new_tokens=5, progress=ignore)


def by_hand(engine, base_prompt, prompt, answer):
    """Mean KL, the other side read after another prompt: two whole passes and the definition."""
    base, other = (
        logits_of(engine.model, [*asked, *answer]).double().log_softmax(-1)[len(asked) - 1 : -1]
        for asked in (base_prompt, prompt)
    )
    return float((base.exp() * (base - other)).sum(-1).mean())


def test_kl_of_base_is_zero(tiny_llama, questions):
    found = kl_per_question(tiny_llama, Intervention(), questions)
    assert found.shape == (len(TEXTS),)
    assert (found == 0.0).all()


def test_kl_reads_opening_before_the_same_answer(tiny_llama, questions):
    openings = (
        (Message("system", "Be brief."),),
        (Message("user", "Hi."), Message("assistant", "Hello, you.")),
    )
    found = kl_per_question(tiny_llama, Intervention(openings), questions)
    for number, question in enumerate(questions):
        chat = (*openings[number % 2], Message("user", question.text))
        prompt = tiny_llama.encode(tiny_llama.render(chat))
        slow = by_hand(tiny_llama, question.prompt, prompt, question.answer)
        assert found[number] == pytest.approx(slow, rel=1e-4)
        assert found[number] > 1e-3


@pytest.mark.parametrize("strength", [1.0, -0.4])
def test_kl_of_steering_equals_calibration(tiny_llama, questions, strength):
    steering = Steering.of([(vector_for(tiny_llama, layers=[1, 2]), strength)])
    check_against_kl_set(tiny_llama, steering, questions)


def test_kl_on_default_model_equals_calibration(smollm2):
    questions = ask(smollm2, neutral_prompts().held_out[:2], None, personas=0, max_new_tokens=6, progress=ignore)
    steering = Steering.of([(vector_for(smollm2, layers=[12, 13], size=0.3), 1.0)])
    check_against_kl_set(smollm2, steering, questions)


def check_against_kl_set(engine, steering, questions):
    tokens = np.array([len(question.answer) for question in questions])
    found = kl_per_question(engine, Intervention(steering=steering), questions)
    together = KlSet(engine, questions).measure(changes_of(steering, engine.info))
    assert float(found @ tokens) / tokens.sum() == pytest.approx(together, rel=1e-4)
    assert together > 0.01


def test_kl_opening_and_steering_act_together(tiny_llama, questions):
    vector = vector_for(tiny_llama, layers=[2])
    opening = (Message("system", "Be brief."),)
    found = kl_per_question(tiny_llama, Intervention((opening,), Steering.of([(vector, 1.0)])), questions[:1])
    question = questions[0]
    prompt = tiny_llama.encode(tiny_llama.render((*opening, Message("user", question.text))))
    base = logits_of(tiny_llama.model, [*question.prompt, *question.answer])[len(question.prompt) - 1 : -1]
    with steering_by_hand(BY_NAME["llama"].blocks(tiny_llama.model), (vector, 1.0)):
        other = logits_of(tiny_llama.model, [*prompt, *question.answer])[len(prompt) - 1 : -1]
    p, q = base.double().log_softmax(-1), other.double().log_softmax(-1)
    assert found[0] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-4)


def test_kl_adapter_is_on_for_the_intervention_only(tiny_llama, questions):
    """Halve the head's weights in place of an adapter; the base is read without it."""
    head = tiny_llama.model.lm_head.weight

    @contextmanager
    def halved():
        with torch.no_grad():
            head.mul_(0.5)
            try:
                yield
            finally:
                head.mul_(2.0)

    found = kl_per_question(tiny_llama, Intervention(activate=halved), questions)
    for question, kl in zip(questions, found, strict=True):
        rows = slice(len(question.prompt) - 1, -1)
        logits = logits_of(tiny_llama.model, [*question.prompt, *question.answer])[rows].double()
        p, q = logits.log_softmax(-1), (0.5 * logits).log_softmax(-1)
        assert kl == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-4)


def test_kl_steering_that_needs_a_request_is_refused(tiny_llama, questions):
    steering = Steering((Term(vector_for(tiny_llama), 1.0, tokens="generated"),))
    with pytest.raises(SteeringError, match="call generate"):
        kl_per_question(tiny_llama, Intervention(steering=steering), questions)


def test_kl_impossible_tokens_add_nothing():
    base = np.log(np.array([[0.25, 0.75, 1.0]], dtype=np.float32))
    base[0, 2] = -np.inf
    other = np.log(np.array([[0.5, 0.5, 1.0]], dtype=np.float32))
    other[0, 2] = -np.inf
    wanted = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    np.testing.assert_allclose(kl_of_tables(base, other), [wanted], rtol=1e-6)
