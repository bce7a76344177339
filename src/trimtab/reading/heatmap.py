"""Heatmap of a reading: an HTML page with the coloured text and a grid of layers by tokens."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np

from trimtab.palette import palette_css
from trimtab.reading.reading import Reading, Shades, VectorReading, caption, coloured_text, css_colour, label, shades
from trimtab.vectors import write_atomically
from trimtab.vectors.records import layer_range

LEFT_OUT = 0.2  # opacity of tokens that do not count, relative to others
STEPS = 17  # of the legend

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1.5rem; }
body { color: var(--ink); background: var(--paper); }
h1 { font-size: 1.4rem; }
h2 { margin: 2.2rem 0 .3rem; font-size: 1.2rem; }
p { margin: .3rem 0 .8rem; }
.note, .out, th { color: var(--soft); }
.text { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 17px; line-height: 1.9; }
.text span { border-radius: 3px; padding: .12em 0; }
.legend { display: flex; gap: .7em; align-items: center; }
.legend i { display: inline-block; width: 1.1em; height: 1em; }
.legend span { display: flex; border: 1px solid var(--edge); }
.grid { overflow-x: auto; }
table { border-collapse: collapse; font: 11px/1.2 ui-monospace, monospace; }
td { min-width: 1.5em; height: 1.25em; padding: 0; border: 1px solid var(--line); }
th { font-weight: normal; padding: 0 .5em; text-align: right; white-space: nowrap; }
tbody th { position: sticky; left: 0; background: var(--paper); }
th.at { color: var(--ink); font-weight: bold; }
thead th { vertical-align: bottom; padding: .4em .1em; }
thead th b { writing-mode: vertical-rl; font-weight: normal; white-space: pre; max-height: 12em; overflow: hidden; }
th.word b { color: var(--ink); }
"""


def write_html(reading: Reading, path: str | Path) -> Path:
    """Write a page: for each vector the text in colour, and a grid of layers by tokens with numbers to point at.

    The page needs no other files and no scripts, and suits light and dark backgrounds alike. Its path is returned.

    Raises:
        OutputError: The file cannot be written.

    Example:
        >>> write_html(model.read("What a lovely day!", [happy]), "day.html")  # doctest: +SKIP
    """
    sections = "".join(_section(reading, vector) for vector in reading)
    title = escape(f"Reading: {', '.join(vector.name for vector in reading)}")
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{palette_css()}{STYLE}</style></head>\n<body>'
        f"<main><h1>{title}</h1>\n{sections}</main></body></html>\n"
    )
    target = Path(path)
    write_atomically(target, page.encode("utf-8", errors="replace"))
    return target


def _section(reading: Reading, vector: VectorReading) -> str:
    shown = shades(reading, vector)
    text, head, rows = coloured_text(reading, shown), _head(reading, shown), _rows(reading, vector, shown)
    return (
        f"<h2>{escape(caption(vector))}</h2>\n"
        f'<p class="note">{escape(_explained(reading, vector))}</p>\n'
        f"{_legend(shown)}\n"
        f'<p class="text">{text}</p>\n'
        f'<div class="grid" role="region" aria-label="{escape(vector.name)} by layer and token" tabindex="0">'
        f"<table><thead>{head}</thead>\n<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _explained(reading: Reading, vector: VectorReading) -> str:
    of = f"the mean over {sum(reading.words)} words" if vector.pool == "mean" else "the last token"
    return (
        f"Read at layers {layer_range(vector.reading_layers)} (bold), of {of}. Grey tokens do not count: special "
        "tokens, the template's marks and the first token."
    )


def _legend(shown: Shades) -> str:
    steps = "".join(
        f'<i style="background:{css_colour(value, shown.limit)}"></i>'
        for value in np.linspace(-shown.limit, shown.limit, STEPS)
    )
    return (
        f'<p class="legend note">−{shown.limit:g} <span>{steps}</span> +{shown.limit:g} &nbsp;{escape(shown.unit)}</p>'
    )


def _head(reading: Reading, shown: Shades) -> str:
    labels = (
        f'<th class="{"word" if counts else "out"}"><b>{escape(label(piece)) or "(none)"}</b></th>'
        for piece, counts in zip(reading.pieces, shown.counts, strict=True)
    )
    return f"<tr><th>layer</th>{''.join(labels)}</tr>"


def _rows(reading: Reading, vector: VectorReading, shown: Shades) -> Iterator[str]:
    """Yield the rows of the grid, the last layer first."""
    for row in reversed(range(len(vector.layers))):
        layer = vector.layers[row]
        cells = "".join(
            f'<td style="background:{css_colour(value, shown.limit) if counts else _greyed(value, shown.limit)}" '
            f'title="layer {layer}, {escape(label(piece))}: {value:+.2f}"></td>'
            for piece, counts, value in zip(reading.pieces, shown.counts, shown.cells[row], strict=True)
        )
        yield f"<tr><th{' class=at' if layer in vector.reading_layers else ''}>{layer}</th>{cells}</tr>\n"


def _greyed(value: float, limit: float) -> str:
    colour = css_colour(value, limit, strength=LEFT_OUT)
    return f"linear-gradient({colour},{colour}) var(--panel)"
