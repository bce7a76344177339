"""``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from trimtab.server.errors import RequestError
from trimtab.server.serving import Served

router = APIRouter(tags=["operations"])
STALLED = 60.0  # seconds without a pass, with requests in the engine, after which the server is not ready
FAILURES = 3  # failed passes in a row after which it is not


@router.get("/healthz", response_class=PlainTextResponse)
async def tell_health() -> str:
    """Say that the process answers."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse)
async def tell_readiness(serving: Served) -> str:
    """Say whether the engine answers: its model has read something lately, or has nothing to do."""
    stalled = serving.engine.stalled
    if stalled > STALLED:
        raise RequestError(f"the engine has done nothing for {stalled:.0f} s", status=503, code="not_ready")
    if (failures := serving.engine.workload.failures) >= FAILURES:
        raise RequestError(f"the last {failures} passes of the model have failed", status=503, code="not_ready")
    if serving.admission.closed:
        raise RequestError("the server is about to stop", status=503, code="stopping")
    return "ready\n"


@router.get("/metrics", response_class=PlainTextResponse)
async def tell_metrics(serving: Served) -> PlainTextResponse:
    """Return the metrics in the format of Prometheus."""
    return PlainTextResponse(generate_latest(serving.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
