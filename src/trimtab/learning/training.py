"""From a behaviour to a calibrated control vector: contrast, collect, subtract and reduce, place, calibrate, check."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Behaviour, neutral_prompts
from trimtab.engines import Engine
from trimtab.errors import CalibrationError, VectorError
from trimtab.learning.check import check_held_out
from trimtab.learning.contrast import MEMORY, Contrast, Contrasted, collect_contrast
from trimtab.learning.controls import effect_record, random_swings
from trimtab.learning.estimators import ESTIMATORS
from trimtab.learning.journal import FileJournal, Journal, NoJournal, RememberingEngine
from trimtab.learning.neutral import noted_neutral
from trimtab.learning.operators import calibrate_operator, check_operator
from trimtab.learning.progress import OnProgress, Progress, ignore
from trimtab.learning.questions import EffectSet, KlSet, Question, ask
from trimtab.learning.responses import answers_in_character
from trimtab.learning.sweep import (
    SIGNS,
    Round,
    Steerable,
    band_layers,
    chosen_layers,
    first_guess,
    signed_effects,
    spend_both,
    sweep,
)
from trimtab.pairs import MAX_PAIRS, build_pairs
from trimtab.vectors import BehaviourRef, Calibration, Candidate, ControlVector, ModelInfo, Reliability
from trimtab.version import VERSION

BUDGET = 0.4
TOLERANCE = 0.03  # of the budget; the promise is 5 %
RANDOM_GUESS = 3.4  # a random direction spends far less than a learned one of its length
SOURCES = ("prompts", "responses")
SWEEP_PHASE = "Trying layers at equal KL"
STRENGTH_PHASE = "Calibrating the strength"


@dataclass(frozen=True)
class Effort:
    """How many prompts each part of calibration uses.

    Attributes:
        sweep_kl: Questions on which candidates are brought to the budget.
        rounds: Rounds of the sweep: questions with answers in character that each adds, and how many of the best
            candidates enter it.
        kl: Questions on which the final KL is measured.
        held_out: Questions of the check.
        randoms: Random directions for comparison.
        answer_tokens: Length of the model's answers.
    """

    sweep_kl: int = 6
    rounds: tuple[tuple[int, int], ...] = ((5, 99), (4, 4), (7, 2))
    kl: int = 18
    held_out: int = 10
    randoms: int = 2
    answer_tokens: int = 24

    @property
    def effect(self) -> int:
        """Questions with answers in character, of all rounds together."""
        return sum(questions for questions, _ in self.rounds)


EFFORT = Effort()


def train(
    model: Engine,
    behaviour: Behaviour,
    *,
    method: str = "mean_difference",
    layers: str | Sequence[int] = "auto",
    calibrate: bool = True,
    budget: float = BUDGET,
    source: str = "prompts",
    temperature: float = 0.0,
    max_pairs: int = MAX_PAIRS,
    seed: int = 0,
    check: bool = True,
    memory: int = MEMORY,
    checkpoint: str | Path | None = None,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Train a control vector for a behaviour, place it, and give its strength a unit.

    Args:
        model: An engine, from ``trimtab.load``.
        behaviour: What the vector is to stand for.
        method: An estimator: ``mean_difference``, ``pca_center``, ``pca_diff``, ``logistic`` or ``lda``.
        layers: ``"auto"`` sweeps single layers and bands at equal KL; or the layers themselves.
        calibrate: Find the scale at which strength ±1 spends the budget. Without it the vector steers by
            ``coefficient`` only.
        budget: Mean per-token KL(base ‖ steered) at strength ±1, in nats. 0.3 is gentle, 0.6 strong.
        source: Whose states: ``"prompts"``, contrasting prompts at their last token; or ``"responses"``, the model's
            own answers in the character of either pole, averaged over their tokens.
        temperature: Of those answers; 0 is greedy.
        max_pairs: Upper bound on the number of contrastive pairs.
        seed: Of the random directions in the comparison, and of sampled answers; everything else is deterministic.
        check: Also measure on held-out prompts.
        memory: Bytes that hidden states may take at a time; the number of pairs does not matter.
        checkpoint: A file that keeps what was found out if the work is interrupted. Training again with the same
            arguments goes on from there, to the same vector; the file is deleted at the end.
        progress: Called with each step of the work.

    Returns:
        A control vector with directions for every layer, and non-zero weights for the chosen ones.

    Raises:
        BehaviourError: The behaviour cannot make pairs.
        CalibrationError: No strength spends the budget.

    Example:
        >>> happy = train(model, Behaviour.load("happy"))  # doctest: +SKIP
        >>> happy.save("happy.safetensors")  # doctest: +SKIP
    """
    if method not in ESTIMATORS:
        raise VectorError(f"no method named {method!r}", fix=f"use one of {', '.join(ESTIMATORS)}")
    if source not in SOURCES:
        raise VectorError(f"no source named {source!r}", fix=f"use one of {', '.join(SOURCES)}")
    _check_budget(budget)
    plan = _Plan(
        method,
        layers if isinstance(layers, str) else tuple(layers),
        calibrate,
        budget,
        source,
        temperature,
        max_pairs,
        seed,
        check,
        memory,
    )
    if checkpoint is None:
        return _trained(model, behaviour, plan, NoJournal(), progress)
    journal = FileJournal(Path(checkpoint), job=plan.job(model.info, behaviour))
    try:
        vector = _trained(RememberingEngine(model, journal), behaviour, plan, journal, progress)
    except BaseException:
        journal.close()
        raise
    journal.forget()
    return vector


@dataclass(frozen=True)
class _Plan:
    """What was asked of ``train``, which together with the model and the behaviour decides the result."""

    method: str
    layers: str | tuple[int, ...]
    calibrate: bool
    budget: float
    source: str
    temperature: float
    max_pairs: int
    seed: int
    check: bool
    memory: int

    def job(self, model: ModelInfo, behaviour: Behaviour) -> str:
        """A name for exactly this work."""
        return json.dumps([VERSION, asdict(model), behaviour.digest, asdict(self)], sort_keys=True)


def _trained(model: Engine, behaviour: Behaviour, plan: _Plan, journal: Journal, progress: OnProgress) -> ControlVector:
    candidates = chosen_layers(model.info.layers, plan.layers)
    contrast = collect_contrast(
        model,
        _pairs(model, behaviour, plan, progress),
        method=plan.method,
        memory=plan.memory,
        journal=journal,
        progress=progress,
    )
    directions = {layer: contrast.direction(plan.method, layer) for layer in range(model.info.layers)}
    check = plan.calibrate and plan.check
    bench = _Bench.prepare(model, behaviour if plan.calibrate else None, check=check, progress=progress)
    steered = candidates[0] if len(candidates) == 1 else band_layers(model.info.layers)
    vector = ControlVector(
        model=model.info,
        directions=directions,
        norms=bench.norms(directions),
        weights={layer: float(layer in steered) for layer in directions},
        method=plan.method,
        behaviour=BehaviourRef(behaviour.name, behaviour.digest),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        trimtab_version=VERSION,
        collection=contrast.collection,
    )
    if plan.calibrate:
        vector = _calibrated(
            bench, vector, candidates, budget=plan.budget, seed=plan.seed, journal=journal, progress=progress
        )
    else:
        vector = bench.with_neutral(vector, journal=journal, progress=progress)
    return replace(vector, reliability=_reliability(contrast, vector))


def _pairs(model: Engine, behaviour: Behaviour, plan: _Plan, progress: OnProgress) -> list[Contrasted]:
    if plan.source == "responses":
        return answers_in_character(
            model,
            behaviour,
            max_pairs=plan.max_pairs,
            temperature=plan.temperature,
            seed=plan.seed,
            progress=progress,
        )
    pairs = build_pairs(behaviour, model, max_pairs=plan.max_pairs)
    return [Contrasted(pair.positive, pair.negative) for pair in pairs]


def calibrate(
    model: Engine,
    vector: ControlVector,
    *,
    operator: str = "add",
    behaviour: Behaviour | None = None,
    layers: str | Sequence[int] | None = None,
    budget: float = BUDGET,
    seed: int = 0,
    check: bool = True,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Give the strength of any vector its unit: one that was imported, mixed, or trained without calibration.

    What neutral chats read on its directions is measured too. With another operator than adding, its
    ``operator_scales`` get that operator's scale and nothing else changes.

    Args:
        model: The engine of the vector's model.
        vector: What to calibrate; its directions are kept, its norms are measured anew where layers are given.
        operator: What strength is to mean the dial of: ``"add"``, ``"add_preserving_norm"`` or ``"rotate"``. The last
            two take the vector's own layers and weights, and no behaviour.
        behaviour: With it, effects are measured too, and ``layers="auto"`` can rank.
        layers: None keeps the vector's own layers and their weights.
        budget: Mean per-token KL(base ‖ steered) at strength ±1, in nats.
        seed: Of the random directions in the comparison.
        check: Also measure on held-out prompts.
        progress: Called with each step of the work.

    Raises:
        VectorMismatchError: The vector belongs to another model.
        VectorError: The vector steers no layer.
        CalibrationError: No strength spends the budget, layers cannot be ranked without a behaviour, or the operator
            has no strength or takes no layers.

    Example:
        >>> happy = calibrate(model, happy, operator="rotate")  # doctest: +SKIP
        >>> model.generate("How was your day?", steering="rotate(happy):1").text  # doctest: +SKIP
    """
    vector.check_model(model.info)
    _check_budget(budget)
    check_operator(operator)
    if not vector.layers:
        raise VectorError("the vector steers no layer", fix="give one with non-zero weights")
    if operator != "add":
        if layers is not None or behaviour is not None:
            raise CalibrationError(
                f"{operator} is calibrated at the vector's own layers", fix="leave layers and behaviour out"
            )
        return calibrate_operator(
            model,
            vector,
            operator=operator,
            budget=budget,
            prompts=EFFORT.kl,
            answer_tokens=EFFORT.answer_tokens,
            tolerance=TOLERANCE,
            progress=progress,
        )
    if layers == "auto" and (behaviour is None or not behaviour.positive.personas):
        raise CalibrationError(
            "layers cannot be ranked without a behaviour's personas", fix="pass behaviour=, or layers"
        )
    candidates = None if layers is None else chosen_layers(model.info.layers, layers)
    missing = {layer for candidate in candidates or () for layer in candidate} - set(vector.directions)
    if missing:
        raise VectorError(f"the vector has no direction for layers {sorted(missing)}", fix="choose among its own")
    bench = _Bench.prepare(model, behaviour, check=check, progress=progress)
    if candidates is not None:  # what was found out at other layers holds no longer
        fits = vector.fits if vector.reader is not None else ()
        vector = replace(vector, norms=bench.norms(vector.directions), operator_scales={}, fits=fits)
    return _calibrated(bench, vector, candidates, budget=budget, seed=seed, journal=NoJournal(), progress=progress)


def _reliability(contrast: Contrast, vector: ControlVector) -> Reliability:
    cosines = {layer: contrast.sums.at(layer).pairwise_cosine for layer in vector.directions}
    separations = [contrast.separation(vector.directions[layer], layer) for layer in vector.layers]
    return Reliability(
        pairs=contrast.sums.pairs,
        pairwise_cosine=float(np.mean([cosines[layer] for layer in vector.layers])),
        separation=float(np.mean(separations)),
        cosine_by_layer=cosines,
    )


@dataclass(frozen=True)
class _Bench:
    """Questions asked and answered, prepared for any vector of the model.

    Attributes:
        model: The engine.
        questions: All of them.
        sweep_kl: For the KL of candidates.
        kl: For the final KL.
        rounds: For effects on calibration prompts; empty where there are no answers in character.
        held_out: Questions of the check; empty if it is not wanted.
        held_out_effects: For effects on them, where there are answers in character.
    """

    model: Engine
    questions: tuple[Question, ...]
    sweep_kl: KlSet
    kl: KlSet
    rounds: tuple[EffectSet, ...]
    held_out: tuple[Question, ...]
    held_out_effects: EffectSet | None

    @classmethod
    def prepare(cls, model: Engine, behaviour: Behaviour | None, *, check: bool, progress: OnProgress) -> _Bench:
        calibration = neutral_prompts().calibration[: EFFORT.kl]
        own = behaviour.evaluation_prompts if behaviour is not None else ()
        held_out = (own or neutral_prompts().held_out[: EFFORT.held_out]) if check else ()
        told, rest = calibration[: EFFORT.effect], calibration[EFFORT.effect :]
        asked = ask(
            model,
            [*told, *held_out, *rest],
            behaviour,
            in_character=len(told) + len(held_out),
            max_new_tokens=EFFORT.answer_tokens,
            progress=progress,
        )
        checked = asked[len(told) : len(told) + len(held_out)]
        calibrated = [*asked[: len(told)], *asked[len(told) + len(held_out) :]]
        in_character = [question for question in calibrated if question.in_character is not None]
        stops = np.cumsum([questions for questions, _ in EFFORT.rounds]).tolist()
        parts = [in_character[start:stop] for start, stop in pairwise([0, *stops])]
        return cls(
            model=model,
            questions=asked,
            sweep_kl=KlSet(model, calibrated[: EFFORT.sweep_kl]),
            kl=KlSet(model, calibrated),
            rounds=tuple(EffectSet(model, part) for part in parts if part),
            held_out=checked,
            held_out_effects=EffectSet(model, checked) if in_character and checked else None,
        )

    def norms(self, layers: Iterable[int]) -> dict[int, float]:
        """Mean hidden-state norm on neutral text, of each of ``layers``."""
        return {layer: float(self.kl.norms[layer]) for layer in layers}

    def with_neutral(self, vector: ControlVector, *, journal: Journal, progress: OnProgress) -> ControlVector:
        """The vector with what neutral chats read on it; as it is where thresholds were fitted against that."""
        if vector.fits and vector.neutral is not None:
            return vector
        neutral = noted_neutral(
            self.model, vector.directions, questions=self.questions, journal=journal, progress=progress
        )
        return replace(vector, neutral=neutral)

    def all_own(self) -> NDArray[np.float64]:
        """The prompts' own swing on every question with answers in character."""
        held_out = () if self.held_out_effects is None else (self.held_out_effects,)
        return np.concatenate([part.prompt_swing for part in (*self.rounds, *held_out)])


def _calibrated(
    bench: _Bench,
    vector: ControlVector,
    candidates: Sequence[tuple[int, ...]] | None,
    *,
    budget: float,
    seed: int,
    journal: Journal,
    progress: OnProgress,
) -> ControlVector:
    """The vector with the layers that win, the scale at which they spend the budget, and neutral statistics.

    ``candidates`` None keeps the vector's own layers and weights.
    """
    vector = bench.with_neutral(vector, journal=journal, progress=progress)
    steerable = Steerable(vector.directions, vector.norms)
    ranked: tuple[Candidate, ...] = ()
    if candidates is None:
        layers = vector.layers
        shares = {layer: vector.weights[layer] * vector.norms[layer] for layer in vector.directions}
        steerable = Steerable(vector.directions, shares)
    elif len(candidates) > 1 and bench.rounds:
        ranked = _ranked(bench, steerable, candidates, budget=budget, progress=progress)
        layers = ranked[0].layers
    else:
        layers = candidates[0] if len(candidates) == 1 else band_layers(vector.model.layers)
    progress(Progress(STRENGTH_PHASE, 0, 3))
    guess = ranked[0].scale if ranked else dict.fromkeys(SIGNS, first_guess(len(layers)))
    spent = spend_both(bench.kl, steerable, layers, budget=budget, guess=guess, tolerance=TOLERANCE)
    scale = {key: point.scale for key, point in spent.items()}
    progress(Progress(STRENGTH_PHASE, 1, 3))
    effect = randoms = None
    all_own = np.zeros(0)
    if bench.rounds:
        all_own = bench.all_own()
        progress(Progress(STRENGTH_PHASE, 2, 3))
        guess_random = RANDOM_GUESS * scale["+"]
        randoms = random_swings(
            bench.sweep_kl,
            bench.rounds,
            steerable,
            layers,
            budget=budget,
            guess=guess_random,
            count=EFFORT.randoms,
            seed=seed,
        )
        own = np.concatenate([part.prompt_swing for part in bench.rounds])
        effect = effect_record(signed_effects(bench.rounds, steerable, layers, scale), own, randoms, all_own=all_own)
    progress(Progress(STRENGTH_PHASE, 3, 3))
    calibration = Calibration(
        budget=budget,
        kl={key: point.kl for key, point in spent.items()},
        prompts=len(bench.kl),
        effect=effect,
        candidates=ranked,
        held_out=None,
    )
    weights = vector.weights if candidates is None else {layer: float(layer in layers) for layer in vector.directions}
    vector = replace(vector, weights=weights, scale=scale, calibration=calibration)
    if not bench.held_out:
        return vector
    return check_held_out(
        bench.model,
        vector,
        bench.held_out,
        bench.held_out_effects,
        randoms=randoms,
        all_own=all_own,
        max_new_tokens=EFFORT.answer_tokens,
        seed=seed,
        progress=progress,
    )


def _ranked(
    bench: _Bench,
    steerable: Steerable,
    candidates: Sequence[tuple[int, ...]],
    *,
    budget: float,
    progress: OnProgress,
) -> tuple[Candidate, ...]:
    rounds = [Round(part, enter) for part, (_, enter) in zip(bench.rounds, EFFORT.rounds, strict=False)]
    total = sum(min(part.enter, len(candidates)) for part in rounds)
    steps = count(1)
    progress(Progress(SWEEP_PHASE, 0, total))
    ranked = sweep(
        bench.sweep_kl,
        rounds,
        steerable,
        candidates,
        budget=budget,
        on_candidate=lambda: progress(Progress(SWEEP_PHASE, next(steps), total)),
    )
    progress(Progress(SWEEP_PHASE, total, total))  # candidates that cannot spend the budget took no step
    return ranked


def _check_budget(budget: float) -> None:
    if not (np.isfinite(budget) and 0 < budget <= 5):
        raise CalibrationError(f"a budget of {budget} nat makes no sense", fix="give a number such as 0.4")
