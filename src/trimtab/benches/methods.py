"""Whose directions move the model most for the same KL: trimtab's, repeng's, a single layer's, or random ones.

Every side learns from the same behaviour, and from its pairs unless it needs none. Each is then brought to the same KL
on questions that none of them has seen, and asked there how far it moves the model between answers in the two
characters.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from trimtab.behaviours import Behaviour, neutral_prompts, zoo_names
from trimtab.behaviours.pairs import ContrastivePair, build_pairs
from trimtab.benches.extraction import Step, usable_cores
from trimtab.benches.keeping import kept_or_measured
from trimtab.benches.peer_repeng import versions
from trimtab.benches.worker import default_folder
from trimtab.benches.workers import Job, Worker, check_peer, start_peer
from trimtab.engines.transformers import TransformersEngine, load
from trimtab.errors import BenchmarkError, CalibrationError
from trimtab.training.calibrate import BUDGET, TOLERANCE, CalibrationSet, rank_layers
from trimtab.training.check import RANDOM_GUESS, random_like
from trimtab.training.checkpoint import NoCheckpoint
from trimtab.training.progress import ignore
from trimtab.training.questions import EffectSet, KlSet, Question, answered_in_character, ask
from trimtab.training.search import SIGNS, Steerable, band_layers, signed_effects, spend_both
from trimtab.training.states import MEMORY, Contrasted, collect_contrast
from trimtab.training.train import METHODS, train, zoo_vector
from trimtab.vectors import ControlVector

OWN, CAA, RANDOM = "trimtab", "CAA", "random"
PEERS: Mapping[str, str] = {"repeng pca_diff": "pca_diff", "repeng pca_center": "pca_center"}
PEER_LAYERS = range(-17, -4)  # as its README has it
PEER_COEFFICIENT = 2.2  # likewise
CAA_COEFFICIENT = 1.0  # of the mean difference at its own length
CAA_LAYERS = (0.27, 0.83)  # of the depth, every second one between
CAA_EVERY = 2
SEED = 0

Coefficients: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        behaviours: Of the zoo.
        peer: The interpreter that has repeng; None to leave its vectors out.
        model: Hub id, folder or file; the default model if not given.
        questions: Held out, of the neutral ones.
        answer_tokens: Upper bound on an answer's length.
        budget: Nats per token.
        threads: Of the peer.
        also: Methods of ``train`` besides the default, without refining.
    """

    behaviours: tuple[str, ...] = field(default_factory=zoo_names)
    peer: str | None = None
    model: str | None = None
    questions: int = 24
    answer_tokens: int = 24
    budget: float = BUDGET
    threads: int = field(default_factory=usable_cores)
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = [name for name in self.behaviours if name not in zoo_names()]
        if unknown or not self.behaviours:
            what = f"no behaviour named {unknown[0]!r} in the zoo" if unknown else "no behaviours to measure"
            raise BenchmarkError(what, fix=f"use some of {', '.join(zoo_names())}")
        if other := [name for name in self.also if name not in METHODS]:
            raise BenchmarkError(f"no method named {other[0]!r}", fix=f"use some of {', '.join(METHODS)}")


@dataclass(frozen=True)
class Way:
    """Directions, and where they are added.

    Attributes:
        layers: Steered.
        steerable: What a coefficient of 1 adds at each layer.
        guess: By sign, a coefficient not far from the budget.
        raw: By sign, the coefficient with which the way is used as it comes.
    """

    layers: tuple[int, ...]
    steerable: Steerable
    guess: Coefficients
    raw: Coefficients


def benchmark(
    plan: Plan,
    folder: Path,
    *,
    engine: TransformersEngine | None = None,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Iterator[Mapping[str, Any]]:
    """Measure one behaviour after another; what was measured before under the same plan is kept.

    Args:
        plan: What to measure.
        folder: Where each behaviour's numbers are written as soon as they are there.
        engine: The model; loaded if not given.
        on_step: Called with each step of the work.

    Yields:
        Each behaviour's numbers.

    Raises:
        BenchmarkError: The peer cannot be started or fails.
    """
    if plan.peer is not None:
        check_peer(plan.peer)
    on_step(Step("Loading the model"))
    model = engine or load(plan.model)
    job = json.loads(json.dumps(_job(plan, model)))
    with ExitStack() as stack:
        crew = cache(partial(_start, plan, model, stack))  # not before something is to be measured
        for number, name in enumerate(plan.behaviours):
            behaviour = Behaviour.load(name)

            def step(what: str, *, name: str = name, number: int = number) -> None:
                on_step(Step(f"{name}: {what}", number, len(plan.behaviours)))

            yield kept_or_measured(
                folder / f"{name}.json",
                {"behaviour": name, "job": job, "digest": behaviour.digest},
                partial(_measured, plan, crew, behaviour, step),
            )


def _job(plan: Plan, model: TransformersEngine) -> dict[str, Any]:
    """What decides the numbers, besides the behaviour."""
    return {
        "model": model.info.name,
        "fingerprint": model.info.fingerprint,
        "device": str(model.model.device),
        "ways": [OWN, *(PEERS if plan.peer else ()), CAA, *plan.also, RANDOM],
        "questions": plan.questions,
        "answer_tokens": plan.answer_tokens,
        "budget": plan.budget,
        "versions": versions(("trimtab", "torch", "transformers", "numpy")),
    }


@dataclass(frozen=True)
class _Crew:
    """What all behaviours have in common: the model, the peer, and held-out questions that the model has answered."""

    model: TransformersEngine
    worker: Worker | None
    versions: Mapping[str, str] | None
    questions: tuple[Question, ...]
    kl: KlSet


def _start(plan: Plan, model: TransformersEngine, stack: ExitStack) -> _Crew:
    worker = said = None
    if plan.peer is not None:
        job = Job("float32", plan.threads, plan.model or str(default_folder()), str(model.model.device))
        worker = stack.enter_context(closing(start_peer("repeng", plan.peer, job)))
        said = worker.answer()["versions"]
    texts = neutral_prompts().held_out[: plan.questions]
    asked = ask(model, texts, None, in_character=0, max_new_tokens=plan.answer_tokens, progress=ignore)
    return _Crew(model, worker, said, asked, KlSet(model, asked))


def _measured(
    plan: Plan, start: Callable[[], _Crew], behaviour: Behaviour, step: Callable[[str], None]
) -> dict[str, Any]:
    crew = start()
    model = crew.model
    step("training")
    vector = zoo_vector(model, behaviour.name)
    pairs = build_pairs(behaviour, model)
    ways = {OWN: own_way(vector)}
    if crew.worker is not None:
        step("repeng's training")
        ways |= peer_ways(crew.worker, pairs, ways[OWN], depth=model.info.layers)
    step("looking for the best single layer")
    ways[CAA] = caa_way(model, behaviour, pairs, budget=plan.budget)
    for method in plan.also:
        step(f"training by {method}")
        ways[method] = own_way(train(model, behaviour, method=method, refine=0, check=False))
    ways[RANDOM] = random_way(ways[OWN])
    step("measuring")
    told = answered_in_character(model, crew.questions, behaviour, max_new_tokens=plan.answer_tokens)
    effects = EffectSet(model, told)
    return {
        "peer": crew.versions,
        "pairs": len(pairs),
        "method": vector.method,
        "prompt_swing": effects.prompt_swing.tolist(),
        "ways": {name: measure(way, crew.kl, effects, budget=plan.budget) for name, way in ways.items()},
    }


def measure(way: Way, kl: KlSet, effects: EffectSet, *, budget: float) -> dict[str, Any]:
    """What a way does at the budget and as it comes; effects per question, in nats per token."""
    found: dict[str, Any] = {"layers": list(way.layers), "raw": _as_it_comes(way, kl, effects)}
    try:
        spent = spend_both(kl, way.steerable, way.layers, budget=budget, guess=way.guess, tolerance=TOLERANCE)
    except CalibrationError as error:
        return {**found, "problem": str(error)}
    scale = {key: point.at(budget) for key, point in spent.items()}
    signed = signed_effects([effects], way.steerable, way.layers, scale)
    return {**found, "scale": scale, "effect": {"+": signed.plus.tolist(), "-": signed.minus.tolist()}}


def _as_it_comes(way: Way, kl: KlSet, effects: EffectSet) -> dict[str, Any]:
    signed = signed_effects([effects], way.steerable, way.layers, way.raw)
    spent = {key: kl.measure(way.steerable.additions(way.layers, sign * way.raw[key])) for key, sign in SIGNS.items()}
    return {
        "coefficient": dict(way.raw),
        "kl": spent,
        "effect": {"+": float(signed.plus.mean()), "-": float(signed.minus.mean())},
    }


# The ways ------------------------------------------------------------------------------------------------------------


def own_way(vector: ControlVector) -> Way:
    """A trained vector as it is used: at strength 1 the coefficient is its scale."""
    assert vector.scale is not None
    return Way(vector.layers, Steerable.of(vector, vector.layers), dict(vector.scale), dict(vector.scale))


def peer_ways(worker: Worker, pairs: Sequence[ContrastivePair], own: Way, *, depth: int) -> dict[str, Way]:
    """Repeng's vectors from the same pairs, on the layers that its README steers, the same amount added at each."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {method: str(Path(folder) / f"{method}.npz") for method in PEERS.values()}
        worker.ask(
            "train",
            positive=[pair.positive for pair in pairs],
            negative=[pair.negative for pair in pairs],
            save=paths,
        )
        learned = {}
        for name, method in PEERS.items():
            with np.load(paths[method]) as arrays:
                learned[name] = {int(layer): arrays[layer] for layer in arrays.files}
    layers = tuple(depth + layer for layer in PEER_LAYERS if depth + layer > 0) or tuple(range(1, depth))
    guess = dict.fromkeys(SIGNS, total_added(own) / len(layers))
    return {
        name: Way(
            layers,
            Steerable({layer: directions[layer] for layer in layers}, dict.fromkeys(layers, 1.0)),
            guess,
            dict.fromkeys(SIGNS, PEER_COEFFICIENT),
        )
        for name, directions in learned.items()
    }


def total_added(way: Way) -> float:
    """Lengths of what is added at all layers together at the guessed coefficient."""
    return float(np.mean(list(way.guess.values()))) * sum(way.steerable.norms[layer] for layer in way.layers)


def caa_way(model: TransformersEngine, behaviour: Behaviour, pairs: Sequence[ContrastivePair], *, budget: float) -> Way:
    """Contrastive activation addition: the mean difference at one layer, the one that does best at equal KL.

    Source: Rimsky et al. 2024, section 3: the layer is found by a sweep. Here the sweep is on the questions that
    trimtab's vectors are calibrated on.
    """
    contrast = collect_contrast(
        model,
        [Contrasted(pair.positive, pair.negative) for pair in pairs],
        method="mean_difference",
        memory=MEMORY,
        journal=NoCheckpoint(),
        progress=ignore,
    )
    layers = band_layers(model.info.layers, CAA_LAYERS)[::CAA_EVERY]
    shifts = {layer: contrast.sums.total[layer] / contrast.sums.pairs for layer in layers}
    steerable = Steerable(
        {layer: contrast.direction("mean_difference", layer) for layer in layers},
        {layer: float(np.linalg.norm(shift)) for layer, shift in shifts.items()},
    )
    bench = CalibrationSet.prepare(model, behaviour, check=False, progress=ignore)
    best = rank_layers(bench, steerable, [(layer,) for layer in layers], budget=budget, progress=ignore)[0]
    return Way(best.layers, steerable, dict(best.scale), dict.fromkeys(SIGNS, CAA_COEFFICIENT))


def random_way(own: Way) -> Way:
    """Random directions in place of trimtab's."""
    guess = {key: RANDOM_GUESS * scale for key, scale in own.guess.items()}
    return Way(own.layers, random_like(own.steerable, seed=SEED), guess, own.raw)
