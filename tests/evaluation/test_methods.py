"""What a vector is compared with: what each method puts before a question, and where its dial comes to stand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from sample_vectors import calibration_record
from tiny_models import vector_for
from trimtab import Behaviour, Steering, Term
from trimtab.behaviours import Message, neutral_prompts
from trimtab.behaviours.pairs import persona_instructions
from trimtab.evaluation.interventions import (
    DIAL_TOLERANCE,
    EXAMPLES,
    Intervention,
    added_tokens,
    both_way,
    changes_of,
    equal_way,
    few_shot_way,
    system_way,
    vector_bytes,
    vector_way,
)
from trimtab.evaluation.metrics.divergence import arm_kl
from trimtab.training.progress import ignore
from trimtab.training.questions import KlSet, ask
from trimtab.training.search import SIGNS

TEXTS = ("Hello!", "What is rain?", "Tell me of a walk.")
BUDGET = 0.4


@pytest.fixture(scope="module")
def happy_behaviour() -> Behaviour:
    return Behaviour.load("happy")


@pytest.fixture(scope="module")
def vector(tiny_llama):
    return replace(vector_for(tiny_llama, layers=[1, 2]), calibration=calibration_record(budget=BUDGET))


@pytest.fixture(scope="module")
def questions(tiny_llama):
    return ask(tiny_llama, TEXTS, None, in_character=0, max_new_tokens=5, progress=ignore)


@pytest.fixture(scope="module")
def kl(tiny_llama, questions) -> KlSet:
    return KlSet(tiny_llama, questions)


def kl_of(engine, questions, arm: Intervention) -> float:
    return float(np.average(arm_kl(engine, arm, questions), weights=[len(question.answer) for question in questions]))


def test_the_vector_itself_is_dialled_to_plus_and_minus_one(vector):
    way = vector_way(vector, budget=BUDGET)
    assert way.strengths == {"+": 1.0, "-": -1.0}
    for key, sign in SIGNS.items():
        assert way.arms[key] == Intervention(steering=Steering((Term(vector, sign),)))
    assert way.dial
    assert way.stored_bytes == 2 * 32 * 4 == vector_bytes(vector)
    assert way.about == "added at layers 1 to 2, at 0.4 nat per token"


def test_only_layers_that_are_steered_count_as_stored(vector):
    light = replace(vector, weights={1: 0.0, 2: 1.0})
    assert vector_bytes(light) == 32 * 4


def test_system_prompts_ask_for_the_poles_in_one_phrasing_after_another(happy_behaviour):
    way = system_way(happy_behaviour, questions=6)
    for number in range(6):
        told = persona_instructions(happy_behaviour, number)
        plus, minus = (way.arms[key].chat(number, "Hello!") for key in SIGNS)
        assert plus == (Message("system", told.positive), Message("user", "Hello!"))
        assert minus == (Message("system", told.negative), Message("user", "Hello!"))
    assert len({opening[0].content for opening in way.arms["+"].openings}) >= 4
    sizes = [len(opening[0].content) for arm in way.arms.values() for opening in arm.openings]
    assert way.stored_bytes == int(np.mean(sizes))
    assert way.strengths is None
    assert not way.dial


def test_examples_are_questions_that_are_not_asked_with_answers_in_character(tiny_llama, happy_behaviour):
    way = few_shot_way(tiny_llama, happy_behaviour, answer_tokens=6)
    shown = neutral_prompts().calibration[:EXAMPLES]
    assert not set(shown) & set(neutral_prompts().held_out)
    for key, pole in (("+", "positive"), ("-", "negative")):
        (opening,) = way.arms[key].openings
        assert [message.role for message in opening] == ["user", "assistant"] * EXAMPLES
        assert [message.content for message in opening[0::2]] == list(shown)
        for number, message in enumerate(opening[1::2]):
            system = getattr(persona_instructions(happy_behaviour, number), pole)
            chat = (Message("system", system), Message("user", shown[number]))
            (answer,) = tiny_llama.generate([chat], max_new_tokens=6)
            assert answer.text.startswith(message.content)
    assert way.strengths is None


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
def test_an_example_that_was_cut_off_ends_with_its_last_whole_sentence(
    tiny_llama, happy_behaviour, monkeypatch, text, kept
):
    monkeypatch.setattr(tiny_llama, "decode", lambda _: text)
    way = few_shot_way(tiny_llama, happy_behaviour, answer_tokens=2)
    assert {message.content for message in way.arms["-"].openings[0][1::2]} == {kept}


@pytest.mark.parametrize("kls", [{"+": 0.1, "-": 0.5}, {"+": 0.9, "-": 0.05}])
def test_the_vector_is_dialled_to_what_the_prompts_spend(tiny_llama, questions, kl, vector, kls):
    way = equal_way(kl, vector, kls, partial(changes_of, info=tiny_llama.info))
    assert way is not None
    for key, sign in SIGNS.items():
        assert way.strengths[key] * sign > 0
        assert way.arms[key] == Intervention(steering=Steering((Term(vector, way.strengths[key]),)))
        assert kl_of(tiny_llama, questions, way.arms[key]) == pytest.approx(kls[key], rel=DIAL_TOLERANCE)
    assert f"{way.strengths['+']:+.2f} and {way.strengths['-']:+.2f}" in way.about


@pytest.mark.parametrize("kls", [{"+": 0.4, "-": 0.01}, {"+": 0.0, "-": 0.4}, {"+": 0.4, "-": 500.0}])
def test_where_prompts_spend_next_to_nothing_or_what_no_dial_can_there_is_no_such_row(tiny_llama, kl, vector, kls):
    assert equal_way(kl, vector, kls, partial(changes_of, info=tiny_llama.info)) is None


def test_prompt_and_vector_together_spend_the_budget_where_the_prompt_leaves_room(vector, happy_behaviour):
    system, kls = system_way(happy_behaviour, questions=len(TEXTS)), {"+": 0.2, "-": 0.3}

    def spent(arm: Intervention) -> float:
        """As if both simply added up, the vector at its square."""
        (term,) = arm.steering.terms
        key = "+" if term.strength > 0 else "-"
        assert arm.openings == system.arms[key].openings
        assert term.vector is vector
        return kls[key] + 1.3 * term.strength**2

    way = both_way(system, vector, kls, spent, budget=BUDGET)
    for key, sign in SIGNS.items():
        assert way.strengths[key] * sign > 0
        assert way.arms[key].openings == system.arms[key].openings
        assert way.arms[key].steering == Steering((Term(vector, way.strengths[key]),))
        assert spent(way.arms[key]) == pytest.approx(BUDGET, rel=DIAL_TOLERANCE)
    assert way.stored_bytes == system.stored_bytes + vector_bytes(vector)


def test_where_the_prompt_spends_it_all_half_of_the_vector_is_added(vector, happy_behaviour):
    def unasked(_: Intervention) -> float:
        raise AssertionError("nothing is to be dialled")

    system = system_way(happy_behaviour, questions=2)
    way = both_way(system, vector, {"+": 0.39, "-": 3.0}, unasked, budget=BUDGET)
    assert way.strengths == {"+": 0.5, "-": -0.5}


def test_where_no_strength_spends_the_rest_half_of_the_vector_is_added_too(vector, happy_behaviour):
    system = system_way(happy_behaviour, questions=2)
    way = both_way(system, vector, {"+": 0.1, "-": 0.1}, lambda _: 0.2, budget=BUDGET)
    assert way.strengths == {"+": 0.5, "-": -0.5}


def test_added_tokens_are_the_mean_over_questions_and_sides(tiny_llama, happy_behaviour, vector):
    assert added_tokens(tiny_llama, vector_way(vector, budget=BUDGET), TEXTS) == 0.0
    way = system_way(happy_behaviour, questions=len(TEXTS))
    turns = [len(f"[system]{arm.openings[n][0].content}\n") for arm in way.arms.values() for n in range(len(TEXTS))]
    assert added_tokens(tiny_llama, way, TEXTS) == pytest.approx(np.mean(turns))  # a token a byte
