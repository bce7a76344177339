"""A browser, and servers for it. A page that a test opens must end without an error and without a request elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, sync_playwright

import trimtab.training.train as training
from sample_vectors import calibration_record, directions, make_vector, neutral_record, safe_range, written_effect
from served import listening
from trimtab.engines.fake import FakeEngine
from trimtab.engines.transformers import TransformersEngine
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings
from trimtab.vectors import ControlVector

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT = 10_000  # milliseconds that a page may take for one step
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
NONE: Mapping[str, str] = MappingProxyType({})
NAMES = ("happy", "formal", "calm")  # vectors of the fake engine


@pytest.fixture(autouse=True)
def _own_vectors_folder() -> None:
    """Leave the vectors that come with trimtab where they are: the servers below have folders of their own."""


@pytest.fixture(scope="session", autouse=True)
def _no_vectors_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide vectors that this user trained for the zoo, which come before those that come with trimtab."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMTAB_VECTORS", str(tmp_path_factory.mktemp("vectors")))
        yield


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium of the operating system; playwright's own is not downloaded."""
    path = os.environ.get("TRIMTAB_CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium: install it, or name one in TRIMTAB_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Watched:
    """What a page did that it must not do."""

    allowed: re.Pattern[str] | None = None
    faults: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        """Note errors, dialogs and requests to anything but the loopback address; the last are not sent."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.note(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.note(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", self._request)
        page.context.route(lambda url: not is_local(url), self._refuse)

    def note(self, fault: str) -> None:
        """Note a fault, unless the test expects it."""
        if self.allowed is None or not self.allowed.search(fault):
            self.faults.append(fault)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.note(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        if not is_local(request.url):
            self.note(f"request: {request.url}")

    def _refuse(self, route: Route) -> None:
        route.abort()


def is_local(url: str) -> bool:
    """Return True for an address that stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "file") or parts.hostname in LOOPBACK


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """``open_page(address, width=390, scheme="dark")`` opens a page; its faults fail the test.

    ``allowed`` is a pattern of faults that the test is about, ``stored`` is left in the browser by a former visit, and
    ``script`` runs before those of the page.
    """
    opened: list[tuple[Page, Watched]] = []

    def open_(
        address: str,
        *,
        width: int = 1440,
        height: int = 1000,
        scheme: str = "light",
        allowed: str | None = None,
        stored: Mapping[str, Any] = NONE,
        script: str = "",
        settled: bool = True,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
        )
        for name, value in stored.items():
            once = f"if (sessionStorage.getItem('{name}')) return; sessionStorage.setItem('{name}', 'stored');"
            put = f"localStorage.setItem('trimtab.{name}', {json.dumps(json.dumps(value))});"
            context.add_init_script(f"(() => {{ {once} {put} }})()")
        if script:
            context.add_init_script(script)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        watched = Watched(None if allowed is None else re.compile(allowed))
        watched.watch(page)
        opened.append((page, watched))
        page.goto(address)
        if settled:
            page.get_by_role("main").wait_for()
        return page

    yield open_
    for page, _ in opened:
        page.context.close()
    faults = [fault for _, watched in opened for fault in watched.faults]
    assert not faults, "\n".join(faults)


@pytest.fixture(scope="session")
def fake_vectors(fake: FakeEngine) -> list[ControlVector]:
    """Vectors of the fake engine, as if they had been measured."""
    return [
        make_vector(
            name,
            model=fake.info,
            directions=directions((0, 2), size=fake.info.hidden_size, seed=seed),
            neutral=neutral_record(),
            safe=safe_range(),
            calibration=calibration_record(written=(written_effect(),)),
        )
        for seed, name in enumerate(NAMES)
    ]


@pytest.fixture(scope="session")
def serve(
    fake_vectors: list[ControlVector], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., AbstractContextManager[str]]:
    """``with serve(engine) as address`` serves an engine with the fake vectors, in folders of its own."""

    def start(
        engine: Any, *, vectors: Sequence[ControlVector] = fake_vectors, presets: Mapping[str, str] = NONE
    ) -> AbstractContextManager[str]:
        folder = tmp_path_factory.mktemp("served")
        (folder / "presets").mkdir()
        for name, content in presets.items():
            (folder / "presets" / f"{name}.toml").write_text(content, encoding="utf-8")
        for vector in vectors:
            vector.save(folder / f"{vector.behaviour.name}.safetensors")
        settings = ServerSettings(model="fake", vectors=folder, presets=folder / "presets", drain=0)
        return listening(create_app(engine, settings))

    return start


@pytest.fixture(scope="session")
def fake_address(fake: FakeEngine, serve: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    """Address of a server over the fake engine, with three vectors."""
    with serve(fake) as address:
        yield address


@pytest.fixture(scope="session")
def true_address(smollm2: TransformersEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server over the default model, with the vectors that come with trimtab."""
    folder = tmp_path_factory.mktemp("true")
    settings = ServerSettings(model="smollm2", vectors=folder, presets=folder, drain=0)
    with listening(create_app(smollm2, settings)) as address:
        yield address


@pytest.fixture
def page(open_page: Callable[..., Page], fake_address: str) -> Page:
    """The page over the fake engine, wide and light."""
    return open_page(fake_address)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds trainings at their first step until it is set."""
    gate, work = threading.Event(), training.train

    def train(*arguments: Any, progress: Any, **options: Any) -> ControlVector:
        def on_progress(step: Any) -> None:
            progress(step)
            while not gate.wait(0.01):
                progress(step)

        return work(*arguments, progress=on_progress, **options)

    monkeypatch.setattr(training, "train", train)
    yield gate
    gate.set()


@pytest.fixture
def train_pirate() -> Callable[[Page], None]:
    """``train_pirate(page)`` fills in the form of Make, and begins a quick training."""

    def train(page: Page) -> None:
        page.get_by_role("textbox", name="towards, way 1").fill("a salty pirate captain")
        page.get_by_role("textbox", name="against, way 1").fill("a careful city lawyer")
        page.get_by_role("textbox", name="Name").fill("pirate")
        page.get_by_role("radio", name=re.compile("^Quick")).check()
        page.get_by_role("button", name=re.compile("^Train")).click()

    return train
