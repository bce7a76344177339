"""Real models for the tests: the default one, and tiny ones of several families."""

from __future__ import annotations

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = f"{tempfile.gettempdir()}/trimtab-no-hub"  # what happens to be cached plays no part
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # on a busy machine two threads wait for each other, and compute less

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

import trimtab
from tiny_models import BY_NAME, CHAT_TEMPLATE, FAMILIES, Family, byte_tokenizer, vector_for
from trimtab.engines.fake import FakeEngine
from trimtab.engines.prefix_tree import Cost, Plan, PrefixTree, plan_batches, plan_prefix_tree
from trimtab.engines.transformers import TransformersEngine
from trimtab.vectors import ControlVector

settings.register_profile("trimtab", deadline=None, derandomize=True, database=None)
settings.load_profile("trimtab")


@pytest.fixture(autouse=True)
def _own_vectors_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees this user's vectors, nor those that come with trimtab."""
    monkeypatch.setenv("TRIMTAB_VECTORS", str(tmp_path / "vectors"))
    monkeypatch.setenv("TRIMTAB_PRESETS", str(tmp_path / "presets"))
    monkeypatch.setattr("trimtab.vectors.vector.PACKAGED", tmp_path / "packaged")


@pytest.fixture(scope="session")
def smollm2() -> TransformersEngine:
    """The default model. Tests leave it as they found it."""
    return trimtab.load()


@pytest.fixture(scope="session")
def tiny() -> Callable[..., TransformersEngine]:
    """``tiny("gpt2", seed=1)`` makes a fresh tiny model; further names change its config."""

    def make(
        family: str = "llama",
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        chat_template: str | None = CHAT_TEMPLATE,
        **changes: Any,
    ) -> TransformersEngine:
        model = BY_NAME[family].build(seed=seed, **changes).to(dtype)
        return TransformersEngine(model, byte_tokenizer(chat_template=chat_template), name=f"tiny {family}")

    return make


@pytest.fixture(scope="session")
def llama(tiny: Callable[..., TransformersEngine]) -> TransformersEngine:
    """One tiny Llama for all. Tests leave it as they found it."""
    return tiny("llama")


@pytest.fixture(scope="session")
def tiny_llama(tiny: Callable[..., TransformersEngine]) -> TransformersEngine:
    """A tiny Llama with room for the long chats of training, which has a token for each byte."""
    return tiny("llama", max_position_embeddings=8192)


@pytest.fixture(scope="session")
def fake() -> FakeEngine:
    """An engine without torch, for tests of logic in which the model does not matter."""
    return FakeEngine()


@pytest.fixture(scope="session")
def random_vector() -> Callable[..., ControlVector]:
    """``random_vector(engine, layers=[1, 2])`` makes a calibrated vector of random directions."""
    return vector_for


@pytest.fixture(scope="session")
def happy(smollm2: TransformersEngine, tmp_path_factory: pytest.TempPathFactory) -> ControlVector:
    """The default model's happy vector, really trained, once for all processes; unrefined, to save a minute."""
    folder = tmp_path_factory.getbasetemp()
    path = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "happy.safetensors"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            trimtab.train(smollm2, trimtab.Behaviour.load("happy"), refine=0).save(path)
    return ControlVector.load(path)


@pytest.fixture(scope="session", params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    """Each family in turn."""
    return request.param


@pytest.fixture(scope="session")
def engine(family: Family, tiny: Callable[..., TransformersEngine]) -> TransformersEngine:
    """A tiny model of each family in turn. Tests leave it as they found it."""
    return tiny(family.name)


@pytest.fixture
def always_walking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Walk over the tree wherever the model allows it, also where plain batches would cost less."""

    def plan(tree: PrefixTree, cost: Cost, *, may_walk: bool = True, **_: object) -> Plan:
        return plan_prefix_tree(tree, cost) if may_walk else plan_batches(tree, cost)

    monkeypatch.setattr("trimtab.engines.transformers.forward.run.plan_passes", plan)
