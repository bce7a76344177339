"""``/healthz``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client import generate_latest

from trimtab.server.errors import RequestError
from trimtab.server.serving import Served

router = APIRouter(tags=["operations"])
STALLED = 60.0  # seconds without a pass, with requests in the engine, after which the server is not ready


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
    return "ready\n"


@router.get("/metrics", response_class=PlainTextResponse)
async def tell_metrics(serving: Served) -> PlainTextResponse:
    """Return the metrics in the format of Prometheus."""
    gauges = {"num_requests_running": serving.admission.running, "num_requests_waiting": serving.admission.waiting}
    lines = [f"# TYPE trimtab_{name} gauge\ntrimtab_{name} {value}\n" for name, value in gauges.items()]
    text = generate_latest(serving.metrics.registry).decode() + "".join(lines)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
