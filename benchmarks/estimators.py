"""Comparison of estimators at equal KL: trimtab's directions, repeng's, those of a single layer, and random ones.

All estimators learn from the same behaviour and, unless they need none, from the same contrastive pairs. Each direction
is scaled to the same KL on held-out questions, and its effect is measured there in two ways: how far it moves the model
from the answers of one persona to those of the other, and how much its own answers sound like one or the other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.engine_worker import default_folder
from benchmarks.extraction import usable_cores
from benchmarks.measurement import Step, ignore_step
from benchmarks.models import load_model, run_conditions
from benchmarks.processes import Job, Worker, check_interpreter, start_repeng
from benchmarks.results_cache import cached_or_measured
from trimtab.behaviours import Behaviour, neutral_prompts, zoo_names
from trimtab.behaviours.pairs import ContrastivePair, build_pairs
from trimtab.defaults import BUDGET, STATES_MEMORY
from trimtab.engines.transformers import TransformersEngine
from trimtab.errors import BenchmarkError, CalibrationError
from trimtab.steering import Steering, Term
from trimtab.training.calibrate import TOLERANCE
from trimtab.training.controls import RANDOM_GUESS, random_directions
from trimtab.training.progress import ignore
from trimtab.training.questions import (
    CalibrationSet,
    EffectSet,
    KlSet,
    Question,
    add_persona_answers,
    ask,
    persona_chats,
)
from trimtab.training.search import SIGNS, Steerable, band_layers, find_scales, measure_effects, rank_layers
from trimtab.training.states import PairInput, collect_contrast
from trimtab.training.train import METHODS, train, zoo_vector
from trimtab.training.written import Written, persona_scores, write_steered
from trimtab.vectors import BehaviourRef, ControlVector

TRIMTAB, CAA, RANDOM, PROMPTS = "trimtab", "CAA", "random", "prompts"
REPENG: Mapping[str, str] = {"repeng pca_diff": "pca_diff", "repeng pca_center": "pca_center"}
REPENG_LAYERS = range(-17, -4)  # the layers that its README steers
REPENG_COEFFICIENT = 2.2  # of its README too
CAA_COEFFICIENT = 1.0  # adds the mean difference itself
CAA_LAYERS = (0.27, 0.83)  # as shares of the depth; every second layer between them is tried
CAA_EVERY = 2
SEED = 0

Coefficients: TypeAlias = Mapping[str, float]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """Settings of the comparison.

    Attributes:
        behaviours: Names of behaviours of the zoo.
        peer: Interpreter that has repeng; None to leave its vectors out.
        model: Hub id, folder or file; the default model if not given.
        questions: Number of held-out neutral questions.
        answer_tokens: Upper bound on an answer's length.
        budget: KL in nats per token.
        threads: Number of threads of repeng.
        also: Further estimators of ``train``, used without refining.
        vectors: By label, a folder with a vector file for each behaviour, to be compared as well.
        written_tokens: Upper bound on the length of the answers that are written and scored.
    """

    behaviours: tuple[str, ...] = field(default_factory=zoo_names)
    peer: str | None = None
    model: str | None = None
    questions: int = 24
    answer_tokens: int = 24
    budget: float = BUDGET
    threads: int = field(default_factory=usable_cores)
    also: tuple[str, ...] = ()
    vectors: Mapping[str, Path] = field(default_factory=dict)
    written_tokens: int = 32

    def __post_init__(self) -> None:
        unknown = [name for name in self.behaviours if name not in zoo_names()]
        if unknown or not self.behaviours:
            what = f"no behaviour named {unknown[0]!r} in the zoo" if unknown else "no behaviours to measure"
            raise BenchmarkError(what, fix=f"use some of {', '.join(zoo_names())}")
        if others := [name for name in self.also if name not in METHODS]:
            raise BenchmarkError(f"no estimator named {others[0]!r}", fix=f"use some of {', '.join(METHODS)}")
        for label, folder in self.vectors.items():
            if missing := [name for name in self.behaviours if not vector_path(folder, name).is_file()]:
                raise BenchmarkError(
                    f"no vector of {missing[0]!r} in {folder}", fix=f"train it, or leave {label!r} out"
                )


def vector_path(folder: Path, behaviour: str) -> Path:
    """Return where a folder has the vector of a behaviour."""
    return folder / f"{behaviour}.safetensors"


@dataclass(frozen=True)
class Estimate:
    """Directions that an estimator learned, and the layers at which they are added.

    Attributes:
        layers: Steered layers.
        steerable: Additions at each layer for a coefficient of 1.
        guess: By sign, a coefficient near the budget, from which the search starts.
        raw: By sign, the default coefficient of the estimator's library.
    """

    layers: tuple[int, ...]
    steerable: Steerable
    guess: Coefficients
    raw: Coefficients

    def as_vector(self, model: TransformersEngine, scale: Coefficients) -> ControlVector:
        """Return a control vector that adds the same at a strength of 1."""
        return ControlVector(
            model=model.info,
            directions={layer: self.steerable.directions[layer] for layer in self.layers},
            norms={layer: self.steerable.norms[layer] for layer in self.layers},
            weights=dict.fromkeys(self.layers, 1.0),
            scale=dict(scale),
            method="benchmark",
            behaviour=BehaviourRef("benchmark", ""),
        )


def benchmark(
    plan: Plan,
    folder: Path,
    *,
    engine: TransformersEngine | None = None,
    on_step: Callable[[Step], None] = ignore_step,
) -> Iterator[Mapping[str, Any]]:
    """Measure one behaviour after another; results of an earlier run with the same plan are reused.

    Args:
        plan: Settings.
        folder: Folder to which the result of each behaviour is written at once.
        engine: The model; loaded if not given.
        on_step: Called with each step of the work.

    Yields:
        The result of each behaviour.

    Raises:
        BenchmarkError: repeng cannot be started or fails.
    """
    if plan.peer is not None:
        check_interpreter(plan.peer)
    model = load_model(engine, plan.model, on_step)
    job = run_conditions(model, _settings(plan))
    with ExitStack() as stack:
        setup = cache(partial(_prepare, plan, model, stack))  # only if a behaviour is not cached
        for number, name in enumerate(plan.behaviours):
            behaviour = Behaviour.load(name)

            def step(what: str, *, name: str = name, number: int = number) -> None:
                on_step(Step(f"{name}: {what}", number, len(plan.behaviours)))

            yield cached_or_measured(
                folder / f"{name}.json",
                {"behaviour": name, "job": job, "digest": behaviour.digest},
                partial(_measure_behaviour, plan, setup, behaviour, step),
            )


def _settings(plan: Plan) -> dict[str, Any]:
    return {
        "estimators": [TRIMTAB, *plan.vectors, *(REPENG if plan.peer else ()), CAA, *plan.also, RANDOM],
        "written_tokens": plan.written_tokens,
        "questions": plan.questions,
        "answer_tokens": plan.answer_tokens,
        "budget": plan.budget,
    }


@dataclass(frozen=True)
class _Setup:
    """Model, worker of repeng, and answered held-out questions, shared by all behaviours."""

    model: TransformersEngine
    worker: Worker | None
    versions: Mapping[str, str] | None
    questions: tuple[Question, ...]
    kl: KlSet


def _prepare(plan: Plan, model: TransformersEngine, stack: ExitStack) -> _Setup:
    worker = versions = None
    if plan.peer is not None:
        job = Job("float32", plan.threads, plan.model or str(default_folder()), str(model.model.device))
        worker = stack.enter_context(closing(start_repeng("repeng", plan.peer, job)))
        versions = worker.answer()["versions"]
    texts = neutral_prompts().held_out[: plan.questions]
    questions = ask(model, texts, None, personas=0, max_new_tokens=plan.answer_tokens, progress=ignore)
    return _Setup(model, worker, versions, questions, KlSet(model, questions))


def _measure_behaviour(
    plan: Plan, prepare: Callable[[], _Setup], behaviour: Behaviour, step: Callable[[str], None]
) -> dict[str, Any]:
    setup = prepare()
    model = setup.model
    step("training")
    vector = zoo_vector(model, behaviour.name)
    pairs = build_pairs(behaviour, model)
    estimates = {TRIMTAB: trimtab_estimate(vector)}
    for label, folder in plan.vectors.items():
        estimates[label] = trimtab_estimate(ControlVector.load(vector_path(folder, behaviour.name)))
    if setup.worker is not None:
        step("training with repeng")
        estimates |= repeng_estimates(setup.worker, pairs, estimates[TRIMTAB], depth=model.info.layers)
    step("searching for the best single layer")
    estimates[CAA] = caa_estimate(model, behaviour, pairs, budget=plan.budget)
    for method in plan.also:
        step(f"training with {method}")
        estimates[method] = trimtab_estimate(train(model, behaviour, method=method, refine=0, check=False))
    estimates[RANDOM] = random_estimate(estimates[TRIMTAB])
    step("measuring")
    answers = add_persona_answers(model, setup.questions, behaviour, max_new_tokens=plan.answer_tokens)
    effects = EffectSet(model, answers)
    measured = {name: measure(estimate, setup.kl, effects, budget=plan.budget) for name, estimate in estimates.items()}
    step("writing answers")
    vectors = {
        name: estimate.as_vector(model, measured[name]["scale"])
        for name, estimate in estimates.items()
        if "scale" in measured[name]
    }
    texts = [question.text for question in setup.questions]
    written = written_swings(model, behaviour, texts, vectors, tokens=plan.written_tokens)
    return {
        "peer": setup.versions,
        "pairs": len(pairs),
        "method": vector.method,
        "prompt_swing": effects.prompt_swing.tolist(),
        "prompt_written": written[PROMPTS].tolist(),
        "estimators": {
            name: result | ({"written": written[name].tolist()} if name in written else {})
            for name, result in measured.items()
        },
    }


def written_swings(
    model: TransformersEngine,
    behaviour: Behaviour,
    texts: Sequence[str],
    vectors: Mapping[str, ControlVector],
    *,
    tokens: int,
) -> dict[str, Floats]:
    """Measure what is written at +1 and -1, and under the two system prompts.

    Returns:
        Persona score at +1 less that at -1 of each vector, and of the prompts, ``[question]``, in nats per token.
    """
    steerings = [Steering((Term(vector, sign),)) for vector in vectors.values() for sign in SIGNS.values()]
    answers = write_steered(model, texts, steerings, max_new_tokens=tokens)
    prompted = model.generate(persona_chats(behaviour, texts), max_new_tokens=tokens)
    answers += [Written.of(prompted[0::2]), Written.of(prompted[1::2])]
    scores = persona_scores(model, behaviour, texts, answers)
    return dict(zip((*vectors, PROMPTS), scores[0::2] - scores[1::2], strict=True))


def measure(estimate: Estimate, kl: KlSet, effects: EffectSet, *, budget: float) -> dict[str, Any]:
    """Measure an estimate at the budget and at its default strength; effects per question, in nats per token."""
    result: dict[str, Any] = {"layers": list(estimate.layers), "raw": _at_default_strength(estimate, kl, effects)}
    try:
        spent = find_scales(
            kl, estimate.steerable, estimate.layers, budget=budget, guess=estimate.guess, tolerance=TOLERANCE
        )
    except CalibrationError as error:
        return {**result, "problem": str(error)}
    scale = {key: point.at(budget) for key, point in spent.items()}
    signed = measure_effects([effects], estimate.steerable, estimate.layers, scale)
    return {**result, "scale": scale, "effect": {key: values.tolist() for key, values in signed.items()}}


def _at_default_strength(estimate: Estimate, kl: KlSet, effects: EffectSet) -> dict[str, Any]:
    signed = measure_effects([effects], estimate.steerable, estimate.layers, estimate.raw)
    spent = {
        key: kl.measure(estimate.steerable.additions(estimate.layers, sign * estimate.raw[key]))
        for key, sign in SIGNS.items()
    }
    return {
        "coefficient": dict(estimate.raw),
        "kl": spent,
        "effect": {key: float(values.mean()) for key, values in signed.items()},
    }


# Estimators ----------------------------------------------------------------------------------------------------------


def trimtab_estimate(vector: ControlVector) -> Estimate:
    """Return a trained vector's directions; its default coefficient is its scale, which is strength 1."""
    assert vector.scale is not None
    return Estimate(vector.layers, Steerable.of(vector, vector.layers), dict(vector.scale), dict(vector.scale))


def repeng_estimates(
    worker: Worker, pairs: Sequence[ContrastivePair], trimtab: Estimate, *, depth: int
) -> dict[str, Estimate]:
    """Train repeng's vectors on the same pairs; they add the same amount at each layer that its README steers."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {method: str(Path(folder) / f"{method}.npz") for method in REPENG.values()}
        worker.ask(
            "train",
            positive=[pair.positive for pair in pairs],
            negative=[pair.negative for pair in pairs],
            save=paths,
        )
        learned = {}
        for name, method in REPENG.items():
            with np.load(paths[method]) as arrays:
                learned[name] = {int(layer): arrays[layer] for layer in arrays.files}
    layers = tuple(depth + layer for layer in REPENG_LAYERS if depth + layer > 0) or tuple(range(1, depth))
    guess = dict.fromkeys(SIGNS, total_added(trimtab) / len(layers))
    return {
        name: Estimate(
            layers,
            Steerable({layer: directions[layer] for layer in layers}, dict.fromkeys(layers, 1.0)),
            guess,
            dict.fromkeys(SIGNS, REPENG_COEFFICIENT),
        )
        for name, directions in learned.items()
    }


def total_added(estimate: Estimate) -> float:
    """Return the sum over layers of the lengths added at the guessed coefficient."""
    return float(np.mean(list(estimate.guess.values()))) * sum(
        estimate.steerable.norms[layer] for layer in estimate.layers
    )


def caa_estimate(
    model: TransformersEngine, behaviour: Behaviour, pairs: Sequence[ContrastivePair], *, budget: float
) -> Estimate:
    """Train contrastive activation addition: the mean difference at the layer with the largest effect at equal KL.

    Rimsky et al. 2024, section 3, find the layer by a sweep. Here the sweep uses the questions on which trimtab's
    vectors are calibrated.
    """
    contrast = collect_contrast(
        model,
        [PairInput(pair.positive, pair.negative) for pair in pairs],
        method="mean_difference",
        memory=STATES_MEMORY,
        progress=ignore,
    )
    layers = band_layers(model.info.layers, CAA_LAYERS)[::CAA_EVERY]
    shifts = {layer: contrast.sums.total[layer] / contrast.sums.pairs for layer in layers}
    steerable = Steerable(
        {layer: contrast.direction("mean_difference", layer) for layer in layers},
        {layer: float(np.linalg.norm(shift)) for layer, shift in shifts.items()},
    )
    calibration_set = CalibrationSet.prepare(model, behaviour, held_out=0, progress=ignore)
    best = rank_layers(calibration_set, steerable, [(layer,) for layer in layers], budget=budget, progress=ignore)[0]
    return Estimate(best.layers, steerable, dict(best.scale), dict.fromkeys(SIGNS, CAA_COEFFICIENT))


def random_estimate(trimtab: Estimate) -> Estimate:
    """Replace trimtab's directions by random ones of the same lengths."""
    guess = {key: RANDOM_GUESS * scale for key, scale in trimtab.guess.items()}
    return Estimate(trimtab.layers, random_directions(trimtab.steerable, seed=SEED), guess, trimtab.raw)
