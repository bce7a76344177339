"""The application: routes, errors, and the state that they share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from trimtab.defaults import VERSION
from trimtab.engines.generation import Serves
from trimtab.server.admission import Admission
from trimtab.server.background import background
from trimtab.server.errors import ERROR_RESPONSES, add_error_handlers
from trimtab.server.flows import STAGE_HEADER
from trimtab.server.gate import Gate
from trimtab.server.jobs import Jobs
from trimtab.server.keys import Key
from trimtab.server.limits import Pace
from trimtab.server.metrics import follow
from trimtab.server.page import router as page_router
from trimtab.server.preset_index import PresetIndex
from trimtab.server.routes import (
    behaviours,
    chat,
    completions,
    decisions,
    health,
    info,
    jobs,
    messages,
    models,
    presets,
    responses,
    steering,
    vectors,
)
from trimtab.server.runlog import RunLog
from trimtab.server.serving import Serving
from trimtab.server.settings import ServerSettings
from trimtab.server.steering import HEADER
from trimtab.server.vectors import VectorIndex
from trimtab.vectors.file import user_folder

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig  # of newer versions; older ones have no telemetry

# Nothing leaves the server on its own, and no prompt gets into a trace.
NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
ROUTERS = (
    chat.router,
    completions.router,
    models.router,
    health.router,
    responses.router,
    decisions.router,
    messages.router,
    presets.router,
    vectors.router,
    jobs.router,
    steering.router,
    behaviours.router,
    info.router,
    page_router,
)


def create_app(engine: Serves, settings: ServerSettings, *, keys: Sequence[Key] = ()) -> FastAPI:
    """Return an application that serves an engine.

    Args:
        engine: The engine that answers.
        settings: The server's settings.
        keys: Keys of clients; anyone may ask without any.
    """
    index = VectorIndex(engine.info, folder=settings.vectors)
    folder = settings.presets or user_folder("data", "TRIMTAB_PRESETS", within="presets")
    preset_index = PresetIndex(index, folder=folder)
    several = len(keys) > 1
    run_log = None if settings.run_log is None else RunLog(settings.run_log, model=settings.model)
    serving = Serving(
        engine=engine,
        settings=settings,
        vectors=index,
        presets=preset_index,
        created=int(time.time()),
        preset_index=preset_index,
        admission=Admission(
            places=settings.answers,
            waiting=settings.waiting,
            share=max(settings.answers * 3 // 4, 1) if several else None,  # or one client could take all places
            waiting_share=max(settings.waiting // 2, 1) if several else None,
        ),
        tokens=Pace(settings.tokens_per_minute, what="tokens"),
        run_log=run_log,
        jobs=Jobs(engine, index, folder=index.folder / ".jobs"),
    )
    app = FastAPI(
        title="trimtab",
        version=VERSION,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        responses=ERROR_RESPONSES,
        telemetry=NO_TELEMETRY,
        lifespan=lambda _: background(serving),
    )
    app.state.serving = serving
    follow(serving.metrics, serving.admission, engine)
    add_error_handlers(app, [route for router in ROUTERS for route in router.routes])
    for router in ROUTERS:
        app.include_router(router)
    app.add_middleware(Gate, settings=settings, keys=tuple(keys), run_log=run_log)
    if settings.allowed_origins:  # in front of the gate: browsers ask without a key whether they may ask
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["authorization", "content-type", "x-api-key", HEADER, STAGE_HEADER],
        )
    return app
