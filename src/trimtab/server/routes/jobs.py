"""``/v1/jobs``: long work beside the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Path
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from trimtab.evaluation.cards import Card
from trimtab.server.errors import ErrorObject, RequestError
from trimtab.server.jobs import Job, JobEvent, JobFields, Jobs
from trimtab.server.serving import Served, Serving
from trimtab.server.sse import event, event_stream
from trimtab.training.progress import ChosenLayers, PairAgreement, PoleAnswers

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


class SafeEnds(BaseModel):
    """Ends of a safe range."""

    low: float
    high: float


class MadeReply(BaseModel):
    """Result of a training or distillation."""

    vector: str = Field(description="Its name, with a number behind it where another one had that name.")
    safe: SafeEnds | None


class EvaluatedReply(BaseModel):
    """Result of an evaluation."""

    card: Card
    report: dict[str, Any]
    created: str = Field(default="", description="When the vector was made that was evaluated.")


class StrengthReply(BaseModel):
    """Answer at one strength."""

    kind: Literal["strength"] = "strength"
    strength: float
    text: str
    kl: float | None
    distinct: float = Field(description="Share of the runs of three words that are distinct.")
    loops: bool
    usable: bool
    beyond_safe: str | None


class SweptReply(BaseModel):
    """Result of a sweep."""

    vector: str
    prompt: str
    strengths: list[StrengthReply]


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
    phase_began: float | None
    progress: ProgressReply | None
    seconds_left: float | None = Field(default=None, description="About how long it still takes, from its speed.")
    expected: dict[str, float] = Field(default={}, description="Seconds by phase that such a job takes, in order.")
    error: ErrorObject | None
    fields: JobFields
    findings: list[PairAgreement | PoleAnswers | ChosenLayers | StrengthReply] = Field(
        default=[], description="Intermediate results, which are events as well."
    )
    result: MadeReply | EvaluatedReply | SweptReply | None


class JobList(BaseModel):
    """All jobs without their results, the newest first."""

    object: str = "list"
    data: list[JobReply]


@router.post("/v1/jobs", status_code=202)
def create_job(body: Annotated[JobFields, Body()], serving: Served) -> JobReply:
    """Queue a training, distillation, evaluation or sweep."""
    jobs = _jobs(serving)
    return _reply(jobs, jobs.create(body))


@router.get("/v1/jobs")
def list_jobs(serving: Served) -> JobList:
    """List jobs."""
    jobs = _jobs(serving)
    return JobList(data=[JobReply(**job.to_json(whole=False)) for job in jobs.all()])


@router.get("/v1/jobs/{job_id}")
def get_job(job_id: JobId, serving: Served) -> JobReply:
    """Return one job with its result."""
    jobs = _jobs(serving)
    return _reply(jobs, jobs.get(job_id))


@router.delete("/v1/jobs/{job_id}", status_code=202)
def stop_job(job_id: JobId, serving: Served) -> JobReply:
    """Stop a job at its next step; what it has found is kept, and it may be resumed."""
    jobs = _jobs(serving)
    return _reply(jobs, jobs.stop(job_id))


@router.post("/v1/jobs/{job_id}/resume", status_code=202)
def resume_job(job_id: JobId, serving: Served) -> JobReply:
    """Go on with a job that was stopped or has failed."""
    jobs = _jobs(serving)
    return _reply(jobs, jobs.resume(job_id))


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


def _reply(jobs: Jobs, job: Job) -> JobReply:
    return JobReply(
        **job.to_json(),
        findings=jobs.findings(job.id),
        expected=dict(jobs.expected_of(job)),
        seconds_left=jobs.seconds_left(job),
    )


async def _written(events: AsyncIterator[JobEvent | None]) -> AsyncIterator[bytes]:
    async for each in events:
        yield KEEP_ALIVE if each is None else event(dict(each.data), name=each.name, number=each.number)


def _jobs(serving: Serving) -> Jobs:
    if serving.jobs is None:
        raise RequestError("this server has no jobs", fix="start it with trimtab serve", status=409)
    return serving.jobs
