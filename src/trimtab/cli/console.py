"""What the verbs share: output for people and for programs, progress, options, and saving with care."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from trimtab.errors import OutputError, SteeringError, TrimtabError

if TYPE_CHECKING:
    from trimtab.engines import Completion
    from trimtab.engines.transformers import TransformersEngine
    from trimtab.training.progress import Progress
    from trimtab.vectors import ControlVector

ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Hub id, folder or .gguf file; SmolLM2-135M-Instruct if not given."),
]
DtypeOption = Annotated[
    str | None,
    typer.Option("--dtype", help="Of the weights: float32 if not given, bfloat16, float16; auto: as they were saved."),
]
ThinkingOption = Annotated[
    bool | None,
    typer.Option("--thinking/--no-thinking", help="Have a reasoning model think first or not; else as its template."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON to standard output, and nothing else there.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Use a vector although it was trained for other weights.")]
TokensOption = Annotated[int, typer.Option("--max-new-tokens", "-n", min=1, help="Upper bound on an answer's length.")]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def write_piece(piece: str) -> None:
    """Show a piece of streamed text at once."""
    sys.stdout.write(piece)
    sys.stdout.flush()


@final
class PhaseProgress:
    """Shows each phase of long work as a bar with the time left, on standard error; keeps the seconds of each."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._phase: str | None = None
        self._since = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def on_progress(self, step: Progress) -> None:
        """Take one step of ``trimtab.train``."""
        self.begin(step.phase, total=step.total)
        if step.note:
            err.print(step.note, soft_wrap=True)
        shown = f"{step.phase} ({step.status})" if step.status else step.phase
        self._bars.update(self._tasks[step.phase], description=shown, completed=step.done, total=step.total)

    def begin(self, phase: str, *, total: int | None = None) -> None:
        """Enter a phase; the time until the next one counts as this one's."""
        if phase == self._phase:
            return
        self.finish()
        self._phase = phase
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(phase, total=total)

    def finish(self) -> None:
        """Leave the current phase."""
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
    """Bars on standard error with time spent and left; nothing where that is no terminal.

    Args:
        speed_estimate_period: Seconds of the past by which the time left is told; long where steps are.
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
    """Progress bars on standard error for the work inside."""
    with progress_bars() as bars:
        phases = PhaseProgress(bars)
        yield phases
        phases.finish()


def load_model(
    name: str | None,
    *,
    dtype: str | None = None,
    thinking: bool | None = None,
    notice: bool = False,
) -> TransformersEngine:
    """Load the model that the user named; with ``notice`` say so if it has no chat template."""
    from trimtab.engines.transformers import load

    engine = load(name, dtype=dtype, thinking=thinking)
    if notice and not engine.has_chat_template:
        err.print(
            f"{engine.info.name} has no chat template: it reads bare text, and may not answer as an assistant.",
            style="dim",
            markup=False,
            soft_wrap=True,
        )
    return engine


def parse_layers(text: str) -> str | list[int]:
    """``auto``, or layers such as ``14-24`` or ``8,12,16``.

    Raises:
        SteeringError: It is neither.
    """
    if text == "auto":
        return text
    layers: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            layers += range(int(first), int(last or first) + 1)
    except ValueError:
        raise SteeringError(f"cannot read the layers {text!r}", fix="write 'auto', '14-24' or '8,12,16'") from None
    return layers


def completion_json(completion: Completion) -> dict[str, Any]:
    """A completion as a program reads it."""
    return {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": len(completion.tokens),
        "receipt": asdict(completion.receipt),
        "readings": {name: list(scores) for name, scores in completion.readings.items()},
    }


def check_writable(path: Path) -> None:
    """Find out before the work whether its result can be written.

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
            fix="choose another place with -o",
        ) from None
    if path.is_dir():
        raise OutputError(f"{str(path)!r} is a folder", fix="name a file")


def save_with_care(vector: ControlVector, path: Path) -> Path:
    """Save, and if that fails keep the work somewhere else before saying so.

    Raises:
        OutputError: It could not be written where it should be; the message says where it is now.
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
                error.problem, fix=f"the vector was kept in {str(rescued)!r}: move it from there"
            ) from None
        raise


def seconds_table(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds by phase, rounded for reading."""
    return {phase: round(spent, 1) for phase, spent in seconds.items()}
