"""Jobs: training, distilling, evaluating and sweeping beside the answers, each with a journal that outlives the server.

A job's state is one JSON file that is replaced as a whole, its events are lines that are appended, and its results so
far are the checkpoint of the training. So a job that was interrupted, by a stop or by a kill, goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from threading import RLock, Thread
from typing import Annotated, Any, Literal, TypeAlias, cast, final

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from trimtab.behaviours import Behaviour, zoo_names
from trimtab.engines.generation import Generation, Serves, waker
from trimtab.engines.protocol import Measures, Trains
from trimtab.errors import BehaviourError, TrimtabError, near_names
from trimtab.server.errors import RequestError, error_json, internal_error_json
from trimtab.server.estimates import TYPICAL, merged, scaled, seconds_left
from trimtab.server.fields import Fields, Number
from trimtab.server.presets import MAX_SYSTEM, Name
from trimtab.server.vectors import VectorIndex
from trimtab.steering import Steering
from trimtab.training.progress import OnProgress, Progress
from trimtab.training.written import MIN_DISTINCT, distinct_share
from trimtab.vectors import ControlVector, SafeRange, write_atomically

logger = logging.getLogger("trimtab.server")
MAX_QUEUED = 16  # jobs that wait
MAX_KEPT = 200  # jobs that have ended
MAX_STRENGTHS = 16
MAX_TOML = 500_000  # characters of a behaviour
MAX_MESSAGES = 2_000
EVERY = 0.25  # seconds between two events of one phase
KEEP_ALIVE = 15.0  # seconds of silence after which a stream of events says that it is still there
STOPPING = 10.0  # seconds that a job has to reach its next step when the server ends

Toml = Annotated[str, StringConstraints(max_length=MAX_TOML)]
Message = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
Status: TypeAlias = Literal["queued", "running", "stopped", "done", "failed"]
ENDED = ("stopped", "done", "failed")


class TrainFields(Fields):
    """Training of a vector."""

    kind: Literal["train"]
    name: Name = Field(description="Name of the vector.")
    behaviour: Name | None = Field(default=None, description="Behaviour of the zoo.")
    toml: Toml | None = Field(default=None, description="Or the text of a behaviour's file.")
    effort: Literal["quick", "default", "thorough"] = "default"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    overwrite: bool = Field(default=False, description="Whether another vector of this name is replaced.")


class DistillFields(Fields):
    """Distillation of a system prompt into a vector."""

    kind: Literal["distill"]
    name: Name = Field(description="Name of the vector.")
    system_prompt: Annotated[str, StringConstraints(min_length=1, max_length=MAX_SYSTEM)]
    prompts: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] | None = Field(
        default=None, description="Users' messages; built-in ones if not given."
    )
    steps: Annotated[int, Field(ge=1, le=10_000)] | None = None
    answers: Annotated[int, Field(ge=1, le=64)] | None = None
    answer_tokens: Annotated[int, Field(ge=1, le=1_024)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    overwrite: bool = False


class EvaluateFields(Fields):
    """Evaluation of a vector."""

    kind: Literal["evaluate"]
    vector: Name
    behaviour: Name | None = Field(default=None, description="Behaviour of the zoo; that of the vector's name.")
    toml: Toml | None = Field(default=None, description="Or the text of a behaviour's file.")
    questions: Annotated[int, Field(ge=4, le=48)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class SweepFields(Fields):
    """Answers to one message at several strengths, all in one batch."""

    kind: Literal["sweep"]
    vector: Name
    prompt: Message
    strengths: Annotated[
        list[Annotated[Number, Field(ge=-10, le=10)]], Field(min_length=1, max_length=MAX_STRENGTHS)
    ] = Field(default=[-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
    max_tokens: Annotated[int, Field(ge=1, le=512)] = 60
    kl: bool = True


JobFields: TypeAlias = Annotated[
    TrainFields | DistillFields | EvaluateFields | SweepFields, Field(discriminator="kind")
]
_FIELDS: TypeAdapter[TrainFields | DistillFields | EvaluateFields | SweepFields] = TypeAdapter(JobFields)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it is now.

    Attributes:
        id: Its name.
        fields: What was asked for.
        status: Where it is.
        created: When it was asked for, in seconds since 1970.
        started: When it was begun for the last time.
        ended: When it ended.
        phases: Phases that were finished, with their seconds; a resumed job repeats some.
        phase_began: When the current phase began, in seconds since 1970.
        progress: Its last step.
        result: What came out.
        error: Why it failed, in the shape of an error of the server.
    """

    id: str
    fields: TrainFields | DistillFields | EvaluateFields | SweepFields
    status: Status = "queued"
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    phases: tuple[tuple[str, float], ...] = ()
    phase_began: float | None = None
    progress: Progress | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None

    def to_json(self, *, whole: bool = True) -> dict[str, Any]:
        """Return the job as clients see it, and as its file has it; its result only if ``whole``."""
        return {
            "object": "job",
            "id": self.id,
            "kind": self.fields.kind,
            "status": self.status,
            "created": self.created,
            "started": self.started,
            "ended": self.ended,
            "phases": [{"phase": phase, "seconds": seconds} for phase, seconds in self.phases],
            "phase_began": self.phase_began,
            "progress": None if self.progress is None else _step_json(self.progress),
            "error": self.error,
            "fields": self.fields.model_dump(),
            "result": self.result if whole else None,
        }


class _Interrupted(Exception):  # noqa: N818 - no error: the job was stopped
    """The job is to end at this step."""


@dataclass(frozen=True)
class JobEvent:
    """Event of a job; numbers begin at 1 and have no gaps."""

    number: int
    name: str
    data: Mapping[str, Any]


@final
class Jobs:
    """Jobs of one server, in a folder.

    Trainings and evaluations run one after the other; sweeps, which take seconds, do not wait for them. The model is
    shared with the answers: whoever wants it takes turns, pass by pass.

    Args:
        engine: The engine.
        vectors: Where finished vectors go.
        folder: Of the jobs' files.
    """

    def __init__(self, engine: Serves, vectors: VectorIndex, *, folder: Path) -> None:
        self._engine = engine
        self._vectors = vectors
        self._folder = folder
        self._lock = RLock()
        self._events: dict[str, list[JobEvent]] = {}
        self._listeners: dict[str, set[Callable[[], None]]] = {}
        self._jobs: dict[str, Job] = dict(self._read())
        self._to_stop: set[str] = set()
        self._closing = False
        self._queues: dict[bool, SimpleQueue[str | None]] = {}  # by whether it is of sweeps
        self._threads: list[Thread] = []

    def start(self) -> None:
        """Go on with the jobs that a former server has not finished."""
        for job in sorted(self._jobs.values(), key=lambda job: job.created):
            if job.status in ("queued", "running"):
                self._put(replace(job, status="queued"))
                self._enqueue(job)

    def close(self) -> None:
        """Interrupt what runs; the next server goes on with it."""
        self._closing = True
        for queue in self._queues.values():
            queue.put(None)
        for thread in self._threads:
            thread.join(STOPPING)

    def create(self, fields: TrainFields | DistillFields | EvaluateFields | SweepFields) -> Job:
        """Queue a job.

        Raises:
            TrimtabError: It cannot be done, or too many are waiting.
        """
        self._check(fields)
        with self._lock:
            waiting = sum(job.status == "queued" for job in self._jobs.values())
            if waiting >= MAX_QUEUED:
                raise RequestError(
                    f"{waiting} jobs are waiting", fix="wait for some of them", status=429, retry_after=60
                )
            job = Job(id=f"job-{secrets.token_hex(8)}", fields=fields)
            self._put(job)
            self._tell(job.id, "status", {"status": "queued"})
            self._forget_old()
        self._enqueue(job)
        return job

    def all(self) -> list[Job]:
        """Return all jobs, the newest first."""
        return sorted(self._jobs.values(), key=lambda job: job.created, reverse=True)

    def get(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            RequestError: There is none.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise RequestError(
                f"there is no job {job_id[:64]!r}", fix="GET /v1/jobs has all", status=404, code="not_found"
            )
        return job

    def findings(self, job_id: str) -> list[Mapping[str, Any]]:
        """Return the intermediate results of a job.

        Raises:
            RequestError: There is no such job.
        """
        self.get(job_id)
        return [event.data for event in self._events_of(job_id) if event.name == "finding"]

    def expected_of(self, job: Job) -> Mapping[str, float]:
        """Return the seconds that each phase of a job is expected to take."""
        return self.expected(_kind_of(job.fields))

    def expected(self, kind: str) -> Mapping[str, float]:
        """Return the seconds that each phase of a kind of job takes, such as those of ``"train quick"``.

        They are those of the latest one that is done; else what is typical.
        """
        for job in self.all():
            if job.status == "done" and _kind_of(job.fields) == kind and job.phases:
                return merged(job.phases)
        return scaled(TYPICAL[kind], self._engine.info)

    def seconds_left(self, job: Job) -> float | None:
        """Return about how long a job still takes; None where nothing is known of such jobs, and once it has ended."""
        if job.status in ENDED or not (expected := self.expected_of(job)):
            return None
        if job.progress is None or job.phase_began is None or job.status == "queued":
            return sum(expected.values())
        step = job.progress
        spent = merged([*job.phases, (step.phase, max(time.time() - job.phase_began, 0.0))])
        return seconds_left(expected, spent, phase=step.phase, share=step.done / max(step.total, 1))

    def card(self, name: str, vector: ControlVector) -> Mapping[str, Any] | None:
        """Return the card of the latest evaluation of a vector; None if it was trained or uploaded since."""
        for job in self.all():
            if isinstance(job.fields, EvaluateFields) and job.fields.vector == name and job.result is not None:
                same = job.result.get("created") == vector.created
                return cast("Mapping[str, Any]", job.result["card"]) if same else None
        return None

    def stop(self, job_id: str) -> Job:
        """Stop a job at its next step; what it has found is kept. One that has ended stays as it is."""
        with self._lock:
            job = self.get(job_id)
            if job.status == "queued":
                self._end(job, "stopped")
            elif job.status == "running":
                self._to_stop.add(job_id)
            return self.get(job_id)

    def resume(self, job_id: str) -> Job:
        """Go on with a job that was stopped or has failed.

        Raises:
            RequestError: It is done or has not ended.
        """
        with self._lock:
            job = self.get(job_id)
            if job.status not in ("stopped", "failed"):
                raise RequestError(
                    f"the job is {job.status}", fix="only stopped and failed jobs are resumed", status=409
                )
            job = replace(job, status="queued", ended=None, error=None)
            self._put(job)
            self._tell(job_id, "status", {"status": "queued"})
        self._enqueue(job)
        return job

    async def events(self, job_id: str, *, after: int = 0) -> AsyncIterator[JobEvent | None]:
        """Yield a job's events behind a number until it has ended; None where nothing has happened for a while.

        Raises:
            RequestError: There is no such job.
        """
        self.get(job_id)
        changed = asyncio.Event()
        wake = waker(changed)
        listeners = self._listeners.setdefault(job_id, set())
        listeners.add(wake)
        try:
            while True:
                changed.clear()
                ended = self.get(job_id).status in ENDED  # before the last events are taken
                fresh = self._events_of(job_id)[after:]
                for each in fresh:
                    yield each
                after += len(fresh)
                if ended and not fresh:
                    return
                if not fresh:
                    try:
                        await asyncio.wait_for(changed.wait(), KEEP_ALIVE)
                    except TimeoutError:
                        yield None
        finally:
            listeners.discard(wake)

    def _check(self, fields: TrainFields | DistillFields | EvaluateFields | SweepFields) -> None:
        """Refuse what would fail for certain, before it waits."""
        if isinstance(fields, (EvaluateFields, SweepFields)):
            self._vectors.find(fields.vector)
        if isinstance(fields, TrainFields):
            if fields.behaviour is None and fields.toml is None:
                raise RequestError("there is nothing to train", fix="give behaviour or toml", param="behaviour")
            behaviour_of(fields.behaviour, fields.toml)
        if isinstance(fields, EvaluateFields) and (fields.behaviour or fields.toml is not None):
            behaviour_of(fields.behaviour, fields.toml)
        if (
            isinstance(fields, (TrainFields, DistillFields))
            and not fields.overwrite
            and self._vectors.is_own(fields.name)
        ):
            raise RequestError(
                f"there is a vector {fields.name!r} already",
                fix="choose another name, or set overwrite",
                param="name",
                status=409,
                code="exists",
            )

    def _enqueue(self, job: Job) -> None:
        sweeps = isinstance(job.fields, SweepFields)
        with self._lock:
            if sweeps not in self._queues:
                queue = self._queues[sweeps] = SimpleQueue()
                thread = Thread(target=self._work, args=(queue,), name="trimtab-jobs", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._queues[sweeps].put(job.id)

    def _work(self, queue: SimpleQueue[str | None]) -> None:
        while (job_id := queue.get()) is not None and not self._closing:
            with self._lock:
                job = self._jobs.get(job_id)
                if job is None or job.status != "queued":
                    continue  # it was stopped
                job = replace(job, status="running", started=time.time(), ended=None, error=None, phase_began=None)
                self._put(job)
                self._tell(job_id, "status", {"status": "running"})
            try:
                result = self._run(job)
            except _Interrupted:
                if not self._closing:  # else it stays "running", and the next server goes on
                    self._end(self.get(job_id), "stopped")
            except TrimtabError as error:
                self._end(self.get(job_id), "failed", error=error_json(error)["error"])
            except Exception:
                logger.exception("the job %s has failed", job_id)
                self._end(self.get(job_id), "failed", error=internal_error_json()["error"])
            else:
                self._end(self.get(job_id), "done", result=result)

    def _run(self, job: Job) -> dict[str, Any]:
        fields, progress = job.fields, self._on_progress(job.id)
        if isinstance(fields, SweepFields):
            return self._sweep(job.id, fields, progress)
        if isinstance(fields, EvaluateFields):
            return self._evaluate(fields, progress)
        path = self._path(job.id, ".safetensors")
        if not path.exists():  # else it was finished just before the server was killed
            make = self._train if isinstance(fields, TrainFields) else self._distill
            made = make(fields, self._path(job.id, ".sqlite"), progress)  # type: ignore[arg-type]
            made.save(path)
        vector = ControlVector.load(path)
        name = fields.name
        if not fields.overwrite:
            name = self._vectors.free_name(name)  # somebody may have taken it meanwhile
        self._vectors.put(name, path, overwrite=fields.overwrite)
        path.unlink(missing_ok=True)
        safe = None if vector.safe is None else {"low": vector.safe.low, "high": vector.safe.high}
        return {"vector": name, "safe": safe}

    def _train(self, fields: TrainFields, checkpoint: Path, progress: OnProgress) -> ControlVector:
        from trimtab.training.train import train

        return train(
            cast("Trains", self._engine),
            behaviour_of(fields.behaviour, fields.toml),
            effort=fields.effort,
            seed=fields.seed,
            checkpoint=checkpoint,
            progress=progress,
        )

    def _distill(self, fields: DistillFields, checkpoint: Path, progress: OnProgress) -> ControlVector:
        from trimtab.training.distillation.distill import Effort, distill

        usual = Effort()
        effort = replace(
            usual,
            answers=fields.answers,
            answer_tokens=fields.answer_tokens or usual.answer_tokens,
            schedule=replace(usual.schedule, steps=fields.steps or usual.schedule.steps),
        )
        return distill(
            cast("Trains", self._engine),
            fields.system_prompt,
            prompts=fields.prompts,
            name=fields.name,
            effort=effort,
            seed=fields.seed,
            checkpoint=checkpoint,
            progress=progress,
        )

    def _evaluate(self, fields: EvaluateFields, progress: OnProgress) -> dict[str, Any]:
        from trimtab.evaluation.cards import card_json_values, card_of
        from trimtab.evaluation.evaluate import evaluate
        from trimtab.evaluation.measurement import Sizes
        from trimtab.evaluation.report import report_json

        given = fields.behaviour is not None or fields.toml is not None
        vector = self._vectors.find(fields.vector)
        report = evaluate(
            cast("Measures", self._engine),
            vector,
            behaviour=behaviour_of(fields.behaviour, fields.toml) if given else None,
            sizes=Sizes() if fields.questions is None else Sizes(questions=fields.questions),
            seed=fields.seed,
            progress=progress,
        )
        if not given and fields.questions is None:
            self._keep_safe(fields.vector, vector, report.safe)
        card = card_json_values(card_of(report))
        return {"card": card, "report": report_json(report), "created": vector.created}

    def _keep_safe(self, name: str, vector: ControlVector, safe: SafeRange) -> None:
        """Write the measured safe range into the file of an own vector, unless it was made anew meanwhile."""
        if self._vectors.is_own(name) and self._vectors.find(name).created == vector.created:
            replace(vector, safe=safe).save(self._vectors.folder / f"{name}.safetensors")
            self._vectors.refresh()

    def _sweep(self, job_id: str, fields: SweepFields, progress: OnProgress) -> dict[str, Any]:
        vector = self._vectors.find(fields.vector)
        steerings = [Steering.of([(vector, strength)] if strength else None) for strength in fields.strengths]
        generations = [
            self._engine.submit(
                fields.prompt,
                steering=each,
                measure_kl=fields.kl and bool(each.terms),
                max_new_tokens=fields.max_tokens,
                temperature=0.0,
            )
            for each in steerings
        ]
        rows: list[dict[str, Any]] = []
        try:
            for number, (strength, generation) in enumerate(zip(fields.strengths, generations, strict=True)):
                progress(Progress("Answering at each strength", number, len(generations)))
                self._wait(job_id, generation)
                rows.append(_row(strength, steerings[number], generation))
                self._tell(job_id, "finding", {"kind": "strength", **rows[-1]})
        finally:
            for generation in generations:
                generation.cancel()
        return {"vector": fields.vector, "prompt": fields.prompt, "strengths": rows}

    def _wait(self, job_id: str, generation: Generation) -> None:
        while not generation.ended:
            self._check_goes_on(job_id)
            time.sleep(0.02)

    def _check_goes_on(self, job_id: str) -> None:
        if self._closing or job_id in self._to_stop:
            raise _Interrupted

    def _on_progress(self, job_id: str) -> OnProgress:
        told, began, phase = 0.0, time.monotonic(), ""

        def on_progress(step: Progress) -> None:
            nonlocal told, began, phase
            self._check_goes_on(job_id)
            if step.finding is not None:
                self._tell(job_id, "finding", asdict(step.finding))
                step = replace(step, finding=None)
            now = time.monotonic()
            is_new = step.phase != phase
            if not is_new and not step.note and step.done < step.total and now - told < EVERY:
                return
            with self._lock:
                job = self._jobs[job_id]
                if is_new:
                    began, phase = now, step.phase
                    self._put(replace(_finished_phase(job), progress=step, phase_began=time.time()))
                else:
                    self._jobs[job_id] = replace(job, progress=step)
                self._tell(job_id, "progress", {**_step_json(step), "seconds": round(now - began, 3)})
            told = now

        return on_progress

    def _end(
        self,
        job: Job,
        status: Status,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> None:
        with self._lock:
            self._to_stop.discard(job.id)
            if status == "done":
                job = _finished_phase(self.get(job.id))
            self._put(replace(job, status=status, ended=time.time(), result=result, error=error))
            data = {"status": status}
            if error is not None:
                data["error"] = error  # type: ignore[assignment]
            self._tell(job.id, "status", data)

    def _tell(self, job_id: str, name: str, data: Mapping[str, Any]) -> None:
        with self._lock:
            events = self._events_of(job_id)
            event = JobEvent(len(events) + 1, name, data)
            events.append(event)
            try:
                with self._path(job_id, ".events").open("a", encoding="utf-8") as file:
                    file.write(json.dumps([name, data]) + "\n")
            except OSError as error:
                logger.warning("an event of the job %s cannot be written: %s", job_id, error)
        for wake in tuple(self._listeners.get(job_id, ())):
            wake()

    def _events_of(self, job_id: str) -> list[JobEvent]:
        """Return a job's events, those of former servers included; a last line that was cut by a kill is dropped."""
        with self._lock:
            if job_id not in self._events:
                events: list[JobEvent] = []
                path = self._path(job_id, ".events")
                text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
                whole = text[: text.rfind("\n") + 1]
                if whole != text:
                    write_atomically(path, whole.encode())
                for line in whole.splitlines():
                    with suppress(ValueError, TypeError):
                        name, data = json.loads(line)
                        events.append(JobEvent(len(events) + 1, name, data))
                self._events[job_id] = events
            return self._events[job_id]

    def _put(self, job: Job) -> None:
        with self._lock:
            write_atomically(self._path(job.id, ".json"), json.dumps(job.to_json()).encode())
            self._jobs[job.id] = job

    def _forget_old(self) -> None:
        ended = [job for job in self.all() if job.status in ENDED]
        for job in ended[MAX_KEPT:]:
            del self._jobs[job.id]
            self._events.pop(job.id, None)
            for path in self._folder.glob(f"{job.id}.*"):
                path.unlink(missing_ok=True)

    def _path(self, job_id: str, ending: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{job_id}{ending}"

    def _read(self) -> list[tuple[str, Job]]:
        jobs = []
        for path in sorted(self._folder.glob("job-*.json")) if self._folder.is_dir() else ():
            try:
                job = _job_of(json.loads(path.read_bytes()))
            except (ValueError, KeyError, TypeError, OSError) as error:
                logger.warning("the job in %s is left out: %s", path.name, error)
                continue
            jobs.append((job.id, job))
        return jobs


def behaviour_of(name: str | None, toml: str | None) -> Behaviour:
    """Return a behaviour of the zoo by name, or one from text.

    Raises:
        BehaviourError: There is none, or the text is none.
        RequestError: Not exactly one of both is given.
    """
    if (name is None) == (toml is None):
        raise RequestError("give a behaviour or its text", fix="set one of behaviour and toml", param="behaviour")
    if toml is not None:
        return Behaviour.parse(toml)
    assert name is not None
    if name not in zoo_names():
        fix = near_names(name, zoo_names()) or "GET /v1/behaviours has all; or send its text as toml"
        raise BehaviourError(f"the zoo has no behaviour {name!r}", fix=fix)
    return Behaviour.load(name)


def _row(strength: float, steering: Steering, generation: Generation) -> dict[str, Any]:
    completion = generation.completion
    distinct = distinct_share(completion.text)
    beyond = [str(term.beyond_safe) for term in steering.terms if term.beyond_safe is not None]
    return {
        "strength": strength,
        "text": completion.text,
        "kl": completion.receipt.kl if steering.terms else 0.0,
        "distinct": distinct,
        "loops": distinct < MIN_DISTINCT,
        "usable": bool(completion.text.strip()) and distinct >= MIN_DISTINCT,
        "beyond_safe": beyond[0] if beyond else None,
    }


def _step_json(step: Progress) -> dict[str, Any]:
    return {key: value for key, value in asdict(step).items() if key != "finding"}


def _finished_phase(job: Job) -> Job:
    """Return a job with its current phase among those that are finished."""
    if job.progress is None or job.phase_began is None:
        return job
    phase = (job.progress.phase, round(time.time() - job.phase_began, 3))
    return replace(job, phases=(*job.phases, phase), phase_began=None)


def _kind_of(fields: TrainFields | DistillFields | EvaluateFields | SweepFields) -> str:
    """Return the kind of a job for estimates: efforts differ in time."""
    return f"train {fields.effort}" if isinstance(fields, TrainFields) else fields.kind


def _job_of(given: dict[str, Any]) -> Job:
    """Return a job from its file."""
    try:
        fields = _FIELDS.validate_python(given["fields"])
    except ValidationError as error:
        raise ValueError(f"its fields are malformed: {error.errors()[0]['msg']}") from None
    progress: Mapping[str, Any] | None = given["progress"]
    phases: Sequence[Mapping[str, Any]] = given["phases"]
    return Job(
        id=given["id"],
        fields=fields,
        status=given["status"],
        created=given["created"],
        started=given["started"],
        ended=given["ended"],
        phases=tuple((each["phase"], each["seconds"]) for each in phases),
        phase_began=given.get("phase_began"),
        progress=None if progress is None else Progress(**progress),
        result=given["result"],
        error=given["error"],
    )
