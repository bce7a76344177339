"""``trimtab doctor``: check a model on this machine, and say what works and how to fix the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from trimtab.cli.options import DtypeOption, JsonOption, ModelOption, out, phase_progress, print_json, seconds_table
from trimtab.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trimtab.engines.transformers.doctor.checks import Checks, Sink
    from trimtab.engines.transformers.doctor.diagnosis import Diagnosis
    from trimtab.engines.transformers.doctor.properties import (
        BlockFacts,
        ChatFacts,
        Folder,
        Machine,
        ModelFacts,
        TokenizerFacts,
    )

SCHEMA = 1  # to be raised when a field of the JSON changes its meaning or is removed
UNUSABLE = 1  # exit code if the model cannot be steered
BAR = 40
MOST_ROWS = 40
MOST_SINKS = 4
GIB, MIB = 1024**3, 1024**2
MARKS = {"yes": "[green]✓[/green]", "slow": "[yellow]~[/yellow]", "no": "[red]✗[/red]"}
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
Row = tuple[str, str]


def doctor(
    model: ModelOption = None,
    dtype: DtypeOption = None,
    json: JsonOption = False,
) -> None:
    """Check a model: try everything trimtab does with it, and say what works and how to fix the rest.

    The exit code is 1 if the model cannot be steered.
    """
    from trimtab.errors import TrimtabError

    with phase_progress() as phases:
        phases.begin("Loading the model")
        from trimtab.engines.transformers.doctor.diagnosis import diagnose, refused
        from trimtab.engines.transformers.model.source import DEFAULT_NAME

        try:
            engine = Session(model, dtype=dtype).engine
        except TrimtabError as error:
            found = refused(model or DEFAULT_NAME, error)
        else:
            found = diagnose(engine, on_step=phases.begin)
    if json:
        print_json({"schema": SCHEMA, **asdict(found), "seconds": seconds_table(phases.seconds)})
    else:
        print_diagnosis(found)
    if not found.works:
        raise typer.Exit(UNUSABLE)


def print_diagnosis(found: Diagnosis) -> None:
    """Print a diagnosis for people: the verdict first, and last what to do."""
    colour = ("green" if not found.problems else "yellow") if found.works else "red"
    out.print(f"[bold]{escape(found.name)}[/bold]: [{colour}]{escape(found.verdict)}[/{colour}]", soft_wrap=True)
    out.print()
    _section("Model", [row for row in _found(found) if row[1]])
    if found.trials is not None:
        _section("What works", [], table=_capabilities(found.trials))
        if any(found.trials.norms):
            _section(f"Norm of hidden states, by layer ({_places(found.trials)})", [], table=_norms(found.trials))
    _section("Machine", list(_machine(found.machine)))
    if found.problems:
        _section("What to do", [], table=_problems(found))


def _section(title: str, rows: list[Row], *, table: Table | None = None) -> None:
    if table is None:
        if not rows:
            return
        table = _grid()
        for label, text in rows:
            table.add_row(f"[dim]{label}[/dim]", text)
    out.print(f"[bold]{title}[/bold]")
    out.print(Padding(table, (0, 0, 1, 2), expand=False))


def _grid() -> Table:
    return Table.grid(padding=(0, 2))


def _found(found: Diagnosis) -> Iterator[Row]:
    if found.model is not None:
        yield "class", _model(found.model)
        window = found.model.context_window
        yield "reads", f"{window:,} tokens" if window else "as many tokens as fit; its config names no bound"
    if found.blocks is not None:
        yield "blocks", _blocks(found.blocks)
    if found.proof is not None:
        yield "proven", f"every block was steered on trial, and left no trace ({found.proof.passes} small passes)"
    if found.tokenizer is not None:
        yield "tokenizer", _tokenizer(found.tokenizer)
        yield "tokens", _special(found.tokenizer)
    if found.model is not None:
        yield from _chat(found.chat)
    if found.trials is not None and any(found.trials.norms):
        yield "sinks", _sinks(found.trials)


def _model(model: ModelFacts) -> str:
    where = f"spread over {', '.join(model.spread_over)}" if model.spread_over else f"on {model.device}"
    parts = [
        escape(model.architecture),
        f"{_count(model.parameters)} parameters",
        f"{'quantised, computing in ' if model.quantised else ''}{model.dtype} {where} ({_size(model.weight_bytes)})",
    ]
    return ", ".join(parts)


def _blocks(blocks: BlockFacts) -> str:
    parts = [f"{blocks.count} of width {blocks.hidden_size} in {escape(blocks.path)}"]
    if blocks.streams > 1:
        parts.append(f"{blocks.streams} streams side by side")
    if blocks.tokens_first:
        parts.append("tokens before rows")
    if blocks.offset:
        parts.append(f"{blocks.offset} positions before the first token")
    if blocks.repeated:
        parts.append("some run several times")
    if blocks.encoder:
        parts.append("an encoder's")
    parts.append("causal" if blocks.causal else "not causal")
    if blocks.reader:
        parts.append(f"read by {escape(blocks.reader)}")
    if blocks.idle:
        parts.append(f"{len(blocks.idle)} more idle")
    return ", ".join(parts)


def _tokenizer(tokenizer: TokenizerFacts) -> str:
    before = (
        f"puts {_tokens(tokenizer.begins_with)} before a text"
        if tokenizer.begins_with
        else "puts no token before a text"
    )
    return f"{tokenizer.kind}, {tokenizer.entries:,} tokens, {before}"


def _special(tokenizer: TokenizerFacts) -> str:
    parts = [f"{role} {escape(token)}" for role, token in tokenizer.special.items()]
    return ", ".join([*parts, f"answers end with {_tokens(tokenizer.stop) or 'none'}"])


def _chat(chat: ChatFacts | None) -> Iterator[Row]:
    if chat is None:
        yield "chat", "no chat template: prompts are read as plain text"
        return
    parts = [f"marked by {_tokens(chat.markers)}"] if chat.markers else ["without special tokens"]
    parts.append("takes system messages" if chat.takes_system else "system messages join the first question")
    if chat.thinking is not None:
        switch = "can be turned off" if chat.thinking_switch else "always"
        parts.append(f"thinks between {escape(chat.thinking.open)} and {escape(chat.thinking.close)} ({switch})")
    yield "chat", ", ".join(parts)
    if chat.default_system:
        yield "system", f"default: {escape(chat.default_system)}"


def _sinks(trials: Checks) -> str:
    if not trials.sinks:
        return "none: no token's states are far longer than the others'"
    more = len(trials.sinks) - MOST_SINKS
    return ", ".join([*map(_sink, trials.sinks[:MOST_SINKS]), *([f"and {more} more"] if more > 0 else [])])


def _sink(sink: Sink) -> str:
    return f"token {sink.position} {escape(repr(sink.token))}, {sink.times_median:.0f} × the median"


def _capabilities(trials: Checks) -> Table:
    table = _grid()
    for capability in trials.capabilities:
        table.add_row(MARKS[capability.state], capability.name, f"[dim]{escape(capability.why)}[/dim]")
    return table


def _places(trials: Checks) -> str:
    return f"{trials.texts} neutral texts{', sinks left out' if trials.sinks else ''}"


def _norms(trials: Checks) -> Table:
    """One line a layer; of very deep models, only some of them."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", style="dim")
    table.add_column()
    step = -(-len(trials.norms) // MOST_ROWS)
    longest = max(norm or 0.0 for norm in trials.norms) or 1.0
    for layer in range(0, len(trials.norms), step):
        norm = trials.norms[layer]
        bar = (
            "[red]not finite[/red]" if norm is None else f"[green]{_bar(norm / longest)}[/green] [dim]{norm:.3g}[/dim]"
        )
        table.add_row(str(layer), bar)
    return table


def _bar(share: float) -> str:
    eighths = round(8 * BAR * share)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _problems(found: Diagnosis) -> Table:
    table = _grid()
    for problem in found.problems:
        colour = COLOURS[problem.severity]
        known = found.verdict.endswith(problem.what)  # the first line says it already
        what = "" if known else f"[{colour}]{escape(problem.what)}[/{colour}]\n"
        table.add_row(f"[{colour}]{problem.severity}[/{colour}]", f"{what}→ {escape(problem.fix)}")
    return table


def _machine(machine: Machine) -> Iterator[Row]:
    free = "" if machine.free_memory is None else f", {_size(machine.free_memory)} free"
    cores = f"{machine.cores} core{'' if machine.cores == 1 else 's'}"
    threads = f"{machine.threads} thread{'' if machine.threads == 1 else 's'}"
    yield "processor", f"{escape(machine.cpu)}, {cores}, {threads} in use{free}"
    gpus = [f"{escape(gpu.name)}, {_size(gpu.free)} of {_size(gpu.total)} free" for gpu in machine.gpus]
    yield "GPU", "; ".join(gpus) or "none"
    there = [f"{name} {version}" for name, version in machine.packages.items() if version]
    yield "versions", ", ".join([f"python {machine.python}", *there])
    yield "absent", ", ".join(name for name, version in machine.packages.items() if not version) or "nothing"
    yield "cache", _folder(machine.cache)
    yield "vectors", _folder(machine.vectors)


def _folder(folder: Folder) -> str:
    return escape(folder.path) + ("" if folder.writable else " [yellow](cannot be written to)[/yellow]")


def _tokens(tokens: tuple[str, ...]) -> str:
    return " ".join(map(escape, tokens))


def _count(number: int) -> str:
    for unit, name in ((1e9, " billion"), (1e6, " million")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:,}"


def _size(count: int) -> str:
    return (
        f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB" if count >= MIB else f"{count:,} bytes"
    )
