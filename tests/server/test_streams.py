"""Many streaming clients at once, over a real connection."""

from __future__ import annotations

import asyncio
from threading import Event

import httpx2
import pytest

from served import CHAT, chunks_of, listening
from trimtab.engines.fake import FakeEngine
from trimtab.engines.generation import Generation, Mailbox, gathered_wakeups
from trimtab.engines.protocol import Completion, MarkedPrompt, Receipt, StreamedToken
from trimtab.server.answers import Answers, batches
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings

CLIENTS = 16
END = Completion("", (), "stop", MarkedPrompt("", (), (), (), (), 0), Receipt("none", (), 0))


@pytest.fixture
def served(llama, random_vector, tmp_path):
    vectors = {f"v{n}": random_vector(llama, size=2.0, name=f"v{n}", seed=n) for n in range(4)}
    for name, vector in vectors.items():
        vector.save(tmp_path / f"{name}.safetensors")
    with listening(create_app(llama, ServerSettings(model="tiny", vectors=tmp_path))) as address:
        yield address, vectors


def test_answers_of_many_streams_are_those_of_each_alone(served, llama):
    address, vectors = served
    prompts = [[{"role": "user", "content": "Hi" * (n % 5 + 1)}] for n in range(CLIENTS)]
    mixes = [{} if n % 5 == 4 else {f"v{n % 4}": 0.5 + n / 10, "v0": -0.3} for n in range(CLIENTS)]

    async def ask(client, prompt, mix):
        body = {"model": "tiny", "messages": prompt, "steering": mix, "max_tokens": 12, "temperature": 0}
        answer = await client.post(f"{address}/v1/chat/completions", json={**body, "stream": True})
        chunks = chunks_of(answer.text)
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        return text, chunks[-1]["trimtab"]["answers"][0]["receipt"]["steering"]

    async def ask_all():
        async with httpx2.AsyncClient(timeout=60) as client:
            return await asyncio.gather(*map(ask, [client] * CLIENTS, prompts, mixes))

    for (text, steering), prompt, mix in zip(asyncio.run(ask_all()), prompts, mixes, strict=True):
        terms = [(vectors[name], strength) for name, strength in mix.items()]
        expected = llama.generate([prompt], steering=terms, max_new_tokens=12)[0]
        assert text == expected.text
        assert steering == expected.receipt.steering


def test_waiting_answer_is_listened_to_once():
    waiting, busy = Mailbox(), Mailbox()
    answers = Answers((), (Generation(waiting), Generation(busy)))

    async def feed():
        for _ in range(50):
            await asyncio.sleep(0.001)
            busy.put(StreamedToken(1, "x"))
        assert len(waiting._listeners) == 1
        waiting.close(END)
        busy.close(END)

    async def read():
        feeding = asyncio.create_task(feed())
        count = sum([len(events) async for events in batches(answers)])
        await feeding
        return count

    assert asyncio.run(read()) == 52


def test_tokens_of_one_pass_wake_their_loop_once(monkeypatch):
    mailboxes = [Mailbox() for _ in range(4)]
    answers = [Answers((), (Generation(mailbox),)) for mailbox in mailboxes]

    async def read(one):
        return sum([len(events) async for events in batches(one)])

    async def read_all():
        loop = asyncio.get_running_loop()
        wakeups = []
        soon = loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda call: (wakeups.append(call), soon(call)))
        reading = asyncio.gather(*map(read, answers))
        for _ in range(3):
            await asyncio.sleep(0.01)
            with gathered_wakeups():
                for mailbox in mailboxes:
                    mailbox.put(StreamedToken(1, "x"))
        await asyncio.sleep(0.01)
        with gathered_wakeups():
            for mailbox in mailboxes:
                mailbox.close(END)
        return await reading, len(wakeups)

    assert asyncio.run(read_all()) == ([4, 4, 4, 4], 4)


def test_slow_constraints_do_not_hold_up_other_requests(monkeypatch):
    compiling = Event()
    engine = FakeEngine()
    submit = FakeEngine.submit

    def slow(self, prompt, *, constraint=None, **options):
        if constraint is not None:
            assert compiling.wait(20)
        return submit(self, prompt, constraint=constraint, **options)

    monkeypatch.setattr(FakeEngine, "submit", slow)
    with listening(create_app(engine, ServerSettings(model="fake"))) as address:

        async def ask(client, **fields):
            return await client.post(f"{address}/v1/chat/completions", json={**CHAT, **fields})

        async def ask_all():
            async with httpx2.AsyncClient(timeout=20) as client:
                form = {"structured_outputs": {"choice": ["yes", "no"]}}
                slow_ones = [asyncio.create_task(ask(client, **form)) for _ in range(12)]
                await asyncio.sleep(0.1)
                plain = await ask(client)
                waiting = not any(task.done() for task in slow_ones)
                compiling.set()
                return plain, waiting, await asyncio.gather(*slow_ones)

        plain, waiting, slow_ones = asyncio.run(ask_all())
    assert waiting
    assert [answer.status_code for answer in (plain, *slow_ones)] == [200] * 13
