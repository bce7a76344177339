"""Clients that go before their answer is complete."""

from __future__ import annotations

import asyncio
import json

import pytest

from served import CHAT
from trimtab.engines.fake import FakeEngine
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings


@pytest.mark.parametrize("stream", [False, True])
def test_answer_of_a_client_that_has_gone_is_given_up(monkeypatch, stream):
    handles = []
    submit = FakeEngine.submit

    def noted(self, *args, **options):
        handles.append(submit(self, *args, **options))
        return handles[-1]

    monkeypatch.setattr(FakeEngine, "submit", noted)
    app = create_app(FakeEngine(), ServerSettings(model="fake", max_answer_tokens=100_000))
    body = json.dumps({**CHAT, "max_tokens": 100_000, "ignore_eos": True, "n": 2, "stream": stream}).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "scheme": "http",
        "server": ("127.0.0.1", 1),
        "client": ("127.0.0.1", 2),
    }

    async def run():
        sent, started = [], asyncio.Event()
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive():
            message = next(messages, None)
            if message is None:
                if stream:
                    await started.wait()
                while not handles:
                    await asyncio.sleep(0.01)
                return {"type": "http.disconnect"}
            return message

        async def send(message):
            sent.append(message)
            if len(sent) > 3:
                started.set()

        await asyncio.wait_for(app(scope, receive, send), 20)

    asyncio.run(run())
    assert len(handles) == 2
    for handle in handles:
        with pytest.raises(Exception, match="cancelled"):
            handle.result(10)
