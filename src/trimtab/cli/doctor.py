"""``trimtab doctor``: check a model on this machine, and say what works and how to fix the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.padding import Padding
from rich.table import Column, Table

from trimtab.cli.options import (
    DtypeOption,
    JsonOption,
    ModelOption,
    facts_table,
    out,
    phase_progress,
    print_json,
    seconds_table,
)
from trimtab.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trimtab.engines.transformers.doctor.checks import Checks
    from trimtab.engines.transformers.doctor.diagnosis import Diagnosis
    from trimtab.engines.transformers.doctor.properties import (
        BlockFacts,
        ChatFacts,
        Folder,
        Machine,
        ModelFacts,
        TokenizerFacts,
    )

SCHEMA = 2  # to be raised when a field of the JSON changes its meaning or is removed
UNUSABLE = 1  # exit code if the model cannot be steered
BAR = 40
MOST_ROWS = 40
MOST_SINKS = 4
GIB, MIB = 1024**3, 1024**2
MARKS = {"yes": "[green]✓[/green]", "slow": "[yellow]~[/yellow]", "no": "[red]✗[/red]"}
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def doctor(model: ModelOption = None, dtype: DtypeOption = None, json: JsonOption = False) -> None:
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
            diagnosis = refused(model or DEFAULT_NAME, error)
        else:
            diagnosis = diagnose(engine, on_step=phases.begin)
    if json:
        print_json({"schema": SCHEMA, **asdict(diagnosis), "seconds": seconds_table(phases.seconds)})
    else:
        print_diagnosis(diagnosis)
    if not diagnosis.works:
        raise typer.Exit(UNUSABLE)


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print a diagnosis for people: the verdict first, and last what to do."""
    colour = ("green" if not diagnosis.problems else "yellow") if diagnosis.works else "red"
    out.print(
        f"[bold]{escape(diagnosis.name)}[/bold]: [{colour}]{escape(diagnosis.verdict)}[/{colour}]", soft_wrap=True
    )
    out.print()
    _section("Model", facts_table((label, text) for label, text in _model_facts(diagnosis) if text))
    if (checks := diagnosis.checks) is not None:
        _section("What works", _capabilities(checks))
        if any(checks.norms):
            texts = f"{checks.texts} neutral texts{', sinks left out' if checks.sinks else ''}"
            _section(f"Norm of hidden states, by layer ({texts})", _norms(checks))
    _section("Machine", facts_table(_machine(diagnosis.machine)))
    if diagnosis.problems:
        _section("What to do", _problems(diagnosis))


def _section(title: str, table: Table) -> None:
    if table.row_count:
        out.print(f"[bold]{title}[/bold]")
        out.print(Padding(table, (0, 0, 1, 2), expand=False))


def _model_facts(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    if diagnosis.model is not None:
        yield "class", _model(diagnosis.model)
        window = diagnosis.model.context_window
        yield "reads", f"{window:,} tokens" if window else "no limit in the model's config"
    if diagnosis.blocks is not None:
        yield "blocks", _blocks(diagnosis.blocks)
    if diagnosis.proof is not None:
        yield "proven", f"each block was steered in a test and restored ({diagnosis.proof.passes} small passes)"
    if diagnosis.tokenizer is not None:
        yield "tokenizer", _tokenizer(diagnosis.tokenizer)
        yield "tokens", _special(diagnosis.tokenizer)
    if diagnosis.model is not None:
        yield from _chat(diagnosis.chat)
    if diagnosis.checks is not None and any(diagnosis.checks.norms):
        yield "sinks", _sinks(diagnosis.checks)


def _model(model: ModelFacts) -> str:
    where = f"spread over {', '.join(model.spread_over)}" if model.spread_over else f"on {model.device}"
    dtype = f"{'quantised, computing in ' if model.quantised else ''}{model.dtype}"
    size = f"{_count(model.parameters)} parameters"
    return f"{escape(model.architecture)}, {size}, {dtype} {where} ({_size(model.weight_bytes)})"


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
    before = _tokens(tokenizer.begins_with) or "no token"
    behind = f" and {_tokens(tokenizer.ends_with)} behind it" if tokenizer.ends_with else ""
    return f"{tokenizer.kind}, {tokenizer.entries:,} tokens, puts {before} before a text{behind}"


def _special(tokenizer: TokenizerFacts) -> str:
    parts = [f"{role} {escape(token)}" for role, token in tokenizer.special.items()]
    return ", ".join([*parts, f"answers end with {_tokens(tokenizer.stop) or 'none'}"])


def _chat(chat: ChatFacts | None) -> Iterator[tuple[str, str]]:
    if chat is None:
        yield "chat", "no chat template: prompts are read as plain text"
        return
    parts = [f"marked by {_tokens(chat.markers)}"] if chat.markers else ["without special tokens"]
    if chat.doubled:
        parts.append(f"writes {_tokens(chat.doubled)} as the tokenizer does (encoded once)")
    parts.append("takes system messages" if chat.takes_system else "system messages join the first question")
    if chat.thinking is not None:
        switch = "can be turned off" if chat.thinking_switch else "always"
        parts.append(f"thinks between {escape(chat.thinking.open)} and {escape(chat.thinking.close)} ({switch})")
    yield "chat", ", ".join(parts)
    if chat.default_system:
        yield "system", f"default: {escape(chat.default_system)}"


def _sinks(checks: Checks) -> str:
    if not checks.sinks:
        return "none: no token's states are far longer than the others'"
    parts = [
        f"token {sink.position} {escape(repr(sink.token))}, {sink.times_median:.0f} × the median"
        for sink in checks.sinks[:MOST_SINKS]
    ]
    more = len(checks.sinks) - MOST_SINKS
    return ", ".join([*parts, *([f"and {more} more"] if more > 0 else [])])


def _capabilities(checks: Checks) -> Table:
    table = Table.grid(padding=(0, 2))
    for capability in checks.capabilities:
        table.add_row(MARKS[capability.state], capability.name, f"[dim]{escape(capability.why)}[/dim]")
    return table


def _norms(checks: Checks) -> Table:
    """Return a line per layer; for very deep models, only some of them."""
    table = Table.grid(Column(justify="right", style="dim"), Column(), padding=(0, 1))
    step = -(-len(checks.norms) // MOST_ROWS)
    longest = max(norm or 0.0 for norm in checks.norms) or 1.0
    for layer in range(0, len(checks.norms), step):
        norm = checks.norms[layer]
        bar = "" if norm is None else f"[green]{_bar(norm / longest)}[/green] [dim]{norm:.3g}[/dim]"
        table.add_row(str(layer), bar or "[red]not finite[/red]")
    return table


def _bar(share: float) -> str:
    eighths = round(8 * BAR * share)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _problems(diagnosis: Diagnosis) -> Table:
    table = Table.grid(padding=(0, 2))
    for problem in diagnosis.problems:
        colour = COLOURS[problem.severity]
        known = diagnosis.verdict.endswith(problem.what)  # the first line says it already
        what = "" if known else f"[{colour}]{escape(problem.what)}[/{colour}]\n"
        table.add_row(f"[{colour}]{problem.severity}[/{colour}]", f"{what}→ {escape(problem.fix)}")
    return table


def _machine(machine: Machine) -> Iterator[tuple[str, str]]:
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
    if count >= GIB:
        return f"{count / GIB:.1f} GiB"
    return f"{count / MIB:.0f} MiB" if count >= MIB else f"{count:,} bytes"
