"""Completions of bare text, and the list of models."""

from __future__ import annotations

from served import chunks_of
from trimtab.server.replies import ChatCompletion, ModelList, TextCompletion


def test_prompts_are_continued_n_times_in_order(client, fake):
    body = {"model": "fake", "prompt": ["Hello", "Bye"], "n": 2, "max_tokens": 6, "temperature": 0, "logprobs": 1}
    answer = client.post("/v1/completions", json=body).json()
    expected = [fake.submit(text, raw=True, max_new_tokens=6).result(10).text for text in ("Hello", "Bye")]
    assert [choice["text"] for choice in answer["choices"]] == [expected[0]] * 2 + [expected[1]] * 2
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    logprobs = answer["choices"][0]["logprobs"]
    assert logprobs["tokens"] == list(expected[0])
    assert logprobs["text_offset"] == list(range(6))
    assert all(
        list(top.values()) == [own]
        for top, own in zip(logprobs["top_logprobs"], logprobs["token_logprobs"], strict=True)
    )
    streamed = chunks_of(client.post("/v1/completions", json={**body, "stream": True}).text)
    for choice in answer["choices"]:
        mine = [chunk["choices"][0] for chunk in streamed if chunk["choices"][0]["index"] == choice["index"]]
        assert "".join(each["text"] for each in mine) == choice["text"]
        offsets = [at for each in mine if each["logprobs"] for at in each["logprobs"]["text_offset"]]
        assert offsets == logprobs["text_offset"]


def test_too_many_answers_are_refused_before_any_work(client):
    body = {"model": "fake", "prompt": ["Hello"] * 32, "n": 16}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "n"


def test_models_are_listed(client):
    model, *presets = client.get("/v1/models").json()["data"]
    assert model["id"] == "fake"
    assert {preset["parent"] for preset in presets} == {"fake"}
    assert client.get("/v1/models/fake").json() == model
    assert client.get("/v1/models/other").status_code == 404


def test_errors_have_one_shape(client):
    for answer in (client.get("/nothing"), client.get("/v1/completions"), client.post("/v1/completions", content="{")):
        assert set(answer.json()["error"]) == {"message", "type", "param", "code", "what", "fix"}
        assert answer.status_code in (404, 405, 400)


def test_bug_is_answered_without_a_traceback(client, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(type(client.app.state.serving.engine), "submit", fail)
    answer = client.post("/v1/completions", json={"model": "fake", "prompt": "Hello"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


def keys_of(value):
    """Return the shape of a value: keys, nested."""
    if isinstance(value, dict):
        return {key: keys_of(each) for key, each in value.items()}
    return [keys_of(each) for each in value] if isinstance(value, list) else None


def test_answers_are_as_documented(client, chat):
    body = {"model": "fake", "prompt": "Hello", "logprobs": 1, "steering": "happy:1", "readings": ["happy"], "kl": True}
    for model, answer in (
        (ChatCompletion, chat(logprobs=True, top_logprobs=2, steering="happy:1", readings=["happy"], kl=True)),
        (TextCompletion, client.post("/v1/completions", json=body).json()),
        (ModelList, client.get("/v1/models").json()),
    ):
        read = model.model_validate(answer).model_dump(mode="json", exclude_unset=True)
        assert keys_of(read) == keys_of(answer)


def test_document_names_errors_of_every_route(client):
    document = client.get("/openapi.json").json()
    for path in document["paths"].values():
        for operation in path.values():
            assert {"4XX", "5XX"} <= operation["responses"].keys()
            assert "422" not in operation["responses"]


def test_wrong_method_names_all_of_the_path(client):
    answer = client.put("/v1/responses/resp_1")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET")
    assert answer.json()["error"]["code"] == "http_405"
