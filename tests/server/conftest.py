"""Servers: over a fake engine without a network, and over the default model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import trimtab.vectors
from sample_vectors import directions, make_vector, neutral_record, safe_range
from served import CHAT, listening
from trimtab.engines.fake import FakeEngine
from trimtab.engines.generation import Serves
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings
from trimtab.vectors import ControlVector


@pytest.fixture(scope="session")
def happy_vector(fake: FakeEngine) -> ControlVector:
    """A vector of the fake engine."""
    return make_vector(
        "happy",
        model=fake.info,
        directions=directions((0, 2), size=fake.info.hidden_size),
        neutral=neutral_record(),
        safe=safe_range(),
    )


@pytest.fixture
def client(fake: FakeEngine, happy_vector: ControlVector, tmp_path: Path) -> Iterator[TestClient]:
    """A client of a server with the vector ``happy``."""
    folder = tmp_path / "served"
    folder.mkdir()
    happy_vector.save(folder / "happy.safetensors")
    app = create_app(fake, ServerSettings(model="fake", vectors=folder))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def chat(client: TestClient) -> Callable[..., Any]:
    """``chat(temperature=1)`` asks for a chat completion, and returns the answer's JSON."""

    def ask(*, status: int = 200, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        answer = client.post("/v1/chat/completions", json={**CHAT, **fields}, headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


@pytest.fixture
def fake_of_window() -> Callable[[int], TestClient]:
    """``fake_of_window(60)`` is a client of a server whose model reads so many tokens."""

    def make(window: int) -> TestClient:
        return TestClient(
            create_app(FakeEngine(context_window=window), ServerSettings(model="fake")), base_url="http://localhost"
        )

    return make


@pytest.fixture(scope="module")
def happy() -> ControlVector:
    """The vector that comes with trimtab."""
    return ControlVector.load(Path(trimtab.vectors.__file__).parent / "zoo" / "happy.safetensors")


@pytest.fixture(scope="module")
def address(smollm2: Serves, happy: ControlVector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with the default model and the vector ``happy``."""
    folder = tmp_path_factory.mktemp("served")
    happy.save(folder / "happy.safetensors")
    with listening(create_app(smollm2, ServerSettings(model="smollm2", vectors=folder))) as address:
        yield address
