"""Chat completions."""

from __future__ import annotations

import pytest

from served import CHAT, chunks_of


def test_answer_is_the_engines(chat, fake):
    answer = chat()
    (expected,) = fake.generate([CHAT["messages"]], max_new_tokens=12)
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == expected.text
    assert choice["finish_reason"] == expected.finish_reason
    assert choice["logprobs"] is None
    assert answer["object"] == "chat.completion"
    prompt, written = expected.prompt_tokens, len(expected.tokens)
    assert answer["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
    }


def test_stream_adds_up_to_the_answer(client, chat):
    whole = chat(logprobs=True, top_logprobs=2, n=2)
    fields = {**CHAT, "logprobs": True, "top_logprobs": 2, "n": 2, "stream": True}
    answer = client.post("/v1/chat/completions", json={**fields, "stream_options": {"include_usage": True}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, usage = chunks_of(answer.text)
    assert [chunk["choices"][0]["delta"] for chunk in chunks[:2]] == [{"role": "assistant", "content": ""}] * 2
    for number, choice in enumerate(whole["choices"]):
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == number]
        assert "".join(each["delta"].get("content", "") for each in mine) == choice["message"]["content"]
        assert [each["finish_reason"] for each in mine] == [None] * (len(mine) - 1) + ["length"]
        logprobs = [entry for each in mine if each["logprobs"] for entry in each["logprobs"]["content"]]
        assert logprobs == choice["logprobs"]["content"]
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert chunks[-1]["trimtab"] == whole["trimtab"]


def test_steering_changes_the_answer_and_is_in_the_receipt(chat, fake, happy_vector):
    (expected,) = fake.generate([CHAT["messages"]], steering=[(happy_vector, 2.0)], max_new_tokens=12)
    for steering in (
        "happy:2",
        {"happy": 2},
        [{"vector": "happy", "strength": 2}],
        {"terms": [{"vector": "happy", "strength": 2}]},
    ):
        answer = chat(steering=steering)
        assert answer["choices"][0]["message"]["content"] == expected.text
    (own,) = answer["trimtab"]["answers"]
    assert own["receipt"]["steering"] == "happy:2"
    assert own["receipt"]["tokens"] == expected.receipt.tokens > 0
    assert own["beyond_safe"]
    assert own["receipt"]["terms"][0]["beyond_safe"]["high"] == 0.75
    assert not chat(steering="happy:0.5")["trimtab"]["answers"][0]["beyond_safe"]


def test_body_wins_over_header(chat):
    header = {"x-trimtab-steering": "happy:0.25"}
    assert chat(headers=header)["trimtab"]["answers"][0]["receipt"]["steering"] == "happy:0.25"
    assert chat(headers=header, steering="happy:0.5")["trimtab"]["answers"][0]["receipt"]["steering"] == "happy:0.5"
    assert chat(headers=header, steering="none")["trimtab"]["answers"][0]["receipt"]["steering"] == "none"


def test_normalize_rescales(chat):
    def steering(**fields):
        return chat(**fields)["trimtab"]["answers"][0]["receipt"]["steering"]

    assert steering(steering="happy:0.5") == "happy:0.5"
    error = chat(steering="happy:0.5", normalize=0.1, status=400)["error"]
    assert error["param"] == "steering"


def test_readings_and_kl_are_reported(client, chat):
    answer = chat(readings=["happy"], steering="happy:0.5", kl=True)
    (own,) = answer["trimtab"]["answers"]
    assert len(own["readings"]["happy"]) == answer["usage"]["completion_tokens"]
    assert own["receipt"]["kl"] > 0
    stream = client.post(
        "/v1/chat/completions", json={**CHAT, "readings": ["happy"], "steering": "happy:0.5", "stream": True}
    )
    read = [chunk["trimtab"]["readings"]["happy"] for chunk in chunks_of(stream.text)[1:-1]]
    assert [score for scores in read for score in scores] == own["readings"]["happy"]


def test_mistake_in_steering_has_its_column(chat):
    error = chat(steering="happy:0.5 + formall:0.3", status=400)["error"]
    assert error["param"] == "steering"
    assert "column 13" in error["what"]
    assert error["type"] == "invalid_request_error"
    assert error["message"] == f"{error['what']}; {error['fix']}"


@pytest.mark.parametrize("name", ["../happy", "/etc/passwd", "served/happy", "happy.safetensors", "conftest.py"])
def test_vectors_are_named_never_found_by_path(chat, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conftest.py").touch()
    for steering in ({name: 0.5}, f'"{name}":0.5', [{"vector": name, "strength": 1}]):
        error = chat(steering=steering, status=400)["error"]
        assert "there is no vector" in error["what"]
    error = chat(steering=f"{name} x:1", status=400)["error"]
    assert "double quotes" not in error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 17}, "n"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"messages": []}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
            "messages",
        ),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages.0.role"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
        ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs.tools"),
        ({"guided_json": {}}, "guided_json"),
        ({"nonsense": 1}, "nonsense"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"readings": ["nobody"]}, "readings"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
    ],
)
def test_wrong_field_is_named(chat, fields, param):
    error = chat(status=400, **fields)["error"]
    assert error["param"].startswith(param)
    assert error["type"] == "invalid_request_error"


def test_old_name_of_a_field_names_the_new_one(chat):
    assert "structured_outputs" in chat(status=400, guided_choice=["a"])["error"]["fix"]


def test_harmless_fields_change_nothing(chat):
    plain = chat()["choices"]
    assert (
        chat(user="me", metadata={"a": "b"}, store=True, service_tier="auto", parallel_tool_calls=False)["choices"]
        == plain
    )


def test_constrained_answer_is_unsteered_unless_asked(chat):
    fields = {"structured_outputs": {"choice": ["yes", "no"]}, "steering": "happy:2"}
    answer = chat(**fields)
    assert answer["choices"][0]["message"]["content"] in ("yes", "no")
    assert answer["trimtab"]["answers"][0]["receipt"]["reason"] == "constrained"
    assert chat(**fields, steer_constrained=True)["trimtab"]["answers"][0]["receipt"]["tokens"] > 0


def test_unknown_model_is_404(chat):
    error = chat(model="fakee", status=404)["error"]
    assert error["code"] == "model_not_found"
    assert "'fake'" in error["fix"]


def test_answer_longer_than_the_window_is_cut(fake_of_window):
    client = fake_of_window(60)
    answer = client.post("/v1/chat/completions", json={**CHAT, "max_tokens": 1000}).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 60
    long = [{"role": "user", "content": "Hello " * 20}]
    answer = client.post("/v1/chat/completions", json={**CHAT, "messages": long})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_prompt"


def test_seeded_answers_repeat_and_differ_from_each_other(chat):
    def texts(**fields):
        return [choice["message"]["content"] for choice in chat(temperature=2, n=3, **fields)["choices"]]

    assert texts(seed=5) == texts(seed=5)
    assert len(set(texts(seed=5))) == 3
    assert texts(seed=-1) != texts(seed=5)


def test_stop_string_is_in_the_output_if_asked(chat):
    text = chat()["choices"][0]["message"]["content"]
    assert chat(stop=text[4:6])["choices"][0]["message"]["content"] == text[: text.index(text[4:6])]
    cut = text[: text.index(text[4:6]) + 2]
    assert chat(stop=text[4:6], include_stop_str_in_output=True)["choices"][0]["message"]["content"] == cut
