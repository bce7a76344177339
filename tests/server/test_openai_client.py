"""The official ``openai`` package against a server with the default model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

import trimtab.vectors
from served import listening
from trimtab.engines.transformers import TransformersEngine
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings
from trimtab.vectors import ControlVector

pytestmark = pytest.mark.slow
QUESTION = [{"role": "user", "content": "How was your day?"}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def happy() -> ControlVector:
    """The vector that comes with trimtab."""
    return ControlVector.load(Path(trimtab.vectors.__file__).parent / "zoo" / "happy.safetensors")


@pytest.fixture(scope="module")
def client(
    smollm2: TransformersEngine, happy: ControlVector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    folder = tmp_path_factory.mktemp("served")
    happy.save(folder / "happy.safetensors")
    app = create_app(smollm2, ServerSettings(model="smollm2", vectors=Path(folder)))
    with (
        listening(app) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
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
