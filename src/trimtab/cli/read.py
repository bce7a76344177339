"""``trimtab read``: readings of a text on vectors, as a whole and token by token."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.style import Style
from rich.table import Table
from rich.text import Text

from trimtab.cli.options import (
    MINUS,
    PLUS,
    DtypeOption,
    ForceOption,
    JsonOption,
    ModelOption,
    RawOption,
    SystemOption,
    ThinkingOption,
    check_writable,
    notice,
    out,
    print_json,
)
from trimtab.cli.session import Session
from trimtab.errors import PromptError
from trimtab.palette import colours, rgb

if TYPE_CHECKING:
    from trimtab.engines import Prompt
    from trimtab.reading import Reading, Shades, VectorReading

SHOWN_FROM = 0.2  # of the scale; weaker values have no colour
STRONG_FROM = 0.5  # of the scale, on terminals of few colours
LEGEND = (-1.0, -0.5, 0.0, 0.5, 1.0)  # of the scale
BAR = 24


def read(
    text: Annotated[str, typer.Argument(help="User's message; '-' reads it from standard input.")],
    vector: Annotated[list[str], typer.Option("--vector", "-v", help="Name or path of a vector; may be repeated.")],
    assistant: Annotated[str | None, typer.Option(help="Assistant's answer to read with the message.")] = None,
    system: SystemOption = None,
    raw: RawOption = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Heatmap of layers by tokens to write (.html).")
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Readings of every layer.")] = False,
    force: ForceOption = False,
    model: ModelOption = None,
    dtype: DtypeOption = None,
    thinking: ThinkingOption = None,
    json: JsonOption = False,
) -> None:
    """Read a text on one vector or several: a score for the text and for each token."""
    prompt = _prompt(sys.stdin.read() if text == "-" else text, system=system, assistant=assistant, raw=raw)
    if output is not None:
        check_writable(output, suffix=".html")
    session = Session(model, dtype=dtype, thinking=thinking, announce=not (raw or json), force=force)
    reading = session.engine.read(prompt, session.vectors(vector), raw=raw)
    if output is not None:
        from trimtab.reading import write_html

        write_html(reading, output)
        notice(f"wrote {output}")
    if json:
        print_json(reading.to_json())
        return
    print_reading(reading)
    if layers:
        for each in reading:
            out.print(f"\n{each.name} by layer", markup=False)
            out.print(_layer_table(reading, each))


def _prompt(text: str, *, system: str | None, assistant: str | None, raw: bool) -> Prompt:
    if raw and (system or assistant is not None):
        given = "--system" if system else "--assistant"
        raise PromptError(f"{given} and --raw exclude each other", fix="drop one")
    if not text.strip():
        raise PromptError("the text is empty", fix="write something to read")
    if assistant is not None and not assistant.strip():
        raise PromptError("the assistant's text is empty", fix="write something to read, or drop --assistant")
    if raw or not (system or assistant):
        return text
    turns = (("system", system), ("user", text), ("assistant", assistant))
    return [{"role": role, "content": content} for role, content in turns if content]


def print_reading(reading: Reading) -> None:
    """Print a line for each vector, and the text in colours; without colours, a table of tokens."""
    from trimtab.reading import shades

    shown = [shades(reading, vector) for vector in reading]
    colourful = out.color_system is not None and not out.no_color
    for vector, shade in zip(reading, shown, strict=True):
        out.print(_line(reading, vector), soft_wrap=True)
        if colourful:
            out.print(_coloured(reading, shade))
            out.print(_legend(shade))
            out.print()
    if not colourful:
        out.print(_token_table(reading, shown))
        out.print(f"By token: {'; '.join(dict.fromkeys(shade.unit for shade in shown))}.", soft_wrap=True)


def _line(reading: Reading, vector: VectorReading) -> Text:
    from trimtab.vectors.records import layer_range

    of = f"mean over {sum(reading.words)} words" if vector.pool == "mean" else "last token"
    where = f"{of}, layers {layer_range(vector.reading_layers)}"
    if vector.score is None:
        text = f"no score: the vector has no neutral statistics; train it again, or calibrate it ({where})"
        return Text.assemble((vector.name, "bold"), "  ", (text, "yellow"))
    return Text.assemble(
        (vector.name, "bold"), f"  {vector.score:+.2f}  {meaning(vector.score)} ", (f"(z; {where})", "dim")
    )


def meaning(score: float) -> str:
    """Return a z-score in words."""
    size = abs(score)
    if size < 0.5:
        return "as neutral text"
    degree = "a little" if size < 1 else "clearly" if size < 2 else "far"
    return f"{degree} towards its {'+' if score > 0 else '−'} pole"


def _coloured(reading: Reading, shown: Shades) -> Text:
    text = Text()
    for piece, counts, value in zip(reading.pieces, shown.counts, shown.tokens, strict=True):
        text.append(piece, _style(value / shown.limit) if counts else Style(dim=True))
    return text


def _style(part: float) -> Style:
    """Return the colour of a value that is this part of the scale: black on a mark suits light and dark terminals."""
    strength = min(abs(part), 1.0)
    if strength < SHOWN_FROM:
        return Style()
    if out.color_system == "standard":  # 16 colours: two steps
        name = PLUS if part > 0 else MINUS
        return Style(color="black", bgcolor=name) if strength >= STRONG_FROM else Style(color=name)
    pale, full = rgb(colours("light")["panel"]), rgb(colours("dark")["plus" if part > 0 else "minus"])
    red, green, blue = (round(start + strength * (end - start)) for start, end in zip(pale, full, strict=True))
    return Style(color=colours("light")["ink"], bgcolor=f"rgb({red},{green},{blue})")


def _legend(shown: Shades) -> Text:
    legend = Text()
    for part in LEGEND:
        legend.append(f" {part * shown.limit:+.1f} " if part else " 0 ", _style(part))
    legend.append(f"  {shown.unit}; ", "dim")
    legend.append("dim: does not count", Style(dim=True))
    return legend


def _token_table(reading: Reading, shown: list[Shades]) -> Table:
    """Return a table with a line for each token that counts."""
    from trimtab.reading import label

    table = Table(box=None, padding=(0, 1), show_header=len(reading) > 1)
    for vector in reading:
        table.add_column(Text(vector.name), justify="right")
    table.add_column("token")
    for number, piece in enumerate(reading.pieces):
        if any(shade.counts[number] for shade in shown):
            scores = (f"{shade.tokens[number]:+.2f}" if shade.counts[number] else "" for shade in shown)
            table.add_row(*scores, Text(label(piece)))
    return table


def _layer_table(reading: Reading, vector: VectorReading) -> Table:
    """Return a table with a line per layer, last first, and a bar to either side; layers that are not read are dim."""
    if vector.layer_scores is not None:
        values = list(vector.layer_scores)
    elif vector.pool == "last":
        values = list(vector.projections[:, -1])
    else:
        values = list(vector.projections[:, list(reading.words)].mean(axis=1))
    most = max(1.0, *map(abs, values))
    table = Table(box=None, padding=(0, 1))
    for header in ("layer", "z" if vector.layer_scores is not None else "projection", "−", "+"):
        table.add_column(header, justify="left" if header == "+" else "right")
    for layer, value in reversed(list(zip(vector.layers, values, strict=True))):
        bar = "█" * round(BAR * abs(value) / most)
        sides = (Text(), Text(bar, colours()["plus"])) if value > 0 else (Text(bar, colours()["minus"]), Text())
        style = "" if layer in vector.reading_layers else "dim"
        table.add_row(str(layer), f"{value:+.2f}", *sides, style=style)
    return table
