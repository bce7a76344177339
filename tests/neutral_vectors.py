"""Vectors that can be read, with statistics of neutral text made up by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tiny_models import vector_for
from trimtab.engines.transformers import TransformersEngine
from trimtab.vectors import PERCENTS, ControlVector, Neutral, Reader, Spread


def reader_for(
    engine: TransformersEngine,
    *,
    seed: int = 0,
    layers: Sequence[int] = (1, 2),
    pool: str = "mean",
    **more: Any,
) -> ControlVector:
    """A random vector; neutral tokens, means and last tokens differ, so that one cannot pass for another."""
    vector = vector_for(engine, seed=seed, layers=layers, **more)
    spreads = (Spread(dict.fromkeys(layers, mean), dict.fromkeys(layers, 2.0 + mean)) for mean in (0.25, -0.5, 0.75))
    percentiles = {layer: tuple(p / 50 - 1.0 for p in PERCENTS) for layer in layers}
    neutral = Neutral(*spreads, percentiles, prompts=1, tokens=1)
    return replace(vector, neutral=neutral, reader=Reader(tuple(layers), pool))
