"""A reading as a picture: the text with coloured tokens, and a heatmap of layers by tokens."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import MissingDependencyError
from trimtab.reading.reading import Reading, VectorReading
from trimtab.vectors import write_atomically
from trimtab.vectors.records import layer_range

INSTALL = "pip install 'trimtab[bench]'"
NEGATIVE = (206, 44, 92)
POSITIVE = (0, 145, 105)
LEFT_OUT = 0.2  # how strongly tokens are coloured that do not count
FULL = 0.85  # how strongly the ends of the scale are: what is written on them has to stay legible
LEAST_LIMIT = 3.0  # standard deviations at the ends of the scale, at least
STEPS = 17  # of the legend
SIGNS = {"\n": "↵", "\t": "⇥", "\r": "␍"}
INCH = 0.21  # width of a token
WIDEST = 40.0  # inches; tokens get narrower then, and every few have a label
NO_NEUTRAL = "standard deviations from the mean over this text's words"


@dataclass(frozen=True)
class Shades:
    """Numbers to colour by, on a scale that is symmetric around 0.

    Attributes:
        cells: ``[layer, token]``.
        tokens: ``[token]``: mean of ``cells`` over the reading layers.
        counts: ``[token]``: whether it has a part in the text's score; what has none is grey.
        limit: The number with the strongest colour; words hardly ever exceed it.
        unit: What the numbers are.
    """

    cells: NDArray[np.float64]
    tokens: NDArray[np.float64]
    counts: NDArray[np.bool_]
    limit: float
    unit: str


def shades(reading: Reading, vector: VectorReading) -> Shades:
    """What to colour a reading's tokens by.

    These are z-scores. Without neutral statistics the text is its own measure: projections then say nothing by their
    sign, so that the mean over the text's words is taken for 0, and their standard deviation for 1.

    Args:
        reading: The reading.
        vector: The one of its vectors to colour by.
    """
    words = np.array(reading.words, dtype=bool)
    counts = words.copy()
    if vector.pool == "last":
        counts[-1] = True
    if vector.z is not None:
        cells, unit = vector.z, "z: standard deviations from neutral text"
    else:
        own = vector.projections[:, words]
        deviation = own.std(axis=1, keepdims=True)
        cells = (vector.projections - own.mean(axis=1, keepdims=True)) / np.where(deviation > 0, deviation, 1.0)
        unit = NO_NEUTRAL
    tokens = cells[vector.reading_rows].mean(axis=0)
    limit = float(np.ceil(max(LEAST_LIMIT, np.percentile(np.abs(cells[:, words]), 98))))
    return Shades(cells, tokens, counts, limit, unit)


def caption(vector: VectorReading) -> str:
    """A vector's name and the text's score along it."""
    score = "no score: the vector has no neutral statistics" if vector.score is None else f"score {vector.score:+.2f}"
    return f"{vector.name}: {score}"


# A page ------------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1.5rem; }
h2 { margin: 2.2rem 0 .3rem; font-size: 1.25rem; }
p { margin: .3rem 0 .8rem; }
.note, .out, th { color: GrayText; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 17px; line-height: 1.9; }
.text span { border-radius: 3px; padding: .12em 0; }
.legend { display: flex; gap: .7em; align-items: center; }
.legend i { display: inline-block; width: 1.1em; height: 1em; }
.legend span { display: flex; border: 1px solid GrayText; }
.grid { overflow-x: auto; }
table { border-collapse: collapse; font: 11px/1.2 ui-monospace, monospace; }
td { min-width: 1.5em; height: 1.25em; padding: 0; border: 1px solid rgb(128 128 128 / .18); }
th { font-weight: normal; padding: 0 .5em; text-align: right; white-space: nowrap; }
tbody th { position: sticky; left: 0; background: Canvas; }
th.at { color: CanvasText; font-weight: bold; }
thead th { vertical-align: bottom; padding: .4em .1em; }
thead th b { writing-mode: vertical-rl; font-weight: normal; white-space: pre; max-height: 12em; overflow: hidden; }
th.word b { color: CanvasText; }
"""


def write_html(reading: Reading, path: str | Path) -> Path:
    """Write a page: for each vector the text in colour, and a grid of layers by tokens with numbers to point at.

    It needs nothing from elsewhere, no scripts, and reads on light and dark backgrounds alike.

    Args:
        reading: What to show.
        path: The file; returned.

    Raises:
        OutputError: The file cannot be written.

    Example:
        >>> write_html(model.read("What a lovely day!", [happy]), "day.html")  # doctest: +SKIP
    """
    sections = "".join(_section(reading, vector) for vector in reading)
    title = escape(f"Reading: {', '.join(vector.name for vector in reading)}")
    page = (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n<body>'
        f"{sections}</body></html>\n"
    )
    target = Path(path)
    write_atomically(target, page.encode("utf-8", errors="replace"))
    return target


def _section(reading: Reading, vector: VectorReading) -> str:
    shown = shades(reading, vector)
    text, head, rows = _coloured_text(reading, shown), _head(reading, shown), _rows(reading, vector, shown)
    return (
        f"<h2>{escape(caption(vector))}</h2>\n"
        f'<p class="note">{escape(_explained(reading, vector))}</p>\n'
        f"{_legend(shown)}\n"
        f'<p class="text">{"".join(text)}</p>\n'
        f'<div class="grid"><table><thead>{head}</thead>\n<tbody>{"".join(rows)}'
        "</tbody></table></div>\n"
    )


def _explained(reading: Reading, vector: VectorReading) -> str:
    of = f"the mean over {sum(reading.words)} words" if vector.pool == "mean" else "the last token"
    return (
        f"Read at layers {layer_range(vector.reading_layers)} (bold), of {of}. What is grey does not count: special "
        "tokens, the template's marks and the first token."
    )


def _legend(shown: Shades) -> str:
    steps = "".join(
        f'<i style="background:{_css(value, shown.limit)}"></i>'
        for value in np.linspace(-shown.limit, shown.limit, STEPS)
    )
    return (
        f'<p class="legend note">−{shown.limit:g} <span>{steps}</span> +{shown.limit:g} &nbsp;{escape(shown.unit)}</p>'
    )


def _coloured_text(reading: Reading, shown: Shades) -> Iterator[str]:
    for piece, counts, value in zip(reading.pieces, shown.counts, shown.tokens, strict=True):
        if counts:
            yield f'<span style="background:{_css(value, shown.limit)}" title="{value:+.2f}">{escape(piece)}</span>'
        else:
            yield f'<span class="out" title="does not count; {value:+.2f}">{escape(piece)}</span>'


def _head(reading: Reading, shown: Shades) -> str:
    labels = (
        f'<th class="{"word" if counts else "out"}"><b>{escape(label(piece))}</b></th>'
        for piece, counts in zip(reading.pieces, shown.counts, strict=True)
    )
    return f"<tr><th>layer</th>{''.join(labels)}</tr>"


def _rows(reading: Reading, vector: VectorReading, shown: Shades) -> Iterator[str]:
    """The last layer first, as the stream rises from below."""
    for row in reversed(range(len(vector.layers))):
        layer = vector.layers[row]
        cells = "".join(
            f'<td style="background:{_css(value, shown.limit) if counts else _greyed(value, shown.limit)}" '
            f'title="layer {layer}, {escape(label(piece))}: {value:+.2f}"></td>'
            for piece, counts, value in zip(reading.pieces, shown.counts, shown.cells[row], strict=True)
        )
        yield f"<tr><th{' class=at' if layer in vector.reading_layers else ''}>{layer}</th>{cells}</tr>\n"


def _greyed(value: float, limit: float) -> str:
    colour = _css(value, limit, strength=LEFT_OUT)
    return f"linear-gradient({colour},{colour}) rgb(128 128 128/.13)"


def _css(value: float, limit: float, *, strength: float = 1.0) -> str:
    """A colour as strong as the value, over whatever the background is."""
    red, green, blue = POSITIVE if value > 0 else NEGATIVE
    return f"rgb({red} {green} {blue} / {strength * FULL * min(abs(value) / limit, 1.0):.2f})"


def label(piece: str) -> str:
    """A token's text on one line, also where it is but a space or a break."""
    shown = "".join(SIGNS.get(character, character) for character in piece)
    return shown.strip() or "␣" * len(shown)


# A picture ---------------------------------------------------------------------------------------------------------


def write_png(reading: Reading, path: str | Path) -> Path:
    """Draw a heatmap for each vector: a row for each layer, a column for each token, and a row of token scores above.

    Args:
        reading: What to show.
        path: The file; returned.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: The file cannot be written.

    Example:
        >>> write_png(model.read("What a lovely day!", [happy]), "day.png")  # doctest: +SKIP
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("a picture needs matplotlib", fix=f"run: {INSTALL}, or write .html") from None
    depths = [1.8 + 0.17 * len(vector.layers) for vector in reading]
    width = min(max(2.2 + INCH * len(reading.pieces), 7.0), WIDEST)
    figure = Figure(figsize=(width, sum(depths)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subfigures(len(reading), 1, squeeze=False, height_ratios=depths)[:, 0]
    for panel, vector in zip(panels, reading, strict=True):
        _draw(panel, reading, vector, every=_label_step(reading, width))
    picture = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a font has not every script
        figure.savefig(picture, format="png", dpi=130)
    target = Path(path)
    write_atomically(target, picture.getvalue())
    return target


def _label_step(reading: Reading, width: float) -> int:
    """Every which token has a label, so that labels do not cover each other."""
    return max(1, round(INCH * len(reading.pieces) / width))


def _draw(panel: Any, reading: Reading, vector: VectorReading, *, every: int) -> None:
    shown = shades(reading, vector)
    scores, grid = panel.subplots(2, 1, sharex=True, height_ratios=(1.6, len(vector.layers)))
    for axes, values in ((scores, shown.tokens[None]), (grid, shown.cells)):
        colours = _colours(values, shown.counts, shown.limit)
        axes.imshow(colours, aspect="auto", interpolation="nearest", origin="lower")
    scores.set_yticks([0], ["score"], fontsize=7)
    scores.tick_params(axis="x", bottom=False, labelbottom=False)
    scores.set_title(caption(vector), fontsize=11, loc="left", parse_math=False)
    _label_tokens(grid, reading, shown, every)
    _label_layers(grid, vector)
    for axes in (scores, grid):
        axes.tick_params(length=0)
        axes.spines[:].set_color("#bbbbbb")
    _colour_bar(panel, (scores, grid), shown)


def _colours(values: NDArray[np.float64], counts: NDArray[np.bool_], limit: float) -> NDArray[np.float64]:
    """``[row, token, 3]``: the colour of each value on white; tokens that do not count are pale and greyish."""
    strength = FULL * np.clip(np.abs(values) / limit, 0.0, 1.0) * np.where(counts, 1.0, LEFT_OUT)
    ends = np.where((values > 0)[..., None], np.array(POSITIVE) / 255, np.array(NEGATIVE) / 255)
    paper = np.where(counts, 1.0, 0.94)[None, :, None]
    colours: NDArray[np.float64] = paper + strength[..., None] * (ends - paper)
    return colours


def _label_tokens(axes: Any, reading: Reading, shown: Shades, every: int) -> None:
    places = range(0, len(reading.pieces), every)
    texts = [_short(label(reading.pieces[place])) for place in places]
    axes.set_xticks(places, texts, rotation=90, fontsize=8, family="monospace", parse_math=False)
    for place, tick in zip(places, axes.get_xticklabels(), strict=True):
        tick.set_color("black" if shown.counts[place] else "#999999")


def _short(text: str, *, most: int = 16) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _label_layers(axes: Any, vector: VectorReading) -> None:
    axes.set_yticks(range(len(vector.layers)), list(map(str, vector.layers)), fontsize=7)
    axes.set_ylabel("layer (bold: read)", fontsize=8)
    for layer, tick in zip(vector.layers, axes.get_yticklabels(), strict=True):
        tick.set_fontweight("bold" if layer in vector.reading_layers else "normal")
        tick.set_color("black" if layer in vector.reading_layers else "#777777")


def _colour_bar(panel: Any, axes: tuple[Any, ...], shown: Shades) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    ramp = _colours(np.linspace(-1.0, 1.0, 255)[None], np.ones(255, dtype=bool), 1.0)[0]
    colours = LinearSegmentedColormap.from_list("poles", ramp)
    bar = panel.colorbar(
        ScalarMappable(Normalize(-shown.limit, shown.limit), colours), ax=list(axes), pad=0.01, aspect=30
    )
    bar.set_label(shown.unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_edgecolor("#bbbbbb")
