"""Placing and calibrating: the layers that move the model most for a budget, and the scale that spends it.

Everything is measured on questions that are asked and answered once, for any number of directions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, pairwise

import numpy as np
from numpy.typing import NDArray

from trimtab.behaviours import Behaviour, neutral_prompts
from trimtab.engines import Engine
from trimtab.errors import CalibrationError, ModelError, SteeringError, VectorError
from trimtab.steering import Steering, SteeringLike
from trimtab.steering.budget import predicted_kl_or_none
from trimtab.steering.compiled import Change, LayerAdd, LayerRotate
from trimtab.steering.operators import CALIBRATED
from trimtab.training.check import RANDOM_GUESS, check_held_out, effect_record, random_swings
from trimtab.training.checkpoint import Checkpoint, NoCheckpoint
from trimtab.training.neutral import noted_neutral
from trimtab.training.progress import OnProgress, Progress, ignore
from trimtab.training.questions import EffectSet, KlSet, Question, ask
from trimtab.training.refine import preferences, price_of, refine
from trimtab.training.search import (
    SIGNS,
    Round,
    Spent,
    Steerable,
    band_layers,
    chosen_layers,
    first_guess,
    signed_effects,
    spend,
    spend_both,
    sweep,
)
from trimtab.vectors import Calibration, Candidate, ControlVector

PHASE = "Calibrating the operator"


def changes_of(vector: ControlVector, operator: str, coefficient: float) -> dict[int, Sequence[Change]]:
    """What an operator does to each steered layer at a coefficient: negative is away from the positive pole.

    For turning, a layer's angle is the coefficient times its weight, in radians; its norm plays no part.
    """
    multipliers = vector.multipliers(coefficient=coefficient)
    if operator == "rotate":
        return {layer: (LayerRotate(vector.directions[layer], angle),) for layer, angle in multipliers.items()}
    return {
        layer: (LayerAdd(np.float32(multiplier * vector.norms[layer]) * vector.directions[layer], preserve_norm=True),)
        for layer, multiplier in multipliers.items()
    }


def calibrate_operator(
    model: Engine,
    vector: ControlVector,
    *,
    operator: str,
    budget: float,
    prompts: int,
    answer_tokens: int,
    tolerance: float,
    progress: OnProgress,
) -> ControlVector:
    """The vector with ``operator_scales[operator]``; its layers, weights and all else stay.

    Each sign is found by the same secant as for adding, on the model's own answers to neutral prompts.

    Args:
        model: The engine of the vector's model.
        vector: Steers its own layers with its own weights.
        operator: ``"rotate"`` or ``"add_preserving_norm"``.
        budget: Mean per-token KL(base ‖ steered) at strength ±1, in nats.
        prompts: How many neutral prompts.
        answer_tokens: Length of the model's answers.
        tolerance: Of the budget, relative.
        progress: Called with the signs done.

    Raises:
        CalibrationError: No strength spends the budget; turning moves a state no further than onto the direction.
    """
    questions = ask(
        model,
        neutral_prompts().calibration[:prompts],
        None,
        in_character=0,
        max_new_tokens=answer_tokens,
        progress=progress,
    )
    kl = KlSet(model, questions)
    guess = vector.scale or dict.fromkeys(SIGNS, first_guess(len(vector.layers)))
    scale: dict[str, float] = {}
    for key, sign in SIGNS.items():
        progress(Progress(PHASE, len(scale), len(SIGNS)))
        scale[key] = _spending(kl, vector, operator, sign, budget=budget, guess=guess[key], tolerance=tolerance)
    progress(Progress(PHASE, len(SIGNS), len(SIGNS)))
    scales: Mapping[str, Mapping[str, float]] = {**vector.operator_scales, operator: scale}
    return replace(vector, operator_scales=scales)


def check_operator(operator: str) -> None:
    """Refuse operators that have no strength.

    Raises:
        CalibrationError: It is unknown, or takes bounds and no strength.
    """
    if operator not in CALIBRATED:
        raise CalibrationError(
            f"there is no strength to calibrate for {operator!r}", fix=f"use one of {', '.join(CALIBRATED)}"
        )


def _spending(
    kl: KlSet, vector: ControlVector, operator: str, sign: float, *, budget: float, guess: float, tolerance: float
) -> float:
    def kl_at(scale: float) -> float:
        return kl.measure(changes_of(vector, operator, sign * scale))

    return spend(kl_at, budget=budget, guess=guess, tolerance=tolerance).scale


BUDGET = 0.4
TOLERANCE = 0.03  # of the budget; the promise is 5 %
REFINE = 40  # steps; they take about a minute on two cores
SWEEP_PHASE = "Trying layers at equal KL"
STRENGTH_PHASE = "Calibrating the strength"
REFINE_PHASE = "Refining the directions"
UNREFINED = "no steps uphill are taken"


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
        refine: Questions with answers in character by which directions are refined, if they are.
    """

    sweep_kl: int = 6
    rounds: tuple[tuple[int, int], ...] = ((5, 99), (4, 4), (7, 2))
    kl: int = 18
    held_out: int = 10
    randoms: int = 2
    answer_tokens: int = 24
    refine: int = 48

    @property
    def effect(self) -> int:
        """Questions with answers in character, of all rounds together."""
        return sum(questions for questions, _ in self.rounds)


EFFORT = Effort()


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
    check_budget(budget)
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
    bench = CalibrationSet.prepare(model, behaviour, check=check, progress=progress)
    if candidates is not None:  # what was found out at other layers holds no longer
        fits = vector.fits if vector.reader is not None else ()
        vector = replace(vector, norms=bench.norms(vector.directions), operator_scales={}, fits=fits)
    return calibrated(
        bench, vector, candidates, budget=budget, refine=0, seed=seed, journal=NoCheckpoint(), progress=progress
    )


@dataclass(frozen=True)
class CalibrationSet:
    """Questions asked and answered, prepared for any vector of the model.

    Attributes:
        model: The engine.
        questions: All of them.
        sweep_kl: For the KL of candidates.
        kl: For the final KL.
        rounds: For effects on calibration prompts; empty where there are no answers in character.
        held_out: Questions of the check; empty if it is not wanted.
        held_out_effects: For effects on them, where there are answers in character.
        told: Calibration questions with answers in character.
    """

    model: Engine
    questions: tuple[Question, ...]
    sweep_kl: KlSet
    kl: KlSet
    rounds: tuple[EffectSet, ...]
    held_out: tuple[Question, ...]
    held_out_effects: EffectSet | None
    told: tuple[Question, ...]

    @classmethod
    def prepare(
        cls, model: Engine, behaviour: Behaviour | None, *, check: bool, refine: bool = False, progress: OnProgress
    ) -> CalibrationSet:
        """Ask the questions; with ``refine`` some more of them in character."""
        wanted = max(EFFORT.effect, EFFORT.refine) if refine else EFFORT.effect
        calibration = neutral_prompts().calibration[: max(EFFORT.kl, wanted)]
        own = behaviour.evaluation_prompts if behaviour is not None else ()
        held_out = (own or neutral_prompts().held_out[: EFFORT.held_out]) if check else ()
        told, rest = calibration[:wanted], calibration[wanted:]
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
            kl=KlSet(model, calibrated[: EFFORT.kl]),
            rounds=tuple(EffectSet(model, part) for part in parts if part),
            held_out=checked,
            held_out_effects=EffectSet(model, checked) if in_character and checked else None,
            told=tuple(in_character),
        )

    def norms(self, layers: Iterable[int]) -> dict[int, float]:
        """Mean hidden-state norm on neutral text, of each of ``layers``."""
        return {layer: float(self.kl.norms[layer]) for layer in layers}

    def with_neutral(self, vector: ControlVector, *, journal: Checkpoint, progress: OnProgress) -> ControlVector:
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


@dataclass(frozen=True)
class _Placed:
    """Directions on their layers.

    Attributes:
        layers: Steered.
        steerable: Directions of all layers, and what is added of each at scale 1.
        spent: Per sign, the scale that spends the budget.
    """

    layers: tuple[int, ...]
    steerable: Steerable
    spent: Mapping[str, Spent]

    @property
    def scale(self) -> dict[str, float]:
        """Per sign."""
        return {key: point.scale for key, point in self.spent.items()}


def calibrated(
    bench: CalibrationSet,
    vector: ControlVector,
    candidates: Sequence[tuple[int, ...]] | None,
    *,
    budget: float,
    refine: int,
    seed: int,
    journal: Checkpoint,
    progress: OnProgress,
) -> ControlVector:
    """The vector with the layers that win, the scale at which they spend the budget, and neutral statistics.

    ``candidates`` None keeps the vector's own layers and weights. ``refine`` steps uphill are taken where the engine
    has gradients and there are answers in character.
    """
    ranked: tuple[Candidate, ...] = ()
    if candidates is not None and len(candidates) > 1 and bench.rounds:
        steerable = Steerable(vector.directions, vector.norms)
        ranked = rank_layers(bench, steerable, candidates, budget=budget, progress=progress)
    progress(Progress(STRENGTH_PHASE, 0, 3))
    placed = _placed(bench, vector, candidates, ranked, budget=budget)
    if refine and bench.told:
        better = _refined(bench, vector, placed, budget=budget, steps=refine, seed=seed, journal=journal, told=progress)
        if better is not None:
            placed, vector = better, replace(vector, method=f"{vector.method}+refined")
    progress(Progress(STRENGTH_PHASE, 1, 3))
    if candidates is not None:
        shares = placed.steerable.norms
        weights = dict.fromkeys(vector.directions, 0.0)
        weights |= {layer: shares[layer] / vector.norms[layer] for layer in placed.layers}
        vector = replace(vector, directions=placed.steerable.directions, weights=weights)
    vector = bench.with_neutral(vector, journal=journal, progress=progress)
    return _measured(bench, vector, placed, ranked, budget=budget, seed=seed, progress=progress)


def _placed(
    bench: CalibrationSet,
    vector: ControlVector,
    candidates: Sequence[tuple[int, ...]] | None,
    ranked: Sequence[Candidate],
    *,
    budget: float,
) -> _Placed:
    """The best layers, or those that were asked for, brought to the budget."""
    steerable = Steerable(vector.directions, vector.norms)
    if candidates is None:
        layers, steerable = vector.layers, Steerable.of(vector, vector.directions)
    elif ranked:
        layers = ranked[0].layers
    else:
        layers = candidates[0] if len(candidates) == 1 else band_layers(vector.model.layers)
    guess = ranked[0].scale if ranked else dict.fromkeys(SIGNS, first_guess(len(layers)))
    spent = spend_both(bench.kl, steerable, layers, budget=budget, guess=guess, tolerance=TOLERANCE)
    return _Placed(layers, steerable, spent)


def _refined(
    bench: CalibrationSet,
    vector: ControlVector,
    placed: _Placed,
    *,
    budget: float,
    steps: int,
    seed: int,
    journal: Checkpoint,
    told: OnProgress,
) -> _Placed | None:
    """The same layers after steps uphill; None where the engine has no gradients, which is told."""
    items = preferences(bench.told)
    gradients = bench.model.gradients
    if gradients is None or not items:
        told(Progress(REFINE_PHASE, steps, steps, note=f"{UNREFINED}: there are no gradients to be had"))
        return None
    effects = signed_effects(bench.rounds[:1], placed.steerable, placed.layers, placed.scale)
    middle = float(np.mean(list(placed.scale.values())))
    norms = {layer: vector.norms[layer] for layer in placed.layers}
    done = count(1)
    told(Progress(REFINE_PHASE, 0, steps))
    try:
        refined = refine(
            gradients.slopes(items, swift=True),
            placed.steerable.additions(placed.layers, middle),
            norms,
            questions=len(items),
            price=price_of(float(effects.swing.mean()) / 2, budget),
            steps=steps,
            seed=seed,
            journal=journal,
            on_step=lambda: told(Progress(REFINE_PHASE, next(done), steps)),
        )
    except ModelError as error:
        told(Progress(REFINE_PHASE, steps, steps, note=f"{UNREFINED}: {error.problem}"))
        return None
    told(Progress(REFINE_PHASE, steps, steps))
    lengths = {layer: float(np.linalg.norm(added)) for layer, added in refined.items()}
    directions = dict(placed.steerable.directions)
    directions |= {layer: (refined[layer] / lengths[layer]).astype(np.float32) for layer in placed.layers}
    shares = dict(placed.steerable.norms) | {layer: length / middle for layer, length in lengths.items()}
    steerable = Steerable(directions, shares)
    spent = spend_both(
        bench.kl, steerable, placed.layers, budget=budget, guess=dict.fromkeys(SIGNS, middle), tolerance=TOLERANCE
    )
    return _Placed(placed.layers, steerable, spent)


def _measured(
    bench: CalibrationSet,
    vector: ControlVector,
    placed: _Placed,
    ranked: tuple[Candidate, ...],
    *,
    budget: float,
    seed: int,
    progress: OnProgress,
) -> ControlVector:
    """The vector with its scale, what it does there on calibration prompts, and on others."""
    scale, steerable, layers = placed.scale, placed.steerable, placed.layers
    effect = randoms = None
    all_own = np.zeros(0)
    if bench.rounds:
        all_own = bench.all_own()
        progress(Progress(STRENGTH_PHASE, 2, 3))
        randoms = random_swings(
            bench.sweep_kl,
            bench.rounds,
            steerable,
            layers,
            budget=budget,
            guess=RANDOM_GUESS * scale["+"],
            count=EFFORT.randoms,
            seed=seed,
        )
        own = np.concatenate([part.prompt_swing for part in bench.rounds])
        effect = effect_record(signed_effects(bench.rounds, steerable, layers, scale), own, randoms, all_own=all_own)
    progress(Progress(STRENGTH_PHASE, 3, 3))
    calibration = Calibration(
        budget=budget,
        kl={key: point.kl for key, point in placed.spent.items()},
        prompts=len(bench.kl),
        effect=effect,
        candidates=ranked,
        held_out=None,
    )
    vector = replace(vector, scale=scale, calibration=calibration)
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


def rank_layers(
    bench: CalibrationSet,
    steerable: Steerable,
    candidates: Sequence[tuple[int, ...]],
    *,
    budget: float,
    progress: OnProgress,
) -> tuple[Candidate, ...]:
    """Choices of layers by swing at equal KL, on the questions of the bench; see ``sweep``.

    Raises:
        CalibrationError: None of them can spend the budget.
    """
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


def check_budget(budget: float) -> None:
    """Refuse a budget that is no number of nats to spend.

    Raises:
        CalibrationError: It is none.
    """
    if not (np.isfinite(budget) and 0 < budget <= 5):
        raise CalibrationError(f"a budget of {budget} nat makes no sense", fix="give a number such as 0.4")


PROMPTS = 12
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Spending:
    """The KL of a mix, in nats per token.

    Attributes:
        measured: Mean KL(base ‖ steered) along the model's own answers to neutral prompts.
        predicted: What the mixing meter says; None where a term was never calibrated for what it does.
        prompts: How many prompts.
    """

    measured: float
    predicted: float | None
    prompts: int


def measure_spending(
    model: Engine, steering: SteeringLike, *, prompts: int = PROMPTS, progress: OnProgress = ignore
) -> Spending:
    """Measure what a steering of all tokens spends on held-out neutral prompts.

    Args:
        model: The engine.
        steering: What to measure.
        prompts: How many prompts.
        progress: Called with each step of the work.

    Raises:
        SteeringError: It has token scopes or conditions, so what it spends hangs on the request;
            ``generate(..., measure_kl=True)`` measures that.

    Example:
        >>> measure_spending(model, [(happy, 0.5), (formal, 0.5)]).measured  # doctest: +SKIP
        0.29
    """
    chosen = Steering.of(steering)
    if any(not term.tokens.is_all or term.condition is not None for term in chosen.terms):
        raise SteeringError(
            "what token scopes and conditions spend hangs on the request", fix="use generate(..., measure_kl=True)"
        )
    changes = chosen.compile(model.info).changes
    texts = neutral_prompts().held_out[:prompts]
    questions = ask(model, texts, None, in_character=0, max_new_tokens=ANSWER_TOKENS, progress=progress)
    return Spending(KlSet(model, questions).measure(changes), predicted_kl_or_none(chosen.terms), len(texts))
