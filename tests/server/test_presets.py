"""Presets: files that are models, and their editing over HTTP."""

from __future__ import annotations

import time
import tomllib
from importlib import resources

import pytest
from starlette.testclient import TestClient

from sample_vectors import make_vector
from trimtab.server.app import create_app
from trimtab.server.keys import Key, digest_of
from trimtab.server.preset_index import PresetIndex
from trimtab.server.settings import ServerSettings
from trimtab.server.vectors import VectorIndex
from trimtab.steering import Steering
from trimtab.vectors import ControlVector

KIND = 'steering = "happy:0.25"\nsystem = "Be kind."\nlocked = ["steering"]\n[defaults]\nmax_tokens = 3\n'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "presets").mkdir(exist_ok=True)
    return tmp_path / "presets"


def names(folder):
    return [path.name for path in folder.iterdir()]


def touched(client):
    """Look at the folders, as the server does every few seconds."""
    client.app.state.serving.refresh()


def test_file_is_a_model_with_parent_and_metadata(client, chat, folder):
    (folder / "kind.toml").write_text(KIND + '[metadata]\nmood = "kind"\n')
    touched(client)
    model = client.get("/v1/models/fake:kind").json()
    assert (model["parent"], model["metadata"]["mood"]) == ("fake", "kind")
    assert model["metadata"]["steering"] == "happy:0.25"
    answer = chat(model="fake:kind", max_tokens=None)
    assert answer["trimtab"]["answers"][0]["receipt"]["steering"] == "happy:0.25"
    plain = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    same = chat(messages=plain, max_tokens=3, steering="happy:0.25")
    assert answer["choices"][0]["message"] == same["choices"][0]["message"]
    chat(model="fake:kind", steering="happy:1", status=400)


def test_changed_file_is_read_and_broken_one_keeps_the_last(client, folder, caplog):
    path = folder / "kind.toml"
    path.write_text(KIND)
    touched(client)
    path.write_text(KIND.replace("0.25", "0.125"))
    touched(client)
    assert client.get("/v1/models/fake:kind").json()["metadata"]["steering"] == "happy:0.125"
    path.write_text("steering = [")
    touched(client)
    touched(client)
    reply = client.get("/v1/presets/kind").json()
    assert reply["usable"]
    assert "malformed" in reply["problem"]
    assert reply["preset"]["steering"] == "happy:0.125"
    assert sum("kind" in record.message for record in caplog.records) == 1
    path.write_text(KIND)
    touched(client)
    assert client.get("/v1/presets/kind").json()["problem"] is None
    path.unlink()
    touched(client)
    assert client.get("/v1/models/fake:kind").status_code == 404


def test_put_is_served_at_once_and_delete_ends_it(client, chat, folder):
    body = {
        "steering": "happy:0.5",
        "system": 'Quote "this"\n\x7f and é',
        "defaults": {"max_tokens": 2, "response_format": {"type": "text"}, "stop": ["x"]},
        "metadata": {"nested": {"list": [1, {"deep": True}]}},
    }
    reply = client.put("/v1/presets/mine", json=body)
    assert reply.status_code == 200, reply.text
    assert reply.json()["preset"] == body
    assert tomllib.loads((folder / "mine.toml").read_text()) == body
    assert len(chat(model="fake:mine", max_tokens=None)["choices"][0]["message"]["content"]) <= 2
    assert names(folder) == ["mine.toml"]
    assert client.delete("/v1/presets/mine").json() == {"id": "mine", "object": "preset.deleted", "deleted": True}
    assert client.delete("/v1/presets/mine").status_code == 404
    assert names(folder) == []


@pytest.mark.parametrize(
    "body",
    [
        {"steering": "nothing:0.5"},
        {"steering": "happy:"},
        {"rules": ["happy:0.5"]},
        {"unknown": 1},
        {"defaults": {"temperature": -1}},
        {"defaults": {"model": "x"}},
        {"defaults": {"readings": ["nothing"]}},
        {"flow": {"stages": {"a": {"preset": "nothing"}}}},
        {"flow": {"stages": {}}},
        {"flow": {"stages": {"a": {"preset": "cheerful", "when": "happy > 1"}}}},
        {"flow": {"stages": {"a": {"preset": "cheerful"}, "b": {"preset": "cheerful", "when": "happy > 1 at token"}}}},
        {"steering": "happy:1", "flow": {"stages": {"a": {"preset": "cheerful"}}}},
    ],
)
def test_unusable_preset_is_refused_and_not_written(client, folder, body):
    reply = client.put("/v1/presets/mine", json=body)
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == {"message", "type", "param", "code", "what", "fix"}
    assert names(folder) == []


@pytest.mark.parametrize("name", ["..", "a%2Fb", "%2e%2e%2fetc", ".hidden", "a" * 65, "a%00b", "é"])
def test_name_is_no_path(client, folder, name):
    assert client.put(f"/v1/presets/{name}", json={"steering": "happy:0.5"}).status_code in (400, 404, 405)
    assert names(folder) == []


def test_rule_steers_under_its_condition(client, folder):
    body = {"steering": "happy:0.25", "rules": ["happy:0.5 when happy > 1 at last-user-turn"]}
    assert client.put("/v1/presets/mine", json=body).status_code == 200
    steering = client.get("/v1/models/fake:mine").json()["metadata"]["steering"]
    assert steering == "happy:0.25 + happy:0.5 when happy > 1 at last-user-turn"


def test_preset_of_a_lost_vector_is_reported_until_it_is_back(client, happy_vector, tmp_path):
    client.put("/v1/presets/mine", json={"steering": "happy:0.5"})
    (tmp_path / "served" / "happy.safetensors").unlink()
    touched(client)
    reply = client.get("/v1/presets/mine").json()
    assert (reply["usable"], "happy" in reply["problem"]) == (False, True)
    happy_vector.save(tmp_path / "served" / "happy.safetensors")
    touched(client)
    assert client.get("/v1/presets/mine").json()["usable"]


def test_shipped_preset_is_replaced_but_not_deleted(client):
    assert client.get("/v1/presets/cheerful").json()["shipped"]
    assert client.delete("/v1/presets/cheerful").status_code == 409
    client.put("/v1/presets/cheerful", json={"steering": "happy:0.25"})
    assert client.get("/v1/models/fake:cheerful").json()["metadata"]["steering"] == "happy:0.25"
    assert client.delete("/v1/presets/cheerful").status_code == 200
    assert client.get("/v1/models/fake:cheerful").json()["metadata"]["steering"] == "happy:0.5"


def test_shipped_presets_stay_inside_the_safe_ranges_of_the_zoo():
    zoo = resources.files("trimtab.vectors") / "zoo"

    def find(name):
        return ControlVector.load(str(zoo / f"{name}.safetensors"))

    checked = 0
    for entry in (resources.files("trimtab.server") / "shipped").iterdir():
        given = tomllib.loads(entry.read_text())
        for term in Steering.of(given.get("steering"), find=find).terms:
            assert term.vector.safe is not None
            assert term.beyond_safe is None, entry.name
            checked += 1
    assert checked >= 4


def test_shipped_preset_beyond_a_narrower_range_is_not_served(fake, tmp_path):
    from sample_vectors import directions, safe_range

    vector = make_vector(
        "happy", model=fake.info, directions=directions((0, 2), size=fake.info.hidden_size), safe=safe_range(high=0.25)
    )
    vector.save(tmp_path / "happy.safetensors")
    index = PresetIndex(VectorIndex(fake.info, folder=tmp_path), folder=tmp_path / "none")
    assert "cheerful" not in index
    assert index.files["cheerful"].problem is not None


def test_key_of_another_role_may_not_edit(fake, tmp_path):
    keys = (Key("reader", digest_of("sesame")), Key("owner", digest_of("opener"), frozenset({"manage"})))
    client = TestClient(
        create_app(fake, ServerSettings(model="fake", vectors=tmp_path), keys=keys), base_url="http://127.0.0.1:8421"
    )
    client.headers["authorization"] = "Bearer sesame"
    for method, path in (
        ("PUT", "presets/mine"),
        ("DELETE", "presets/mine"),
        ("PUT", "vectors/x"),
        ("DELETE", "vectors/x"),
        ("POST", "vectors/x/restore"),
        ("POST", "jobs"),
        ("DELETE", f"jobs/job-{0:016}"),
        ("POST", f"jobs/job-{0:016}/resume"),
    ):
        answer = client.request(method, f"/v1/{path}", json={"undo": "0"} if path.endswith("restore") else {})
        assert answer.status_code == 403, (path, answer.text)
    assert client.get("/v1/presets").status_code == 200
    client.headers["authorization"] = "Bearer opener"
    assert client.put("/v1/presets/mine", json={}).status_code == 200


def test_running_server_reads_new_files_by_itself(fake, folder, tmp_path, happy_vector, monkeypatch):
    monkeypatch.setattr("trimtab.server.background.RELOAD_EVERY", 0.01)
    settings = ServerSettings(model="fake", vectors=tmp_path / "later", presets=folder)
    with TestClient(create_app(fake, settings), base_url="http://127.0.0.1:8421") as client:
        assert client.get("/v1/models/fake:kind").status_code == 404
        (folder / "kind.toml").write_text(KIND)
        (tmp_path / "later").mkdir(exist_ok=True)
        happy_vector.save(tmp_path / "later" / "happy.safetensors")
        until = time.monotonic() + 10
        while client.get("/v1/models/fake:kind").status_code == 404:
            assert time.monotonic() < until
            time.sleep(0.01)
