"""Admission: bounded places, clients in turn, and what is counted."""

from __future__ import annotations

import asyncio

import pytest
from starlette.testclient import TestClient

from served import CHAT
from trimtab.server.admission import Admission
from trimtab.server.errors import RequestError
from trimtab.server.keys import CALLER, Key


async def ask(admission: Admission, client: str, log: list[str], *, answers: int = 1, name: str | None = None) -> None:
    CALLER.set(Key(client, b""))
    leave = await admission.enter(answers)
    log.append(name or client)
    await asyncio.sleep(0)
    leave()
    leave()  # a second time changes nothing


def test_clients_take_turns() -> None:
    async def work() -> list[str]:
        admission, log = Admission(places=1, waiting=10), list[str]()
        leave = await admission.enter(1)
        tasks = [asyncio.create_task(ask(admission, client, log)) for client in "aaaaab"]
        await asyncio.sleep(0)
        assert (admission.running, admission.waiting) == (1, 6)
        leave()
        await asyncio.gather(*tasks)
        assert (admission.running, admission.waiting) == (0, 0)
        return log

    assert asyncio.run(work()) == ["a", "b", "a", "a", "a", "a"]


def test_more_than_may_wait_are_refused() -> None:
    async def work() -> None:
        admission = Admission(places=2, waiting=1)
        leaves = [await admission.enter(1), await admission.enter(1)]
        waits = asyncio.create_task(admission.enter(5))  # more than there are places: all of them
        await asyncio.sleep(0)
        with pytest.raises(RequestError) as refused:
            await admission.enter(1)
        assert (refused.value.http_status, refused.value.retry_after) == (429, 5)
        leaves[0]()
        await asyncio.sleep(0)
        assert not waits.done()
        leaves[1]()
        (await waits)()
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(work())


def test_who_leaves_the_queue_takes_no_place() -> None:
    async def work() -> None:
        admission = Admission(places=1, waiting=3)
        leave = await admission.enter(1)
        gone, late, other = (asyncio.create_task(admission.enter(1)) for _ in range(3))
        await asyncio.sleep(0)
        gone.cancel()
        leave()  # lets the second one in, which goes at the same moment
        late.cancel()
        await asyncio.sleep(0)
        (await other)()
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(work())


def test_answers_are_counted(client: TestClient) -> None:
    client.post("/v1/chat/completions", json={**CHAT, "n": 2, "steering": "happy:0.5"})
    lines = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if not line.startswith("#"))
    assert float(lines["trimtab_generation_tokens_total"]) > 0
    assert float(lines["trimtab_prompt_tokens_total"]) > 0
    assert float(lines["trimtab_steered_tokens_total"]) > 0
    assert sum(float(n) for name, n in lines.items() if name.startswith("trimtab_request_success_total")) == 2
    assert float(lines["trimtab_time_to_first_token_seconds_count"]) == 2
    assert float(lines["trimtab_num_requests_running"]) == 0
