"""Decisions."""

from __future__ import annotations

import math

import pytest
from openai.types import Decision
from pydantic import TypeAdapter

from trimtab.behaviours import Message

ANGRY = {"type": "predicate", "name": "angry", "instructions": "The customer is angry."}
TOPIC = {
    "type": "choice",
    "instructions": "What is it about?",
    "choices": [{"value": "billing", "description": "questions about money"}, {"value": "other"}, {"value": True}],
}
URGENT = {
    "type": "score",
    "name": "urgency",
    "instructions": [{"type": "input_text", "text": "How urgent is it?"}],
    "levels": [{"label": "low"}, {"label": "middle"}, {"label": "high"}],
}
ASK = {"model": "fake", "input": "My bill is wrong!", "questions": [ANGRY, TOPIC, URGENT]}


@pytest.fixture
def decide(client):
    """``decide(steer=True)`` asks for decisions, and returns the answer's JSON."""

    def ask(*, status=200, headers=None, **fields):
        answer = client.post("/v1/decisions", json={**ASK, **fields}, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


def prompt(question):
    return (Message("user", f"My bill is wrong!\n\n{question}"),)


PREDICATE = prompt("The customer is angry.\n\nAnswer with yes if this is so, or with no if it is not.")


def test_answers_are_the_engines_probabilities(decide, fake):
    answer = decide()
    TypeAdapter(Decision).validate_python(answer)
    angry, topic, urgent = answer["answers"]
    expected = fake.choose([PREDICATE], ["yes", "no"])[0]
    assert angry == {"type": "predicate", "name": "angry", "probability": expected.probabilities[0]}
    asked = "What is it about?\n\n- billing: questions about money\n- other\n- true\n\n"
    asked += "Answer with one of these: billing, other, true."
    expected = fake.choose([prompt(asked)], ["billing", "other", "true"])[0]
    assert [row["value"] for row in topic["probabilities"]] == ["billing", "other", True]
    assert [row["probability"] for row in topic["probabilities"]] == list(expected.probabilities)
    best = max(topic["probabilities"], key=lambda row: row["probability"])
    assert (topic["choice"], topic["confidence"], topic["name"]) == (best["value"], best["probability"], None)
    asked = "How urgent is it?\n\nAnswer with one of these, from the lowest to the highest: low, middle, high."
    expected = fake.choose([prompt(asked)], ["low", "middle", "high"])[0]
    assert [(row["value"], row["label"]) for row in urgent["probabilities"]] == [(0, "low"), (1, "middle"), (2, "high")]
    assert urgent["score"] == pytest.approx(expected.probabilities[1] + 2 * expected.probabilities[2])
    assert answer["trimtab"]["answers"][2]["logprobs"] == list(expected.logprobs)
    assert answer["usage"]["input_tokens"] > 3 * len("My bill is wrong!")
    assert answer["usage"]["output_tokens"] == 0


def test_many_questions_are_answered_in_their_order(decide):
    questions = [{**ANGRY, "name": str(n), "instructions": f"Is it {n % 3}?"} for n in range(20)]
    questions[7] = {**TOPIC, "name": "7"}
    answers = decide(questions=questions)["answers"]
    assert [answer["name"] for answer in answers] == [str(n) for n in range(20)]
    assert answers[7]["type"] == "choice"
    assert answers[0] == {**answers[3], "name": "0"} == {**answers[18], "name": "0"}
    assert answers[0]["probability"] != answers[1]["probability"]


def test_decisions_are_unsteered_unless_asked(decide, fake, happy_vector):
    plain, left = decide(questions=[ANGRY]), decide(questions=[ANGRY], steering="happy:4")
    assert left["answers"] == plain["answers"]
    assert [each["trimtab"]["answers"][0]["reason"] for each in (plain, left)] == [None, "decision"]
    expected = fake.choose([PREDICATE], ["yes", "no"], steering=[(happy_vector, 4.0)])[0]
    for options in ({"steering": "happy:4"}, {"headers": {"x-trimtab-steering": "happy:4"}}):
        steered = decide(questions=[ANGRY], steer=True, **options)
        assert steered["answers"][0]["probability"] == expected.probabilities[0]
        assert steered["trimtab"]["answers"][0]["steering"] == "happy:4"
    assert steered["answers"] != plain["answers"]


def test_question_follows_a_chat(decide, fake):
    items = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
    chat = (
        Message("user", "Hi"),
        Message("assistant", "Hello!"),
        Message("user", PREDICATE[0].content.partition("\n\n")[2]),
    )
    expected = fake.choose([chat], ["yes", "no"])[0].probabilities[0]
    assert decide(input=items, questions=[ANGRY])["answers"][0]["probability"] == expected


def test_logprobs_are_of_whole_answers(decide):
    for own in decide()["trimtab"]["answers"]:
        assert sum(map(math.exp, own["logprobs"])) <= 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"questions": []}, "questions"),
        ({"questions": [ANGRY] * 401}, "questions"),
        ({"questions": [{**ANGRY, "type": "essay"}]}, "questions.0"),
        ({"questions": [{**TOPIC, "choices": [{"value": "a"}]}]}, "questions.0"),
        ({"questions": [{**TOPIC, "choices": [{"value": "a"}, {"value": "a"}]}]}, "questions.0"),
        ({"questions": [{**TOPIC, "choices": [{"value": "true"}, {"value": True}]}]}, "questions.0"),
        ({"questions": [{**TOPIC, "choices": [{"value": "x" * 1025}, {"value": "a"}]}]}, "questions.0"),
        ({"questions": [{**URGENT, "levels": [{"label": str(n)} for n in range(11)]}]}, "questions.0"),
        ({"input": []}, "input"),
        ({"stream": True}, "stream"),
        ({"readings": ["happy"]}, "readings"),
        ({"steering": "hapy:1"}, "steering"),
    ],
)
def test_wrong_field_is_named(decide, fields, param):
    assert decide(status=400, **fields)["error"]["param"].startswith(param)
