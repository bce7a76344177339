"""Command line of the benchmarks: ``python -m benchmarks extraction | steering | requests | server | forms | …``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from benchmarks.measurement import Step, plural
from trimtab.cli.app import run_app
from trimtab.cli.options import JsonOption, ModelOption, check_writable, err, out, print_json, progress_bars
from trimtab.errors import MissingDependencyError, TrimtabError

if TYPE_CHECKING:
    from benchmarks.extraction import Plan as ExtractionPlan
    from benchmarks.extraction import Record as ExtractionRecord
    from benchmarks.steering import Record as SteeringRecord

NO_PEER = "repeng is left out: pass --peer, or run make bench, which installs it."
MIB = 1024**2
DATA = str(Path("..") / "shared" / "data")
RESULTS = str(Path("benchmarks") / "results")

DataOption = Annotated[str, typer.Option(help="Folder of public data sets, which trimtab does not include.")]
OutputOption = Annotated[str, typer.Option("--output", "-o", help="Folder for the results.")]
PeerOption = Annotated[
    str | None, typer.Option(help="Python interpreter with repeng 0.4.0; repeng is left out if not given.")
]

app = typer.Typer(
    name="python -m benchmarks",
    help="Measure trimtab against other libraries, or against itself, on the same work.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors end with one line on standard error and an exit code."""
    run_app(app, arguments)


# Commands ------------------------------------------------------------------------------------------------------------


@app.command(epilog="Example: python -m benchmarks extraction --cases ten-prompts --rounds 1")
def extraction(
    peer: PeerOption = None,
    output: OutputOption = RESULTS,
    cases: Annotated[
        str | None, typer.Option(help="Names of cases, such as 'repeng-4000,ten-prompts'; else all.")
    ] = None,
    dtypes: Annotated[str, typer.Option(help="Data types of the weights.")] = "float32,bfloat16",
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side per case; medians are reported.")] = 3,
    prompts: Annotated[int, typer.Option(min=2, help="Upper bound on the prompts of the recipe.")] = 4000,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each side; else all cores.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder that contains repeng/true_facts.json.")] = None,
    json: JsonOption = False,
) -> None:
    """Compare the extraction of hidden states by trimtab, by trimtab without prefix sharing, and by repeng."""
    from benchmarks.cases import Sizes
    from benchmarks.extraction import Plan, usable_cores

    plan = Plan(
        cases=_names(cases) if cases is not None else Plan().cases,
        dtypes=_names(dtypes),
        rounds=rounds,
        threads=threads or usable_cores(),
        peer=peer,
        data=Path(data) if data else None,
        sizes=Sizes(prompts=prompts),
    )
    path = _result_path(output, "extraction")
    if peer is None:
        err.print(NO_PEER, style="dim", markup=False)
    measured = _measure_extraction(plan, as_json=json)
    _write(measured, path)
    _print_extraction(measured, as_json=json)


@app.command(epilog="Example: python -m benchmarks steering --rounds 3")
def steering(
    output: OutputOption = RESULTS,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side; medians are reported.")] = 12,
    tokens: Annotated[int, typer.Option(min=3, help="Tokens generated in a turn.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 1,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Compare the time of a decoding step when generating steered, with a monitor, and unsteered in turn."""
    from benchmarks.steering import Plan, benchmark

    plan = Plan(rounds=rounds, tokens=tokens, threads=threads, model=model)
    path = _result_path(output, "steering")
    record: SteeringRecord | None = None
    try:
        with _progress() as on_step, closing(benchmark(plan, on_step=on_step)) as records:
            for record in records:  # noqa: B007  # the last one counts
                pass
    finally:  # also if it is interrupted
        if record is not None:
            _finish_steering(record, path, as_json=json)


@app.command(epilog="Example: python -m benchmarks requests --rounds 3")
def requests(
    output: OutputOption = RESULTS,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side; medians are reported.")] = 5,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of every answer.")] = 48,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 1,
    plain: Annotated[bool, typer.Option(help="Weights as they are, not reordered.")] = False,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Compare one request, sixteen, sixteen mixes, and the loop of transformers, by tokens per CPU second."""
    from benchmarks.requests import Plan, benchmark, table

    path = _result_path(output, "requests")
    with _progress() as on_step:
        measured = benchmark(Plan(rounds, tokens, threads, model, plain), on_step=on_step)
    _finish(measured, table(measured), path, as_json=json)


@app.command(epilog="Example: python -m benchmarks constraints --answers 100")
def constraints(
    output: OutputOption = RESULTS,
    answers: Annotated[int, typer.Option(min=1, help="JSON answers, each steered at a random strength.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side; medians are reported.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 1,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Count valid JSON answers of a steered model, and compare forced tokens read at once and one by one."""
    from benchmarks.constraints import Plan, benchmark, table

    path = _result_path(output, "constraints")
    with _progress() as on_step:
        measured = benchmark(Plan(answers, rounds, threads, model), on_step=on_step)
    _finish(measured, table(measured), path, as_json=json)


@app.command(epilog="Example: python -m benchmarks server --rounds 3")
def server(
    output: OutputOption = RESULTS,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side; medians are reported.")] = 5,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of every answer.")] = 48,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 1,
    saklas: Annotated[
        str | None, typer.Option(help="Python interpreter with saklas 5.3.0; saklas is left out if not given.")
    ] = None,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Compare one client of a server, sixteen, sixteen mixes, and saklas' server, by tokens per CPU second."""
    from benchmarks.server import Plan, benchmark, table

    path = _result_path(output, "server")
    with _progress() as on_step:
        measured = benchmark(Plan(rounds, tokens, threads, model, saklas), on_step=on_step)
    _finish(measured, table(measured), path, as_json=json)


@app.command(epilog="Example: python -m benchmarks page --rounds 3")
def page(
    output: OutputOption = RESULTS,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side; the median is reported.")] = 7,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of every answer.")] = 48,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 1,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Compare four columns of the web page, which are answered at once, with one."""
    from benchmarks.page import Plan, benchmark, table

    path = _result_path(output, "page")
    with _progress() as on_step:
        measured = benchmark(Plan(rounds, tokens, threads, model), on_step=on_step)
    _finish(measured, table(measured), path, as_json=json)


@app.command(epilog="Example: python -m benchmarks forms --answers 100")
def forms(
    output: OutputOption = RESULTS,
    answers: Annotated[int, typer.Option(min=1, help="JSON answers of each setting, besides the forms.")] = 500,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the model.")] = 1,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Count valid JSON answers of a server to steered requests, and the fields of 100 forms that it fills in right."""
    from benchmarks.forms import Plan, benchmark, table

    path = _result_path(output, "forms")
    with _progress() as on_step:
        measured = benchmark(Plan(answers=answers, threads=threads, model=model), on_step=on_step)
    _finish(measured, table(measured), path, as_json=json)


@app.command(epilog="Example: python -m benchmarks guard --data ../shared/data")
def guard(
    data: DataOption = DATA,
    output: OutputOption = RESULTS,
    refusing: Annotated[
        str | None, typer.Option(help="Name or path of the refusing vector; trained if not given.")
    ] = None,
    answers: Annotated[
        bool, typer.Option(help="Answers with and without the guard; else requests are only read.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Read held-out requests, build a guard that refuses harmful ones, and count its refusals."""
    from benchmarks.guard import Plan, benchmark, benchmark_reading, reading_table, table
    from trimtab.vectors import find_vector

    path = _result_path(output, "guard" if answers else "guard-reading")
    if not answers:
        with _progress() as on_step:
            measured = benchmark_reading(Plan(Path(data)), on_step=on_step)
        _finish(measured, reading_table(measured), path, as_json=json)
        return
    vector = find_vector(refusing) if refusing is not None else None
    with _progress() as on_step:
        measured = benchmark(Plan(Path(data)), refusing=vector, on_step=on_step)
    _finish(measured, table(measured), path, as_json=json)


@app.command(epilog="Example: python -m benchmarks reading --data ../shared/data")
def reading(data: DataOption = DATA, output: OutputOption = RESULTS, json: JsonOption = False) -> None:
    """Read emotions in scenes and truth in statements at every layer, on held-out texts."""
    from benchmarks.reading import Plan, benchmark, table

    path = _result_path(output, "reading")
    with _progress() as on_step:
        measured = benchmark(Plan(Path(data)), on_step=on_step)
    _finish(measured, table(measured), path, as_json=json)


@app.command(epilog="Example: python -m benchmarks estimators --behaviours happy,honest")
def estimators(
    peer: PeerOption = None,
    behaviours: Annotated[
        str | None, typer.Option(help="Behaviours of the zoo, such as 'happy,honest'; else all.")
    ] = None,
    also: Annotated[
        str | None, typer.Option(help="Further estimators, such as 'mean_difference,distilled', without refining.")
    ] = None,
    vectors: Annotated[
        list[str] | None, typer.Option(help="LABEL=FOLDER: vectors of the behaviours in files, to be compared as well.")
    ] = None,
    output: OutputOption = RESULTS,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Compare what trimtab's, repeng's, single-layer and random vectors do at equal KL.

    The result of each behaviour is written at once; run the command again to continue after an interruption.
    """
    from benchmarks.estimators import Plan, benchmark
    from benchmarks.ranking import draw_ranking, rank, table
    from trimtab.behaviours import zoo_names

    plan = Plan(
        behaviours=zoo_names() if behaviours is None else _names(behaviours),
        peer=peer,
        model=model,
        also=() if also is None else _names(also),
        vectors={label: Path(folder) for label, _, folder in (given.partition("=") for given in vectors or ())},
    )
    path = _result_path(output, "estimators")
    if peer is None:
        err.print(NO_PEER, style="dim", markup=False)
    measured: list[Mapping[str, Any]] = []
    try:
        with _progress() as on_step:
            measured.extend(benchmark(plan, path.with_suffix(""), on_step=on_step))
    finally:  # also if it is interrupted
        if measured:
            ranking = rank(measured, wanted=len(plan.behaviours))
            _finish(ranking, table(ranking), path, as_json=json)
            try:
                draw_ranking(ranking, path.with_suffix(".png"))
            except MissingDependencyError as error:
                err.print(f"No picture: {error}.", style="dim", markup=False)


@app.command(epilog="Example: python -m benchmarks distilling --prompts pirate,tutor")
def distilling(
    prompts: Annotated[str | None, typer.Option(help="Names of prompts, such as 'pirate,tutor'; else all.")] = None,
    output: OutputOption = RESULTS,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Distil system prompts of many kinds, and compare vectors with mean differences and one-sentence prompts.

    The result of each prompt is written at once; run the command again to continue after an interruption.
    """
    from benchmarks.distilling import Plan, benchmark, summary, table

    plan = Plan(model=model)
    if prompts is not None:
        plan = replace(plan, prompts=_names(prompts))
    path = _result_path(output, "distilling")
    measured: list[Mapping[str, Any]] = []
    try:
        with _progress() as on_step:
            measured.extend(benchmark(plan, path.with_suffix(""), on_step=on_step))
    finally:  # also if it is interrupted
        if measured:
            overview = summary(measured, wanted=len(plan.prompts))
            _finish(overview, table(overview), path, as_json=json)


@app.command(epilog="Example: python -m benchmarks composing --first pirate --second bullets")
def composing(
    first: Annotated[str, typer.Option(help="A prompt of the benchmark of distilling.")] = "pirate",
    second: Annotated[str, typer.Option(help="Another prompt of it.")] = "bullets",
    output: OutputOption = RESULTS,
    model: ModelOption = None,
    json: JsonOption = False,
) -> None:
    """Distil two system prompts and combine their vectors: added, trained one after the other, switched in a chat."""
    from benchmarks.composing import Plan, benchmark, table

    plan = Plan(first=first, second=second, model=model)
    path = _result_path(output, "composing")
    with _progress() as on_step:
        measured = benchmark(plan, on_step=on_step)
    _finish(measured, table(measured), path, as_json=json)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _measure_extraction(plan: ExtractionPlan, *, as_json: bool) -> dict[str, Any]:
    """Run the benchmark; if it is interrupted or fails, print the figures measured so far."""
    from benchmarks.extraction import benchmark, report

    record: ExtractionRecord | None = None
    try:
        with _progress() as on_step, closing(benchmark(plan, on_step=on_step)) as records:
            for record in records:  # noqa: B007  # the last one counts
                pass
    except (KeyboardInterrupt, TrimtabError):
        if record is not None:
            _print_extraction(report(record), as_json=as_json)
        raise
    assert record is not None
    return report(record)


def _finish_steering(record: SteeringRecord, path: Path, *, as_json: bool) -> None:
    from benchmarks.steering import report

    measured = report(record)
    _write(measured, path)
    if as_json:
        print_json(measured)
        return
    _print_steering(measured)
    out.print(f"Written to [bold]{path}[/bold].", soft_wrap=True)


def _finish(measured: Mapping[str, Any], table: str, path: Path, *, as_json: bool) -> None:
    """Write the result, and print it."""
    _write(measured, path)
    if as_json:
        print_json(measured)
        return
    out.print(table, markup=False, soft_wrap=True)
    out.print(f"Written to [bold]{path}[/bold].", soft_wrap=True)


def _result_path(folder: str, benchmark: str) -> Path:
    """Return the path of a result, checked before any work."""
    path = Path(folder) / f"{benchmark}.json"
    check_writable(path)
    return path


def _write(measured: Mapping[str, Any], path: Path) -> None:
    from benchmarks.results_cache import write_json

    write_json(measured, path)


@contextmanager
def _progress() -> Iterator[Callable[[Step], None]]:
    """Show one bar for all work on a terminal, and one line for each step elsewhere."""
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


# Tables --------------------------------------------------------------------------------------------------------------


def _print_extraction(measured: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(measured)
        return
    for dtype, cases in measured["dtypes"].items():
        out.print(_extraction_table(dtype, cases))
    if measured["gpu"]:
        gpu = measured["gpu"]
        out.print(
            f"{gpu['device']}: {gpu['tokens_per_second']:,.0f} tokens/s given, "
            f"{gpu['distinct_tokens_per_second']:,.0f} computed; "
            f"{gpu['share_of_matmul']:.0%} of the matrix-product peak"
        )
    out.print(
        f"{measured['machine']['cpu']}, {plural(measured['threads'], 'thread')}, medians of "
        f"{plural(measured['rounds'], 'round')}. ×: the side's time divided by trimtab's. MiB: peak memory above the "
        "model. diff.: largest relative difference of a hidden state from the side's.",
        style="dim",
    )


def _extraction_table(dtype: str, cases: Mapping[str, Any]) -> Table:
    """Make a table with a row for each case, and in it a line for each side."""
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
                _ratio(case["ratios"].get(side, {}).get("times_wall")),
                _ratio(case["ratios"].get(side, {}).get("times_cpu")),
                "–" if figures["memory"] is None else f"{figures['memory'] / MIB:.0f}",
                f"{case['difference'][side]:.0e}" if side in case["difference"] else "",
            )
            for side, figures in case["sides"].items()
        ]
        size = f"{name}\n{case['tokens']:,} tokens\n{case['distinct_tokens']:,} distinct"
        table.add_row(size, *("\n".join(column) for column in zip(*lines, strict=True)))
    return table


def _print_steering(measured: Mapping[str, Any]) -> None:
    for rows, sides in measured["rows"].items():
        out.print(_steering_table(plural(int(rows), "row"), sides))
    out.print(
        f"{measured['machine']['cpu']}, {plural(measured['threads'], 'thread')}, "
        f"load {' to '.join(f'{load:g}' for load in measured['machine']['load'])}, medians of "
        f"{plural(measured['rounds'], 'round')} of {plural(measured['tokens'], 'token')}. "
        "ms: time of a decoding step; plain: unsteered. ×: ratio to the unsteered turns before and after, with 95 % "
        "intervals.",
        style="dim",
    )


def _steering_table(title: str, sides: Mapping[str, Any]) -> Table:
    """Make a table with a row for each side."""
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


def _interval(ratio: Mapping[str, Any]) -> str:
    mark = {None: " ", True: "✓", False: "✗"}[ratio["met"]]
    return f"{ratio['ratio']:.3f}{mark} {ratio['low']:.3f}–{ratio['high']:.3f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"
