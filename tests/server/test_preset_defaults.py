"""Defaults and locks of presets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trimtab.server.presets import Preset
from trimtab.steering import Steering


@pytest.fixture
def with_preset(client):
    """Give the server a preset ``fake:own``."""

    def give(**fields):
        state = client.app.state
        state.serving = replace(state.serving, presets={"own": Preset(**fields)})

    return give


def test_preset_fills_what_a_request_lacks(chat, with_preset, happy_vector):
    steering = Steering.of([(happy_vector, 0.5)])
    with_preset(steering=steering, system="Be kind.", defaults={"max_tokens": 3, "n": 2, "response_format": None})
    answer = chat(model="fake:own", n=1)
    assert answer["model"] == "fake:own"
    assert len(answer["choices"]) == 1
    assert answer["usage"]["completion_tokens"] == 12
    assert answer["usage"]["prompt_tokens"] == chat()["usage"]["prompt_tokens"] + len("system: Be kind.\n")
    assert answer["trimtab"]["answers"][0]["receipt"]["steering"] == "happy:0.5"
    assert chat(model="fake:own", n=1, steering="none")["trimtab"]["answers"][0]["receipt"]["steering"] == "none"
    assert len(chat(model="fake:own")["choices"]) == 2


def test_locked_fields_are_refused_in_body_and_header(chat, with_preset):
    with_preset(locked=frozenset({"steering"}))
    assert chat(model="fake:own", steering="happy:1", status=400)["error"]["param"] == "steering"
    header = {"x-trimtab-steering": "happy:1"}
    assert chat(model="fake:own", headers=header, status=400)["error"]["param"] == "x-trimtab-steering"
    chat(model="fake:own", steering=None)


def test_presets_are_listed_as_models_unless_unlisted(client, with_preset):
    with_preset(metadata={"mood": "kind"})
    base, own = client.get("/v1/models").json()["data"]
    assert (base["parent"], own["id"], own["parent"], own["metadata"]["mood"]) == (None, "fake:own", "fake", "kind")
    with_preset(unlisted=True)
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["fake"]
    assert client.get("/v1/models/fake:own").status_code == 200
