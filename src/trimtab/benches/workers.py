"""Workers: one process for each side, asked over JSON lines, and gone whatever happens."""

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

OWN_MODULE = "trimtab.benches.worker"
PEER_SCRIPT = Path(__file__).with_name("peer_repeng.py")


@dataclass(frozen=True)
class Job:
    """What a worker is for.

    Attributes:
        dtype: Of the weights.
        threads: How many it may compute with.
        model: The folder with the model; None for the default one, which only trimtab's worker knows.
        device: Where it computes.
    """

    dtype: str
    threads: int
    model: str | None = None
    device: str = "cpu"


@final
class Worker:
    """A process that answers one JSON line with another. Close it.

    Attributes:
        pid: Of the process.
    """

    def __init__(self, side: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._side = side
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the worker is
        try:
            # A session of its own: Ctrl-C reaches the parent alone, which then ends its workers itself.
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
        """What the worker answers.

        Raises:
            BenchmarkError: It ended instead; the message has the last line of its standard error.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **details}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line that the worker says; its first tells what it is.

        Raises:
            BenchmarkError: It ended instead.
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
                with suppress(BrokenPipeError):  # a question that was never read
                    stream.close()
        self._errors.close()

    def _failure(self) -> BenchmarkError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1].strip() if lines else f"it ended with code {code} and said nothing"
        return BenchmarkError(f"the worker of {self._side} failed: {last}")


def start_own(side: str, job: Job) -> Worker:
    """A worker that runs this trimtab."""
    return Worker(side, own_command(job), _environment(job.threads))


def check_peer(peer: str) -> None:
    """Find out before the work whether the peer's interpreter is there.

    Raises:
        BenchmarkError: It is not.
    """
    if shutil.which(peer) is None:
        raise BenchmarkError(f"there is no interpreter {peer!r}", fix="run: make bench, or leave --peer out")


def start_peer(side: str, peer: str, job: Job) -> Worker:
    """A worker that runs repeng in another interpreter."""
    environment = _environment(job.threads)
    environment.pop("PYTHONPATH", None)
    environment["PYTHONSAFEPATH"] = "1"  # the script's neighbours are no modules of the peer's
    return Worker(side, [peer, str(PEER_SCRIPT), _argument(job)], environment)


def own_command(job: Job) -> list[str]:
    """How trimtab's worker is run."""
    return [sys.executable, "-m", OWN_MODULE, _argument(job)]


def _argument(job: Job) -> str:
    return json.dumps(asdict(job))


def _environment(threads: int) -> dict[str, str]:
    """The same for every side: so many threads in every library, no progress bars, no hub."""
    count = str(threads)
    return {
        **os.environ,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "RAYON_NUM_THREADS": count,
        "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
    }
