"""A report as pictures: the dial, the layers that were tried, and what every way of asking does and costs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from trimtab.errors import MissingDependencyError
from trimtab.evaluation.records import Point, Report
from trimtab.evaluation.report.wording import figure, known, layer_range
from trimtab.vectors import Interval, write_atomically

INSTALL = 'pip install "trimtab[evaluate]"'
POSITIVE, NEGATIVE, GREY = "#009169", "#ce2c5c", "#606a74"
CHANCE, USABLE = "#d9dce1", "#eaf2fb"
MARKERS = "osD^vPX*"
FACTORS = (0.5, 0.7, 1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000)  # of perplexity, where an axis is labelled


def write_pictures(report: Report, folder: Path) -> tuple[Path, ...]:
    """Draw ``sweep.png``, ``comparison.png`` and, where layers were tried, ``layers.png``.

    Args:
        report: What to draw.
        folder: Where; it is made if it does not exist.

    Returns:
        The files that were written.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: A file cannot be written.

    Example:
        >>> write_pictures(report, Path("happy"))  # doctest: +SKIP
        (PosixPath('happy/sweep.png'), PosixPath('happy/comparison.png'), PosixPath('happy/layers.png'))
    """
    drawings: dict[str, Callable[[Report], Any]] = {"sweep.png": _sweep, "comparison.png": _comparison}
    if report.subject.candidates:
        drawings["layers.png"] = _layers
    written = []
    for name, draw in drawings.items():
        picture = BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a font has not every script
            draw(report).savefig(picture, format="png", dpi=130, metadata={"Software": None})
        write_atomically(folder / name, picture.getvalue())
        written.append(folder / name)
    return tuple(written)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("a picture needs matplotlib", fix=f"run: {INSTALL}") from None
    figure_ = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure_)
    return figure_


def _tidy(axes: Any) -> None:
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    axes.tick_params(labelsize=8)


def _heading(canvas: Any, text: str) -> None:
    canvas.suptitle(text, fontsize=11, x=0.01, ha="left", parse_math=False)


# The dial ------------------------------------------------------------------------------------------------------------


def _sweep(report: Report) -> Any:
    """Effect, KL and perplexity over strength."""
    measured = any(point.effect is not None for point in report.sweep.points)
    canvas = _figure(8, 7 if measured else 4.6)
    rows = [2.0, 1.0, 1.0] if measured else [1.0, 1.0]
    panels = list(canvas.subplots(len(rows), 1, sharex=True, height_ratios=rows))
    for axes in panels:
        _tidy(axes)
        axes.axvspan(report.sweep.low, report.sweep.high, color=USABLE, label="usable")
        axes.axvline(0, color=GREY, linewidth=0.8)
    if measured:
        _effects(panels.pop(0), report)
    _costs(panels[0], report.sweep.points, lambda point: point.kl, "KL, nat per token")
    panels[0].axhline(report.subject.budget, color="#2b6cb0", linewidth=0.8, linestyle="--")
    _costs(panels[1], report.sweep.points, lambda point: point.damage.perplexity_ratio, "perplexity, × base")
    panels[1].set_yscale("log")
    panels[1].set_yticks([1, 2, 5, 10, 20, 50, 100, 1000])
    panels[1].yaxis.set_major_formatter("{x:g}")
    panels[1].minorticks_off()
    top = max((p.damage.perplexity_ratio for p in report.sweep.points if known(p.damage.perplexity_ratio)), default=2.0)
    panels[1].set_ylim(0.7, max(top, 2.0) * 1.3)
    panels[1].set_xlabel("strength", fontsize=9)
    _heading(canvas, f"{report.subject.vector} on {report.subject.model}: what the dial does")
    return canvas


def _effects(axes: Any, report: Report) -> None:
    points = [point for point in report.sweep.points if point.effect is not None]
    chance = report.controls.chance
    if chance is not None:
        axes.axhspan(chance.low, chance.high, color=CHANCE, label="random directions at ±1")
    axes.axhline(0, color=GREY, linewidth=0.8)
    values = [point.effect.value for point in points if point.effect is not None]
    intervals = [point.effect for point in points if point.effect is not None]
    axes.errorbar(
        [p.strength for p in points], values, yerr=_reach(intervals), color=GREY, linewidth=1, elinewidth=1.2, zorder=2
    )
    _dots(axes, points, values)
    _label_effect(axes, report)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _label_effect(axes: Any, report: Report) -> None:
    poles = f"{report.subject.negative} ↔ {report.subject.positive}"
    axes.set_ylabel(f"effect, nat per token\n{poles}", fontsize=9, parse_math=False)


def _costs(axes: Any, points: Sequence[Point], value: Callable[[Point], float], name: str) -> None:
    drawn = [point for point in points if known(value(point))]
    values = [value(point) for point in drawn]
    axes.plot([point.strength for point in drawn], values, color=GREY, linewidth=1, zorder=2)
    _dots(axes, drawn, values)
    axes.set_ylabel(name, fontsize=9)


def _dots(axes: Any, points: Sequence[Point], values: Sequence[float]) -> None:
    """Full where the text holds together, crosses where it falls apart."""
    for point, value in zip(points, values, strict=True):
        colour = GREY if point.strength == 0 else POSITIVE if point.strength > 0 else NEGATIVE
        marker = "o" if point.usable else "X"
        axes.plot(
            point.strength, value, marker, color=colour, markersize=8, markeredgecolor="white", zorder=3, label="_"
        )


def _reach(intervals: Sequence[Interval]) -> tuple[list[float], list[float]]:
    """How far the intervals reach down and up from their values."""
    return (
        [max(interval.value - interval.low, 0.0) for interval in intervals],
        [max(interval.high - interval.value, 0.0) for interval in intervals],
    )


# What every way does and costs ---------------------------------------------------------------------------------------


def _comparison(report: Report) -> Any:
    """Effect upwards, damage to the right; two dots a method, one for each pole."""
    canvas = _figure(8, 5)
    axes = canvas.subplots()
    _tidy(axes)
    chance = report.controls.chance
    if chance is not None:
        axes.axhspan(chance.low, chance.high, color=CHANCE, label="random directions")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
    drawn = [_method(axes, report, number) for number in range(len(report.methods))]
    if not any(drawn):
        axes.text(0.5, 0.5, "no effect was measured", transform=axes.transAxes, ha="center", color=GREY)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xticks([tick for tick in FACTORS if low <= tick <= high])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("damage: perplexity of the answers, × base (1: as fluent as before)", fontsize=9)
    _label_effect(axes, report)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        legend = canvas.legend(handles, labels, frameon=False, fontsize=8, loc="outside right upper")
        for text in legend.get_texts():
            text.set_parse_math(False)
    _heading(canvas, f"{report.subject.vector} on {report.subject.model}: what it does, and what that costs")
    return canvas


def _method(axes: Any, report: Report, number: int) -> bool:
    method = report.methods[number]
    shown = False
    for sign, colour in (("+", POSITIVE), ("-", NEGATIVE)):
        side = method.sides.get(sign)
        if side is None or side.effect is None or not known(side.damage.perplexity_ratio):
            continue
        axes.errorbar(
            side.damage.perplexity_ratio,
            side.effect.value,
            yerr=[[reach[0]] for reach in _reach([side.effect])],
            fmt=MARKERS[number % len(MARKERS)],
            color=colour,
            markersize=9 if number == 0 else 7,
            markeredgecolor="white",
            elinewidth=1.2,
            label="_" if shown else method.name,
        )
        shown = True
    return shown


# Layers --------------------------------------------------------------------------------------------------------------


def _layers(report: Report) -> Any:
    """A row for each choice of layers that was tried, a column for each layer; the colour is the swing."""
    from matplotlib.patches import Rectangle

    tried = report.subject.candidates
    layers = sorted({layer for placing in tried for layer in placing.layers})
    first, last = layers[0], layers[-1]
    most = max((abs(placing.swing) for placing in tried if known(placing.swing)), default=0.0) or 1.0
    canvas = _figure(min(2.6 + 0.24 * (last - first + 1), 16), 1.1 + 0.24 * len(tried))
    axes = canvas.subplots()
    _tidy(axes)
    for row, placing in enumerate(tried):
        share = placing.swing / most if known(placing.swing) else 0.0
        for layer in placing.layers:
            colour = (POSITIVE if share > 0 else NEGATIVE, min(0.06 + 0.94 * abs(share), 1.0))
            axes.add_patch(Rectangle((layer - 0.47, row - 0.44), 0.94, 0.88, facecolor=colour))
        axes.text(last + 0.8, row, figure(placing.swing, 3), va="center", fontsize=8)
    axes.set_xlim(first - 0.6, last + 3.2)
    axes.set_ylim(len(tried) - 0.4, -0.6)
    axes.set_yticks(range(len(tried)), [layer_range(placing.layers) for placing in tried])
    for placing, tick in zip(tried, axes.get_yticklabels(), strict=True):
        tick.set_fontweight("bold" if placing.layers == report.subject.layers else "normal")
    step = max(1, (last - first + 1) // 16)
    axes.set_xticks(range(first, last + 1, step))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("layer (bold: what the vector steers); numbers: swing, nat per token", fontsize=9)
    _heading(canvas, f"{report.subject.vector} on {report.subject.model}: layers tried")
    return canvas
