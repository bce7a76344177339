"""The comparison: make the interventions, let the model answer under each, and measure all in the same way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from trimtab.arrays import F32, F64
from trimtab.behaviours import Behaviour
from trimtab.behaviours.pairs import build_pairs
from trimtab.engines.protocol import Collects
from trimtab.errors import CalibrationError, EvaluationError, TrimtabError, VectorError
from trimtab.evaluation.interventions import (
    BOTH,
    EQUAL,
    FEW_SHOT,
    LORA,
    LORA_EQUAL,
    SYSTEM,
    VECTOR,
    Pair,
    added_tokens,
    combined_pair,
    equal_kl_pair,
    few_shot_pair,
    system_prompt_pair,
    vector_pair,
)
from trimtab.evaluation.measurement import Evaluator, effect_of
from trimtab.evaluation.metrics.refusals import refusal_rates
from trimtab.evaluation.records import Chance, Control, Damage, InterventionReport
from trimtab.stats import mean_interval
from trimtab.training.controls import Trial, try_at_budget
from trimtab.training.directions import orient
from trimtab.training.progress import Phases
from trimtab.training.questions import EffectSet, KlSet
from trimtab.training.search import SIGNS, Steerable, find_scale
from trimtab.training.written import Written
from trimtab.vectors import ControlVector, Interval

DEVIATIONS = 2.0
LORA_SCALE, LORA_TOLERANCE = 0.5, 0.05  # first scale tried, and relative error of its KL


def report_control(trial: Trial, *, seed: int) -> Control:
    """Return a trial as it is reported, with intervals over questions."""
    effect = {key: mean_interval(values, seed=seed) for key, values in trial.effects.items()}
    return Control(effect, mean_interval(trial.swing, seed=seed))


def random_seeds(count: int, *, seed: int) -> list[int]:
    """Return the seeds of random directions; those of different evaluations do not overlap."""
    return [1000 * (seed + 1) + number for number in range(count)]


def chance_of(trials: Sequence[Trial]) -> Chance | None:
    """Return the range of random effects; the - side of a random direction counts as a random direction too."""
    effects = [float(trial.effects[key].mean()) for trial in trials for key in SIGNS]
    if not effects:
        return None
    middle, deviation = float(np.mean(effects)), float(np.std(effects, ddof=1))
    return Chance(
        low=min(min(effects), middle - DEVIATIONS * deviation), high=max(max(effects), middle + DEVIATIONS * deviation)
    )


def swing_chance(random: Sequence[Control]) -> float | None:
    """Return how far a swing may go by chance, either way, in nats per token; None without random directions.

    That is the greatest random swing, or two standard deviations if that is more. The sign of a random direction is
    arbitrary, so the deviation is taken from 0.
    """
    swings = [control.swing.value for control in random if math.isfinite(control.swing.value)]
    if not swings:
        return None
    return max(max(map(abs, swings)), DEVIATIONS * math.sqrt(sum(swing**2 for swing in swings) / len(swings)))


def shuffled_directions(
    engine: Collects, behaviour: Behaviour, layers: Sequence[int], *, pairs: int, seed: int
) -> dict[int, F32] | None:
    """Return mean differences of the behaviour's pairs with half of their labels swapped: nothing is left to learn.

    Returns:
        Layer to unit direction; None where the behaviour makes too few pairs, or its pairs are all alike.
    """
    try:
        made = build_pairs(behaviour, engine, max_pairs=pairs)
    except TrimtabError:
        return None
    texts = [pair.positive for pair in made] + [pair.negative for pair in made]
    states = engine.collect(texts, layers=layers).states.astype(np.float64)
    signs = np.where(np.arange(len(made)) % 2 == 0, 1.0, -1.0)
    np.random.default_rng(seed).shuffle(signs)
    shift = (signs[:, None, None] * (states[: len(made)] - states[len(made) :])).mean(axis=0)
    try:
        return {layer: orient(shift[n], shift[n]) for n, layer in enumerate(layers)}
    except VectorError:  # the shuffled difference is 0
        return None


def try_directions(
    kl: KlSet,
    effects: EffectSet,
    steerable: Steerable,
    directions: Mapping[int, F32] | None,
    layers: Sequence[int],
    *,
    budget: float,
    guess: Mapping[str, float],
) -> Trial | None:
    """Return ``try_at_budget`` of other directions; None where there are none or they cannot spend the budget."""
    if directions is None:
        return None
    try:
        other = replace(steerable, directions=directions)
        return try_at_budget(kl, [effects], other, layers, budget=budget, guess=guess)
    except CalibrationError:
        return None


BASELINES = (EQUAL, SYSTEM, FEW_SHOT, BOTH)
"""Interventions that a vector can be compared with, besides fine-tuning."""

USUAL = (SYSTEM,)
"""Interventions that it is compared with by default."""


@dataclass(frozen=True)
class Answered:
    """One intervention for both poles, with its measurements so far; all by sign.

    Attributes:
        pair: The intervention.
        kl: In nats per token.
        halves: Both halves of its preference effects, ``[question, (positive, negative)]``; None without personas.
        written: Answers at length.
    """

    pair: Pair
    kl: Mapping[str, float]
    halves: Mapping[str, F64 | None]
    written: Mapping[str, Written]


@dataclass(frozen=True)
class Comparison:
    """All interventions with their answers; the vector is the first.

    Attributes:
        prompted: Answers under the system prompts, by sign, whether or not they are compared; empty without personas.
        prompt_swing: Preference swing of the system prompts per question; None without personas.
        making: Seconds that interventions took to make, by name.
        missing: Reasons why some could not be made.
    """

    answered: tuple[Answered, ...]
    prompted: Mapping[str, Written]
    prompt_swing: F64 | None
    making: Mapping[str, float]
    missing: tuple[str, ...]

    @property
    def all_written(self) -> tuple[Written, ...]:
        """Return the answers under all interventions, + before -."""
        return tuple(each.written[key] for each in self.answered for key in SIGNS)


def check_baselines(names: Sequence[str]) -> None:
    """Refuse names of unknown baselines.

    Raises:
        EvaluationError: A baseline is not known.
    """
    unknown = sorted(set(names) - set(BASELINES))
    if unknown:
        raise EvaluationError(f"no baseline named {unknown[0]!r}", fix=f"use some of {', '.join(BASELINES)}")


@dataclass
class _Made:
    """Interventions while they are made; KL and effects that were needed for making them are kept."""

    pairs: list[Pair]
    system: Pair | None = None
    kl: dict[str, Mapping[str, float]] = field(default_factory=dict)
    halves: dict[str, Mapping[str, F64 | None]] = field(default_factory=dict)
    making: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def compare(
    evaluator: Evaluator,
    vector: ControlVector,
    steered: Mapping[str, Written],
    *,
    baselines: Sequence[str],
    lora: bool,
    seed: int,
    phases: Phases,
) -> Comparison:
    """Make the interventions that a vector is compared with, and let the model answer under each.

    ``steered`` are the answers at ±1, by sign.

    Raises:
        MissingDependencyError: peft is needed for ``lora``.
    """
    assert vector.calibration is not None
    budget, sizes = vector.calibration.budget, evaluator.baseline.sizes
    made = _Made([vector_pair(vector, budget=budget)])
    if evaluator.effects is not None:
        with phases("Making the interventions to compare", 4) as step:
            _make_prompts(evaluator, vector, baselines, made, step)
        if lora:
            try:
                made.pairs += _make_lora(evaluator, budget=budget, seed=seed, making=made.making, phases=phases)
            except EvaluationError as error:  # minutes of other work are not lost over it
                made.missing.append(f"fine-tuning: {error}")
    asked = [*made.pairs[1:], *([made.system] if made.system and made.system not in made.pairs else [])]
    with phases("Writing answers", 2 * len(asked)) as step:
        interventions = [intervention for pair in asked for intervention in pair.values()]
        each = iter(evaluator.write(interventions, sizes.written, on_step=step))
        written = {pair["+"].name: {key: next(each) for key in pair} for pair in asked} | {VECTOR: steered}
    answered = []
    with phases("Measuring effects", len(made.pairs)) as step:
        for pair in made.pairs:
            name = pair["+"].name
            kl = made.kl.get(name) or _kl_of_both(evaluator, pair)
            halves = made.halves.get(name) or _halves_of_both(evaluator, pair)
            answered.append(Answered(pair, kl, halves, written[name]))
            step()
    swing = swing_of(made.halves[SYSTEM]) if SYSTEM in made.halves else None
    return Comparison(tuple(answered), written.get(SYSTEM, {}), swing, made.making, tuple(made.missing))


def _make_prompts(
    evaluator: Evaluator, vector: ControlVector, baselines: Sequence[str], made: _Made, step: Callable[[], None]
) -> None:
    """Make the interventions that involve prompts, in the order of the table, as far as they are wanted.

    The system prompts are measured in any case: what they do is the unit of what the vector does.
    """
    assert vector.calibration is not None
    baseline = evaluator.baseline
    made.system = system = system_prompt_pair(evaluator.behaviour, questions=len(evaluator.questions))
    made.halves[SYSTEM] = _halves_of_both(evaluator, system)
    kls = made.kl[SYSTEM] = _kl_of_both(evaluator, system)
    step()
    if EQUAL in baselines:
        equal = equal_kl_pair(baseline.kl, vector, kls, evaluator.engine.info)
        made.pairs += [] if equal is None else [equal]
    step()
    if SYSTEM in baselines:
        made.pairs.append(system)
        made.making[SYSTEM] = 0.0
    if FEW_SHOT in baselines:
        began = time.perf_counter()
        tokens = baseline.sizes.answer_tokens
        made.pairs.append(few_shot_pair(evaluator.engine, evaluator.behaviour, answer_tokens=tokens))
        made.making[FEW_SHOT] = round(time.perf_counter() - began, 2)
    step()
    if BOTH in baselines:
        made.pairs.append(combined_pair(system, vector, kls, evaluator.kl, budget=vector.calibration.budget))
    step()


def _make_lora(
    evaluator: Evaluator, *, budget: float, seed: int, making: dict[str, float], phases: Phases
) -> list[Pair]:
    """Train a LoRA adapter for each pole; return it as trained, and at the scale that spends the budget."""
    from trimtab.evaluation.lora import train_lora

    began = time.perf_counter()
    engine, behaviour = evaluator.engine, evaluator.behaviour
    adapters = {
        "+": train_lora(engine, behaviour, side="+", seed=seed, progress=phases.progress),
        "-": train_lora(engine, behaviour, side="-", seed=seed, progress=phases.progress),
    }
    making[LORA] = making[LORA_EQUAL] = round(time.perf_counter() - began, 2)
    phases.seconds["Training LoRA"] = making[LORA]
    size = sum(adapter.stored_bytes for adapter in adapters.values())

    def pair(name: str, about: str, scales: Mapping[str, float]) -> Pair:
        return {
            key: replace(
                adapter.intervention(scales[key]),
                name=name,
                about=about,
                strength=SIGNS[key] * scales[key],
                stored_bytes=size,
            )
            for key, adapter in adapters.items()
        }

    about = f"adapters of rank {adapters['+'].rank}, trained on the model's own answers in character"

    def kl_at(key: str, scale: float) -> float:
        return evaluator.kl(adapters[key].intervention(scale))

    scales: dict[str, float] = {}
    with phases("Scaling LoRA to the budget", 2) as step:
        for key in adapters:
            fitted = find_scale(partial(kl_at, key), budget=budget, guess=LORA_SCALE, tolerance=LORA_TOLERANCE)
            scales[key] = fitted.scale
            step()
    scaled = f"the same adapters at {scales['+']:.2f} and {scales['-']:.2f}, where they spend {budget:g} nat per token"
    return [pair(LORA, about, dict.fromkeys(SIGNS, 1.0)), pair(LORA_EQUAL, scaled, scales)]


def _kl_of_both(evaluator: Evaluator, pair: Pair) -> dict[str, float]:
    return {key: evaluator.kl(intervention) for key, intervention in pair.items()}


def _halves_of_both(evaluator: Evaluator, pair: Pair) -> dict[str, F64 | None]:
    return {key: evaluator.halves(intervention) for key, intervention in pair.items()}


def swing_of(halves: Mapping[str, F64 | None]) -> F64 | None:
    """Return the preference effect towards + minus that towards -, ``[question]``; None where there is none."""
    plus, minus = (effect_of(halves[key]) for key in SIGNS)
    return None if plus is None or minus is None else plus - minus


def measure(
    evaluator: Evaluator,
    comparison: Comparison,
    qualities: Sequence[Damage],
    written: Sequence[Interval | None],
    *,
    prompt_swing: float | None,
    phases: Phases,
) -> tuple[InterventionReport, ...]:
    """Measure facts, choices, scores and refusals of every intervention.

    ``qualities`` are of ``comparison.all_written``; more may follow. ``written`` are the written swings of the
    interventions, ``prompt_swing`` that of the system prompts in nats per token; None where it is no unit.
    """
    each, swings = iter(qualities), iter(written)
    reports = []
    with phases("Asking simple facts", 2 * len(comparison.answered)) as step:
        for answered in comparison.answered:
            pair, sides, plus = answered.pair, {}, answered.pair["+"]
            refused = _refused(evaluator, pair)
            for key, intervention in pair.items():
                sides[key] = evaluator.side(
                    intervention,
                    halves=answered.halves[key],
                    kl=answered.kl[key],
                    written=answered.written[key],
                    quality=next(each),
                    refuses_harmful=refused.get(key),
                )
                step()
            swing = next(swings)
            reports.append(
                InterventionReport(
                    name=plus.name,
                    about=plus.about,
                    sides=sides,
                    swing=evaluator.interval(swing_of(answered.halves)),
                    written=swing,
                    times_prompt=None if swing is None or not prompt_swing else swing.value / prompt_swing,
                    prompt_tokens=added_tokens(evaluator.engine, pair, evaluator.baseline.texts),
                    stored_bytes=plus.stored_bytes,
                    dial=plus.strength is not None,
                )
            )
    return tuple(reports)


def _refused(evaluator: Evaluator, pair: Pair) -> dict[str, float]:
    """Return the share of harmful requests refused, by sign; only the vector is asked them."""
    if pair["+"].name != VECTOR:
        return {}
    count = evaluator.baseline.sizes.harmful
    rates = refusal_rates(evaluator.engine, list(pair.values()), harmful=True, count=count)
    return {key: rate.interval.value for key, rate in zip(pair, rates, strict=True)}
