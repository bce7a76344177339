"""Control vectors for the tests: small fixed ones, and random ones for hypothesis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from hypothesis import strategies as st

from trimtab.vectors import (
    PERCENTS,
    BehaviourRef,
    Calibration,
    ControlVector,
    HeldOut,
    Interval,
    ModelInfo,
    Neutral,
    SafeRange,
    Spread,
    ThresholdFit,
    WrittenEffect,
)

MODEL = ModelInfo("tiny", "LlamaForCausalLM", hidden_size=4, layers=3, fingerprint="f00d")


def directions(layers: Iterable[int], *, size: int = MODEL.hidden_size, seed: int = 0) -> dict[int, np.ndarray]:
    """A random unit vector for each layer."""
    random = np.random.default_rng(seed)
    drawn = {layer: random.standard_normal(size) for layer in layers}
    return {layer: (d / np.linalg.norm(d)).astype(np.float32) for layer, d in drawn.items()}


def make_vector(name: str = "happy", *, seed: int = 0, **changes: Any) -> ControlVector:
    """A calibrated vector on layers 0 and 2 of ``MODEL``; every field can be changed."""
    fields: dict[str, Any] = {
        "model": MODEL,
        "directions": directions((0, 2), seed=seed),
        "norms": {0: 10.0, 2: 20.0},
        "weights": {0: 1.0, 2: 0.5},
        "scale": {"+": 0.1, "-": 0.2},
        "method": "mean",
        "behaviour": BehaviourRef(name, f"digest of {name}"),
    }
    return ControlVector(**{**fields, **changes})


def neutral_record(layers: Iterable[int] = (0, 2)) -> Neutral:
    """Percentile ``p`` at layer ``l`` is ``p + 100 l``; readings there have mean ``l`` and deviation 2."""
    layers = tuple(layers)
    spread = Spread({layer: float(layer) for layer in layers}, dict.fromkeys(layers, 2.0))
    percentiles = {layer: tuple(p + 100.0 * layer for p in PERCENTS) for layer in layers}
    return Neutral(spread, spread, spread, percentiles, prompts=5, tokens=100)


def calibration_record(
    *, budget: float = 0.4, plus: float = 0.4, minus: float = 0.4, written: tuple[WrittenEffect, ...] = ()
) -> Calibration:
    """What a calibration reached on each sign, effects on written answers, and nothing else."""
    kl = {"+": plus, "-": minus}
    held_out = HeldOut(kl, effect=None, random_swing=None, prompts=8, written=written) if written else None
    return Calibration(budget, kl, prompts=8, effect=None, candidates=(), held_out=held_out)


def safe_range(low: float = -0.5, high: float = 0.75) -> SafeRange:
    """Text repeats itself below ``low`` and is off the question above ``high``."""
    return SafeRange(low, high, {"-": "repetition", "+": "relevance"}, questions=12)


def written_effect(times: float | None = 1.25, *, strength: float = 0.5) -> WrittenEffect:
    """An effect on answers of so many times the prompt's, or one that cannot be divided by it."""
    half = Interval(0.25, 0.2, 0.3)
    return WrittenEffect(
        strengths={"+": strength, "-": -strength},
        effect={"+": half, "-": half},
        swing=Interval(0.5, 0.4, 0.6),
        prompt_effect={"+": half, "-": half},
        prompt_swing=Interval(0.4, 0.3, 0.5),
        times_prompt=None if times is None else Interval(times, times - 0.25, times + 0.25),
        reason="the prompts hardly move the score" if times is None else None,
        questions=24,
        tokens=40,
    )


def make_reader(name: str = "anger", *, seed: int = 0, **changes: Any) -> ControlVector:
    """A vector that conditions can read and bounds can refer to, fitted on 101 texts of readings 0 to 100."""
    fits = tuple(
        ThresholdFit(at, tuple(map(float, range(101))), texts=101) for at in ("prompt", "token", "last-user-turn")
    )
    fields = {"neutral": neutral_record(), "calibration": calibration_record(), "fits": fits, **changes}
    return make_vector(name, seed=seed, **fields)


@st.composite
def control_vectors(
    draw: st.DrawFn, *, model: ModelInfo = MODEL, calibrated: bool | None = True, ratio: float | None = None
) -> ControlVector:
    """Any vector for ``model``; ``ratio`` fixes how the scale of - relates to that of +."""
    layers = draw(st.sets(st.integers(0, model.layers - 1)))

    def numbers(low: float, high: float) -> dict[int, float]:
        return {layer: draw(st.floats(low, high)) for layer in sorted(layers)}

    scale = None
    if calibrated or (calibrated is None and draw(st.booleans())):
        plus = draw(st.floats(1e-3, 10.0))
        scale = {"+": plus, "-": plus * ratio if ratio else draw(st.floats(1e-3, 10.0))}
    weights = numbers(0.01, 2.0)
    unsteered = draw(st.sets(st.sampled_from(sorted(layers)))) if layers else set()
    return ControlVector(
        model=model,
        directions=directions(layers, size=model.hidden_size, seed=draw(st.integers(0, 999))),
        norms=numbers(0.5, 200.0),
        weights={layer: 0.0 if layer in unsteered else weight for layer, weight in weights.items()},
        scale=scale,
        method="mean",
        behaviour=BehaviourRef(draw(st.sampled_from(["happy", "formal", "terse"])), "digest"),
    )


def dense(additions: Mapping[int, np.ndarray], *, model: ModelInfo = MODEL) -> np.ndarray:
    """Changes as one float64 array ``[layers, hidden]``, zero where nothing is added."""
    out = np.zeros((model.layers, model.hidden_size))
    for layer, added in additions.items():
        out[layer] = added
    return out
