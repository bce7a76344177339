"""Layers as people write them."""

from __future__ import annotations

from collections.abc import Iterable


def layer_range(layers: Iterable[int], *, dash: str = "-") -> str:
    """Layers with their runs drawn together.

    Example:
        >>> layer_range([3, 7, 8, 9])
        '3, 7-9'
    """
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}{dash}{run[-1]}" for run in runs) or "none"
