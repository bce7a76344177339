"""What all routes work with, in one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Annotated, cast
from weakref import WeakSet

from fastapi import Depends, Request

from trimtab.engines.generation import Generation, Serves
from trimtab.errors import near_names
from trimtab.server.admission import Admission
from trimtab.server.errors import RequestError
from trimtab.server.jobs import Jobs
from trimtab.server.limits import Pace
from trimtab.server.metrics import Metrics
from trimtab.server.preset_index import PresetIndex
from trimtab.server.presets import Preset
from trimtab.server.runlog import RunLog
from trimtab.server.settings import ServerSettings
from trimtab.server.stored import ResponseStore
from trimtab.server.vectors import VectorIndex


@dataclass(frozen=True)
class Serving:
    """A server's engine, settings, vectors and presets.

    Attributes:
        engine: The engine that answers.
        settings: The server's settings.
        vectors: The vectors that requests may name.
        presets: Presets by name.
        preset_index: Their files, which may be edited; None if they cannot be.
        jobs: Long work in the background; None if there is none.
        created: When the server was started, in seconds since 1970.
        responses: Responses that requests may continue.
        admission: Places in the engine.
        metrics: What is counted.
        tokens: Tokens that each key may use.
        generations: Answers that are being written.
        stopped: Set once the server gives up its answers.
        run_log: File of all requests.
    """

    engine: Serves
    settings: ServerSettings
    vectors: VectorIndex
    presets: Mapping[str, Preset] = field(default_factory=dict)
    created: int = 0
    responses: ResponseStore = field(default_factory=ResponseStore)
    admission: Admission = field(default_factory=lambda: Admission(places=64, waiting=256))
    metrics: Metrics = field(default_factory=Metrics)
    preset_index: PresetIndex | None = None
    jobs: Jobs | None = None
    tokens: Pace = field(default_factory=lambda: Pace(None, what="tokens"))
    generations: WeakSet[Generation] = field(default_factory=WeakSet)
    stopped: Event = field(default_factory=Event)
    run_log: RunLog | None = None

    def refresh(self) -> None:
        """Read the vectors and presets whose files have changed."""
        self.vectors.refresh()
        if self.preset_index is not None:
            self.preset_index.refresh()

    def stop(self) -> None:
        """Give up all answers; streams end with an error."""
        self.stopped.set()
        for generation in list(self.generations):
            generation.cancel()

    def preset_of(self, model: str) -> Preset:
        """Return the preset that a model's name asks for; an empty one for the model itself.

        Raises:
            RequestError: There is no such model.
        """
        base, _, variant = model.partition(":")
        if model in (self.settings.model, self.engine.info.name):
            return Preset()
        if base == self.settings.model and variant in self.presets:
            return self.presets[variant]
        known = [self.settings.model, *(f"{self.settings.model}:{name}" for name in self.presets)]
        raise RequestError(
            f"there is no model {model[:80]!r}",
            fix=near_names(model[:80], known) or f"use {self.settings.model!r}; /v1/models has all",
            param="model",
            status=404,
            code="model_not_found",
        )


async def serving_of(request: Request) -> Serving:  # FastAPI takes a thread for one that is not async
    """Return what the application serves."""
    return cast("Serving", request.app.state.serving)


Served = Annotated[Serving, Depends(serving_of)]
