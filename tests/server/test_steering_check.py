"""Checks of steering, readings of texts, behaviours, and what the server says of itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sample_vectors import calibration_record
from served import client_of
from trimtab.behaviours import Behaviour, zoo_names
from trimtab.behaviours.pairs import build_pairs
from trimtab.steering import Steering


@pytest.fixture
def priced(client, happy_vector, tmp_path):
    """A vector whose calibration was measured."""
    vector = replace(happy_vector, calibration=calibration_record())
    vector.save(tmp_path / "served" / "happy.safetensors")
    client.app.state.serving.refresh()
    return vector


def check(client, steering, **more):
    answer = client.post("/v1/steering/check", json={"steering": steering, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_check_returns_the_canonical_forms_and_what_is_spent(client, priced):
    found = check(client, " happy:+0.50+happy:-0.25 ")
    expected = Steering.of([(priced, 0.5), (priced, -0.25)])
    assert found["ok"]
    assert found["text"] == str(expected)
    assert found["steering"] == expected.to_json()
    assert check(client, found["steering"])["text"] == found["text"]
    assert found["kl"] == pytest.approx(expected.budget())
    alone = [Steering((term,)).budget() for term in expected.terms]
    assert [term["kl"] for term in found["terms"]] == pytest.approx(alone)
    assert found["cosines"] == [pytest.approx([1, -1]), pytest.approx([-1, 1])]
    assert found["terms"][0]["safe"]["high"] == 0.75
    assert found["warnings"] == []


def test_check_warns_beyond_the_safe_range(client, priced):
    found = check(client, "happy:2")
    assert found["terms"][0]["warning"]
    assert len(found["warnings"]) >= 1


def test_check_normalizes_to_a_budget(client, priced):
    assert check(client, "happy:2", normalize=0.25)["kl"] == pytest.approx(0.25)


@pytest.mark.parametrize(("text", "column"), [("happy:", 7), ("happy:0.5 + sad:1", 13), ("happy:0.5 ?", 11)])
def test_check_returns_the_column_of_a_mistake(client, text, column):
    found = check(client, text)
    assert not found["ok"]
    assert found["error"]["column"] == column


def test_check_of_nothing_and_of_terms_without_a_price(client, priced):
    assert check(client, "none") == {
        "ok": True, "error": None, "text": "none", "steering": {"terms": []}, "kl": 0.0, "terms": [], "cosines": None,
        "warnings": [],
    }  # fmt: skip
    found = check(client, "happy:0.5 + ablate(happy)")
    assert (found["kl"], found["cosines"], found["terms"][1]["kl"]) == (None, None, None)


def test_read_is_the_engines_reading(client, fake, happy_vector):
    expected = fake.read("What a day", [happy_vector])
    answer = client.post("/v1/read", json={"input": ["What a day", "Bad"], "vectors": ["happy"], "layers": True})
    first, second = answer.json()["data"]
    assert first["pieces"] == list(expected.pieces)
    assert first["vectors"][0]["score"] == pytest.approx(expected.score)
    assert first["vectors"][0]["token_scores"] == pytest.approx(list(expected.token_scores))
    assert first["vectors"][0]["z"] == [pytest.approx(list(row)) for row in expected.z]
    assert second["vectors"][0]["score"] != first["vectors"][0]["score"]
    chat = [{"role": "user", "content": "What a day"}]
    (same,) = client.post("/v1/read", json={"messages": chat, "vectors": ["happy"]}).json()["data"]
    assert same["vectors"][0]["score"] == pytest.approx(expected.score)
    assert same["vectors"][0]["z"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"vectors": ["happy"]},
        {"input": "x", "messages": [{"role": "user", "content": "x"}], "vectors": ["happy"]},
        {"input": "x", "vectors": ["sad"]},
        {"input": "x", "vectors": []},
        {"input": ["x"] * 33, "vectors": ["happy"]},
        {"input": "", "vectors": ["happy"]},
    ],
)
def test_wrong_reading_is_refused(client, body):
    assert client.post("/v1/read", json=body).status_code == 400


def test_draft_is_linted_and_previewed(client, fake):
    draft = client.post("/v1/behaviours/draft", json={"name": "mood", "positive": ["happy"], "negative": ["sad"]})
    toml = draft.json()["toml"]
    behaviour = Behaviour.parse(toml)
    lint = client.post("/v1/behaviours/lint", json={"toml": toml}).json()
    assert (lint["ok"], lint["name"]) == (True, "mood")
    preview = client.post("/v1/pairs/preview", json={"toml": toml, "count": 2}).json()
    pairs = build_pairs(behaviour, fake)
    assert preview["total"] == len(pairs)
    assert preview["pairs"][0] == {"positive": pairs[0].positive, "negative": pairs[0].negative}
    assert len(preview["pairs"]) == 2


def test_lint_of_a_malformed_text_is_a_finding(client):
    lint = client.post("/v1/behaviours/lint", json={"toml": "name = "}).json()
    assert (lint["ok"], lint["findings"][0]["level"]) == (False, "error")
    assert client.post("/v1/behaviours/lint", json={}).status_code == 400
    wrong = client.post("/v1/behaviours/draft", json={"name": "Mood!", "positive": ["a"], "negative": ["b"]})
    assert wrong.status_code == 400


@pytest.mark.parametrize("field", ['suffixes = "{}"', 'pairs = "{}"', '[evaluation]\nchoices = "{}"'])
def test_text_of_a_behaviour_reads_no_file(client, tmp_path, field):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret\n")
    toml = client.post("/v1/behaviours/draft", json={"name": "mood", "positive": ["happy"], "negative": ["sad"]})
    line = field.format(secret)
    text = toml.json()["toml"]
    body = f"{text}\n{line}" if line.startswith("[") else f"{line}\n{text}"
    for path in ("behaviours/lint", "pairs/preview"):
        answer = client.post(f"/v1/{path}", json={"toml": body})
        assert "the secret" not in answer.text
        assert "names the file" in answer.text


def test_behaviours_of_the_zoo_are_listed(client):
    listed = {each["name"]: each for each in client.get("/v1/behaviours").json()["data"]}
    assert set(listed) == set(zoo_names())
    assert (listed["happy"]["negative"], listed["happy"]["trained"], listed["calm"]["trained"]) == ("sad", True, False)


def test_info_says_what_the_server_is(client, fake):
    info = client.get("/v1/info").json()
    assert info["model"]["name"] == fake.info.name
    assert info["model"]["layers"] == fake.info.layers
    assert info["capabilities"]["gradients"] is False
    assert info["vectors"] == 1
    assert "numpy" in info["versions"]


def test_info_says_where_the_model_runs(client, llama):
    assert client.get("/v1/info").json()["model"]["device"] is None  # a fake engine runs nowhere
    with client_of(llama) as real:
        assert real.get("/v1/info").json()["model"]["device"] == "cpu"


def test_every_route_has_a_documented_answer(client):
    document = client.get("/openapi.json").json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = {code: each for code, each in operation["responses"].items() if code.startswith("2")}
            assert answers, (method, path)
            for each in answers.values():
                kinds = each.get("content", {})
                assert kinds, (method, path)
                # The parts of a stream of events have schemas, but not the stream.
                assert all(content["schema"] for kind, content in kinds.items() if kind != "text/event-stream")
