"""From a behaviour to a calibrated control vector: contrast, collect, subtract and reduce, place, calibrate, check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from trimtab.behaviours import Behaviour, neutral_prompts
from trimtab.engines import Engine
from trimtab.engines.base import Array
from trimtab.errors import CalibrationError, VectorError
from trimtab.learning.check import check_held_out
from trimtab.learning.controls import effect_of, random_swings
from trimtab.learning.estimators import ESTIMATORS, pairwise_cosine, separation
from trimtab.learning.progress import OnProgress, Progress, ignore
from trimtab.learning.questions import Question, QuestionSet, ask, interval
from trimtab.learning.sweep import (
    SIGNS,
    Steerable,
    band_layers,
    chosen_layers,
    first_guess,
    spend_both,
    sweep,
)
from trimtab.pairs import MAX_PAIRS, ContrastivePair, build_pairs
from trimtab.vectors import BehaviourRef, Calibration, Candidate, ControlVector, Effect, Reliability
from trimtab.version import VERSION

BUDGET = 0.4
TOLERANCE = 0.02  # of the budget; the promise is 5 %
MAX_ANSWER = 28
RANDOM_GUESS = 3.0  # a random direction spends far less than a learned one of its length


@dataclass(frozen=True)
class Effort:
    """How many prompts each part of calibration uses.

    Attributes:
        first_round: Questions with answers in character on which every candidate is tried.
        effect: Questions with answers in character on which the best candidates are tried.
        kl: Questions on which the final KL is measured; the first ``effect`` of them are the above.
        held_out: Questions of the check.
        finalists: Candidates that reach the second round.
        randoms: Random directions for comparison.
    """

    first_round: int = 5
    effect: int = 16
    kl: int = 24
    held_out: int = 16
    finalists: int = 3
    randoms: int = 3


def train(
    model: Engine,
    behaviour: Behaviour,
    *,
    method: str = "mean_difference",
    layers: str | Sequence[int] = "auto",
    calibrate: bool = True,
    budget: float = BUDGET,
    max_pairs: int = MAX_PAIRS,
    seed: int = 0,
    check: bool = True,
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
        max_pairs: Upper bound on the number of contrastive pairs.
        seed: Of the random directions in the comparison; everything else is deterministic.
        check: Also measure on held-out prompts.
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
    _check_budget(budget)
    candidates = chosen_layers(model.info.layers, layers)
    pairs = build_pairs(behaviour, model, max_pairs=max_pairs)
    states = _collect(model, pairs, progress)
    directions = {
        layer: ESTIMATORS[method](states.positive[:, layer], states.negative[:, layer])
        for layer in range(model.info.layers)
    }
    effort = Effort()
    questions = ask(
        model,
        neutral_prompts().calibration[: effort.kl],
        behaviour if calibrate else None,
        in_character=effort.effect,
        max_new_tokens=MAX_ANSWER,
        progress=progress,
    )
    calibrator = _Calibrator.prepare(model, questions, directions, effort)
    vector = ControlVector(
        model=model.info,
        directions=directions,
        norms=calibrator.steerable.norms,
        weights=_flat(model.info.layers, candidates[0] if len(candidates) == 1 else band_layers(model.info.layers)),
        method=method,
        behaviour=BehaviourRef(behaviour.name, behaviour.digest),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        trimtab_version=VERSION,
    )
    if calibrate:
        vector = calibrator.calibrate(vector, candidates, budget=budget, seed=seed, progress=progress)
        if check:
            vector = check_held_out(
                model,
                vector,
                behaviour,
                count=effort.held_out,
                max_new_tokens=MAX_ANSWER,
                seed=seed,
                progress=progress,
            )
    return replace(vector, reliability=_reliability(states, vector))


def calibrate(
    model: Engine,
    vector: ControlVector,
    *,
    behaviour: Behaviour | None = None,
    layers: str | Sequence[int] | None = None,
    budget: float = BUDGET,
    seed: int = 0,
    check: bool = True,
    progress: OnProgress = ignore,
) -> ControlVector:
    """Give the strength of any vector its unit: one that was imported, mixed, or trained without calibration.

    Args:
        model: The engine of the vector's model.
        vector: What to calibrate; its directions are kept, its norms are measured anew.
        behaviour: With it, effects are measured too, and ``layers="auto"`` can rank.
        layers: None keeps the vector's own layers and their weights.
        budget: Mean per-token KL(base ‖ steered) at strength ±1, in nats.
        seed: Of the random directions in the comparison.
        check: Also measure on held-out prompts.
        progress: Called with each step of the work.

    Raises:
        VectorMismatchError: The vector belongs to another model.
        VectorError: The vector steers no layer.
        CalibrationError: No strength spends the budget, or layers cannot be ranked without a behaviour.
    """
    vector.check_model(model.info)
    _check_budget(budget)
    if not vector.layers:
        raise VectorError("the vector steers no layer", fix="give one with non-zero weights")
    if layers == "auto" and (behaviour is None or not behaviour.positive.personas):
        raise CalibrationError(
            "layers cannot be ranked without a behaviour's personas", fix="pass behaviour=, or layers"
        )
    effort = Effort()
    questions = ask(
        model,
        neutral_prompts().calibration[: effort.kl],
        behaviour,
        in_character=effort.effect,
        max_new_tokens=MAX_ANSWER,
        progress=progress,
    )
    calibrator = _Calibrator.prepare(model, questions, vector.directions, effort)
    keep = layers is None
    candidates = (vector.layers,) if layers is None else chosen_layers(model.info.layers, layers)
    missing = {layer for candidate in candidates for layer in candidate} - set(vector.directions)
    if missing:
        raise VectorError(f"the vector has no direction for layers {sorted(missing)}", fix="choose among its own")
    if keep:
        calibrator = calibrator.with_weights(vector)
    calibrated = calibrator.calibrate(vector, candidates, budget=budget, seed=seed, progress=progress)
    if keep:
        calibrated = replace(calibrated, norms=vector.norms, weights=vector.weights)
    if check:
        calibrated = check_held_out(
            model,
            calibrated,
            behaviour,
            count=effort.held_out,
            max_new_tokens=MAX_ANSWER,
            seed=seed,
            progress=progress,
        )
    return calibrated


@dataclass(frozen=True)
class _States:
    """Hidden states of both poles, ``[pair, layer, hidden]``."""

    positive: Array
    negative: Array


def _collect(model: Engine, pairs: Sequence[ContrastivePair], progress: OnProgress) -> _States:
    texts = [pair.positive for pair in pairs] + [pair.negative for pair in pairs]
    phase = "Collecting hidden states"
    states = model.hidden_states(texts, progress=lambda done, total: progress(Progress(phase, done, total)))
    return _States(states[: len(pairs)], states[len(pairs) :])


def _reliability(states: _States, vector: ControlVector) -> Reliability:
    cosines = {
        layer: pairwise_cosine(states.positive[:, layer], states.negative[:, layer]) for layer in vector.directions
    }
    separations = [
        separation(vector.directions[layer], states.positive[:, layer], states.negative[:, layer])
        for layer in vector.layers
    ]
    return Reliability(
        pairs=len(states.positive),
        pairwise_cosine=float(np.mean([cosines[layer] for layer in vector.layers])),
        separation=float(np.mean(separations)),
        cosine_by_layer=cosines,
    )


@dataclass(frozen=True)
class _Calibrator:
    """Prepared question sets and directions, ready for any choice of layers.

    Attributes:
        neutral: Every calibration question with the base model's own answer, for KL.
        in_character: Disjoint sets with answers in character too: for the first round, and what later rounds add.
        steerable: Directions and norms.
        effort: How much of what.
    """

    neutral: QuestionSet
    in_character: tuple[QuestionSet, ...]
    steerable: Steerable
    effort: Effort

    @classmethod
    def prepare(
        cls, model: Engine, questions: Sequence[Question], directions: Mapping[int, Array], effort: Effort
    ) -> _Calibrator:
        neutral = QuestionSet(model, [question.without_character() for question in questions])
        told = [question for question in questions if question.under_positive is not None]
        split = effort.first_round
        sets = tuple(QuestionSet(model, part) for part in (told[:split], told[split:]) if part)
        norms = {layer: float(neutral.norms[layer]) for layer in directions}
        return cls(neutral, sets, Steerable(directions, norms), effort)

    def with_weights(self, vector: ControlVector) -> _Calibrator:
        """The vector's own norms and weights instead of flat ones."""
        own = {layer: vector.weights[layer] * vector.norms[layer] for layer in vector.directions}
        return replace(self, steerable=Steerable(self.steerable.directions, own))

    def calibrate(
        self,
        vector: ControlVector,
        candidates: Sequence[tuple[int, ...]],
        *,
        budget: float,
        seed: int,
        progress: OnProgress,
    ) -> ControlVector:
        """The vector with the layers that win, and the scale at which they spend the budget."""
        ranks = bool(self.in_character) and len(candidates) > 1
        ranked = self._rank(candidates, budget=budget, progress=progress) if ranks else ()
        layers = ranked[0].layers if ranked else _without_ranking(candidates, vector.model.layers)
        guess = ranked[0].scale if ranked else dict.fromkeys(SIGNS, first_guess(len(layers)))
        phase = "Calibrating the strength"
        progress(Progress(phase, 0, 3))
        spent = spend_both((self.neutral,), self.steerable, layers, budget=budget, guess=guess, tolerance=TOLERANCE)
        scale = {key: point.scale for key, point in spent.items()}
        progress(Progress(phase, 1, 3))
        effect = self._effect(layers, scale, budget=budget, seed=seed) if self.in_character else None
        progress(Progress(phase, 3, 3))
        return replace(
            vector,
            norms=self.steerable.norms,
            weights=_flat(vector.model.layers, layers, only=vector.directions),
            scale=scale,
            calibration=Calibration(
                budget=budget,
                kl={key: point.kl for key, point in spent.items()},
                prompts=len(self.neutral),
                effect=effect,
                candidates=tuple(ranked),
                held_out=None,
            ),
        )

    def _effect(self, layers: tuple[int, ...], scale: dict[str, float], *, budget: float, seed: int) -> Effect:
        randoms = random_swings(
            self.in_character,
            self.steerable,
            layers,
            budget=budget,
            guess=RANDOM_GUESS * scale["+"],
            count=self.effort.randoms,
            seed=seed,
        )
        own = interval(np.concatenate([part.prompt_swing for part in self.in_character]))
        return effect_of(self.in_character, self.steerable, layers, scale, prompt_swing=own, randoms=randoms)

    def _rank(
        self, candidates: Sequence[tuple[int, ...]], *, budget: float, progress: OnProgress
    ) -> tuple[Candidate, ...]:
        total = len(candidates) + min(self.effort.finalists, len(candidates))
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            progress(Progress("Trying layers at equal KL", done, total))

        return sweep(
            [self.in_character[:1], self.in_character],
            [self.effort.finalists],
            self.steerable,
            candidates,
            budget=budget,
            on_candidate=step,
        )


def _without_ranking(candidates: Sequence[tuple[int, ...]], depth: int) -> tuple[int, ...]:
    """Where no effect can be measured, the user's layers, or the band that serves most behaviours."""
    return candidates[0] if len(candidates) == 1 else band_layers(depth)


def _flat(depth: int, layers: Sequence[int], *, only: Mapping[int, Array] | None = None) -> dict[int, float]:
    chosen = set(layers)
    return {layer: float(layer in chosen) for layer in (only if only is not None else range(depth))}


def _check_budget(budget: float) -> None:
    if not (np.isfinite(budget) and 0 < budget <= 5):
        raise CalibrationError(f"a budget of {budget} nat makes no sense", fix="give a number such as 0.4")
