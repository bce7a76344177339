"""What can be read off statements and scenes, layer by layer: emotions, and whether a statement is true."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32
from trimtab.behaviours import Behaviour, Pole
from trimtab.benches.extraction import Step
from trimtab.benches.guard import apart
from trimtab.benches.peer_repeng import versions
from trimtab.engines import Engine
from trimtab.engines.transformers import load
from trimtab.errors import BenchmarkError
from trimtab.reading import auroc
from trimtab.stats import two_sample_bootstrap
from trimtab.training.neutral import Pooled, pooled_states
from trimtab.training.progress import ignore
from trimtab.training.readers import fit_direction
from trimtab.training.train import train

EMOTIONS = ("happiness", "sadness", "anger", "fear", "disgust", "surprise")
EVERY = 3  # layers, in the table
SEED = 0
HONEST = Pole(
    "honest",
    (
        "honest, and say only what is true",
        "a truthful witness who states facts as they are",
        "a careful teacher whose every statement is correct",
        "a reliable expert who never states a falsehood",
    ),
)
LYING = Pole(
    "lying",
    (
        "dishonest, and say only what is false",
        "a lying witness who states facts as they are not",
        "a deceitful teacher whose every statement is wrong",
        "an unreliable fraud who always states a falsehood",
    ),
)

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Pool: TypeAlias = Literal["mean", "last"]
POOLS: tuple[Pool, ...] = ("mean", "last")
Fit: TypeAlias = Callable[[F32, F32], F32]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        data: Folder that has ``repe``.
        texts: Of each emotion and of all statements, at most.
        pairs: Of the honesty vector.
        model: Hub id, folder or file; the default model if not given.
    """

    data: Path
    texts: int = 700
    pairs: int = 420
    model: str | None = None


@dataclass(frozen=True)
class Texts:
    """Texts and what is true of each.

    Attributes:
        texts: No two are alike.
        labels: ``[text]``.
    """

    texts: tuple[str, ...]
    labels: Flags = field(compare=False)


def read_emotions(data: Path, limit: int) -> dict[str, tuple[str, ...]]:
    """The scenes of each emotion; one that stands under two is taken under the first."""
    folder = data / "repe" / "data" / "emotions"
    return apart({name: _scenes(folder / f"{name}.json")[:limit] for name in EMOTIONS})


def read_facts(data: Path, limit: int) -> Texts:
    """True and false statements; one that stands twice is taken once."""
    path = data / "repe" / "data" / "facts" / "facts_true_false.csv"
    rows = list(csv.DictReader(_read(path).splitlines()))
    try:
        labels = {row["statement"].strip(): row["label"] == "1" for row in rows}
    except KeyError as error:
        raise BenchmarkError(f"{str(path)!r} has no column {error}") from None
    shuffled = [list(labels)[n] for n in np.random.default_rng(SEED).permutation(len(labels))][:limit]
    return Texts(tuple(shuffled), np.array([labels[text] for text in shuffled]))


def _scenes(path: Path) -> list[str]:
    return [str(text).strip() for text in json.loads(_read(path))]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError:
        raise BenchmarkError(f"there is no {str(path)!r}", fix="give the folder that has repe: --data FOLDER") from None


# Measuring -----------------------------------------------------------------------------------------------------------


def benchmark(
    plan: Plan, *, engine: Engine | None = None, on_step: Callable[[Step], None] = lambda _: None
) -> dict[str, Any]:
    """Fit directions on half of the texts, and see at every layer how well they tell the other half apart.

    Raises:
        BenchmarkError: The data is not there.
    """
    emotions, facts = read_emotions(plan.data, plan.texts), read_facts(plan.data, plan.texts)
    on_step(Step("Loading the model"))
    model = load(plan.model) if engine is None else engine
    on_step(Step("Reading scenes", 0, 3))
    scenes = pooled_states(model, [text for own in emotions.values() for text in own], phase="", progress=ignore)
    on_step(Step("Reading statements", 1, 3))
    statements = pooled_states(model, facts.texts, phase="", progress=ignore)
    on_step(Step("Training the honesty vector", 2, 3))
    honesty = train(model, honesty_behaviour(), calibrate=False, max_pairs=plan.pairs).directions
    return {
        "benchmark": "reading",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model.info.name,
        "layers": model.info.layers,
        "versions": versions(("trimtab", "torch", "transformers", "numpy")),
        "texts": {name: len(own) for name, own in emotions.items()}
        | {"true": int(facts.labels.sum()), "false": int((~facts.labels).sum())},
        "emotions": _emotions(scenes, [len(own) for own in emotions.values()]),
        "facts": _facts(statements, facts.labels, honesty),
    }


def honesty_behaviour() -> Behaviour:
    """Personas that say what is true against ones that say what is false."""
    happy = Behaviour.load("happy")
    return Behaviour(
        "honest", "Whether what is said is true.", HONEST, LYING, templates=happy.templates, suffixes=happy.suffixes
    )


def _emotions(scenes: Pooled, sizes: Sequence[int]) -> dict[str, Any]:
    """Each emotion against all others, by probe and by difference of means, over the words of a scene."""
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    found = {}
    for number, name in enumerate(EMOTIONS):
        labels = kinds == number
        halves = split(kinds)
        found[name] = {method: by_layer(scenes.mean, labels, halves, fit) for method, fit in METHODS.items()}
    return found


def _facts(statements: Pooled, labels: Flags, honesty: Mapping[int, F32]) -> dict[str, Any]:
    """True against false statements, over the words and at the last token; honesty is fitted on no statement."""
    halves = split(labels)
    states = {"mean": statements.mean, "last": statements.last}
    found: dict[str, Any] = {}
    for pool in POOLS:
        given = states[pool]
        for method, fit in METHODS.items():
            found[f"{method}, {pool}"] = by_layer(given, labels, halves, fit)
        along = np.stack([given[:, layer] @ honesty[layer] for layer in range(given.shape[1])], axis=1)
        found[f"honesty, {pool}"] = _of_scores(along, labels, halves)
    return found


def difference(positive: F32, negative: F32) -> F32:
    """The unit direction from one kind's mean to the other's."""
    shift = positive.mean(axis=0, dtype=np.float64) - negative.mean(axis=0, dtype=np.float64)
    unit: F32 = (shift / np.linalg.norm(shift)).astype(np.float32)
    return unit


METHODS: Mapping[str, Fit] = {"probe": fit_direction, "difference": difference}


def split(kinds: NDArray[Any]) -> Flags:
    """Which texts are for fitting: half of each kind, drawn from a fixed seed."""
    noise = np.random.default_rng(SEED)
    fitted = np.zeros(len(kinds), dtype=bool)
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        fitted[noise.permutation(own)[: len(own) // 2]] = True
    return fitted


def by_layer(states: F32, labels: Flags, fitted: Flags, fit: Fit) -> dict[str, Any]:
    """AUROC at each layer on texts that are not ``fitted``, and at the layer that did best among the fitted ones.

    That layer is found by fitting on one half of the fitted texts and trying on the other, both ways.
    """
    inner = np.flatnonzero(fitted)
    first = np.zeros_like(fitted)
    first[inner[split(labels[fitted])]] = True
    second = fitted & ~first
    layers = range(states.shape[1])
    tried, scores = np.zeros((2, len(states), len(layers)))
    for layer in layers:
        at = states[:, layer]
        for known, other in ((first, second), (second, first)):
            tried[other, layer] = at[other] @ fit(at[known & labels], at[known & ~labels])
        scores[:, layer] = at @ fit(at[fitted & labels], at[fitted & ~labels])
    halves = (first, second)
    inside = [np.mean([_auroc(tried[half, layer], labels[half]) for half in halves]) for layer in layers]
    return _report(scores[~fitted], labels[~fitted], chosen=int(np.argmax(inside)))


def _of_scores(scores: Floats, labels: Flags, fitted: Flags) -> dict[str, Any]:
    """The same for scores along directions that were fitted on none of the texts."""
    inside = [_auroc(scores[fitted, layer], labels[fitted]) for layer in range(scores.shape[1])]
    return _report(scores[~fitted], labels[~fitted], chosen=int(np.argmax(inside)))


def _report(scores: Floats, labels: Flags, *, chosen: int) -> dict[str, Any]:
    best = scores[:, chosen]
    positive, negative = best[labels], best[~labels]
    area = two_sample_bootstrap(auroc, positive, negative, seed=SEED)
    return {
        "auroc_by_layer": [_auroc(scores[:, layer], labels) for layer in range(scores.shape[1])],
        "chosen_layer": chosen,
        "auroc": area.value,
        "interval": [area.low, area.high],
        "positive": len(positive),
        "negative": len(negative),
    }


def _auroc(scores: Floats, labels: Flags) -> float:
    return auroc(scores[labels], scores[~labels])


# For people ----------------------------------------------------------------------------------------------------------


def table(measured: Mapping[str, Any]) -> str:
    """AUROC on held-out texts at every third layer and at the chosen one, as Markdown."""
    layers = [*range(0, measured["layers"], EVERY)]
    lines = [
        "| what | " + " | ".join(f"{layer}" for layer in layers) + " | chosen layer |",
        "|---|" + "---|" * len(layers) + "---|",
    ]
    named = {f"{name}, {method}": own for name, by in measured["emotions"].items() for method, own in by.items()}
    for name, own in (named | {f"true, {name}": own for name, own in measured["facts"].items()}).items():
        low, high = own["interval"]
        cells = " | ".join(f"{own['auroc_by_layer'][layer]:.2f}" for layer in layers)
        lines.append(f"| {name} | {cells} | {own['chosen_layer']}: {own['auroc']:.2f} ({low:.2f}–{high:.2f}) |")
    return "\n".join(lines)
