"""Operations: fairness, pace, readiness, logs, and an orderly end."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from starlette.testclient import TestClient
from typer.main import get_command

from served import CHAT, chunks_of, listening
from trimtab.cli import app as cli_app
from trimtab.engines.fake import FakeEngine
from trimtab.engines.generation import Generation, Mailbox, Workload
from trimtab.engines.protocol import Completion, MarkedPrompt, Receipt, StreamedToken
from trimtab.errors import CancelledGenerationError, OutputError
from trimtab.server.admission import Admission
from trimtab.server.app import create_app
from trimtab.server.errors import RequestError
from trimtab.server.keys import CALLER, Key, digest_of, environment_key, read_keys
from trimtab.server.limits import Pace
from trimtab.server.listening import listen
from trimtab.server.metrics import Metrics, watch
from trimtab.server.records import RECORD, Record
from trimtab.server.runlog import RunLog
from trimtab.server.settings import ServerSettings

KEYS = (Key("a", digest_of("tt-the-first-key")), Key("b", digest_of("tt-the-second-key")))
PROMPT = MarkedPrompt("", (), (), (), (), 0)
LONG = {**CHAT, "max_tokens": 100_000, "ignore_eos": True}


@pytest.fixture
def generations(monkeypatch: pytest.MonkeyPatch) -> list[Generation]:
    """All answers that are begun."""
    begun: list[Generation] = []
    submit = FakeEngine.submit

    def noted(self: FakeEngine, *args: Any, **options: Any) -> Generation:
        begun.append(submit(self, *args, **options))
        return begun[-1]

    monkeypatch.setattr(FakeEngine, "submit", noted)
    return begun


def post(address: str, body: dict[str, Any], **headers: str) -> Any:
    """Return the open answer to a chat."""
    given = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return urlopen(Request(f"{address}/v1/chat/completions", json.dumps(body).encode(), given), timeout=20)


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_client_never_has_all_places() -> None:
    async def work() -> list[str]:
        admission, order = Admission(places=4, share=3, waiting=100), list[str]()

        async def ask(client: str) -> None:
            CALLER.set(Key(client, b""))
            leave = await admission.enter(1)
            order.append(client)
            await asyncio.sleep(0.01)
            leave()

        flood = [asyncio.create_task(ask("flood")) for _ in range(12)]
        await asyncio.sleep(0)
        assert admission.running == 3
        other = [asyncio.create_task(ask("other")) for _ in range(3)]
        await asyncio.gather(*flood, *other)
        assert (admission.running, admission.waiting) == (0, 0)
        return order

    order = asyncio.run(work())
    assert order.index("other") == 3  # at once, though nine were there before
    assert [order[:8].count(client) for client in ("flood", "other")] == [5, 3]


def test_one_client_never_fills_the_queue() -> None:
    async def work() -> None:
        admission = Admission(places=1, waiting=4, waiting_share=2)
        leave = await admission.enter(1)
        tasks = [asyncio.create_task(admission.enter(1)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RequestError):
            await tasks[2]
        CALLER.set(Key("other", b""))
        tasks.append(asyncio.create_task(admission.enter(1)))
        await asyncio.sleep(0)
        assert admission.waiting == 3
        leave()
        for task in (tasks[3], tasks[0], tasks[1]):
            (await task)()
        assert (admission.running, admission.waiting) == (0, 0)

    asyncio.run(work())


def test_who_has_gone_or_is_late_leaves_the_queue() -> None:
    async def work() -> None:
        admission = Admission(places=1, waiting=4)
        leave = await admission.enter(1)

        async def gone() -> dict[str, str]:
            return {"type": "http.disconnect"}

        with pytest.raises(RequestError) as late:
            await admission.enter(1, seconds=0.01)
        assert late.value.http_status == 504
        RECORD.set(Record(receive=gone))
        with pytest.raises(CancelledGenerationError):
            await admission.enter(1)
        assert (admission.running, admission.waiting) == (1, 0)
        leave()
        assert admission.running == 0

    asyncio.run(work())


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_hangs_up_frees_its_place(fake: FakeEngine, generations: list[Generation], stream: bool) -> None:
    app = create_app(fake, ServerSettings(model="fake", max_answer_tokens=100_000, answers=1))
    admission = app.state.serving.admission
    with listening(app) as address:
        body = json.dumps({**LONG, "stream": stream}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\n\r\n"
        port = int(address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode() + body)
            wait_for(lambda: generations)
            with socket.create_connection(("127.0.0.1", port)) as queued:
                queued.sendall(head.encode() + body)
                wait_for(lambda: admission.waiting == 1)
            wait_for(lambda: admission.waiting == 0)  # it has gone before its turn
        wait_for(lambda: admission.running == 0)
        assert len(generations) == 1
        with post(address, CHAT) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] > 0
    with pytest.raises(CancelledGenerationError):
        generations[0].result(1)


def test_salts_of_clients_differ(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    salts: list[str] = []
    submit = FakeEngine.submit

    def noted(self: FakeEngine, *args: Any, salt: str = "", **options: Any) -> Generation:
        salts.append(salt)
        return submit(self, *args, **options)

    monkeypatch.setattr(FakeEngine, "submit", noted)
    client = TestClient(create_app(fake, ServerSettings(model="fake"), keys=KEYS), base_url="http://localhost")
    for key, salt in (("first", "x"), ("first", "x"), ("second", "x"), ("first", "y")):
        headers = {"x-api-key": f"tt-the-{key}-key"}
        assert client.post("/v1/chat/completions", json={**CHAT, "cache_salt": salt}, headers=headers).is_success
    assert salts[0] == salts[1]
    assert len(set(salts)) == 3


def test_pace_is_kept_by_each_key(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("trimtab.server.limits.time.monotonic", lambda: now)
    pace = Pace(60, what="tokens")
    pace.check("a")
    pace.use("a", 90)  # an answer is longer than what was left
    with pytest.raises(RequestError) as refused:
        pace.check("a")
    assert (refused.value.http_status, refused.value.retry_after) == (429, 31)
    pace.check("b")
    now += 31
    pace.check("a")
    now += 1_000
    pace.use("a", 60)
    with pytest.raises(RequestError):
        pace.check("a")


def test_tokens_of_a_key_are_bounded(fake: FakeEngine) -> None:
    app = create_app(fake, ServerSettings(model="fake", tokens_per_minute=20), keys=KEYS)
    client = TestClient(app, base_url="http://localhost")

    def ask(key: str) -> Any:
        return client.post("/v1/chat/completions", json=CHAT, headers={"x-api-key": f"tt-the-{key}-key"})

    assert ask("first").status_code == 200
    refused = ask("first")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert ask("second").status_code == 200


def test_readiness_is_that_of_the_engine(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(FakeEngine, "stalled", property(lambda self: 61.0))
    assert client.get("/readyz").status_code == 503
    monkeypatch.setattr(FakeEngine, "stalled", property(lambda self: 0.0))
    monkeypatch.setattr(FakeEngine, "workload", property(lambda self: Workload(passes=5, rows=9, failures=3)))
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    metrics = client.get("/metrics").text
    assert "trimtab_passes_total 5.0" in metrics
    assert "trimtab_pass_rows_total 9.0" in metrics


def test_failed_passes_make_the_server_not_ready(tiny_llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(tiny_llama, ServerSettings(model="tiny"))
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    body = {**CHAT, "model": "tiny", "max_tokens": 3}
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    before = tiny_llama.workload.passes
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert tiny_llama.workload.passes - before >= 3
    assert tiny_llama.workload.rows >= tiny_llama.workload.passes
    assert tiny_llama.workload.prefix_queries > 0
    loop = tiny_llama._loop
    with monkeypatch.context() as broken:
        broken.setattr(loop, "_pass", lambda segments: 1 / 0)
        for count in range(3):
            assert client.get("/readyz").status_code == 200
            assert client.post("/v1/chat/completions", json=body).status_code == 500
            assert tiny_llama.workload.failures == count + 1
        assert client.get("/readyz").status_code == 503
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    assert client.get("/readyz").status_code == 200


def test_metrics_are_open_only_if_asked(fake: FakeEngine) -> None:
    for is_open, status in ((False, 401), (True, 200)):
        app = create_app(fake, ServerSettings(model="fake", open_metrics=is_open), keys=KEYS)
        client = TestClient(app, base_url="http://localhost")
        assert client.get("/metrics").status_code == status
        assert client.get("/v1/models").status_code == 401


@pytest.mark.parametrize("prompts", [False, True])
def test_runs_are_logged(fake: FakeEngine, happy_vector: Any, tmp_path: Path, prompts: bool) -> None:
    happy_vector.save(tmp_path / "happy.safetensors")
    settings = ServerSettings(model="fake", vectors=tmp_path, run_log=tmp_path / "runs.db", log_prompts=prompts)
    app = create_app(fake, settings, keys=KEYS)
    with TestClient(app, base_url="http://localhost", headers={"x-api-key": "tt-the-first-key"}) as client:
        body = {**CHAT, "n": 2, "steering": "happy:0.5"}
        answer = client.post("/v1/chat/completions", json=body, headers={"x-request-id": "one"})
        streamed = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
        assert chunks_of(streamed.text)
        client.post("/v1/chat/completions", json={"model": "fake"})
        client.get("/healthz")
    app.state.serving.run_log.close()
    with sqlite3.connect(tmp_path / "runs.db") as file:
        file.row_factory = sqlite3.Row
        first, second, third = map(dict, file.execute("SELECT * FROM runs ORDER BY time"))
    assert (first["id"], first["key"], first["path"], first["model"]) == ("one", "a", "/v1/chat/completions", "fake")
    usage = answer.json()["usage"]
    assert (first["prompt_tokens"], first["tokens"]) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert first["steering"] == "happy:0.5"
    assert first["seconds"] >= first["first_token"] > 0
    answers = json.loads(first["answers"])
    assert [entry["finish_reason"] for entry in answers] == [
        choice["finish_reason"] for choice in answer.json()["choices"]
    ]
    assert all(entry["receipt"]["tokens"] > 0 for entry in answers)
    assert second["tokens"] > 0
    assert (third["status"], third["tokens"], third["prompt_tokens"]) == (400, 0, None)
    if prompts:
        assert "Hello" in json.loads(first["prompts"])[0]
        assert answers[0]["text"] == answer.json()["choices"][0]["message"]["content"]
    else:
        assert first["prompts"] is None
        assert not any("text" in entry for entry in answers)


def test_run_log_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        RunLog(tmp_path / "nowhere" / "runs.db", model="fake")


def test_server_drains_and_then_gives_up(fake: FakeEngine, generations: list[Generation]) -> None:
    settings = ServerSettings(model="fake", max_answer_tokens=100_000, drain=1.0)
    app = create_app(fake, settings)
    server = listen(app, port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with post(address, {**LONG, "stream": True}) as long:
        long.readline()
        server.should_exit = True
        wait_for(lambda: app.state.serving.admission.closed)
        for path, body in (("/readyz", None), ("/v1/chat/completions", CHAT)):
            data = None if body is None else json.dumps(body).encode()
            with pytest.raises(HTTPError) as refused:
                urlopen(Request(f"{address}{path}", data, {"content-type": "application/json"}), timeout=5)
            refused.value.close()
            assert refused.value.code == 503
        last = long.read().decode().strip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stopping"
    thread.join(10)
    assert not thread.is_alive()
    assert generations[0].ended


def test_answers_are_complete_when_a_server_drains(fake: FakeEngine, generations: list[Generation]) -> None:
    app = create_app(fake, ServerSettings(model="fake", max_answer_tokens=100_000))
    server = listen(app, port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: server.started)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with post(address, {**LONG, "max_tokens": 150, "stream": True}) as answer:
        answer.readline()
        server.should_exit = True
        chunks = chunks_of(answer.read().decode().partition("\n")[2])
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    thread.join(10)
    assert not thread.is_alive()


def test_key_of_the_environment_has_all_roles() -> None:
    key = environment_key("0123456789abcdef")
    assert (key.digest, key.roles) == (digest_of("0123456789abcdef"), {"use", "manage"})
    with pytest.raises(OutputError):
        environment_key("short")


PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_documented_keys_are_read(tmp_path: Path) -> None:
    block = PAGE.partition("hashes only:\n\n")[2].partition("\n\n    trimtab")[0]
    (tmp_path / "keys.toml").write_text(dedent(block))
    assert [(key.name, len(key.roles)) for key in read_keys(tmp_path / "keys.toml")] == [("shop", 1), ("owner", 2)]


def test_documented_options_and_metrics_exist(client: TestClient) -> None:
    command: Any = get_command(cli_app)
    known = {name for option in command.commands["serve"].params for name in option.opts}
    outside = {"--no-cache-dir", "--create-home"}  # of the container file's other commands
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) - outside <= known
    client.post("/v1/chat/completions", json={"model": "fake"})
    names = set(re.findall(r"^# TYPE trimtab_(\w+) ", client.get("/metrics").text, re.MULTILINE))
    table = PAGE.partition("| metric |")[2].partition("\n\n")[0]
    documented = set(re.findall(r"`([a-z_]+)(?:\{\w+\})?`", table))
    assert documented <= names
    assert len(documented) >= 14


def test_every_gap_between_tokens_is_counted() -> None:
    metrics, mailbox = Metrics(), Mailbox()
    watch(metrics, Generation(mailbox), since=time.monotonic(), begun=lambda _: None)
    for number in range(6):
        mailbox.put(StreamedToken(number, "x"))
        time.sleep(0.25 if number == 3 else 0)  # one stall, which a mean would hide
    mailbox.close(Completion("x" * 6, tuple(range(6)), "stop", PROMPT, Receipt("none", (), 0)))

    def up_to(seconds: float) -> float | None:
        name = "trimtab_inter_token_latency_seconds_bucket"
        return metrics.registry.get_sample_value(name, {"le": str(seconds)})

    assert (up_to(0.2), up_to(2.0)) == (4, 5)
