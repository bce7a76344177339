"""The official ``anthropic`` package against a server with the default model."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import pytest

pytestmark = pytest.mark.slow
QUESTION = [{"role": "user", "content": "How was your day?"}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def claude(address: str) -> Iterator[anthropic.Anthropic]:
    """A client of Anthropic's API."""
    with anthropic.Anthropic(base_url=address, api_key="none", max_retries=0) as client:
        yield client


def test_message_is_the_engines_answer(claude, smollm2, happy):
    answer = claude.messages.create(
        model="smollm2", messages=QUESTION, max_tokens=16, extra_body={"steering": "happy:0.5", "temperature": 0}
    )
    expected = smollm2.generate([QUESTION], steering=[(happy, 0.5)], max_new_tokens=16)[0]
    assert answer.content[0].text == expected.text
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 16
    assert answer.trimtab["answers"][0]["receipt"]["tokens"] == expected.receipt.tokens > 0
    counted = claude.messages.count_tokens(model="smollm2", messages=QUESTION)
    assert counted.input_tokens == answer.usage.input_tokens


def test_message_is_streamed(claude, smollm2):
    options = {"model": "smollm2", "messages": QUESTION, "max_tokens": 16, "extra_body": {"temperature": 0}}
    with claude.messages.stream(**options) as stream:
        text = "".join(stream.text_stream)
        answer = stream.get_final_message()
    assert text == answer.content[0].text == smollm2.generate([QUESTION], max_new_tokens=16)[0].text
    assert answer.stop_reason == "max_tokens"


@pytest.mark.parametrize("stream", [False, True])
def test_message_calls_a_tool(claude, stream):
    options = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "Save Ann, who is 30."}],
        "max_tokens": 64,
        "tools": [{"name": "save_person", "description": "Save a person.", "input_schema": PERSON}],
        "tool_choice": {"type": "tool", "name": "save_person"},
        "extra_body": {"temperature": 0},
    }
    if stream:
        with claude.messages.stream(**options) as events:
            answer = events.get_final_message()
    else:
        answer = claude.messages.create(**options)
    (call,) = answer.content
    assert (call.name, answer.stop_reason) == ("save_person", "tool_use")
    assert set(call.input) == {"name", "age"}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "saved"}
    messages = [
        *options["messages"],
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    after = claude.messages.create(model="smollm2", messages=messages, max_tokens=8)
    assert after.content[0].text


def test_mistake_is_an_error_of_the_package(claude):
    with pytest.raises(anthropic.BadRequestError, match="column 1"):
        claude.messages.create(model="smollm2", messages=QUESTION, max_tokens=8, extra_body={"steering": "hapy:0.5"})
    with pytest.raises(anthropic.NotFoundError, match="no model"):
        claude.messages.create(model="other", messages=QUESTION, max_tokens=8)
