"""Worker processes, one for each side: asked by JSON lines, and ended however the benchmark ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from trimtab.errors import BenchmarkError

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Job:
    """Settings of a worker.

    Attributes:
        dtype: Data type of the weights.
        threads: Number of threads for computing.
        model: Folder of the model; None for the default model, which only trimtab's worker can find.
        device: Device to compute on.
    """

    dtype: str
    threads: int
    model: str | None = None
    device: str = "cpu"


@final
class Worker:
    """Process that answers each JSON line with one JSON line. Close it.

    Attributes:
        pid: Process id.
    """

    def __init__(self, side: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._side = side
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the worker is
        try:
            # The worker gets its own session: Ctrl-C then reaches only the parent, which ends its workers itself.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise BenchmarkError(
                f"the worker of {side} cannot be started: {error.strerror or error}", fix="check the interpreter"
            ) from None
        self.pid = self._process.pid

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            BenchmarkError: The worker ended instead; the message has the last line of its standard error.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **details}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Return the next answer; the first one, which needs no request, describes the worker.

        Raises:
            BenchmarkError: The worker ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._failure()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process at once, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # a request that was never read
                    stream.close()
        self._errors.close()

    def _failure(self) -> BenchmarkError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1].strip() if lines else f"it ended with code {code} and no message"
        return BenchmarkError(f"the worker of {self._side} failed: {last}")


def start_trimtab(side: str, job: Job) -> Worker:
    """Start a worker that runs this trimtab."""
    environment = worker_environment(job.threads)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    return Worker(side, trimtab_command(job), environment)


def start_repeng(side: str, interpreter: str, job: Job) -> Worker:
    """Start a worker that runs repeng in another interpreter."""
    # Neither the caller's path nor the current folder: nothing of trimtab's environment gets into repeng's.
    environment = {**worker_environment(job.threads), "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    return Worker(side, repeng_command(interpreter, job), environment)


def check_interpreter(interpreter: str) -> None:
    """Check before any work that repeng's interpreter exists.

    Raises:
        BenchmarkError: It does not.
    """
    if shutil.which(interpreter) is None:
        raise BenchmarkError(f"there is no interpreter {interpreter!r}", fix="run: make bench, or leave --peer out")


def trimtab_command(job: Job) -> list[str]:
    """Return the command of trimtab's worker."""
    return [sys.executable, "-m", "benchmarks.engine_worker", json.dumps(asdict(job))]


def repeng_command(interpreter: str, job: Job) -> list[str]:
    """Return the command of repeng's worker."""
    return [interpreter, "-m", "benchmarks.repeng_worker", json.dumps(asdict(job))]


def worker_environment(threads: int) -> dict[str, str]:
    """Return the environment of every worker: the same number of threads in each library, no progress bars, no hub."""
    number = str(threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": number,
        "MKL_NUM_THREADS": number,
        "RAYON_NUM_THREADS": number,
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
    }
