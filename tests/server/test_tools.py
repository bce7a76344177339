"""Tools over HTTP, with a tiny random model that follows constraints."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from served import Scripted, chunks_of
from trimtab.engines.protocol import ThinkingMarkers
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings

TOOL = {
    "type": "function",
    "function": {
        "name": "paint",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"enum": ["red", "blue"]}, "coats": {"type": "integer", "maximum": 3}},
            "required": ["colour", "coats"],
            "additionalProperties": False,
        },
    },
}
THINK = ThinkingMarkers("<think>", "</think>")
OTHER = {"type": "function", "function": {"name": "wait", "parameters": {"type": "object", "maxProperties": 0}}}
BODY = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "Paint!"}],
    "max_tokens": 120,
    "temperature": 1,
    "seed": 1,
    "tools": [TOOL, OTHER],
}


@pytest.fixture(scope="module")
def tools_client(tiny_llama):
    return TestClient(create_app(tiny_llama, ServerSettings(model="tiny")), base_url="http://localhost")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "paint"}}])
def test_forced_call_follows_the_schema_of_a_tool(tools_client, choice):
    body = {**BODY, "tool_choice": choice}
    (whole,) = tools_client.post("/v1/chat/completions", json=body).json()["choices"]
    assert whole["finish_reason"] == "tool_calls"
    assert whole["message"]["content"] is None
    (call,) = whole["message"]["tool_calls"]
    assert call["function"]["name"] in (("paint", "wait") if choice == "required" else ("paint",))
    if call["function"]["name"] == "paint":
        assert set(json.loads(call["function"]["arguments"])) == {"colour", "coats"}
    chunks = chunks_of(tools_client.post("/v1/chat/completions", json={**body, "stream": True}).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    (streamed,) = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert streamed["function"] == call["function"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_free_answer_without_a_call_is_text(tools_client):
    (choice,) = tools_client.post("/v1/chat/completions", json=BODY).json()["choices"]
    assert choice["finish_reason"] in ("stop", "length")
    assert "tool_calls" not in choice["message"]


@pytest.mark.parametrize("parallel", [None, False])
def test_calls_in_a_free_answer_are_read(parallel):
    call = '<tool_call>\n{"name":"paint","arguments":{"colour":"red","coats":2}}\n</tool_call>'
    engine = Scripted(*[f"I will. {call}\n{call}"] * 2)
    client = TestClient(create_app(engine, ServerSettings(model="tiny")), base_url="http://localhost")
    body = {**BODY, "parallel_tool_calls": parallel}
    (whole,) = client.post("/v1/chat/completions", json=body).json()["choices"]
    assert whole["finish_reason"] == "tool_calls"
    assert whole["message"]["content"] == "I will."
    functions = [each["function"] for each in whole["message"]["tool_calls"]]
    assert functions == [{"name": "paint", "arguments": '{"colour": "red", "coats": 2}'}] * 2
    constraint = engine.asked[0]["constraint"]
    assert [tag.trigger for tag in constraint.parts] == ["<tool_call>"] * 2
    assert constraint.once == (parallel is False)
    chunks = chunks_of(client.post("/v1/chat/completions", json={**body, "stream": True}).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    streamed = [each for delta in deltas for each in delta.get("tool_calls", ())]
    assert [each["function"] for each in streamed] == functions
    assert [each["index"] for each in streamed] == [0, 1]
    assert "".join(delta.get("content", "") for delta in deltas).strip() == "I will."


def test_thoughts_are_apart_from_the_answer():
    text = "<think>\nHm.</think>\n\nYes."
    client = TestClient(
        create_app(Scripted(text, text, markers=THINK), ServerSettings(model="tiny")), base_url="http://localhost"
    )
    body = {key: value for key, value in BODY.items() if key != "tools"}
    message = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]
    assert message["content"] == "Yes."
    assert message["reasoning"] == message["reasoning_content"] == "Hm."
    chunks = chunks_of(client.post("/v1/chat/completions", json={**body, "stream": True}).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == "Yes."
    assert "".join(delta.get("reasoning", "") for delta in deltas) == "Hm."


def test_tools_and_a_form_exclude_each_other(tools_client):
    answer = tools_client.post("/v1/chat/completions", json={**BODY, "response_format": {"type": "json_object"}})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools"


def test_json_is_valid_and_may_be_streamed(tools_client):
    body = {key: value for key, value in BODY.items() if key != "tools"}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": TOOL["function"]["parameters"]}}
    answer = tools_client.post("/v1/chat/completions", json={**body, "response_format": form}).json()
    text = answer["choices"][0]["message"]["content"]
    assert json.loads(text)["coats"] <= 3
    chunks = chunks_of(
        tools_client.post("/v1/chat/completions", json={**body, "response_format": form, "stream": True}).text
    )
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text


@pytest.mark.parametrize(
    "outputs",
    [{"json": {"not": {"type": "string"}}}, {"regex": "("}, {"regex": "a", "choice": ["b"]}, {"json": '{"a":'}, {}],
)
def test_impossible_form_is_a_400(tools_client, outputs):
    body = {key: value for key, value in BODY.items() if key != "tools"}
    answer = tools_client.post("/v1/chat/completions", json={**body, "structured_outputs": outputs})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_constraint"
