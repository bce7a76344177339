"""Many requests at once: clients that vanish, slow readers and malformed bodies change no answer by a bit."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from pathlib import Path

import httpx2
import pytest

import trimtab.vectors
from served import chunks_of, listening
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings

REQUESTS = int(os.environ.get("TRIMTAB_CROWD", "40"))
VECTORS = ("happy", "formal", "trippy", "polite")
KINDS = ("whole", "stream", "slow", "vanish", "malformed")


@pytest.mark.slow
def test_answers_in_a_crowd_are_those_of_each_alone(smollm2, tmp_path):
    zoo = Path(trimtab.vectors.__file__).parent / "zoo"
    for name in VECTORS:
        shutil.copy(zoo / f"{name}.safetensors", tmp_path)
    draw = random.Random(0)
    bodies = [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": "Hi " * draw.randint(1, 12)}],
            "steering": {name: round(draw.uniform(-1, 1), 2) for name in draw.sample(VECTORS, draw.randint(0, 3))},
            "max_tokens": draw.randint(1, 24),
            "temperature": draw.choice([0, 1]),
            "seed": n,
            "logprobs": True,
        }
        for n in range(REQUESTS)
    ]
    kinds = [draw.choice(KINDS) for _ in bodies]
    settings = ServerSettings(model="tiny", vectors=tmp_path, presets=tmp_path, waiting=REQUESTS)
    with listening(create_app(smollm2, settings)) as address:
        url = f"{address}/v1/chat/completions"

        async def ask(client, body, kind):
            if kind == "malformed":
                assert (await client.post(url, content=b'{"model": ' + os.urandom(16))).status_code == 400
                return None
            if kind == "whole":
                (choice,) = (await client.post(url, json=body)).json()["choices"]
                return choice["message"]["content"], [each["logprob"] for each in choice["logprobs"]["content"]]
            text = ""
            async with client.stream("POST", url, json={**body, "stream": True}) as answer:
                assert answer.status_code == 200
                async for piece in answer.aiter_text():
                    text += piece
                    if kind == "vanish":
                        return None
                    if kind == "slow":
                        await asyncio.sleep(0.05)
            choices = [chunk["choices"][0] for chunk in chunks_of(text)]
            probabilities = [e["logprob"] for c in choices if c["logprobs"] for e in c["logprobs"]["content"]]
            return "".join(choice["delta"].get("content") or "" for choice in choices), probabilities

        async def ask_all():
            limits = httpx2.Limits(max_connections=REQUESTS)
            async with httpx2.AsyncClient(timeout=300, limits=limits) as client:
                return await asyncio.gather(*map(ask, [client] * REQUESTS, bodies, kinds))

        async def ask_each():
            async with httpx2.AsyncClient(timeout=300) as client:
                return [await ask(client, body, "whole") for body in bodies]

        together = asyncio.run(ask_all())
        alone = asyncio.run(ask_each())
        metrics = httpx2.get(f"{address}/metrics").text
    completed = [(each, alone[n]) for n, each in enumerate(together) if each is not None]
    assert len(completed) > REQUESTS / 3
    assert [each for each, _ in completed] == [other for _, other in completed]
    assert "\ntrimtab_num_requests_running 0.0" in metrics
    assert "\ntrimtab_num_requests_waiting 0.0" in metrics
