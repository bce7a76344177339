"""Readings of emotions in scenes and of truth in statements, layer by layer."""

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

from benchmarks.guard import without_duplicates
from benchmarks.measurement import Step, ignore_step, package_versions
from trimtab.arrays import F32
from trimtab.behaviours import Behaviour, Pole
from trimtab.engines import Engine
from trimtab.engines.transformers import load
from trimtab.errors import BenchmarkError
from trimtab.reading import auroc
from trimtab.stats import two_sample_bootstrap
from trimtab.training.neutral import Pooled, pooled_states
from trimtab.training.progress import ignore
from trimtab.training.readers import fisher
from trimtab.training.train import train

EMOTIONS = ("happiness", "sadness", "anger", "fear", "disgust", "surprise")
TABLE_STEP = 3  # the table shows every third layer
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
    """Settings of the benchmark of readings.

    Attributes:
        data: Folder that contains ``repe``.
        texts: Upper bound on the scenes of each emotion, and on the statements.
        pairs: Number of contrastive pairs of the honesty vector.
        model: Hub id, folder or file; the default model if not given.
    """

    data: Path
    texts: int = 700
    pairs: int = 420
    model: str | None = None


@dataclass(frozen=True)
class Texts:
    """Texts with labels.

    Attributes:
        texts: Texts without duplicates.
        labels: Label of each text.
    """

    texts: tuple[str, ...]
    labels: Flags = field(compare=False)


def read_emotions(data: Path, limit: int) -> dict[str, tuple[str, ...]]:
    """Return the scenes of each emotion; a scene listed under two emotions counts for the first."""
    folder = data / "repe" / "data" / "emotions"
    return without_duplicates({name: _scenes(folder / f"{name}.json")[:limit] for name in EMOTIONS})


def read_facts(data: Path, limit: int) -> Texts:
    """Return true and false statements without duplicates."""
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
        raise BenchmarkError(
            f"there is no {str(path)!r}", fix="pass the folder that contains repe: --data FOLDER"
        ) from None


# Measuring -----------------------------------------------------------------------------------------------------------


def benchmark(
    plan: Plan, *, engine: Engine | None = None, on_step: Callable[[Step], None] = ignore_step
) -> dict[str, Any]:
    """Fit directions on half of the texts, and measure at each layer how well they separate the other half.

    Raises:
        BenchmarkError: The data is missing.
    """
    emotions, facts = read_emotions(plan.data, plan.texts), read_facts(plan.data, plan.texts)
    on_step(Step("Loading the model"))
    model = load(plan.model) if engine is None else engine
    on_step(Step("Reading scenes", 0, 3))
    scenes = pooled_states(model, [text for texts in emotions.values() for text in texts], phase="", progress=ignore)
    on_step(Step("Reading statements", 1, 3))
    statements = pooled_states(model, facts.texts, phase="", progress=ignore)
    on_step(Step("Training the honesty vector", 2, 3))
    honesty = train(model, honesty_behaviour(), calibrate=False, max_pairs=plan.pairs).directions
    return {
        "benchmark": "reading",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model.info.name,
        "layers": model.info.layers,
        "versions": package_versions(),
        "texts": {name: len(texts) for name, texts in emotions.items()}
        | {"true": int(facts.labels.sum()), "false": int((~facts.labels).sum())},
        "emotions": _emotions(scenes, [len(texts) for texts in emotions.values()]),
        "facts": _facts(statements, facts.labels, honesty),
    }


def honesty_behaviour() -> Behaviour:
    """Return a behaviour that contrasts truthful personas with lying ones."""
    happy = Behaviour.load("happy")
    return Behaviour(
        "honest", "Whether what is said is true.", HONEST, LYING, templates=happy.templates, suffixes=happy.suffixes
    )


def _emotions(scenes: Pooled, sizes: Sequence[int]) -> dict[str, Any]:
    """Separate each emotion from all others by the mean state of a scene, with each estimator."""
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    result = {}
    for number, name in enumerate(EMOTIONS):
        labels = kinds == number
        halves = split(kinds)
        result[name] = {
            estimator: auroc_by_layer(scenes.mean, labels, halves, fit) for estimator, fit in ESTIMATORS.items()
        }
    return result


def _facts(statements: Pooled, labels: Flags, honesty: Mapping[int, F32]) -> dict[str, Any]:
    """Separate true from false statements, by the mean state and the last; honesty is not fitted on statements."""
    halves = split(labels)
    states = {"mean": statements.mean, "last": statements.last}
    result: dict[str, Any] = {}
    for pool in POOLS:
        hidden = states[pool]
        for estimator, fit in ESTIMATORS.items():
            result[f"{estimator}, {pool}"] = auroc_by_layer(hidden, labels, halves, fit)
        along = np.stack([hidden[:, layer] @ honesty[layer] for layer in range(hidden.shape[1])], axis=1)
        result[f"honesty, {pool}"] = _auroc_of_scores(along, labels, halves)
    return result


def difference(positive: F32, negative: F32) -> F32:
    """Return the unit direction from the negative mean to the positive mean."""
    shift = positive.mean(axis=0, dtype=np.float64) - negative.mean(axis=0, dtype=np.float64)
    unit: F32 = (shift / np.linalg.norm(shift)).astype(np.float32)
    return unit


ESTIMATORS: Mapping[str, Fit] = {"probe": fisher, "difference": difference}


def split(kinds: NDArray[Any]) -> Flags:
    """Select half of the texts of each kind for fitting, with a fixed seed."""
    noise = np.random.default_rng(SEED)
    fitted = np.zeros(len(kinds), dtype=bool)
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        fitted[noise.permutation(members)[: len(members) // 2]] = True
    return fitted


def auroc_by_layer(states: F32, labels: Flags, fitted: Flags, fit: Fit) -> dict[str, Any]:
    """Return the AUROC at each layer on texts that are not ``fitted``, and at a layer chosen on the fitted texts.

    The layer is chosen by two-fold cross-validation within the fitted texts, so that held-out texts play no part.
    """
    inner = np.flatnonzero(fitted)
    first = np.zeros_like(fitted)
    first[inner[split(labels[fitted])]] = True
    second = fitted & ~first
    layers = range(states.shape[1])
    validated, scores = np.zeros((2, len(states), len(layers)))
    for layer in layers:
        hidden = states[:, layer]
        for known, other in ((first, second), (second, first)):
            validated[other, layer] = hidden[other] @ fit(hidden[known & labels], hidden[known & ~labels])
        scores[:, layer] = hidden @ fit(hidden[fitted & labels], hidden[fitted & ~labels])
    halves = (first, second)
    inside = [np.mean([_auroc(validated[half, layer], labels[half]) for half in halves]) for layer in layers]
    return _report(scores[~fitted], labels[~fitted], chosen=int(np.argmax(inside)))


def _auroc_of_scores(scores: Floats, labels: Flags, fitted: Flags) -> dict[str, Any]:
    """Return the same for scores along directions that were not fitted on these texts."""
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


# Table ---------------------------------------------------------------------------------------------------------------


def table(measured: Mapping[str, Any]) -> str:
    """Format the AUROC on held-out texts at every third layer and at the chosen one, as Markdown."""
    layers = range(0, measured["layers"], TABLE_STEP)
    lines = [
        "| reading | " + " | ".join(f"{layer}" for layer in layers) + " | chosen layer |",
        "|---|" + "---|" * len(layers) + "---|",
    ]
    rows = {
        f"{emotion}, {estimator}": result
        for emotion, results in measured["emotions"].items()
        for estimator, result in results.items()
    }
    rows |= {f"true, {name}": result for name, result in measured["facts"].items()}
    for name, result in rows.items():
        low, high = result["interval"]
        cells = " | ".join(f"{result['auroc_by_layer'][layer]:.2f}" for layer in layers)
        lines.append(f"| {name} | {cells} | {result['chosen_layer']}: {result['auroc']:.2f} ({low:.2f}–{high:.2f}) |")
    return "\n".join(lines)
