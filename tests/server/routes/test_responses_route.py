"""Responses."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from served import CHAT, Scripted, client_of
from trimtab.engines.constraints import Constraint
from trimtab.engines.generation import Generation, Mailbox
from trimtab.engines.protocol import StreamedToken, ThinkingMarkers
from trimtab.errors import SteeringError
from trimtab.server.app import create_app
from trimtab.server.errors import RequestError
from trimtab.server.keys import Key, digest_of
from trimtab.server.settings import ServerSettings
from trimtab.server.stored import ResponseStore, StoredResponse

ASK = {"model": "fake", "input": "Hello", "max_output_tokens": 12, "temperature": 0}
ADD = {"type": "function", "name": "add", "parameters": {"type": "object"}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
DEEP = json.loads('{"not":' * 70 + "{}" + "}" * 70)
EVENTS = TypeAdapter(ResponseStreamEvent)
# Keys that Open Responses wants to be there, even where they are null.
REQUIRED = [
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "incomplete_details",
    "model",
    "previous_response_id",
    "instructions",
    "output",
    "error",
    "tools",
    "tool_choice",
    "truncation",
    "parallel_tool_calls",
    "text",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "top_logprobs",
    "temperature",
    "reasoning",
    "usage",
    "max_output_tokens",
    "max_tool_calls",
    "store",
    "background",
    "service_tier",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
]


@pytest.fixture
def respond(client):
    """``respond(temperature=1)`` asks for a response, and returns the answer's JSON."""

    def ask(*, status=200, headers=None, **fields):
        answer = client.post("/v1/responses", json={**ASK, **fields}, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


def scripted(*texts, piece=3, markers=None):
    """Return a client of a server that answers with given texts, and its engine."""
    engine = Scripted(*texts, piece=piece, markers=markers)
    return client_of(engine), engine


def events_of(text):
    """Return the events of a stream, which must have their names and numbers."""
    *events, done, end = text.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    found = []
    for number, event in enumerate(events):
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        assert found[-1]["sequence_number"] == number
    return found


def stream(client, **fields):
    answer = client.post("/v1/responses", json={**ASK, "stream": True, **fields})
    assert answer.status_code == 200, answer.text
    return events_of(answer.text)


def text_of(response):
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


def test_answer_is_that_of_a_chat(respond, chat):
    answer, same = respond(), chat()
    assert text_of(answer) == same["choices"][0]["message"]["content"]
    assert answer["usage"]["input_tokens"] == same["usage"]["prompt_tokens"]
    assert answer["usage"]["total_tokens"] == same["usage"]["total_tokens"]
    assert answer["trimtab"] == same["trimtab"]
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["output"][0]["status"] == "incomplete"


def test_all_keys_are_there_and_of_the_official_types(respond):
    answer = respond(metadata={"a": "b"}, instructions="Be short.", tools=[ADD], tool_choice="none")
    assert not set(REQUIRED) - answer.keys()
    TypeAdapter(Response).validate_python(answer, strict=False)
    assert answer["metadata"] == {"a": "b"}
    assert answer["instructions"] == "Be short."
    assert answer["tools"][0]["name"] == "add"


def test_items_are_the_messages_of_a_chat(respond, chat):
    call = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}
    items = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": "One"}, {"type": "input_text", "text": " more"}]},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me see.", "annotations": [], "logprobs": []}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm"}]},
        call,
        {**call, "call_id": "c2"},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "3"}]},
    ]
    function = {"name": "add", "arguments": '{"a": 1}'}
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One more"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "tool_calls": [{"id": name, "type": "function", "function": function} for name in ("c1", "c2")],
        },
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
        {"role": "tool", "content": "3", "tool_call_id": "c2"},
    ]
    answer, same = respond(input=items, instructions="Be short."), chat(messages=messages)
    assert text_of(answer) == same["choices"][0]["message"]["content"]
    assert answer["usage"]["input_tokens"] == same["usage"]["prompt_tokens"]


def test_stream_adds_up_to_the_response(client, respond):
    fields = {"include": ["message.output_text.logprobs"], "top_logprobs": 2, "readings": ["happy"]}
    whole, events = respond(**fields), stream(client, **fields)
    for event in events:
        EVENTS.validate_python(event)
    kinds = [event["type"] for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    deltas = events[4:-4]
    assert "".join(event["delta"] for event in deltas) == events[-4]["text"] == text_of(whole)
    logprobs = [entry for event in deltas for entry in event["logprobs"]]
    (message,) = whole["output"]
    assert logprobs == message["content"][0]["logprobs"]
    assert [len(entry["top_logprobs"]) for entry in logprobs] == [2] * 12
    read = [score for event in deltas for score in event["trimtab"]["readings"]["happy"]]
    last = events[-1]["response"]
    assert read == last["trimtab"]["answers"][0]["readings"]["happy"]
    different = {"id", "created_at", "completed_at", "output"}
    assert {key: value for key, value in last.items() if key not in different} == {
        key: value for key, value in whole.items() if key not in different
    }
    assert last["output"] == [events[-2]["item"]]


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_thoughts_text_and_calls_are_items(piece):
    text = f"<think>Hm.</think>So {CALL}\n{CALL}"
    fields = {"tools": [ADD], "tool_choice": "auto"}
    think = ThinkingMarkers("<think>", "</think>")
    client, _ = scripted(text, text, piece=piece, markers=think)
    whole = client.post("/v1/responses", json={**ASK, **fields}).json()
    assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert whole["status"] == "completed"
    assert whole["output"][0]["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert text_of(whole).strip() == "So"
    assert [item["arguments"] for item in whole["output"][2:]] == ['{"a": 1}'] * 2
    events = stream(client, **fields)
    for event in events:
        EVENTS.validate_python(event)
    counts = Counter(event["type"] for event in events)
    assert counts["response.output_item.added"] == counts["response.output_item.done"] == 4
    assert counts["response.function_call_arguments.delta"] == counts["response.function_call_arguments.done"] == 2
    assert counts["response.content_part.added"] == counts["response.content_part.done"] == 2
    assert counts["response.reasoning_text.done"] == counts["response.output_text.done"] == 1
    items = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert items == events[-1]["response"]["output"]
    indices = [event["output_index"] for event in events if "output_index" in event]
    assert indices == sorted(indices)
    assert all(item["id"].startswith(kind) for item, kind in zip(items, ("rs", "msg", "fc", "fc"), strict=True))
    for one, other in pairwise(items):
        assert one["id"] != other["id"]


def test_thoughts_are_counted():
    client, _ = scripted("<think>abcdef</think>yes", piece=1, markers=ThinkingMarkers("<think>", "</think>"))
    usage = client.post("/v1/responses", json=ASK).json()["usage"]
    assert 6 <= usage["output_tokens_details"]["reasoning_tokens"] <= 6 + len("</think>")


def test_forced_call_is_an_item():
    client, engine = scripted('{"name": "add", "arguments": {"a": 2}}')
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "add"}]}
    other = {**ADD, "name": "other"}
    answer = client.post("/v1/responses", json={**ASK, "tools": [ADD, other], "tool_choice": choice}).json()
    (item,) = answer["output"]
    assert (item["name"], item["arguments"]) == ("add", '{"a": 2}')
    assert "other" not in engine.asked[0]["prompt"].text
    assert answer["tool_choice"] == choice


def test_schema_is_the_constraint():
    client, engine = scripted('{"name": "Ann"}')
    form = {"type": "json_schema", "name": "person", "schema": PERSON, "strict": True}
    answer = client.post("/v1/responses", json={**ASK, "text": {"format": form}}).json()
    assert engine.asked[0]["constraint"] == Constraint.json_schema(PERSON)
    assert answer["text"]["format"] == form


def test_previous_response_is_continued(client, respond, chat):
    first = respond(instructions="Be short.")
    second = respond(input="And?", previous_response_id=first["id"])
    messages = [
        *CHAT["messages"],
        {"role": "assistant", "content": text_of(first)},
        {"role": "user", "content": "And?"},
    ]
    same = chat(messages=messages)
    assert text_of(second) == same["choices"][0]["message"]["content"]
    assert second["usage"]["input_tokens"] == same["usage"]["prompt_tokens"]  # the instructions are not carried over
    assert client.get(f"/v1/responses/{second['id']}").json() == second
    third = stream(client, input="Why?", previous_response_id=second["id"])[-1]["response"]
    assert client.get(f"/v1/responses/{third['id']}").json() == third
    assert third["usage"]["input_tokens"] > second["usage"]["input_tokens"]


def test_calls_are_in_what_is_continued():
    client, engine = scripted(f"So {CALL}", "Three.")
    first = client.post("/v1/responses", json={**ASK, "tools": [ADD]}).json()
    call = first["output"][-1]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "3"}
    fields = {**ASK, "tools": [ADD], "previous_response_id": first["id"], "input": [result]}
    assert text_of(client.post("/v1/responses", json=fields).json()) == "Three."
    asked = engine.asked[1]["prompt"].text
    assert asked.index(CALL) < asked.index("<tool_response>\n3\n</tool_response>")


def test_deleted_and_unstored_responses_are_gone(client, respond):
    first, unstored = respond(), respond(store=False)
    assert (first["store"], unstored["store"]) == (True, False)
    assert client.get(f"/v1/responses/{unstored['id']}").status_code == 404
    assert client.delete(f"/v1/responses/{first['id']}").json() == {
        "id": first["id"],
        "object": "response",
        "deleted": True,
    }
    assert client.get(f"/v1/responses/{first['id']}").status_code == 404
    assert client.delete(f"/v1/responses/{first['id']}").status_code == 404
    error = respond(previous_response_id=first["id"], status=400)["error"]
    assert (error["param"], error["code"]) == ("previous_response_id", "previous_response_not_found")


def test_responses_are_each_clients_own(fake):
    names = {"me": "tt-the-key-of-mine-own", "you": "tt-another-key-altogether"}
    keys = tuple(Key(name, digest_of(key)) for name, key in names.items())
    client = TestClient(create_app(fake, ServerSettings(model="fake"), keys=keys), base_url="http://localhost")
    me, you = ({"authorization": f"Bearer {key}"} for key in names.values())
    mine = client.post("/v1/responses", json=ASK, headers=me).json()
    path = f"/v1/responses/{mine['id']}"
    assert client.get(path, headers=me).json() == mine
    assert client.get(path, headers=you).status_code == client.delete(path, headers=you).status_code == 404
    answer = client.post("/v1/responses", json={**ASK, "previous_response_id": mine["id"]}, headers=you)
    assert answer.json()["error"]["code"] == "previous_response_not_found"


def test_store_is_bounded():
    def stored(name, text=""):
        return StoredResponse({"id": name, "text": text}, ())

    store = ResponseStore(most=2, max_bytes=1_000)
    for name in "abc":
        store.put("me", stored(name))
    store.put("you", stored("a"))
    with pytest.raises(RequestError, match="no response"):
        store.get("me", "a")
    assert store.get("me", "b").response["id"] == "b"
    store.put("me", stored("d"))
    with pytest.raises(RequestError):
        store.get("me", "c")  # b was used later
    store.put("you", stored("large", "x" * 950))
    with pytest.raises(RequestError):
        store.get("you", "a")
    store.put("you", stored("too large", "x" * 1_001))
    assert store.get("you", "large").response["id"] == "large"


def test_steering_comes_from_body_header_or_preset(respond):
    def steering(**fields):
        return respond(**fields)["trimtab"]["answers"][0]["receipt"]["steering"]

    header = {"x-trimtab-steering": "happy:0.25"}
    assert steering() == "none"
    assert steering(headers=header) == "happy:0.25"
    assert steering(headers=header, steering="happy:2") == "happy:2"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"role": "system", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input"),
        ({"input": [3]}, "input"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"conversation": "x"}, "conversation"),
        ({"n": 2}, "n"),
        ({"messages": []}, "messages"),
        ({"tools": [{"type": "web_search"}]}, "tools.0"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "add"}}, "tool_choice"),
        (
            {
                "tools": [ADD],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "x"}]},
            },
            "tool_choice",
        ),
        ({"text": {"format": {"type": "json_schema"}}}, "text"),
        ({"text": {"format": {"type": "json_schema", "schema": DEEP}}}, "text"),
        ({"include": ["everything"]}, "include"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"readings": ["nobody"]}, "readings"),
        ({"steering": "hapy:1"}, "steering"),
    ],
)
def test_wrong_field_is_named(respond, fields, param):
    error = respond(status=400, **fields)["error"]
    assert error["param"].startswith(param)


def test_failed_stream_ends_with_its_event():
    class Failing(Scripted):
        def submit(self, prompt, **options):
            mailbox = Mailbox()
            mailbox.put(StreamedToken(1, "So"))
            mailbox.close(SteeringError("the pass has failed"))
            return Generation(mailbox)

    last = stream(client_of(Failing()))[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"]["message"]
