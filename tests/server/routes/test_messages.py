"""Messages of Anthropic's API."""

from __future__ import annotations

import json

import pytest

from served import Scripted, client_of
from trimtab.engines.constraints import Constraint
from trimtab.engines.generation import Generation, Mailbox
from trimtab.engines.protocol import StreamedToken, ThinkingMarkers
from trimtab.errors import SteeringError

ASK = {"model": "fake", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12, "temperature": 0}
ADD = {"name": "add", "description": "Add.", "input_schema": {"type": "object"}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@pytest.fixture
def send(client):
    """``send(temperature=1)`` asks for a message, and returns the answer's JSON."""

    def ask(*, status=200, headers=None, **fields):
        answer = client.post("/v1/messages", json={**ASK, **fields}, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


def stream(client, **fields):
    """Return the events of a stream, which must have their names."""
    answer = client.post("/v1/messages", json={**ASK, "stream": True, **fields})
    assert answer.status_code == 200, answer.text
    *events, end = answer.text.split("\n\n")
    assert end == ""
    found = []
    for event in events:
        name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def blocks_of(events):
    """Return the blocks that a stream's events add up to, in the way of the official package."""
    blocks = []
    for event in events:
        if event["type"] == "content_block_start":
            assert event["index"] == len(blocks)
            blocks.append(dict(event["content_block"]))
            partial = ""
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(blocks) - 1
            delta = event["delta"]
            if delta["type"] == "input_json_delta":
                partial += delta["partial_json"]
                blocks[-1]["input"] = json.loads(partial)
            else:
                name = delta["type"].removesuffix("_delta")
                blocks[-1][name] += delta[name]
    return blocks


def test_answer_is_that_of_a_chat(send, chat):
    answer, same = send(), chat()
    (block,) = answer["content"]
    assert block == {"type": "text", "text": same["choices"][0]["message"]["content"], "citations": None}
    assert (answer["type"], answer["role"], answer["model"]) == ("message", "assistant", "fake")
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("max_tokens", None)
    assert answer["usage"]["input_tokens"] == same["usage"]["prompt_tokens"]
    assert answer["usage"]["output_tokens"] == 12
    assert answer["trimtab"] == same["trimtab"]


def test_blocks_are_the_messages_of_a_chat(client, send, chat):
    use = {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "One", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "x"},
                {"type": "text", "text": "Let me see."},
                use,
                {**use, "id": "t2"},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "2"},
                {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "3"}]},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]
    function = {"name": "add", "arguments": '{"a": 1}'}
    same = chat(
        messages=[
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "One"},
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [{"id": name, "type": "function", "function": function} for name in ("t1", "t2")],
            },
            {"role": "tool", "content": "2", "tool_call_id": "t1"},
            {"role": "tool", "content": "3", "tool_call_id": "t2"},
            {"role": "user", "content": "And now?"},
        ]
    )
    answer = send(messages=messages, system=[{"type": "text", "text": "Be short."}])
    assert answer["content"][0]["text"] == same["choices"][0]["message"]["content"]
    assert answer["usage"]["input_tokens"] == same["usage"]["prompt_tokens"]
    fields = {"model": "fake", "messages": messages, "system": "Be short."}
    counted = client.post("/v1/messages/count_tokens", json=fields).json()
    assert counted == {"input_tokens": same["usage"]["prompt_tokens"]}


def test_stream_adds_up_to_the_message(client, send):
    fields = {"readings": ["happy"], "steering": "happy:0.5"}
    whole, events = send(**fields), stream(client, **fields)
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert blocks_of(events) == whole["content"]
    start, last = events[0]["message"], events[-2]
    assert (start["content"], start["stop_reason"]) == ([], None)
    assert start["usage"]["input_tokens"] == whole["usage"]["input_tokens"]
    assert last["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert last["usage"] == whole["usage"]
    assert last["trimtab"] == whole["trimtab"]
    read = [score for event in events[2:-3] for score in event["trimtab"]["readings"]["happy"]]
    assert read == whole["trimtab"]["answers"][0]["readings"]["happy"]


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_thoughts_text_and_calls_are_blocks(piece):
    text = f"<think>Hm.</think>So {CALL}\n{CALL}"
    client = client_of(Scripted(text, text, piece=piece, markers=ThinkingMarkers("<think>", "</think>")))
    whole = client.post("/v1/messages", json={**ASK, "tools": [ADD]}).json()
    assert [block["type"] for block in whole["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert whole["content"][0]["thinking"] == "Hm."
    assert [block["input"] for block in whole["content"][2:]] == [{"a": 1}] * 2
    assert whole["stop_reason"] == "tool_use"
    events = stream(client, tools=[ADD])
    for mine, other in zip(blocks_of(events), whole["content"], strict=True):
        assert {**mine, "id": None} == {**other, "id": None}
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert starts[2]["input"] == {}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "add"}])
def test_forced_call_is_a_block(choice):
    engine = Scripted('{"name": "add", "arguments": {"a": 2}}')
    fields = {**ASK, "tools": [ADD, {**ADD, "name": "other"}], "tool_choice": choice}
    (block,) = client_of(engine).post("/v1/messages", json=fields).json()["content"]
    assert (block["name"], block["input"]) == ("add", {"a": 2})
    assert ("other" in engine.asked[0]["prompt"].text) == (choice["type"] == "any")


def test_schema_is_the_constraint():
    engine = Scripted('{"name": "Ann"}')
    config = {"format": {"type": "json_schema", "schema": PERSON}}
    client_of(engine).post("/v1/messages", json={**ASK, "output_config": config})
    assert engine.asked[0]["constraint"] == Constraint.json_schema(PERSON)


def test_stop_sequence_is_named(send):
    text = send()["content"][0]["text"]
    answer = send(stop_sequences=[text[4:6]])
    assert answer["content"][0]["text"] == text[: text.index(text[4:6])]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", text[4:6])


def test_steering_comes_from_body_header_or_preset(send):
    def steering(**fields):
        return send(**fields)["trimtab"]["answers"][0]["receipt"]["steering"]

    header = {"x-trimtab-steering": "happy:0.25"}
    assert steering() == "none"
    assert steering(headers=header) == "happy:0.25"
    assert steering(headers=header, steering="happy:2") == "happy:2"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages.0.content"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools.0"),
        ({"tools": [ADD], "tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tools": [ADD], "output_config": {"format": {"type": "json_schema", "schema": PERSON}}}, "tools"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"container": "x"}, "container"),
        ({"steering": "hapy:1"}, "steering"),
        ({"readings": ["nobody"]}, "readings"),
    ],
)
def test_errors_have_anthropics_shape(send, fields, param):
    answer = send(status=400, **fields)
    assert answer["type"] == "error"
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["param"].startswith(param)
    assert answer["error"]["message"]


def test_unknown_model_is_404(send):
    assert send(status=404, model="other")["error"]["type"] == "not_found_error"


def test_other_routes_keep_their_shape_of_errors(chat):
    assert "type" not in chat(status=400, nonsense=1)


def test_failed_stream_ends_with_an_error():
    class Failing(Scripted):
        def submit(self, prompt, **options):
            mailbox = Mailbox()
            mailbox.put(StreamedToken(1, "So"))
            mailbox.close(SteeringError("the pass has failed"))
            return Generation(mailbox)

    last = stream(client_of(Failing()))[-1]
    assert last["type"] == "error"
    assert "the pass has failed" in last["error"]["message"]
