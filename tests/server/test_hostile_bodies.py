"""Bodies that no client means well."""

from __future__ import annotations

import json
import time

import pytest

PLAIN = '{"model": "fake", "max_tokens": 3, "messages": [{"role": "user", "content": "Hi"}]%s}'
TOOL = ', "tools": [{"type": "function", "function": {"name": "a", "parameters": %s}}]'


def nested(depth, opening='{"a":', closing="}"):
    return opening * depth + "1" + closing * depth


DEEP = {
    f"{name} {depth}": template % form(depth)
    for depth in (50, 900, 100_000)
    for name, template, form in (
        ("object", ', "steering": %s', nested),
        ("list", ', "steering": %s', lambda depth: nested(depth, "[", "]")),
        ("group", ', "steering": "%s"', lambda depth: "(" * depth + "happy:1" + ")" * depth),
        ("condition", ', "steering": "happy:1 when %s"', lambda depth: "(" * depth + "happy > 1" + ")" * depth),
        ("schema", ', "response_format": {"type": "json_schema", "json_schema": {"schema": %s}}', nested),
        ("form", ', "structured_outputs": {"json": %s}', nested),
        ("tool", TOOL, nested),
        ("call", TOOL + ', "tool_choice": "required"', nested),
    )
}
STRANGE = {
    "surrogate in a name": ', "\\ud800": 1',
    "surrogate in steering": ', "steering": {"\\ud800": 1}',
    "surrogate in a reading": ', "readings": ["\\ud800"]',
    "surrogate in a choice": ', "structured_outputs": {"choice": ["\\ud800"]}',
    "surrogate in a tool": TOOL % '{"description": "\\ud800"}',
    "NaN": ', "temperature": NaN',
    "infinity": ', "steering": {"happy": 1e999}',
    "5,000 digits": f', "seed": {"9" * 5000}',
    "ten thousand stops": f', "stop": {json.dumps(["x"] * 10_000)}',
    "hundreds of terms": f', "steering": "{" + ".join(["happy:0.1"] * 300)}", "normalize": 0.3',
    "hundreds of JSON terms": f', "steering": {{"terms": {json.dumps([{"vector": "happy", "strength": 1}] * 300)}}}',
    "lists of terms": f', "steering": {json.dumps([" + ".join(["happy:0.1"] * 300)] * 30)}',
    "a million answers": ', "n": 1000000',
    "image": ', "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]',
    "remote schema": ', "response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://x"}}}',
    "template": ', "chat_template": "{% for x in range(10**9) %}{% endfor %}"',
    "template's options": ', "chat_template_kwargs": {"enable_thinking": [1]}',
}


@pytest.mark.parametrize("case", [*STRANGE, *(case for case in DEEP if not case.startswith("tool 50"))])
def test_strange_body_is_refused_at_once(client, case):
    begin = time.monotonic()
    answer = client.post("/v1/chat/completions", content=PLAIN % {**STRANGE, **DEEP}[case])
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert len(error["message"]) < 4_000
    assert "Traceback" not in answer.text
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"\xff\xfe", b"{", b'{"model": "fake"}'])
def test_body_that_is_no_request_is_refused(client, body):
    answer = client.post("/v1/chat/completions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_place_of_a_mistake_names_fields_alone(client):
    def param(**fields):
        body = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}], **fields}
        return client.post("/v1/chat/completions", json=body).json()["error"]["param"]

    assert param(steering="x" * 20_000) == "steering"
    assert param(tool_choice={"type": "function"}) == "tool_choice.function"
    assert param(messages=[{"role": "user", "content": [{"type": "text"}]}]).startswith("messages.0.content")
    assert param(tools=[{"type": "function", "function": {"name": "a b"}}]) == "tools.0.function.name"
