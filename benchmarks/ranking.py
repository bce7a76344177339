"""Summary of the comparison of estimators: means over behaviours, differences to trimtab, a table and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.estimators import CAA, RANDOM, TRIMTAB
from trimtab.errors import BenchmarkError, MissingDependencyError
from trimtab.palette import colours
from trimtab.stats import Interval, bootstrap, mean_interval
from trimtab.vectors import write_atomically

INSTALL = "pip install -r benchmarks/requirements.txt"
# Colour of the palette, and shape, which tells them apart without it.
MARKS = {
    TRIMTAB: ("plus", "o"),
    "repeng pca_diff": ("minus", "s"),
    "repeng pca_center": ("warn", "^"),
    CAA: ("ink", "D"),
    RANDOM: ("edge", "v"),
}

Floats: TypeAlias = NDArray[np.float64]
Measured: TypeAlias = Mapping[str, Any]


def rank(measured: Sequence[Measured], *, wanted: int) -> dict[str, Any]:
    """Summarise each estimator's mean swings at the budget, and how far trimtab is ahead of it.

    There are two: of what the answers sound like (``written``), and of given answers' log-probabilities. Intervals are
    95 % paired bootstrap intervals over behaviours. An estimator that cannot spend the budget on a behaviour is
    compared on the others.

    Args:
        measured: Results of ``benchmark``.
        wanted: Planned number of behaviours.

    Raises:
        BenchmarkError: Nothing was measured.
    """
    if not measured:
        raise BenchmarkError("no behaviour was measured", fix="let the first one finish")
    names = list(dict.fromkeys(name for result in measured for name in result["estimators"]))
    return {
        "benchmark": "estimators",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": len(measured) == wanted,
        **{key: measured[0]["job"][key] for key in ("model", "device", "budget", "questions", "versions")},
        "peer": next((result["peer"] for result in measured if result["peer"]), None),
        "behaviours": {result["behaviour"]: _behaviour(result) for result in measured},
        **{
            key: {
                "estimators": {name: _mean_swing(measured, name, swing) for name in names},
                "ahead": {name: _ahead(measured, name, swing) for name in names if name != TRIMTAB},
            }
            for key, swing in KINDS.items()
        },
    }


def swing_of(result: Measured, estimator: str) -> float | None:
    """Return the mean swing on one behaviour at the budget, in nats per token; None if the budget cannot be spent."""
    effect = result["estimators"].get(estimator, {}).get("effect")
    return None if effect is None else float(np.mean(effect["+"]) - np.mean(effect["-"]))


def written_of(result: Measured, estimator: str) -> float | None:
    """Return the mean swing of what is written on one behaviour, in nats per token; None if nothing was."""
    written = result["estimators"].get(estimator, {}).get("written")
    return None if written is None else float(np.mean(written))


KINDS: Mapping[str, Callable[[Measured, str], float | None]] = {"written": written_of, "preference": swing_of}


def _behaviour(result: Measured) -> dict[str, Any]:
    return {
        "method": result["method"],
        "pairs": result["pairs"],
        "prompt_swing": _interval_json(mean_interval(np.array(result["prompt_swing"]))),
        "prompt_written": _interval_json(mean_interval(np.array(result["prompt_written"]))),
        "estimators": {name: _estimator(result, name) for name in result["estimators"]},
    }


def _estimator(result: Measured, name: str) -> dict[str, Any]:
    estimate = result["estimators"][name]
    summary: dict[str, Any] = {"layers": estimate["layers"], "raw": estimate["raw"]}
    if "effect" not in estimate:
        return {**summary, "problem": estimate["problem"]}
    plus, minus = (np.array(estimate["effect"][key]) for key in ("+", "-"))
    return {
        **summary,
        "scale": estimate["scale"],
        "preference": _interval_json(mean_interval(plus - minus)),
        "written": _interval_json(mean_interval(np.array(estimate["written"]))),
        "effect": {"+": float(plus.mean()), "-": float(minus.mean())},
    }


def _mean_swing(
    measured: Sequence[Measured], name: str, swing_of: Callable[[Measured, str], float | None]
) -> dict[str, Any]:
    swings = np.array([swing for result in measured if (swing := swing_of(result, name)) is not None])
    return {"behaviours": len(swings), "swing": _interval_json(mean_interval(swings)) if len(swings) else None}


def _ahead(
    measured: Sequence[Measured], name: str, swing_of: Callable[[Measured, str], float | None]
) -> dict[str, Any] | None:
    pairs = [(swing_of(result, TRIMTAB), swing_of(result, name)) for result in measured]
    both = np.array([pair for pair in pairs if None not in pair], dtype=np.float64)
    if not len(both):
        return None
    trimtab, other = both.T
    return {
        "behaviours": len(both),
        "better": int((trimtab > other).sum()),
        "difference": _interval_json(mean_interval(trimtab - other)),
        "ratio": _interval_json(_ratio(trimtab, other)) if mean_interval(other).low > 0 else None,
    }


def _ratio(trimtab: Floats, other: Floats) -> Interval:
    """Return the ratio of the means, resampled over behaviours; the denominator must be clearly above 0."""
    return bootstrap(lambda trimtab, other: trimtab.mean(axis=-1) / other.mean(axis=-1), trimtab, other)


def _interval_json(of: Interval) -> dict[str, float]:
    return {"value": of.value, "low": of.low, "high": of.high}


# Table and picture ---------------------------------------------------------------------------------------------------


def table(ranking: Mapping[str, Any]) -> str:
    """Format the swings of each estimator on each behaviour, and the differences to trimtab, as Markdown."""
    titles = {
        "written": "Swing of what is written from -1 to +1",
        "preference": "Swing of given answers' log-probabilities from -1 to +1",
    }
    return "\n\n".join(
        f"{title}, at {ranking['budget']:g} nat, nats per token, on {ranking['questions']} held-out questions; "
        f"95 % intervals over behaviours.\n\n{_table(ranking, kind)}"
        for kind, title in titles.items()
    )


def _table(ranking: Mapping[str, Any], kind: str) -> str:
    means, ahead_of = ranking[kind]["estimators"], ranking[kind]["ahead"]
    lines = ["| behaviour | " + " | ".join(means) + " |", "|---|" + "--:|" * len(means)]
    for behaviour, result in ranking["behaviours"].items():
        cells = [_cell(result["estimators"].get(name, {}).get(kind)) for name in means]
        lines.append(f"| {behaviour} | " + " | ".join(cells) + " |")
    lines.append("| **mean** | " + " | ".join(_cell(mean["swing"]) for mean in means.values()) + " |")
    lines.append("")
    for name, ahead in ahead_of.items():
        if ahead is not None:
            gap, ratio = ahead["difference"], ahead["ratio"]
            times = f", {ratio['value']:.2f} times ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else ""
            lines.append(
                f"{TRIMTAB} − {name}: {gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f}){times}; "
                f"ahead on {ahead['better']} of {ahead['behaviours']}"
            )
    return "\n".join(lines)


def _cell(swing: Mapping[str, Any] | None) -> str:
    return "–" if swing is None else f"{swing['value']:.3f}"


def draw_ranking(ranking: Mapping[str, Any], path: Path) -> None:
    """Draw the swing of what is written at equal KL: a row for each behaviour, a mark for each estimator.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingDependencyError("a picture needs matplotlib", fix=f"run: {INSTALL}") from None
    rows = sorted(ranking["behaviours"].items(), key=lambda item: _swing(item[1], TRIMTAB))
    figure = Figure(figsize=(8, 1.8 + 0.32 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    palette = colours("light")
    for name in ranking["written"]["estimators"]:
        colour, shape = MARKS.get(name, ("soft", "p"))
        filled = name == TRIMTAB
        panel.scatter(
            [_swing(result, name) for _, result in rows],
            range(len(rows)),
            marker=shape,
            s=62 if filled else 34,
            facecolors=palette[colour] if filled else "none",
            edgecolors=palette[colour],
            linewidths=1.4,
            zorder=3 if filled else 2,
            label=_label(name, ranking),
        )
    panel.set_yticks(range(len(rows)), [name for name, _ in rows])
    panel.grid(axis="y", color=palette["line"], linewidth=0.8)
    panel.set_axisbelow(True)
    panel.axvline(0, color=palette["edge"], linewidth=0.8, zorder=1)
    panel.set_xlabel(f"swing of what is written, at {ranking['budget']:g} nat of KL, nats per token")
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.legend(loc="lower right", frameon=False, fontsize=9)
    panel.set_title(f"Swing at equal KL: {ranking['model']}", fontsize=11, loc="left")
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    write_atomically(path, picture.getvalue())


def _swing(result: Mapping[str, Any], name: str) -> float:
    swing = result["estimators"].get(name, {}).get("written")
    return float("nan") if swing is None else float(swing["value"])


def _label(name: str, ranking: Mapping[str, Any]) -> str:
    swing = ranking["written"]["estimators"][name]["swing"]
    return name if swing is None else f"{name} (mean {swing['value']:.2f})"
