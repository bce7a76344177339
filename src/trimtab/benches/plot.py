"""A picture of the extraction benchmark: how much more the others take, case by case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.benches.report import count
from trimtab.errors import MissingDependencyError
from trimtab.vectors import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INSTALL = "pip install 'trimtab[bench]'"
COLOURS = {"repeng": "#c44e52", "trimtab-plain": "#7a93b4"}
LABELS = {"repeng": "repeng", "trimtab-plain": "trimtab without sharing prefixes"}
TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500)
ROW = 0.76  # of the room for a case, what its bars take
FIGURES = (  # what is drawn: its key, its name, how it is written, and its unit
    ("cpu", "CPU time", (".2f", "s"), 1.0),
    ("memory", "peak memory above the model", (".0f", "MiB"), 1024.0**2),
)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, off every screen.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("a picture needs matplotlib", fix=f"run: {INSTALL}") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def keep_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG.

    Raises:
        OutputError: The file cannot be written.
    """
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    write_atomically(path, picture.getvalue())


def draw_extraction(measured: Mapping[str, Any], path: Path) -> None:
    """Draw what ``report`` gave: CPU time as times trimtab's, peak memory beside it, one row of panels a dtype.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    dtypes = {dtype: cases for dtype, cases in measured["dtypes"].items() if cases}
    if not dtypes:
        return
    rows = max(len(cases) for cases in dtypes.values())
    figure = new_figure(12, 1.2 + len(dtypes) * (0.9 + 0.66 * rows))
    panels = figure.subplots(len(dtypes), 2, sharex="col", sharey="row", squeeze=False)
    for column, (key, title, unit, per) in enumerate(FIGURES):
        for row, (dtype, cases) in enumerate(dtypes.items()):
            _bars(panels[row][column], cases, key, unit, per)
            panels[row][column].set_title(f"{dtype}: {title}, times trimtab's", fontsize=10)
        _scale(list(panels[:, column]))
    figure.suptitle(
        f"Extracting hidden states: {measured['model']}, {measured['machine']['cpu']}, "
        f"{count(measured['threads'], 'thread')}. Right of 1: trimtab takes less.",
        fontsize=11,
    )
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    keep_figure(figure, path)


def _bars(panel: Any, cases: Mapping[str, Any], key: str, unit: tuple[str, str], per: float) -> None:
    """For each case a bar for each other side, from 1 to how many times trimtab's figure its own is."""
    sides = list(dict.fromkeys(side for case in cases.values() for side in case["ratios"]))
    thickness = ROW / max(len(sides), 1)
    for number, side in enumerate(sides):
        places = [row - ROW / 2 + thickness * (number + 0.5) for row in range(len(cases))]
        read = [_ratio(case["sides"], side, key, unit, per) for case in cases.values()]
        widths = [ratio - 1 for ratio, _ in read]
        label = LABELS.get(side, side)
        panel.barh(places, widths, thickness * 0.9, left=1, color=COLOURS.get(side), label=label)
        for place, (ratio, text) in zip(places, read, strict=True):
            beside = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
            panel.annotate(text, (max(ratio, 1.0), place), **beside)
    panel.axvline(1, color="black", linewidth=1)
    panel.set_yticks(range(len(cases)), [_label(name, case) for name, case in cases.items()])
    panel.set_ylim(len(cases) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0, labelsize=8)
    for edge in ("top", "right", "left"):
        panel.spines[edge].set_visible(False)


def _scale(panels: Sequence[Any]) -> None:
    """One log axis for all panels of a column, with room for the labels beyond the longest bar."""
    bars = [bar for panel in panels for bars in panel.containers for bar in bars]
    ends = [1.0, 2.0, *(bar.get_x() + bar.get_width() for bar in bars)]
    low, high = min(ends), max(ends)
    for panel in panels:
        panel.set_xscale("log")
        panel.set_xlim(low / 1.1, high * (high / low) ** 0.45)
        panel.set_xticks([tick for tick in TICKS if low <= tick <= high * 1.2])
        panel.xaxis.set_major_formatter("{x:g}")
        panel.tick_params(axis="x", labelbottom=True)
        panel.minorticks_off()


def _ratio(sides: Mapping[str, Any], side: str, key: str, unit: tuple[str, str], per: float) -> tuple[float, str]:
    """How many times trimtab's figure another side's is, and how both read."""
    own, other = (sides.get(name, {}).get(key) for name in ("trimtab", side))
    if not own or not other:
        return 1.0, "not measured"
    return other / own, f"{other / own:.3g}×  ({other / per:{unit[0]}} / {own / per:{unit[0]}} {unit[1]})"


def _label(name: str, case: Mapping[str, Any]) -> str:
    return f"{name}\n{case['prompts']:,} texts, {case['tokens']:,} tokens\n{case['distinct_tokens']:,} distinct"
