"""Interventions: chats, writing, scoring, and the pairs that a vector is compared with."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from by_hand import added_by_hand, greedily, logits_of, steering_by_hand
from evaluation.writing import write
from sample_vectors import calibration_record
from tiny_models import BY_NAME, vector_for
from trimtab import Behaviour, Steering, Term
from trimtab.behaviours import Message, neutral_prompts
from trimtab.behaviours.pairs import persona_instructions
from trimtab.evaluation.interventions import (
    EXAMPLES,
    KL_TOLERANCE,
    MAX_BATCHED,
    Intervention,
    added_tokens,
    changes_of,
    combined_pair,
    equal_kl_pair,
    few_shot_pair,
    score,
    system_prompt_pair,
    vector_bytes,
    vector_pair,
    write_all,
)
from trimtab.evaluation.metrics.text_quality import kl_per_question
from trimtab.training.progress import ignore
from trimtab.training.questions import KlSet, ask
from trimtab.training.search import SIGNS

TEXTS = ("Hello!", "What is rain?", "Tell me of a walk.")
OPENINGS = (
    (Message("system", "Be brief."),),
    (Message("user", "Hi."), Message("assistant", "Hello, you.")),
)
KINDS = ("base", "opened", "steered", "opened and steered")


def intervention_of(engine, kind: str) -> Intervention:
    steering = Steering.of([(vector_for(engine, layers=[1, 2]), -1.0)])
    return Intervention(OPENINGS if "opened" in kind else (), steering if "steered" in kind else Steering())


def terms_of(intervention: Intervention):
    return [(term.vector, term.strength) for term in intervention.steering.terms]


def blocks_of(engine):
    return BY_NAME["llama"].blocks(engine.model)


@contextmanager
def turned_head(engine):
    """Stand-in for an adapter: the head with its weights negated."""
    head = engine.model.lm_head.weight
    with torch.no_grad():
        head.mul_(-1.0)
        try:
            yield
        finally:
            head.mul_(-1.0)


def test_chat_without_openings_is_the_question():
    assert Intervention().chat(5, "Hello!") == (Message("user", "Hello!"),)


def test_chat_openings_take_turns():
    intervention = Intervention(OPENINGS)
    for number in range(5):
        assert intervention.chat(number, "Hello!") == (*OPENINGS[number % 2], Message("user", "Hello!"))


@pytest.mark.parametrize("kind", KINDS)
def test_write_equals_greedy_reference(tiny_llama, kind):
    intervention = intervention_of(tiny_llama, kind)
    found = write(tiny_llama, intervention, TEXTS, max_new_tokens=5)
    for number, (text, completion) in enumerate(zip(TEXTS, found, strict=True)):
        prompt = tiny_llama.encode(tiny_llama.render(intervention.chat(number, text)))
        assert completion.tokens == greedily(tiny_llama, blocks_of(tiny_llama), prompt, 5, *terms_of(intervention))


def test_write_opening_and_steering_change_answers(tiny_llama):
    written = {kind: write(tiny_llama, intervention_of(tiny_llama, kind), TEXTS, max_new_tokens=5) for kind in KINDS}
    assert len({tuple(completion.tokens for completion in found) for found in written.values()}) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_score_equals_one_at_a_time_reference(tiny_llama, kind):
    intervention = intervention_of(tiny_llama, kind)
    answers = [[tiny_llama.encode(text)[1:] for text in pair] for pair in (("Hi", "Go away"), ("Wet.",), ("a", "b"))]
    found = score(tiny_llama, intervention, TEXTS, answers)
    for number, (text, given) in enumerate(zip(TEXTS, answers, strict=True)):
        prompt = tiny_llama.encode(tiny_llama.render(intervention.chat(number, text)))
        assert found.tokens[number].tolist() == [len(answer) for answer in given]
        for answer, logprob in zip(given, found.logprob[number], strict=True):
            with steering_by_hand(blocks_of(tiny_llama), *terms_of(intervention)):
                logits = logits_of(tiny_llama.model, [*prompt, *answer])[len(prompt) - 1 : -1]
            slow = logits.double().log_softmax(-1)[torch.arange(len(answer)), list(answer)].sum()
            assert logprob == pytest.approx(float(slow), abs=1e-3)


def test_activate_is_on_inside_and_off_afterwards(tiny_llama):
    intervention = Intervention(activate=lambda: turned_head(tiny_llama))
    answers = [[completion.tokens] for completion in write(tiny_llama, Intervention(), TEXTS, max_new_tokens=3)]
    before = score(tiny_llama, Intervention(), TEXTS, answers)
    with turned_head(tiny_llama):
        turned = [completion.tokens for completion in write(tiny_llama, Intervention(), TEXTS, max_new_tokens=3)]
    assert [completion.tokens for completion in write(tiny_llama, intervention, TEXTS, max_new_tokens=3)] == turned
    scored = score(tiny_llama, intervention, TEXTS, answers)
    after = score(tiny_llama, Intervention(), TEXTS, answers)
    for was, unlike, again in zip(before.logprob, scored.logprob, after.logprob, strict=True):
        assert unlike[0] < was[0] - 1.0
        assert again[0] == was[0]


def test_changes_of_two_terms_are_by_layer_in_order(tiny_llama):
    one, other = vector_for(tiny_llama, layers=[1, 2]), vector_for(tiny_llama, seed=1, layers=[2, 3])
    changes = changes_of(Steering((Term(one, 0.5), Term(other, -1.0))), tiny_llama.info)
    first, second = added_by_hand((one, 0.5)), added_by_hand((other, -1.0))
    expected = {1: [first[1]], 2: [first[2], second[2]], 3: [second[3]]}
    assert {layer: len(found) for layer, found in changes.items()} == {1: 1, 2: 2, 3: 1}
    for layer, found in changes.items():
        for change, by_hand in zip(found, expected[layer], strict=True):
            np.testing.assert_allclose(change.added, by_hand, atol=1e-6)


def test_changes_of_no_steering_are_empty(tiny_llama):
    assert changes_of(Steering(), tiny_llama.info) == {}


def test_write_all_together_equals_alone(tiny_llama):
    plain = [intervention_of(tiny_llama, kind) for kind in KINDS] * 2
    interventions = [
        *plain[: MAX_BATCHED + 1],
        Intervention(activate=lambda: turned_head(tiny_llama)),
        *plain[MAX_BATCHED + 1 :],
    ]
    done = []
    found = write_all(tiny_llama, interventions, TEXTS, max_new_tokens=4, on_step=lambda: done.append(1))
    assert len(done) == len(interventions)
    for intervention, together in zip(interventions, found, strict=True):
        alone = [completion.tokens for completion in write(tiny_llama, intervention, TEXTS, max_new_tokens=4)]
        assert [completion.tokens for completion in together] == alone


# The pairs -----------------------------------------------------------------------------------------------------------

BUDGET = 0.4


@pytest.fixture(scope="module")
def happy_behaviour() -> Behaviour:
    return Behaviour.load("happy")


@pytest.fixture(scope="module")
def vector(tiny_llama):
    return replace(vector_for(tiny_llama, layers=[1, 2]), calibration=calibration_record(budget=BUDGET))


@pytest.fixture(scope="module")
def questions(tiny_llama):
    return ask(tiny_llama, TEXTS, None, personas=0, max_new_tokens=5, progress=ignore)


@pytest.fixture(scope="module")
def kl(tiny_llama, questions) -> KlSet:
    return KlSet(tiny_llama, questions)


def strengths(pair):
    return {key: intervention.strength for key, intervention in pair.items()}


def kl_of(engine, questions, intervention: Intervention) -> float:
    return float(
        np.average(
            kl_per_question(engine, intervention, questions), weights=[len(question.answer) for question in questions]
        )
    )


def test_vector_pair_has_strength_plus_and_minus_one(vector):
    pair = vector_pair(vector, budget=BUDGET)
    assert strengths(pair) == {"+": 1.0, "-": -1.0}
    for key, sign in SIGNS.items():
        assert pair[key] == Intervention(steering=Steering((Term(vector, sign),)))
    assert pair["+"].stored_bytes == 2 * 32 * 4 == vector_bytes(vector)
    assert pair["+"].about == "added at layers 1 to 2, at 0.4 nat per token"


def test_vector_bytes_counts_steered_layers_only(vector):
    light = replace(vector, weights={1: 0.0, 2: 1.0})
    assert vector_bytes(light) == 32 * 4


def test_system_prompt_pair_cycles_through_phrasings(happy_behaviour):
    pair = system_prompt_pair(happy_behaviour, questions=6)
    for number in range(6):
        instructions = persona_instructions(happy_behaviour, number)
        plus, minus = (pair[key].chat(number, "Hello!") for key in SIGNS)
        assert plus == (Message("system", instructions.positive), Message("user", "Hello!"))
        assert minus == (Message("system", instructions.negative), Message("user", "Hello!"))
    assert len({opening[0].content for opening in pair["+"].openings}) >= 4
    sizes = [len(opening[0].content) for intervention in pair.values() for opening in intervention.openings]
    assert pair["+"].stored_bytes == int(np.mean(sizes))
    assert strengths(pair) == {"+": None, "-": None}


def test_few_shot_pair_uses_unasked_questions_in_character(tiny_llama, happy_behaviour):
    pair = few_shot_pair(tiny_llama, happy_behaviour, answer_tokens=6)
    shown = neutral_prompts().calibration[:EXAMPLES]
    assert not set(shown) & set(neutral_prompts().held_out)
    for key, pole in (("+", "positive"), ("-", "negative")):
        (opening,) = pair[key].openings
        assert [message.role for message in opening] == ["user", "assistant"] * EXAMPLES
        assert [message.content for message in opening[0::2]] == list(shown)
        for number, message in enumerate(opening[1::2]):
            system = getattr(persona_instructions(happy_behaviour, number), pole)
            chat = (Message("system", system), Message("user", shown[number]))
            (answer,) = tiny_llama.generate([chat], max_new_tokens=6)
            assert answer.text.startswith(message.content)
    assert strengths(pair) == {"+": None, "-": None}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("I am glad. It is sunny! And I was", "I am glad. It is sunny!"),
        ("Why? Because", "Why?"),
        ("I am so glad that", "I am so glad that"),
        (". And so", ". And so"),
        ("", ""),
    ],
)
def test_few_shot_answer_cut_off_ends_with_whole_sentence(tiny_llama, happy_behaviour, monkeypatch, text, kept):
    monkeypatch.setattr(tiny_llama, "decode", lambda _: text)
    pair = few_shot_pair(tiny_llama, happy_behaviour, answer_tokens=2)
    assert {message.content for message in pair["-"].openings[0][1::2]} == {kept}


@pytest.mark.parametrize("kls", [{"+": 0.1, "-": 0.5}, {"+": 0.9, "-": 0.05}])
def test_equal_kl_pair_spends_the_kl_of_the_prompts(tiny_llama, questions, kl, vector, kls):
    pair = equal_kl_pair(kl, vector, kls, tiny_llama.info)
    assert pair is not None
    for key, sign in SIGNS.items():
        assert pair[key].strength * sign > 0
        assert pair[key] == Intervention(steering=Steering((Term(vector, pair[key].strength),)))
        assert kl_of(tiny_llama, questions, pair[key]) == pytest.approx(kls[key], rel=KL_TOLERANCE)
    assert f"{pair['+'].strength:+.2f} and {pair['-'].strength:+.2f}" in pair["+"].about


@pytest.mark.parametrize("kls", [{"+": 0.4, "-": 0.01}, {"+": 0.0, "-": 0.4}, {"+": 0.4, "-": 500.0}])
def test_equal_kl_pair_unreachable_kl_returns_none(tiny_llama, kl, vector, kls):
    assert equal_kl_pair(kl, vector, kls, tiny_llama.info) is None


def test_combined_pair_with_room_spends_the_budget(vector, happy_behaviour):
    system, kls = system_prompt_pair(happy_behaviour, questions=len(TEXTS)), {"+": 0.2, "-": 0.3}

    def spent(intervention: Intervention) -> float:
        """Return the sum of both, the vector at its square."""
        (term,) = intervention.steering.terms
        key = "+" if term.strength > 0 else "-"
        assert intervention.openings == system[key].openings
        assert term.vector is vector
        return kls[key] + 1.3 * term.strength**2

    pair = combined_pair(system, vector, kls, spent, budget=BUDGET)
    for key, sign in SIGNS.items():
        assert pair[key].strength * sign > 0
        assert pair[key].openings == system[key].openings
        assert pair[key].steering == Steering((Term(vector, pair[key].strength),))
        assert spent(pair[key]) == pytest.approx(BUDGET, rel=KL_TOLERANCE)
    assert pair["+"].stored_bytes == system["+"].stored_bytes + vector_bytes(vector)


def test_combined_pair_without_room_adds_half(vector, happy_behaviour):
    def unasked(_: Intervention) -> float:
        raise AssertionError("nothing is to be dialled")

    system = system_prompt_pair(happy_behaviour, questions=2)
    pair = combined_pair(system, vector, {"+": 0.39, "-": 3.0}, unasked, budget=BUDGET)
    assert strengths(pair) == {"+": 0.5, "-": -0.5}


def test_combined_pair_unreachable_budget_adds_half(vector, happy_behaviour):
    system = system_prompt_pair(happy_behaviour, questions=2)
    pair = combined_pair(system, vector, {"+": 0.1, "-": 0.1}, lambda _: 0.2, budget=BUDGET)
    assert strengths(pair) == {"+": 0.5, "-": -0.5}


def test_added_tokens_is_mean_over_questions_and_poles(tiny_llama, happy_behaviour, vector):
    assert added_tokens(tiny_llama, vector_pair(vector, budget=BUDGET), TEXTS) == 0.0
    pair = system_prompt_pair(happy_behaviour, questions=len(TEXTS))
    turns = [
        len(f"[system]{intervention.openings[n][0].content}\n")
        for intervention in pair.values()
        for n in range(len(TEXTS))
    ]
    assert added_tokens(tiny_llama, pair, TEXTS) == pytest.approx(np.mean(turns))  # a token a byte
