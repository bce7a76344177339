"""``trimtab bench``: trimtab beside others on the same work."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from trimtab.cli.console import JsonOption, ModelOption, check_writable, err, out, print_json, progress_bars
from trimtab.errors import MissingDependencyError, TrimtabError

if TYPE_CHECKING:
    from trimtab.benches.extraction import Plan, Step
    from trimtab.benches.report import Record
    from trimtab.benches.steering import Plan as SteeringPlan
    from trimtab.benches.steering import Record as SteeringRecord

NAME = "bench"
EXAMPLE = "trimtab bench extraction --cases ten-prompts --rounds 1"
METHODS_EXAMPLE = "trimtab bench methods --behaviours happy,honest"
STEERING_EXAMPLE = "trimtab bench steering --rounds 3"
PEER_HINT = "Without --peer trimtab is measured beside itself without shared prefixes only; make bench sets repeng up."
NO_REPENG = "Without --peer repeng's vectors are left out; make bench sets repeng up."
MIB = 1024**2
DATA = str(Path("..") / "shared" / "data")

DataOption = Annotated[str, typer.Option(help="Folder of public data sets; none of them comes with trimtab.")]
FolderOption = Annotated[str, typer.Option("--output", "-o", help="Folder for the numbers.")]

app = typer.Typer(help="Measure trimtab beside others, or beside itself, on the same work.", no_args_is_help=True)


@app.command(epilog=f"Example: {EXAMPLE}")
def extraction(
    peer: Annotated[
        str | None,
        typer.Option(help="A Python that has repeng 0.4.0; without it only our own ways are measured."),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder for the numbers and the picture.")] = str(
        Path("benches") / "results"
    ),
    cases: Annotated[str | None, typer.Option(help="Some of the cases, such as 'repeng-4000,ten-prompts'.")] = None,
    dtypes: Annotated[str, typer.Option(help="Of the weights.")] = "float32,bfloat16",
    rounds: Annotated[int, typer.Option(min=1, help="How often each side reads each case; medians count.")] = 3,
    prompts: Annotated[int, typer.Option(min=2, help="Upper bound on the prompts of the recipe.")] = 4000,
    threads: Annotated[int | None, typer.Option(min=1, help="Of every side; all cores if not given.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder that has repeng/true_facts.json.")] = None,
    json: JsonOption = False,
) -> None:
    """Extract hidden states as trimtab does, as it does without sharing prefixes, and as repeng does; compare."""
    from trimtab.benches.cases import Sizes
    from trimtab.benches.extraction import Plan, usable_cores

    plan = Plan(
        cases=_names(cases) if cases is not None else Plan().cases,
        dtypes=_names(dtypes),
        rounds=rounds,
        threads=threads or usable_cores(),
        peer=peer,
        data=Path(data) if data else None,
        sizes=Sizes(prompts=prompts),
    )
    folder = Path(output)
    check_writable(folder / "extraction.json")
    if peer is None:
        err.print(PEER_HINT, style="dim", markup=False)
    measured = _measured(plan, as_json=json)
    _keep(measured, folder)
    _print(measured, as_json=json)
    if not json:
        out.print(f"Kept in [bold]{folder}[/bold].", soft_wrap=True)


@app.command(epilog="Example: trimtab bench guard --data ../shared/data")
def guard(
    data: DataOption = DATA,
    output: FolderOption = str(Path("benches") / "results"),
    refusing: Annotated[
        str | None, typer.Option(help="The refusing vector, a name or a path; trained if not given.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a guard that refuses harmful requests, and count what it refuses among prompts held out."""
    from trimtab.benches.guard import Plan, benchmark, table
    from trimtab.vectors import find_vector

    folder = Path(output)
    check_writable(folder / "guard.json")
    vector = find_vector(refusing) if refusing is not None else None
    with _steps() as on_step:
        measured = benchmark(Plan(Path(data)), refusing=vector, on_step=on_step)
    _tell(measured, table(measured), folder, as_json=json)


@app.command(epilog="Example: trimtab bench reading --data ../shared/data")
def reading(
    data: DataOption = DATA, output: FolderOption = str(Path("benches") / "results"), json: JsonOption = False
) -> None:
    """Read emotions off scenes and truth off statements at every layer, on texts held out."""
    from trimtab.benches.reading import Plan, benchmark, table

    folder = Path(output)
    check_writable(folder / "reading.json")
    with _steps() as on_step:
        measured = benchmark(Plan(Path(data)), on_step=on_step)
    _tell(measured, table(measured), folder, as_json=json)


@app.command(epilog=f"Example: {METHODS_EXAMPLE}")
def methods(
    peer: Annotated[
        str | None, typer.Option(help="A Python that has repeng 0.4.0; without it repeng's vectors are left out.")
    ] = None,
    behaviours: Annotated[
        str | None, typer.Option(help="Some of the zoo's, such as 'happy,honest'; all if not given.")
    ] = None,
    also: Annotated[
        str | None, typer.Option(help="Other methods of training, such as 'mean_difference,distilled'; not refined.")
    ] = None,
    output: FolderOption = str(Path("benches") / "results"),
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Compare how far trimtab's, repeng's, single-layer and random vectors move the model for the same KL.

    Each behaviour's numbers are kept as soon as they are there; run it again to go on where it was stopped.
    """
    from trimtab.benches.methods import Plan, benchmark
    from trimtab.benches.standings import draw_standings, standings, table

    plan = Plan(peer=peer, model=model, also=() if also is None else _names(also))
    if behaviours is not None:
        plan = replace(plan, behaviours=_names(behaviours))
    folder = Path(output)
    check_writable(folder / "methods.json")
    if peer is None:
        err.print(NO_REPENG, style="dim", markup=False)
    measured = []
    try:
        with _steps() as on_step:
            for one in benchmark(plan, folder / "methods", on_step=on_step):
                measured.append(one)
    finally:  # also of what was measured until it was stopped
        if measured:
            found = standings(measured, wanted=len(plan.behaviours))
            _tell(found, table(found), folder, as_json=json)
            _drawn(draw_standings, found, folder / "methods.png")


def _tell(measured: Mapping[str, Any], table: str, folder: Path, *, as_json: bool) -> None:
    """Keep the numbers under the benchmark's name, and print them."""
    path = folder / f"{measured['benchmark']}.json"
    _write(measured, path)
    if as_json:
        print_json(measured)
        return
    out.print(table, markup=False, soft_wrap=True)
    out.print(f"Kept in [bold]{path}[/bold].", soft_wrap=True)


@app.command(epilog="Example: trimtab bench distilling --prompts pirate,tutor")
def distilling(
    prompts: Annotated[str | None, typer.Option(help="Some of the prompts; all if not given.")] = None,
    output: FolderOption = str(Path("benches") / "results"),
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Distil system prompts of many kinds, and compare what vectors, mean differences and one sentence carry of them.

    Each prompt's numbers are kept as soon as they are there; run it again to go on where it was stopped.
    """
    from trimtab.benches.distilling import Plan, benchmark, summary, table

    plan = Plan(model=model)
    if prompts is not None:
        plan = replace(plan, prompts=_names(prompts))
    folder = Path(output)
    check_writable(folder / "distilling.json")
    measured = []
    try:
        with _steps() as on_step:
            for one in benchmark(plan, folder / "distilling", on_step=on_step):
                measured.append(one)
    finally:  # also of what was measured until it was stopped
        if measured:
            found = summary(measured, wanted=len(plan.prompts))
            _tell(found, table(found), folder, as_json=json)


@app.command(epilog="Example: trimtab bench composing --first pirate --second bullets")
def composing(
    first: Annotated[str, typer.Option(help="A prompt of the benchmark of distilling.")] = "pirate",
    second: Annotated[str, typer.Option(help="Another one.")] = "bullets",
    output: FolderOption = str(Path("benches") / "results"),
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Distil two system prompts and put their vectors together: added, one on top of the other, switched in a chat."""
    from trimtab.benches.composing import Plan, benchmark, table

    plan = Plan(first=first, second=second, model=model)
    folder = Path(output)
    check_writable(folder / "composing.json")
    with _steps() as on_step:
        found = benchmark(plan, on_step=on_step)
    _tell(found, table(found), folder, as_json=json)


@app.command(epilog=f"Example: {STEERING_EXAMPLE}")
def steering(
    output: FolderOption = str(Path("benches") / "results"),
    rounds: Annotated[int, typer.Option(min=1, help="How often each side takes its turn; medians count.")] = 12,
    tokens: Annotated[int, typer.Option(min=3, help="Generated in a turn.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Of the model.")] = 1,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Generate steered, read and unsteered in turn, and compare what a decoding step takes."""
    from trimtab.benches.steering import Plan

    plan = Plan(rounds=rounds, tokens=tokens, threads=threads, model=model)
    folder = Path(output)
    check_writable(folder / "steering.json")
    record: SteeringRecord | None = None
    try:
        for newer in _steering_records(plan):
            record = newer
    finally:  # also of what was measured until it was stopped
        if record is not None:
            _finish_steering(record, folder, as_json=json)


def _steering_records(plan: SteeringPlan) -> Iterator[SteeringRecord]:
    from trimtab.benches.steering import benchmark

    with _steps() as on_step, closing(benchmark(plan, on_step=on_step)) as records:
        yield from records


def _finish_steering(record: SteeringRecord, folder: Path, *, as_json: bool) -> None:
    from trimtab.benches.steering import report

    measured = report(record)
    _write(measured, folder / "steering.json")
    if as_json:
        print_json(measured)
        return
    _print_steering(measured)
    out.print(f"Kept in [bold]{folder}[/bold].", soft_wrap=True)


def _measured(plan: Plan, *, as_json: bool) -> dict[str, Any]:
    """Run the benchmark; if it is stopped or fails, what was measured until then is printed first."""
    from trimtab.benches.extraction import benchmark
    from trimtab.benches.report import report

    record: Record | None = None
    try:
        with _steps() as on_step, closing(benchmark(plan, on_step=on_step)) as records:
            for newer in records:
                record = newer
    except (KeyboardInterrupt, TrimtabError):
        if record is not None:
            _print(report(record), as_json=as_json)
        raise
    assert record is not None
    return report(record)


@contextmanager
def _steps() -> Iterator[Callable[[Step], None]]:
    """One bar for everything on a terminal; elsewhere a line for each step."""
    with progress_bars(speed_estimate_period=600) as bars:
        task = bars.add_task("Starting", total=None)

        def on_step(step: Step) -> None:
            if not err.is_terminal:
                err.print(step.what, markup=False)
            if step.total:
                bars.update(task, description=step.what, completed=step.done, total=step.total)
            else:
                bars.update(task, description=step.what)

        yield on_step


def _keep(measured: Mapping[str, Any], folder: Path) -> None:
    from trimtab.benches.plot import draw_extraction

    _write(measured, folder / "extraction.json")
    _drawn(draw_extraction, measured, folder / "extraction.png")


def _drawn(draw: Callable[[Mapping[str, Any], Path], None], measured: Mapping[str, Any], path: Path) -> None:
    """Draw a picture, where there is what draws it."""
    try:
        draw(measured, path)
    except MissingDependencyError as error:
        err.print(f"No picture: {error}.", style="dim", markup=False)


def _write(measured: Mapping[str, Any], path: Path) -> None:
    from trimtab.vectors import write_atomically

    write_atomically(path, (jsonlib.dumps(measured, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _print(measured: Mapping[str, Any], *, as_json: bool) -> None:
    from trimtab.benches.report import count

    if as_json:
        print_json(measured)
        return
    for dtype, cases in measured["dtypes"].items():
        out.print(_table(dtype, cases))
    if measured["gpu"]:
        gpu = measured["gpu"]
        out.print(
            f"{gpu['device']}: {gpu['tokens_per_second']:,.0f} tokens/s given, "
            f"{gpu['distinct_tokens_per_second']:,.0f} computed; "
            f"{gpu['share_of_matmul']:.0%} of what matrix products reach"
        )
    out.print(
        f"{measured['machine']['cpu']}, {count(measured['threads'], 'thread')}, medians of "
        f"{count(measured['rounds'], 'round')}. ×: how many times trimtab's a side takes. MiB: peak above the model. "
        "diff.: of the worst vector, relative, trimtab's from the side's.",
        style="dim",
    )


def _table(dtype: str, cases: Mapping[str, Any]) -> Table:
    """A row a case; within it a line a side."""
    table = Table(title=dtype, title_justify="left", box=box.HORIZONTALS, show_lines=True, pad_edge=False)
    table.add_column("case")
    table.add_column("side")
    for header in ("wall s", "CPU s", "×wall", "×CPU", "MiB", "diff."):
        table.add_column(header, justify="right")
    for name, case in cases.items():
        lines = [
            (
                side,
                _seconds(figures["wall"]),
                _seconds(figures["cpu"]),
                _times(case["ratios"].get(side, {}).get("times_wall")),
                _times(case["ratios"].get(side, {}).get("times_cpu")),
                "–" if figures["memory"] is None else f"{figures['memory'] / MIB:.0f}",
                f"{case['difference'][side]:.0e}" if side in case["difference"] else "",
            )
            for side, figures in case["sides"].items()
        ]
        about = f"{name}\n{case['tokens']:,} tokens\n{case['distinct_tokens']:,} distinct"
        table.add_row(about, *("\n".join(column) for column in zip(*lines, strict=True)))
    return table


def _print_steering(measured: Mapping[str, Any]) -> None:
    from trimtab.benches.report import count

    for rows, sides in measured["rows"].items():
        out.print(_steering_table(count(int(rows), "row"), sides))
    out.print(
        f"{measured['machine']['cpu']}, {count(measured['threads'], 'thread')}, "
        f"load {' to '.join(f'{load:g}' for load in measured['machine']['load'])}, medians of "
        f"{count(measured['rounds'], 'round')} of {count(measured['tokens'], 'token')}. "
        "ms: of a decoding step; plain: unsteered. ×: how many times the plain one beside it, with 95 % intervals.",
        style="dim",
    )


def _steering_table(title: str, sides: Mapping[str, Any]) -> Table:
    """A row a side."""
    table = Table(title=title, title_justify="left", box=box.HORIZONTALS, pad_edge=False, collapse_padding=True)
    table.add_column("side")
    for header in ("plain", "ms", "×wall", "×CPU", "target"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, side in sides.items():
        table.add_row(
            name,
            f"{side['unsteered_milliseconds']['wall']:.1f}",
            f"{side['milliseconds']['wall']:.1f}",
            *(_interval(side["step"][clock]) for clock in ("wall", "cpu")),
            "" if side["target"] is None else f"{side['target']:.2f}",
        )
    return table


def _interval(found: Mapping[str, Any]) -> str:
    mark = {None: " ", True: "✓", False: "✗"}[found["met"]]
    return f"{found['ratio']:.3f}{mark} {found['low']:.3f}–{found['high']:.3f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
