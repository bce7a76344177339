"""``/v1/jobs``: long work beside the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Path
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from trimtab.server.errors import RequestError
from trimtab.server.jobs import JobEvent, JobFields, Jobs
from trimtab.server.serving import Served, Serving
from trimtab.server.sse import event, event_stream

router = APIRouter(tags=["jobs"])
JobId = Annotated[str, Path(pattern="^job-[0-9a-f]{16}$")]
EVENTS: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
KEEP_ALIVE = b": still there\n\n"


class PhaseReply(BaseModel):
    """A phase that is finished."""

    phase: str
    seconds: float


class ProgressReply(BaseModel):
    """The last step of a job."""

    phase: str
    done: int
    total: int
    note: str
    status: str


class JobReply(BaseModel):
    """A job as it is now."""

    object: Literal["job"]
    id: str
    kind: Literal["train", "distill", "evaluate", "sweep"]
    status: Literal["queued", "running", "stopped", "done", "failed"]
    created: float
    started: float | None
    ended: float | None
    phases: list[PhaseReply]
    progress: ProgressReply | None
    error: dict[str, Any] | None
    fields: dict[str, Any]
    result: dict[str, Any] | None


class JobList(BaseModel):
    """All jobs without their results, the newest first."""

    object: str = "list"
    data: list[JobReply]


@router.post("/v1/jobs", status_code=202)
def create_job(body: Annotated[JobFields, Body()], serving: Served) -> JobReply:
    """Queue a training, distillation, evaluation or sweep."""
    return JobReply(**_jobs(serving).create(body).to_json())


@router.get("/v1/jobs")
def list_jobs(serving: Served) -> JobList:
    """List jobs."""
    return JobList(data=[JobReply(**job.to_json(whole=False)) for job in _jobs(serving).all()])


@router.get("/v1/jobs/{job_id}")
def get_job(job_id: JobId, serving: Served) -> JobReply:
    """Return one job with its result."""
    return JobReply(**_jobs(serving).get(job_id).to_json())


@router.delete("/v1/jobs/{job_id}", status_code=202)
def stop_job(job_id: JobId, serving: Served) -> JobReply:
    """Stop a job at its next step; what it has found is kept, and it may be resumed."""
    return JobReply(**_jobs(serving).stop(job_id).to_json())


@router.post("/v1/jobs/{job_id}/resume", status_code=202)
def resume_job(job_id: JobId, serving: Served) -> JobReply:
    """Go on with a job that was stopped or has failed."""
    return JobReply(**_jobs(serving).resume(job_id).to_json())


@router.get("/v1/jobs/{job_id}/events", response_class=StreamingResponse, responses=EVENTS)
async def stream_job_events(
    job_id: JobId,
    serving: Served,
    last_event_id: Annotated[str | None, Header(pattern=r"^[0-9]{1,12}$")] = None,
) -> StreamingResponse:
    """Stream a job's events, from the beginning or behind the last one that the client has."""
    jobs = _jobs(serving)
    jobs.get(job_id)
    return event_stream(_written(jobs.events(job_id, after=int(last_event_id or 0))))


async def _written(events: AsyncIterator[JobEvent | None]) -> AsyncIterator[bytes]:
    async for each in events:
        yield KEEP_ALIVE if each is None else event(dict(each.data), name=each.name, number=each.number)


def _jobs(serving: Serving) -> Jobs:
    if serving.jobs is None:
        raise RequestError("this server has no jobs", fix="start it with trimtab serve", status=409)
    return serving.jobs
