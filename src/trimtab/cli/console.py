"""Output for people and programs, progress bars, and saving."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from trimtab.errors import OutputError, TrimtabError

if TYPE_CHECKING:
    from trimtab.training.progress import Progress
    from trimtab.vectors import ControlVector

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def write_piece(piece: str) -> None:
    """Print a piece of streamed text without buffering."""
    sys.stdout.write(piece)
    sys.stdout.flush()


@final
class PhaseProgress:
    """Progress bars on standard error, one for each phase, and the seconds of each phase."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._phase: str | None = None
        self._since = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def on_progress(self, step: Progress) -> None:
        """Show a step that the library reports."""
        self.begin(step.phase, total=step.total)
        if step.note:
            err.print(step.note, soft_wrap=True)
        shown = f"{step.phase} ({step.status})" if step.status else step.phase
        self._bars.update(self._tasks[step.phase], description=shown, completed=step.done, total=step.total)

    def begin(self, phase: str, *, total: int | None = None) -> None:
        """Begin a phase; it lasts until the next one begins."""
        if phase == self._phase:
            return
        self.finish()
        self._phase = phase
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=total)

    def finish(self) -> None:
        """End the current phase."""
        now = time.perf_counter()
        if self._phase is not None:
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
            task = self._tasks[self._phase]
            self._bars.update(
                task, total=self._bars.tasks[task].total or 1, completed=self._bars.tasks[task].total or 1
            )
            if not err.is_terminal:
                err.print(f"{self._phase}: {self.seconds[self._phase]:.1f} s")
        self._since = now
        self._phase = None


def progress_bars(*, speed_estimate_period: float = 30.0) -> Bars:
    """Return bars on standard error with the time spent and left; hidden if standard error is not a terminal.

    Args:
        speed_estimate_period: Seconds of the past from which the time left is estimated; long for long steps.
    """
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
        speed_estimate_period=speed_estimate_period,
    )


@contextmanager
def phase_progress() -> Iterator[PhaseProgress]:
    """Show progress bars on standard error during the ``with`` block."""
    with progress_bars() as bars:
        phases = PhaseProgress(bars)
        yield phases
        phases.finish()


def check_writable(path: Path) -> None:
    """Check before the work that its result can be written.

    Raises:
        OutputError: The folder cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to {str(path.parent)!r}: {error.strerror or error}",
            fix="choose another folder with -o",
        ) from None
    if path.is_dir():
        raise OutputError(f"{str(path)!r} is a folder", fix="name a file")


def save_or_rescue(vector: ControlVector, path: Path) -> Path:
    """Save a vector; if that fails, rescue it to another folder before raising.

    Raises:
        OutputError: The file could not be written; the message names the rescued file.
    """
    try:
        return vector.save(path)
    except OutputError as error:
        for folder in (Path(tempfile.gettempdir()), Path.home()):
            rescued = folder / f"rescued-{int(time.time())}-{path.name}"
            try:
                vector.save(rescued)
            except TrimtabError:
                continue
            raise OutputError(
                error.problem, fix=f"the vector was saved to {str(rescued)!r}: move it from there"
            ) from None
        raise


def seconds_table(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the seconds by phase, rounded for reading."""
    return {phase: round(spent, 1) for phase, spent in seconds.items()}


def vector_json(vector: ControlVector, path: Path, phases: PhaseProgress) -> dict[str, Any]:
    """Return a new vector, its file and the time it took, for a program."""
    return {"path": str(path), "seconds": seconds_table(phases.seconds), **vector.describe()}
