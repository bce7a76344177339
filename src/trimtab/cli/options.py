"""Options and arguments that several verbs share."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final, get_type_hints

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table
from rich.text import Text
from typer.core import TyperCommand

from trimtab.errors import OutputError, PromptError, SteeringError, TrimtabError, VectorError

if TYPE_CHECKING:
    from trimtab.engines.protocol import Prompt
    from trimtab.training.progress import Progress
    from trimtab.vectors import ControlVector

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON document on standard output, in ASCII unless that is UTF-8."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    write_piece(json.dumps(value, ensure_ascii=not utf8, allow_nan=False) + "\n")


# Text of the two poles: the terminal's colours that are nearest to the palette's and legible on its background.
PLUS, MINUS = "cyan", "yellow"


def notice(text: str) -> None:
    """Print a remark on standard error."""
    err.print(text, style="dim", markup=False, soft_wrap=True)


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
            err.print(step.note, markup=False, soft_wrap=True)
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
            total = self._bars.tasks[task].total or 1
            self._bars.update(task, total=total, completed=total)
            if not err.is_terminal:
                err.print(f"{self._phase}: {self.seconds[self._phase]:.1f} s")
        self._since = now
        self._phase = None


def progress_bars(*, speed_estimate_period: float = 30.0) -> Bars:
    """Return bars on standard error with the time spent and left; hidden if standard error is not a terminal."""
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


def prompt_texts(prompts: Sequence[str], *, system: str | None, raw: bool) -> list[str]:
    """Return the texts of prompts; ``-`` is read from standard input.

    Raises:
        PromptError: A text is empty, or bare text is to have a system prompt.
    """
    texts = [sys.stdin.read() if prompt == "-" else prompt for prompt in prompts]
    if system and raw:
        raise PromptError("--system and --raw exclude each other", fix="drop one")
    for text in texts:
        if not text.strip():
            raise PromptError("the prompt is empty", fix="write something to answer")
    return texts


def with_system(texts: Sequence[str], system: str | None) -> list[Prompt]:
    """Return texts as user messages behind a system prompt; without one, as they are."""
    if not system:
        return list(texts)
    return [[{"role": "system", "content": system}, {"role": "user", "content": text}] for text in texts]


def right(*headers: str) -> list[Column]:
    """Return columns of numbers for a table."""
    return [Column(header, justify="right") for header in headers]


def facts_table(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Return a table of labels and values, without a frame."""
    table = Table.grid(Column(style="dim"), Column(), padding=(0, 2))
    for row in rows:
        table.add_row(*row)
    return table


def output_path(output: str | None, name: str) -> Path:
    """Return the vector file to write, checked to be writable; by default ``name`` in the vectors folder."""
    from trimtab.vectors import vector_path
    from trimtab.vectors.file import check_suffix, expanded

    path = expanded(output) if output else vector_path(name)
    check_suffix(path)
    check_writable(path)
    return path


def print_saved(path: Path, hint: str = "") -> None:
    """Print where a file was written, and what to do next; names may hold the brackets of rich's markup."""
    out.print(Text.assemble("Saved to ", (str(path), "bold"), f". {hint}" if hint else "."), soft_wrap=True)


def steer_option(path: Path, *, tokens: str = "all", model: str | None = None) -> str:
    """Return the options that steer with a vector file, as a shell reads them."""
    from trimtab.steering.syntax import name_text

    scope = "" if tokens == "all" else f"@{tokens}"
    return f"--steer {shlex.quote(f'{name_text(str(path))}{scope}')}{model_option(model)}"


def model_option(model: str | None) -> str:
    """Return the option that names a model, for a command that a message suggests; empty for the default model."""
    return f" -m {shlex.quote(model)}" if model else ""


def check_writable(path: Path, *, suffix: str = "") -> None:
    """Check before the work that its result can be written."""
    if path.is_dir():
        raise OutputError(f"{str(path)!r} is a folder", fix="name a file")
    if suffix and path.suffix.lower() != suffix:
        raise OutputError(f"{str(path)!r} does not end with {suffix}", fix=f"name a file that ends with {suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to {str(path.parent)!r}: {error.strerror or error}",
            fix="choose another folder with -o, or set TRIMTAB_VECTORS",
        ) from None


def save_or_rescue(vector: ControlVector, path: Path) -> Path:
    """Save a vector; if that fails, rescue it to another folder, and name that in the error."""
    try:
        return vector.save(path)
    except OutputError as error:
        for folder in (Path(tempfile.gettempdir()), Path(os.path.expanduser("~"))):  # noqa: PTH111 - Path.home raises
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


class OnceCommand(TyperCommand):
    """Command that refuses a second value for an option that takes one; the first would be lost."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Count the options before they are read."""
        *_, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, count in Counter(given).items():
            if count > 1 and not option.multiple and not getattr(option, "is_flag", False) and option.nargs == 1:
                raise TrimtabError(f"{option.opts[0]} was given {count} times", fix="give it once; it takes one value")
        return list(super().parse_args(ctx, args))


BehaviourArgument = Annotated[str, typer.Argument(help="Behaviour of the zoo, or path to a .toml file.")]
VectorArgument = Annotated[str, typer.Argument(help="Vector file, or name in the vectors folder.")]

ModelOption = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Hub id, folder or .gguf file of the model; default: SmolLM2-135M-Instruct."),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(help="Data type of the weights: float32 (default), bfloat16, float16, or auto (as saved)."),
]
ThinkingOption = Annotated[
    bool | None,
    typer.Option("--thinking/--no-thinking", help="Thinking of a reasoning model; default: as its chat template says."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Only JSON on standard output.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Use of vectors that were trained for other weights.")]

SteerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--steer",
        "-s",
        help="Steering, such as 'happy:0.5 + formal:-0.3@generated'; repeated options add up. See docs/steering.md.",
    ),
]
SystemOption = Annotated[str | None, typer.Option(help="System prompt.")]
RawOption = Annotated[bool, typer.Option("--raw", help="Plain text without a chat template.")]
TokensOption = Annotated[int, typer.Option("--max-new-tokens", "-n", min=1, help="Maximum tokens of an answer.")]


def _sampling_option(help_text: str, *names: str) -> Any:
    return typer.Option(*names, help=help_text, rich_help_panel="Sampling")


def _sampling(
    temperature: Annotated[float, _sampling_option("Sampling temperature; 0 is greedy.")] = 0.0,
    top_p: Annotated[float, _sampling_option("Total probability of the likeliest tokens to sample from.")] = 1.0,
    top_k: Annotated[int, _sampling_option("Number of likeliest tokens to sample from; 0 is all.")] = 0,
    min_p: Annotated[float, _sampling_option("Least probability of a token, relative to the likeliest one.")] = 0.0,
    presence_penalty: Annotated[float, _sampling_option("Penalty of tokens in the answer so far, -2 to 2.")] = 0.0,
    frequency_penalty: Annotated[
        float, _sampling_option("The same for each time that the answer has the token.")
    ] = 0.0,
    repetition_penalty: Annotated[
        float, _sampling_option("Divisor of the logits of tokens in prompt and answer; 1 is none.")
    ] = 1.0,
    logit_bias: Annotated[
        list[str] | None,
        _sampling_option("Change of a token's logit, such as 262=-100; may be repeated.", "--logit-bias"),
    ] = None,
    stop: Annotated[list[str] | None, _sampling_option("Text that ends the answer; may be repeated.", "--stop")] = None,
    stop_token: Annotated[
        list[int] | None, _sampling_option("Id of a token that ends the answer; may be repeated.", "--stop-token")
    ] = None,
    ignore_eos: Annotated[
        bool, _sampling_option("Answers that go on behind the model's end of turn.", "--ignore-eos")
    ] = False,
    min_tokens: Annotated[int, _sampling_option("Tokens before which nothing ends the answer.")] = 0,
    seed: Annotated[int | None, _sampling_option("Seed for sampling; default: a new one each time.")] = None,
    logprobs: Annotated[
        int | None, _sampling_option("Alternatives (0 to 20) to show with the log-probability of each token.")
    ] = None,
) -> dict[str, Any]:
    """Return the options of ``Sampling`` that a user has given."""
    return {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "repetition_penalty": repetition_penalty,
        "logit_bias": dict(map(_parse_bias, logit_bias or [])),
        "stop": stop or (),
        "stop_token_ids": stop_token or (),
        "ignore_eos": ignore_eos,
        "min_tokens": min_tokens,
        "seed": seed,
        "logprobs": logprobs,
    }


def _parse_bias(text: str) -> tuple[int, float]:
    token, _, change = text.partition("=")
    try:
        return int(token), float(change)
    except ValueError:
        raise PromptError(f"cannot read --logit-bias {text!r}", fix="write a token id and a number: 262=-100") from None


def with_sampling(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb with the options of sampling in place of its argument ``sampling``, a dictionary of them."""
    options, own = inspect.signature(_sampling).parameters, inspect.signature(verb).parameters

    @wraps(verb)
    def wrapped(**given: Any) -> None:
        sampling = _sampling(**{name: given.pop(name) for name in options})
        verb(sampling=sampling, **given)

    hints = get_type_hints(verb, include_extras=True) | get_type_hints(_sampling, include_extras=True)
    parameters = [
        each.replace(annotation=hints[each.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name in own
        for each in (options.values() if name == "sampling" else [own[name]])
    ]
    wrapped.__annotations__ = {each.name: each.annotation for each in parameters}
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return wrapped


SeedOption = Annotated[int, typer.Option(help="Seed of everything random in training and measuring.")]
BudgetOption = Annotated[
    float,
    typer.Option(help="KL that strength 1 spends (nats per token): 0.3 is gentle, 0.6 strong."),
]
CheckOption = Annotated[bool, typer.Option(help="Measurement on held-out prompts.")]
LoraOption = Annotated[bool, typer.Option("--lora", help="Comparison with LoRA fine-tuning; takes minutes.")]
OutputOption = Annotated[
    str | None, typer.Option("--output", "-o", help="Vector file to write; default: by name in the vectors folder.")
]
ReportOption = Annotated[Path | None, typer.Option("--report", "-r", help="Report page to write (.html).")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continuation of an interrupted run.")]


QuickOption = Annotated[
    bool, typer.Option("--quick", help="Direction and strength only, in seconds; no safe range is measured.")
]
ThoroughOption = Annotated[bool, typer.Option("--thorough", help="The best vector that can be had, in a few minutes.")]


def effort_of(*, quick: bool, thorough: bool) -> str:
    """Return the effort of a training that the options ask for.

    Raises:
        VectorError: They ask for two.
    """
    if quick and thorough:
        raise VectorError("a training cannot be both quick and thorough", fix="leave one of the options out")
    return "quick" if quick else "thorough" if thorough else "default"


def parse_layers(text: str, *, words: tuple[str, ...] = ("auto",)) -> str | list[int]:
    """Return one of ``words``, or layers such as ``14-24`` or ``8,12,16``."""
    if text in words:
        return text
    layers: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            layers += range(int(first), int(last or first) + 1)
    except ValueError:
        known = ", ".join(map(repr, words))
        raise SteeringError(f"cannot read the layers {text!r}", fix=f"write {known}, '14-24' or '8,12,16'") from None
    return layers
