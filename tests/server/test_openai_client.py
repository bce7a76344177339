"""The official ``openai`` package against a server with the default model."""

from __future__ import annotations

import json
from collections.abc import Iterator

import openai
import pytest
from pydantic import BaseModel

pytestmark = pytest.mark.slow
QUESTION = [{"role": "user", "content": "How was your day?"}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_chat_is_the_engines_answer(client, smollm2):
    answer = client.chat.completions.create(
        model="smollm2", messages=QUESTION, max_tokens=16, temperature=0, logprobs=True, top_logprobs=3
    )
    expected = smollm2.generate([QUESTION], max_new_tokens=16, logprobs=3)[0]
    (choice,) = answer.choices
    assert choice.message.content == expected.text
    assert [each.logprob for each in choice.logprobs.content] == [each.logprob for each in expected.logprobs]
    assert [len(each.top_logprobs) for each in choice.logprobs.content] == [3] * 16
    assert answer.usage.completion_tokens == 16


def test_stream_gives_the_same_text_and_usage(client, smollm2):
    chunks = list(
        client.chat.completions.create(
            model="smollm2",
            messages=QUESTION,
            max_tokens=16,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == smollm2.generate([QUESTION], max_new_tokens=16)[0].text
    assert chunks[-1].usage.completion_tokens == 16
    assert chunks[-2].choices[0].finish_reason == "length"


def test_steering_in_the_body_is_applied_and_counted(client, smollm2, happy):
    answer = client.chat.completions.create(
        model="smollm2", messages=QUESTION, max_tokens=16, temperature=0, extra_body={"steering": "happy:0.5"}
    )
    expected = smollm2.generate([QUESTION], steering=[(happy, 0.5)], max_new_tokens=16)[0]
    assert answer.choices[0].message.content == expected.text
    assert answer.trimtab["answers"][0]["receipt"]["tokens"] == expected.receipt.tokens > 0


def test_schema_is_kept(client):
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Invent a person."}],
        max_tokens=64,
        temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}},
        extra_body={"steering": "happy:0.5"},
    )
    person = json.loads(answer.choices[0].message.content)
    assert set(person) == {"name", "age"}
    assert answer.trimtab["answers"][0]["receipt"]["reason"] == "constrained"


@pytest.mark.parametrize("stream", [False, True])
def test_required_tool_is_called(client, stream):
    tool = {"type": "function", "function": {"name": "save_person", "parameters": PERSON}}
    options = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "Save Ann, who is 30."}],
        "max_tokens": 64,
        "temperature": 0,
        "tools": [tool],
        "tool_choice": "required",
    }
    if stream:
        with client.chat.completions.stream(**options) as events:
            answer = events.get_final_completion()
    else:
        answer = client.chat.completions.create(**options)
    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.function.name == "save_person"
    assert set(json.loads(call.function.arguments)) == {"name", "age"}


def test_mistake_is_an_error_of_the_package(client):
    with pytest.raises(openai.BadRequestError, match="column 1"):
        client.chat.completions.create(model="smollm2", messages=QUESTION, extra_body={"steering": "hapy:0.5"})
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.chat.completions.create(model="other", messages=QUESTION)


def test_models_are_listed(client):
    base, *presets = [model.id for model in client.models.list()]
    assert base == "smollm2"
    assert all(preset.startswith("smollm2:") for preset in presets)
    assert client.models.retrieve("smollm2").id == "smollm2"


def test_completions_continue_text(client, smollm2):
    answer = client.completions.create(model="smollm2", prompt="The sky is", max_tokens=8, temperature=0, logprobs=1)
    expected = smollm2.generate("The sky is", raw=True, max_new_tokens=8)
    assert answer.choices[0].text == expected.text
    assert len(answer.choices[0].logprobs.tokens) == 8


def test_response_is_the_engines_answer(client, smollm2):
    answer = client.responses.create(
        model="smollm2",
        input="How was your day?",
        max_output_tokens=16,
        temperature=0,
        top_logprobs=2,
        include=["message.output_text.logprobs"],
    )
    expected = smollm2.generate([QUESTION], max_new_tokens=16, logprobs=2)[0]
    assert answer.output_text == expected.text
    assert answer.status == "incomplete"
    assert answer.usage.output_tokens == 16
    logprobs = answer.output[0].content[0].logprobs
    assert [each.logprob for each in logprobs] == [each.logprob for each in expected.logprobs]


def test_response_is_streamed_and_steered(client, smollm2, happy):
    expected = smollm2.generate([QUESTION], steering=[(happy, 0.5)], max_new_tokens=16)[0]
    with client.responses.stream(
        model="smollm2",
        input="How was your day?",
        max_output_tokens=16,
        temperature=0,
        extra_body={"steering": "happy:0.5"},
    ) as stream:
        events = list(stream)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert events[-1].type == "response.incomplete"
    answer = events[-1].response
    assert text == answer.output_text == expected.text
    assert answer.trimtab["answers"][0]["receipt"]["tokens"] == expected.receipt.tokens > 0


def test_response_continues_another(client, smollm2):
    first = client.responses.create(model="smollm2", input="Hello!", max_output_tokens=12, temperature=0)
    second = client.responses.create(
        model="smollm2", input="And you?", previous_response_id=first.id, max_output_tokens=12, temperature=0
    )
    said = [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "And you?"},
    ]
    assert second.output_text == smollm2.generate([said], max_new_tokens=12)[0].text
    assert client.responses.retrieve(second.id).output_text == second.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


class Person(BaseModel):
    """What a response is parsed into."""

    name: str
    age: int


def test_response_is_parsed(client):
    answer = client.responses.parse(
        model="smollm2",
        input="Invent a person.",
        max_output_tokens=64,
        temperature=0,
        text_format=Person,
        extra_body={"steering": "happy:0.5"},
    )
    assert isinstance(answer.output_parsed, Person)
    assert answer.trimtab["answers"][0]["receipt"]["reason"] == "constrained"


@pytest.mark.parametrize("stream", [False, True])
def test_response_calls_a_required_tool(client, stream):
    options = {
        "model": "smollm2",
        "input": "Save Ann, who is 30.",
        "max_output_tokens": 64,
        "temperature": 0,
        "tools": [{"type": "function", "name": "save_person", "parameters": PERSON, "strict": True}],
        "tool_choice": "required",
    }
    if stream:
        with client.responses.stream(**options) as events:
            answer = events.get_final_response()
    else:
        answer = client.responses.create(**options)
    (call,) = answer.output
    assert (call.type, call.name) == ("function_call", "save_person")
    assert set(json.loads(call.arguments)) == {"name", "age"}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "saved"}
    after = client.responses.create(
        model="smollm2", input=[result], previous_response_id=answer.id, max_output_tokens=8, temperature=0
    )
    assert after.output_text


def test_decisions_are_the_engines_probabilities(client, smollm2, happy):
    questions = [
        {"type": "predicate", "name": "positive", "instructions": "The customer is satisfied."},
        {"type": "score", "instructions": "How satisfied?", "levels": [{"label": "not"}, {"label": "very"}]},
    ]
    good, bad = (
        client.decisions.create(model="smollm2", input=text, questions=questions)
        for text in ("I love this shop, it is wonderful!", "I hate this shop, it is terrible!")
    )
    assert good.answers[0].probability > bad.answers[0].probability
    prompt = "I love this shop, it is wonderful!\n\nThe customer is satisfied.\n\n"
    prompt += "Answer with yes if this is so, or with no if it is not."
    expected = smollm2.choose(prompt, ["yes", "no"]).probabilities[0]
    assert good.answers[0].probability == pytest.approx(expected, abs=1e-5)
    assert [row.label for row in good.answers[1].probabilities] == ["not", "very"]
    steered = client.decisions.create(
        model="smollm2", input="A bill.", questions=questions, extra_body={"steering": "happy:1", "steer": True}
    )
    assert steered.trimtab["answers"][0]["steering"] == "happy:1"


def test_decisions_are_made_beside_a_stream(client, smollm2):
    options = {"model": "smollm2", "input": "How was your day?", "max_output_tokens": 32, "temperature": 0}
    question = {"type": "predicate", "instructions": "The sky is blue."}
    with client.responses.create(**options, stream=True) as events:
        next(event for event in events if event.type == "response.output_text.delta")
        decision = client.decisions.create(
            model="smollm2", input="A fact.", questions=[question], extra_body={"steering": "happy:2", "steer": True}
        )
        last = list(events)[-1]
    assert 0 < decision.answers[0].probability < 1
    assert last.response.output[0].content[0].text == smollm2.generate([QUESTION], max_new_tokens=32)[0].text
