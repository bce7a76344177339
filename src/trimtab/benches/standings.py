"""What follows from what the ways did on each behaviour: means over all of them, who is ahead, a table, a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.benches.methods import CAA, OWN, RANDOM
from trimtab.benches.plot import keep_figure, new_figure
from trimtab.errors import BenchmarkError
from trimtab.stats import Interval, bootstrap, mean_interval

COLOURS = {
    OWN: "#1f5fa8",
    "repeng pca_diff": "#c44e52",
    "repeng pca_center": "#dd8452",
    CAA: "#8172b3",
    RANDOM: "#9a9a9a",
}
OPEN = "o"  # the marker of the others; trimtab's is filled

Floats: TypeAlias = NDArray[np.float64]
Measured: TypeAlias = Mapping[str, Any]


def standings(measured: Sequence[Measured], *, wanted: int) -> dict[str, Any]:
    """Over behaviours, each way's mean swing at the budget, and how far trimtab is ahead of it.

    Behaviours are the units: intervals are bootstrapped over them, paired, 95 %. A way that could not spend the budget
    on a behaviour is compared on the others.

    Args:
        measured: What ``benchmark`` gave.
        wanted: How many behaviours there were to be.

    Raises:
        BenchmarkError: Nothing was measured.
    """
    if not measured:
        raise BenchmarkError("no behaviour was measured", fix="let it run to the end of the first one")
    names = list(dict.fromkeys(name for one in measured for name in one["ways"]))
    return {
        "benchmark": "methods",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": len(measured) == wanted,
        **{key: measured[0]["job"][key] for key in ("model", "device", "budget", "questions", "versions")},
        "peer": next((one["peer"] for one in measured if one["peer"]), None),
        "behaviours": {one["behaviour"]: _behaviour(one) for one in measured},
        "ways": {name: _over_all(measured, name) for name in names},
        "ahead": {name: _ahead(measured, name) for name in names if name != OWN},
    }


def swing_of(one: Measured, way: str) -> float | None:
    """Mean swing of a way on one behaviour at the budget, nats per token; None where it could not spend it."""
    effect = one["ways"].get(way, {}).get("effect")
    return None if effect is None else float(np.mean(effect["+"]) - np.mean(effect["-"]))


def _behaviour(one: Measured) -> dict[str, Any]:
    return {
        "method": one["method"],
        "pairs": one["pairs"],
        "prompt_swing": _told(mean_interval(np.array(one["prompt_swing"]))),
        "ways": {name: _way(one, name) for name in one["ways"]},
    }


def _way(one: Measured, name: str) -> dict[str, Any]:
    way = one["ways"][name]
    told: dict[str, Any] = {"layers": way["layers"], "raw": way["raw"]}
    if "effect" not in way:
        return {**told, "problem": way["problem"]}
    plus, minus = (np.array(way["effect"][key]) for key in ("+", "-"))
    return {
        **told,
        "scale": way["scale"],
        "swing": _told(mean_interval(plus - minus)),
        "effect": {"+": float(plus.mean()), "-": float(minus.mean())},
    }


def _over_all(measured: Sequence[Measured], name: str) -> dict[str, Any]:
    swings = np.array([swing for one in measured if (swing := swing_of(one, name)) is not None])
    return {"behaviours": len(swings), "swing": _told(mean_interval(swings)) if len(swings) else None}


def _ahead(measured: Sequence[Measured], name: str) -> dict[str, Any] | None:
    pairs = [(swing_of(one, OWN), swing_of(one, name)) for one in measured]
    both = np.array([pair for pair in pairs if None not in pair], dtype=np.float64)
    if not len(both):
        return None
    own, other = both.T
    return {
        "behaviours": len(both),
        "better": int((own > other).sum()),
        "difference": _told(mean_interval(own - other)),
        "ratio": _told(_ratio(own, other)) if mean_interval(other).low > 0 else None,
    }


def _ratio(own: Floats, other: Floats) -> Interval:
    """Ratio of the means, resampled over behaviours; of a way that may do nothing it would mean nothing."""
    return bootstrap(lambda own, other: own.mean(axis=-1) / other.mean(axis=-1), own, other)


def _told(found: Interval) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


# For people ----------------------------------------------------------------------------------------------------------


def table(found: Mapping[str, Any]) -> str:
    """Swing of each way at the budget on each behaviour, and who is ahead, as Markdown."""
    names = list(found["ways"])
    lines = ["| behaviour | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names)]
    for behaviour, own in found["behaviours"].items():
        lines.append(f"| {behaviour} | " + " | ".join(_cell(own["ways"].get(name)) for name in names) + " |")
    lines.append("| **mean** | " + " | ".join(_cell(found["ways"][name]) for name in names) + " |")
    lines.append("")
    for name, ahead in found["ahead"].items():
        if ahead is not None:
            gap, ratio = ahead["difference"], ahead["ratio"]
            times = f", {ratio['value']:.2f} times ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else ""
            lines.append(
                f"{OWN} − {name}: {gap['value']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f}){times}; "
                f"ahead on {ahead['better']} of {ahead['behaviours']}"
            )
    lines.append(
        f"Swing at {found['budget']:g} nat, nats per token, on {found['questions']} questions that none has seen; "
        "95 % intervals over behaviours."
    )
    return "\n".join(lines)


def _cell(way: Mapping[str, Any] | None) -> str:
    if way is None or way.get("swing") is None:
        return "–"
    return f"{way['swing']['value']:.3f}"


def draw_standings(found: Mapping[str, Any], path: Path) -> None:
    """A row a behaviour, a mark a way: how far it moves the model for the same KL.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        OutputError: The file cannot be written.
    """
    rows = sorted(found["behaviours"].items(), key=lambda item: _value(item[1], OWN))
    figure = new_figure(8, 1.8 + 0.32 * len(rows))
    panel = figure.subplots()
    for name in found["ways"]:
        found_at = [_value(own, name) for _, own in rows]
        colour, filled = COLOURS.get(name, "#555555"), name == OWN
        panel.scatter(
            found_at,
            range(len(rows)),
            marker=OPEN,
            s=62 if filled else 34,
            facecolors=colour if filled else "none",
            edgecolors=colour,
            linewidths=1.4,
            zorder=3 if filled else 2,
            label=_label(name, found),
        )
    panel.set_yticks(range(len(rows)), [name for name, _ in rows])
    panel.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.axvline(0, color="#9a9a9a", linewidth=0.8, zorder=1)
    panel.set_xlabel(f"swing at {found['budget']:g} nat of KL, nats per token")
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.legend(loc="lower right", frameon=False, fontsize=9)
    panel.set_title(f"How far the same KL moves {found['model']}", fontsize=11, loc="left")
    keep_figure(figure, path)


def _value(own: Mapping[str, Any], way: str) -> float:
    found = own["ways"].get(way, {}).get("swing")
    return float("nan") if found is None else float(found["value"])


def _label(name: str, found: Mapping[str, Any]) -> str:
    swing = found["ways"][name]["swing"]
    return name if swing is None else f"{name} (mean {swing['value']:.2f})"
