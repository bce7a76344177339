"""Flows: the stage of a conversation chooses the preset."""

from __future__ import annotations

import pytest

from served import CHAT, chunks_of

STAGES = {
    "greeting": {"preset": "cheerful", "answer": "hello"},
    "complaint": {"preset": "neutral", "answer": "no"},
}


@pytest.fixture
def flow(client):
    def put(stages=STAGES, **more):
        reply = client.put("/v1/presets/support", json={"flow": {"stages": stages, **more}})
        assert reply.status_code == 200, reply.text

    put()
    return put


def test_stage_of_the_request_wins(chat, flow):
    for stage, steering in (("greeting", "happy:0.5"), ("complaint", "none")):
        answer = chat(model="fake:support", metadata={"stage": stage})["trimtab"]
        assert answer["stage"] == {
            "name": stage,
            "preset": STAGES[stage]["preset"],
            "by": "request",
            "probabilities": None,
            "readings": {},
        }
        assert answer["answers"][0]["receipt"]["steering"] == steering
    assert chat(model="fake:support", headers={"x-trimtab-stage": "complaint"})["trimtab"]["stage"]["by"] == "request"
    error = chat(model="fake:support", metadata={"stage": "order"}, status=400)["error"]
    assert error["param"] == "metadata.stage"


def test_model_chooses_unsteered_by_the_last_user_turn(client, chat, flow, fake):
    flow(question="{message}? {choices}")
    messages = [
        {"role": "user", "content": "First"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "I {choices} you"},
    ]
    (expected,) = fake.choose([[{"role": "user", "content": "I {choices} you? hello, no"}]], ["hello", "no"])
    stage = chat(model="fake:support", messages=messages)["trimtab"]["stage"]
    assert stage["by"] == "decision"
    assert stage["probabilities"] == pytest.approx(dict(zip(STAGES, expected.probabilities, strict=True)))
    assert stage["name"] == max(stage["probabilities"], key=stage["probabilities"].get)
    assert sum(stage["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize(("side", "expected"), [("> -100", "low"), ("< -100", "rest")])
def test_reading_chooses_where_its_condition_holds(chat, flow, fake, happy_vector, side, expected):
    flow({"low": {"preset": "cheerful", "when": f"happy {side} at last-user-turn"}, "rest": {"preset": "neutral"}})
    stage = chat(model="fake:support")["trimtab"]["stage"]
    (score,) = fake.scores([CHAT["messages"]], happy_vector, at="last-user-turn")
    assert stage["name"] == expected
    assert stage["by"] == ("reading" if expected == "low" else "default")
    assert stage["readings"] == pytest.approx({"happy at last-user-turn": score})


def test_stream_has_the_stage_in_its_last_chunk(client, flow):
    body = {**CHAT, "model": "fake:support", "stream": True, "metadata": {"stage": "greeting"}}
    chunks = chunks_of(client.post("/v1/chat/completions", json=body).text)
    assert chunks[-1]["trimtab"]["stage"]["name"] == "greeting"
    assert all("stage" not in chunk.get("trimtab", {}) for chunk in chunks[:-1])


def test_flow_is_listed_and_answers_chats_only(client, flow):
    models = {model["id"]: model for model in client.get("/v1/models").json()["data"]}
    assert models["fake:support"]["metadata"]["stages"] == {"greeting": "cheerful", "complaint": "neutral"}
    answer = client.post("/v1/completions", json={"model": "fake:support", "prompt": "Hello"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "model"


def test_flow_without_one_of_its_presets_is_not_served(client, flow):
    client.put("/v1/presets/mine", json={"steering": "happy:0.5"})
    flow({"only": {"preset": "mine"}})
    client.delete("/v1/presets/mine")
    assert client.get("/v1/models/fake:support").status_code == 404
    assert "mine" in client.get("/v1/presets/support").json()["problem"]


def test_other_routes_for_chats_have_flows_too(client, chat, flow):
    flow(question="{message}? {choices}")
    chosen = chat(model="fake:support")["trimtab"]["stage"]
    fields = {"model": "fake:support", "temperature": 0}
    message = {**fields, "messages": CHAT["messages"], "max_tokens": 4}
    response = {**fields, "input": "Hello", "max_output_tokens": 4}
    for path, body in (("/v1/messages", message), ("/v1/responses", response)):
        assert client.post(path, json=body).json()["trimtab"]["stage"] == chosen
        given = client.post(path, json={**body, "metadata": {"stage": "greeting"}}).json()["trimtab"]
        assert (given["stage"]["by"], given["answers"][0]["receipt"]["steering"]) == ("request", "happy:0.5")
        given = client.post(path, json=body, headers={"x-trimtab-stage": "complaint"}).json()["trimtab"]
        assert (given["stage"]["name"], given["answers"][0]["receipt"]["steering"]) == ("complaint", "none")
