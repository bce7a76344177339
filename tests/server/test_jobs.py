"""Jobs: training beside the answers, with events, stop and resume."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from evaluation.sample_report import working
from served import CHAT
from trimtab.behaviours import Behaviour
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings
from trimtab.training.train import train
from trimtab.vectors import ControlVector

TRAIN = {"kind": "train", "name": "mine", "behaviour": "happy", "effort": "quick"}
ENDED = ("stopped", "done", "failed")


def ended(client, job, *, timeout=60.0):
    until = time.monotonic() + timeout
    while (found := client.get(f"/v1/jobs/{job['id']}").json())["status"] not in ENDED:
        assert time.monotonic() < until, found
        time.sleep(0.01)
    return found


def create(client, status=202, **fields):
    answer = client.post("/v1/jobs", json=fields)
    assert answer.status_code == status, answer.text
    return answer.json()


def events(client, job, *, after=None):
    headers = {} if after is None else {"last-event-id": str(after)}
    text = client.get(f"/v1/jobs/{job['id']}/events", headers=headers).text
    found = []
    for block in text.split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


@pytest.fixture
def slow(monkeypatch):
    """Stops a training at its first step until it is let go on."""
    import trimtab.training.train as module

    gate, reached = threading.Event(), threading.Event()
    work = module.train

    def stopped(*arguments, progress, **options):
        def on_progress(step):
            progress(step)
            reached.set()
            while not gate.wait(0.01):
                progress(step)

        return work(*arguments, progress=on_progress, **options)

    monkeypatch.setattr(module, "train", stopped)
    return gate, reached


def test_trained_vector_lands_in_the_folder_and_is_the_librarys(client, fake, tmp_path):
    job = ended(client, create(client, **TRAIN))
    assert (job["status"], job["result"]["vector"]) == ("done", "mine")
    made = ControlVector.load(tmp_path / "served" / "mine.safetensors")
    expected = train(fake, Behaviour.load("happy"), effort="quick")
    assert made.scale == expected.scale
    assert all((made.directions[layer] == expected.directions[layer]).all() for layer in expected.directions)
    assert "mine" in [each["name"] for each in client.get("/v1/vectors").json()["data"]]
    left = sorted(path.suffix for path in (tmp_path / "served" / ".jobs").iterdir())
    assert left == [".events", ".json"]


def test_events_tell_the_phases_and_go_on_behind_the_last(client):
    job = ended(client, create(client, **TRAIN))
    told = events(client, job)
    assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
    assert [data["status"] for _, name, data in told if name == "status"] == ["queued", "running", "done"]
    steps = [data for _, name, data in told if name == "progress"]
    assert len({step["phase"] for step in steps}) > 1
    assert all(0 <= step["done"] <= step["total"] for step in steps)
    assert events(client, job, after=3) == told[3:]
    assert events(client, job, after=10_000) == []


def test_stopped_job_is_resumed_to_the_same_vector(client, slow, fake, tmp_path):
    gate, reached = slow
    job = create(client, **TRAIN)
    assert reached.wait(20)
    assert client.get(f"/v1/jobs/{job['id']}").json()["status"] == "running"
    assert client.post(f"/v1/jobs/{job['id']}/resume").status_code == 409
    client.delete(f"/v1/jobs/{job['id']}")
    assert ended(client, job)["status"] == "stopped"
    assert not (tmp_path / "served" / "mine.safetensors").exists()
    gate.set()
    assert client.post(f"/v1/jobs/{job['id']}/resume").status_code == 202
    assert ended(client, job)["status"] == "done"
    made = ControlVector.load(tmp_path / "served" / "mine.safetensors")
    assert made.scale == train(fake, Behaviour.load("happy"), effort="quick").scale


def test_jobs_wait_for_each_other_but_sweeps_do_not(client, slow):
    gate, reached = slow
    first = create(client, **TRAIN)
    assert reached.wait(20)
    second = create(client, **{**TRAIN, "name": "other"})
    sweep = create(client, kind="sweep", vector="happy", prompt="Hello", strengths=[-1, 0, 1], max_tokens=8)
    assert ended(client, sweep)["status"] == "done"
    assert client.get(f"/v1/jobs/{second['id']}").json()["status"] == "queued"
    client.delete(f"/v1/jobs/{second['id']}")
    assert ended(client, second)["status"] == "stopped"
    gate.set()
    assert ended(client, first)["status"] == "done"
    listed = client.get("/v1/jobs").json()["data"]
    assert {each["id"] for each in listed} == {first["id"], second["id"], sweep["id"]}
    assert all(each["result"] is None for each in listed)


def test_sweep_answers_as_single_requests_do(client, chat):
    job = create(client, kind="sweep", vector="happy", prompt="Hello", strengths=[-1, 0, 1], max_tokens=12)
    rows = ended(client, job)["result"]["strengths"]
    for row in rows:
        steering = f"happy:{row['strength']:g}" if row["strength"] else "none"
        answer = chat(steering=steering, kl=True)
        assert row["text"] == answer["choices"][0]["message"]["content"]
        assert row["kl"] == pytest.approx(answer["trimtab"]["answers"][0]["receipt"]["kl"] or 0.0)
        assert row["usable"] == (not row["loops"] and bool(row["text"].strip()))
    assert [row["beyond_safe"] is None for row in rows] == [False, True, False]
    assert [data["strength"] for _, name, data in events(client, job) if name == "finding"] == [-1, 0, 1]


def test_answers_do_not_change_beside_a_training(client, chat, fake):
    before = chat(max_tokens=40)["choices"]
    job = create(client, **TRAIN)
    during = [chat(max_tokens=40)["choices"] for _ in range(5)]
    assert ended(client, job)["status"] == "done"
    assert all(each == before for each in during)


def test_impossible_job_is_refused_before_it_waits(client):
    create(client, 409, **{**TRAIN, "name": "happy"})
    for fields in (
        {**TRAIN, "behaviour": "nothing"},
        {**TRAIN, "behaviour": None},
        {**TRAIN, "toml": "name = 'x'"},
        {**TRAIN, "name": "../x"},
        {**TRAIN, "effort": "endless"},
        {"kind": "other"},
        {"kind": "sweep", "vector": "sad", "prompt": "x"},
        {"kind": "sweep", "vector": "happy", "prompt": "x", "strengths": [0.0] * 17},
        {"kind": "evaluate", "vector": "sad"},
    ):
        create(client, 400, **fields)
    assert client.get("/v1/jobs").json()["data"] == []
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/resume"), ("GET", "/events")):
        assert client.request(method, f"/v1/jobs/job-{0:016}{path}").status_code == 404
        assert client.request(method, f"/v1/jobs/..{path}").status_code in (400, 404, 405)


def test_failed_job_says_why_and_is_told(client):
    job = ended(client, create(client, kind="distill", name="prompt", system_prompt="Be brief."))
    assert job["status"] == "failed"
    assert "gradients" in job["error"]["what"]
    assert events(client, job)[-1][2]["error"]["code"] == "distilling_failed"


def test_name_that_was_taken_meanwhile_is_not_overwritten(client, slow, happy_vector, tmp_path):
    gate, reached = slow
    job = create(client, **TRAIN)
    assert reached.wait(20)
    happy_vector.save(tmp_path / "served" / "mine.safetensors")
    kept = (tmp_path / "served" / "mine.safetensors").read_bytes()
    gate.set()
    assert ended(client, job)["result"]["vector"] == "mine-2"
    assert (tmp_path / "served" / "mine.safetensors").read_bytes() == kept


def test_too_many_waiting_jobs_are_refused(client, slow):
    gate, reached = slow
    first = create(client, **TRAIN)
    assert reached.wait(20)
    waiting = [create(client, **{**TRAIN, "name": f"n{n}"}) for n in range(16)]
    answer = client.post("/v1/jobs", json={**TRAIN, "name": "late"})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    for job in (first, *waiting):
        client.delete(f"/v1/jobs/{job['id']}")
    assert ended(client, first)["status"] == "stopped"
    gate.set()


def test_server_that_ends_leaves_its_job_to_the_next(fake, slow, tmp_path):
    gate, reached = slow
    settings = ServerSettings(model="fake", vectors=tmp_path)
    with TestClient(create_app(fake, settings), base_url="http://127.0.0.1:8421") as client:
        job = create(client, **TRAIN)
        assert reached.wait(20)
    assert json.loads((tmp_path / ".jobs" / f"{job['id']}.json").read_text())["status"] == "running"
    gate.set()
    with TestClient(create_app(fake, settings), base_url="http://127.0.0.1:8421") as client:
        assert ended(client, job)["status"] == "done"
        told = events(client, job)
        assert [number for number, _, _ in told] == list(range(1, len(told) + 1))
        assert client.post("/v1/chat/completions", json={**CHAT, "steering": "mine:0.5"}).status_code == 200


def test_cut_and_malformed_files_of_jobs_are_survived(fake, tmp_path, caplog):
    settings = ServerSettings(model="fake", vectors=tmp_path)
    with TestClient(create_app(fake, settings), base_url="http://127.0.0.1:8421") as client:
        job = ended(client, create(client, **TRAIN))
        whole = events(client, job)
    log: Path = tmp_path / ".jobs" / f"{job['id']}.events"
    log.write_bytes(log.read_bytes() + b'["progress", {"pha')
    (tmp_path / ".jobs" / "job-0123456789abcdef.json").write_text("{")
    with TestClient(create_app(fake, settings), base_url="http://127.0.0.1:8421") as client:
        assert events(client, job) == whole
        assert [each["id"] for each in client.get("/v1/jobs").json()["data"]] == [job["id"]]
    assert "left out" in caplog.text


def test_training_finds_agreement_answers_and_layers(client):
    job = ended(client, create(client, **{**TRAIN, "effort": "default"}))
    assert job["status"] == "done", job["error"]
    by_kind = {finding["kind"]: finding for finding in job["findings"]}
    assert set(by_kind) == {"agreement", "answers", "layers"}
    assert by_kind["agreement"]["pairs"] > 0
    assert 0 <= by_kind["agreement"]["separation"] <= 1
    assert by_kind["answers"]["question"]
    vector = client.get("/v1/vectors/mine").json()
    assert sorted(map(int, by_kind["layers"]["shares"])) == vector["layers"]
    assert max(by_kind["layers"]["shares"].values()) == pytest.approx(1.0)
    told = [data for _, name, data in events(client, job) if name == "finding"]
    assert [each["kind"] for each in told] == [each["kind"] for each in job["findings"]]


def test_made_vector_knows_its_poles(client):
    ended(client, create(client, **TRAIN))
    behaviour = Behaviour.load("happy")
    vector = client.get("/v1/vectors/mine").json()
    assert vector["poles"] == {"+": behaviour.positive.label, "-": behaviour.negative.label}
    assert vector["verdict"] is None


def test_expected_seconds_are_those_of_the_latest_job(client):
    job = ended(client, create(client, **TRAIN))
    spent = sum(phase["seconds"] for phase in job["phases"])
    assert job["seconds_left"] is None
    assert {phase["phase"] for phase in job["phases"]} == set(job["expected"])
    expected = client.get("/v1/info").json()["expected_seconds"]
    assert expected["train quick"] == pytest.approx(spent, abs=0.06)
    assert expected["train thorough"] > expected["train quick"]


def test_running_job_says_how_long_it_takes(client, slow):
    gate, reached = slow
    job = create(client, **TRAIN)
    assert reached.wait(20)
    running = client.get(f"/v1/jobs/{job['id']}").json()
    assert 0 < running["seconds_left"] < 3600
    gate.set()
    assert ended(client, job)["seconds_left"] is None


def test_evaluated_vector_has_its_card_until_it_is_made_anew(client, monkeypatch):
    from trimtab.evaluation.cards import card_json_values, zoo_cards

    ended(client, create(client, **TRAIN))
    created = client.get("/v1/vectors/mine").json()["created"]
    card = card_json_values(zoo_cards()["happy"])
    jobs = client.app.state.serving.jobs
    result = {"card": card, "report": {}, "created": created}
    monkeypatch.setattr(jobs, "_evaluate", lambda fields, progress: result)
    job = ended(client, create(client, kind="evaluate", vector="mine"))
    assert job["result"]["card"]["word"] == "works"
    vector = client.get("/v1/vectors/mine").json()
    assert (vector["verdict"], vector["card"]["name"]) == ("works", "happy")
    monkeypatch.setattr(jobs, "_evaluate", lambda fields, progress: {**result, "created": "before"})
    ended(client, create(client, kind="evaluate", vector="mine"))
    assert client.get("/v1/vectors/mine").json()["card"] is None


@pytest.mark.parametrize(("fields", "kept"), [({}, True), ({"questions": 4}, False), ({"behaviour": "happy"}, False)])
def test_whole_evaluation_renews_the_safe_range_of_an_own_vector(client, monkeypatch, fields, kept):
    report = working()
    monkeypatch.setattr("trimtab.evaluation.evaluate.evaluate", lambda *args, **options: report)
    ended(client, create(client, **TRAIN))
    before = client.get("/v1/vectors/mine").json()
    job = ended(client, create(client, kind="evaluate", vector="mine", **fields))
    assert job["status"] == "done"
    after = client.get("/v1/vectors/mine").json()
    measured = {"low": report.safe.low, "high": report.safe.high}
    assert before["safe"] is None or {key: before["safe"][key] for key in measured} != measured
    assert (after["safe"] is not None and {key: after["safe"][key] for key in measured} == measured) is kept
    assert after["created"] == before["created"]
