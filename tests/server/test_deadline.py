"""Answers that take longer than the server lets them."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from served import CHAT
from trimtab.engines.fake import FakeEngine
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings

LONG = {**CHAT, "max_tokens": 100_000, "ignore_eos": True}


@pytest.fixture
def hasty():
    """A client of a server that gives answers a twentieth of a second."""
    settings = ServerSettings(model="fake", deadline=0.05, max_answer_tokens=100_000)
    return TestClient(create_app(FakeEngine(), settings), base_url="http://localhost")


def test_late_answer_is_given_up(hasty):
    answer = hasty.post("/v1/chat/completions", json=LONG)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "deadline_passed"


def test_late_stream_ends_with_an_error(hasty):
    answer = hasty.post("/v1/chat/completions", json={**LONG, "stream": True})
    assert answer.status_code == 200
    *_, last, empty = answer.text.split("\n\n")
    assert empty == ""
    error = json.loads(last.removeprefix("data: "))["error"]
    assert (error["code"], error["type"]) == ("deadline_passed", "server_error")
