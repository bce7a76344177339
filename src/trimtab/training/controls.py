"""Compare a vector with random directions at the same KL, and check it on held-out prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from trimtab.arrays import F32, F64
from trimtab.defaults import CHECKED_TOKENS
from trimtab.engines.protocol import Tokens
from trimtab.stats import mean_interval
from trimtab.steering import Steering, Term
from trimtab.training.progress import OnProgress, Progress
from trimtab.training.questions import ANSWER_TOKENS, CalibrationSet, EffectSet, KlSet
from trimtab.training.search import SIGNS, SWEEP_TOLERANCE, Steerable, effects_at_budget, find_scales, measure_effects
from trimtab.training.written import (
    StrengthAnswers,
    Written,
    answers_at,
    limits_of,
    persona_scores,
    search_safe_range,
    write_steered,
    written_effect,
)
from trimtab.vectors import ControlVector, Effect, HeldOut, Interval, SafeRange, WrittenEffect

PHASE = "Checking on held-out prompts"
RANDOMS = 1  # random directions for comparison; their effects differ by question more than by direction
RANDOM_GUESS = 3.4  # a random direction spends far less than a learned one of its length
GUARD = 1.0  # the chance effect of random directions must stay below one prompt-equivalent


@dataclass(frozen=True)
class Trial:
    """Effects of a control at the budget.

    Attributes:
        effects: By sign, per question, in nats per token.
        scale: By sign, the scale that spends the budget.
    """

    effects: Mapping[str, F64]
    scale: Mapping[str, float]

    @property
    def swing(self) -> F64:
        """Effect at + minus effect at -, per question."""
        return self.effects["+"] - self.effects["-"]


def try_at_budget(
    kl: KlSet,
    sets: Sequence[EffectSet],
    steerable: Steerable,
    layers: Sequence[int],
    *,
    budget: float,
    guess: Mapping[str, float],
) -> Trial:
    """Measure the effects of directions when each sign spends the budget.

    Scales are brought near the budget, and scales and effects then taken to the exact budget along the usual growth of
    KL.

    Raises:
        CalibrationError: No scale spends the budget.
    """
    points = find_scales(kl, steerable, layers, budget=budget, guess=guess, tolerance=SWEEP_TOLERANCE)
    effects = effects_at_budget(sets, steerable, layers, points, budget)
    return Trial(effects, {key: point.at(budget) for key, point in points.items()})


def random_directions(steerable: Steerable, *, seed: int) -> Steerable:
    """Return random unit directions in place of the learned ones."""
    generator = np.random.default_rng(seed)
    directions: dict[int, F32] = {}
    for layer, direction in steerable.directions.items():
        draw = generator.standard_normal(direction.shape)
        directions[layer] = (draw / np.linalg.norm(draw)).astype(np.float32)
    return Steerable(directions, steerable.norms)


def try_randoms(
    kl: KlSet,
    sets: Sequence[EffectSet],
    steerable: Steerable,
    layers: Sequence[int],
    *,
    budget: float,
    guess: float,
    seeds: Iterable[int],
    on_one: Callable[[], None] = lambda: None,
) -> tuple[Trial, ...]:
    """Try one set of random directions per seed, on the same layers and at the same KL.

    Random directions spend alike, so each one's scale is a good guess for the next.
    """
    scale: Mapping[str, float] = dict.fromkeys(SIGNS, guess)
    trials = []
    for seed in seeds:
        random = random_directions(steerable, seed=seed)
        trials.append(try_at_budget(kl, sets, random, layers, budget=budget, guess=scale))
        scale = trials[-1].scale
        on_one()
    return tuple(trials)


def rms_swing(trials: Sequence[Trial]) -> float:
    """Return the root mean square of random swings on one question, in nats per token.

    Random directions have no effect on average, so their mean swing over ``n`` questions spreads by this divided by the
    root of ``n``.
    """
    return float(np.sqrt(np.mean([np.mean(np.square(trial.swing)) for trial in trials]))) if trials else 0.0


def record_effect(
    effects: Mapping[str, F64], by_prompts: F64, randoms: Sequence[Trial], *, prompt_swings: F64
) -> Effect:
    """Return the record of effects at ±1, beside those of the system prompts and of random directions.

    Args:
        effects: By sign, per question.
        by_prompts: The system prompts' swing on the same questions.
        randoms: Random directions at the same KL.
        prompt_swings: The system prompts' swing on every question, by which the guard decides.
    """
    swing, prompt_swing = mean_interval(effects["+"] - effects["-"]), mean_interval(by_prompts)
    chance = rms_swing(randoms)
    reason = why_no_equivalents(mean_interval(prompt_swings), chance / math.sqrt(len(prompt_swings)))
    return Effect(
        effect={key: float(values.mean()) for key, values in effects.items()},
        swing=swing,
        prompt_swing=prompt_swing,
        prompt_equivalents=None if reason else swing.value / prompt_swing.value,
        reason=reason,
        random_swings=tuple(float(trial.swing.mean()) for trial in randoms),
        random_spread=chance / math.sqrt(len(by_prompts)),
        prompts=len(by_prompts),
    )


def why_no_equivalents(prompt_swing: Interval, spread: float) -> str | None:
    """Say why dividing by the system prompts' swing (nats per token) would divide by noise; None if it would not.

    ``spread`` is the standard deviation of a random direction's mean swing on the same number of prompts.
    """
    if prompt_swing.low <= 0:
        return (
            f"the model hardly follows these system prompts: their own swing is {prompt_swing.value:.3f} nat per token "
            f"(95 % interval {prompt_swing.low:.3f} to {prompt_swing.high:.3f})"
        )
    if prompt_swing.value < GUARD * spread:
        return (
            f"the system prompts' own swing, {prompt_swing.value:.3f} nat per token, is not above what random "
            f"directions do by chance (±{spread:.3f})"
        )
    return None


def check_held_out(
    calibration: CalibrationSet, vector: ControlVector, *, halvings: int, seed: int, progress: OnProgress
) -> ControlVector:
    """Return the vector with its safe range, and with its effects on prompts that calibration never saw."""
    assert vector.calibration is not None
    assert vector.scale is not None
    progress(Progress(PHASE, 0, 4))
    learned = Steerable.of(vector, vector.directions)
    kl = KlSet(calibration.model, calibration.held_out, calibration.checkpoint)
    spent = {key: kl.measure(learned.additions(vector.layers, sign * vector.scale[key])) for key, sign in SIGNS.items()}
    effect = random_swing = None
    randoms: tuple[Trial, ...] = ()
    if (effects := calibration.held_out_effects) is not None:
        randoms = try_randoms(
            kl,
            [effects],
            learned,
            vector.layers,
            budget=vector.calibration.budget,
            guess=RANDOM_GUESS * vector.scale["+"],
            seeds=range(seed, seed + RANDOMS),
        )
        measured = measure_effects([effects], learned, vector.layers, vector.scale)
        effect = record_effect(measured, effects.prompt_swing, randoms, prompt_swings=effects.prompt_swing)
        random_swing = mean_interval(randoms[0].swing)
    progress(Progress(PHASE, 1, 4))
    safe, written = calibration.checkpoint.remember(
        "written",
        tuple[SafeRange, tuple[WrittenEffect, ...]],
        lambda: _check_written(calibration, vector, randoms, halvings=halvings, seed=seed, progress=progress),
    )
    progress(Progress(PHASE, 4, 4))
    held_out = HeldOut(spent, effect, random_swing, len(calibration.held_out), written)
    return replace(vector, safe=safe, calibration=replace(vector.calibration, held_out=held_out))


def _check_written(
    calibration: CalibrationSet,
    vector: ControlVector,
    randoms: Sequence[Trial],
    *,
    halvings: int,
    seed: int,
    progress: OnProgress,
) -> tuple[SafeRange, tuple[WrittenEffect, ...]]:
    """Let the model write at several strengths; return where its text holds together, and what it changes."""
    model, questions = calibration.model, calibration.held_out
    steps = [step / 2**halvings for step in range(-(2**halvings), 2**halvings + 1)]
    # All strengths in one batch: a pass with few rows takes nearly as long as one with many.
    answers = calibration.checkpoint.remember(
        "answers by strength",
        dict[float, StrengthAnswers],
        lambda: answers_at(model, vector, questions, steps, max_new_tokens=CHECKED_TOKENS, seed=seed),
    )
    progress(Progress(PHASE, 2, 4))
    limits = limits_of({strength: each.checks for strength, each in answers.items()})
    safe = search_safe_range(
        lambda strengths: {strength: limits[strength] for strength in strengths},
        halvings=halvings,
        questions=len(questions),
    )
    greedy = {strength: each.greedy for strength, each in answers.items()}
    effects = _written_effects(calibration, replace(vector, safe=safe), greedy, randoms, seed=seed)
    return safe, effects


def _written_effects(
    calibration: CalibrationSet,
    vector: ControlVector,
    answers: Mapping[float, Written],
    randoms: Sequence[Trial],
    *,
    seed: int,
) -> tuple[WrittenEffect, ...]:
    """Return the written effects at the default strengths and at the ends of the safe range; none without personas."""
    model, questions, behaviour = calibration.model, calibration.held_out, calibration.behaviour
    personas = [each for question in questions if (each := question.persona_answers) is not None]
    if behaviour is None or not randoms or len(personas) < len(questions):
        return ()
    assert vector.safe is not None
    ends = {key: vector.safe.end(key) for key in SIGNS}
    turns = [{key: vector.default_strengths.get(key, 0.0) for key in SIGNS}]
    turns += [ends] if ends not in turns else []
    wanted = sorted({0.0, *(strength for turn in turns for strength in turn.values())})
    texts = [question.text for question in questions]
    random = replace(
        vector, directions=random_directions(Steerable.of(vector, vector.directions), seed=seed).directions
    )
    noise = [Steering((Term(random, coefficient=SIGNS[key] * randoms[0].scale[key]),)) for key in SIGNS]
    sets = [
        *(answers[strength].shortened(model, ANSWER_TOKENS) for strength in wanted),
        Written.of_tokens(model, [each.positive for each in personas]),
        Written.of_tokens(model, [each.negative for each in personas]),
        *write_steered(model, texts, noise, max_new_tokens=ANSWER_TOKENS),
    ]
    *scores, prompt_plus, prompt_minus, random_plus, random_minus = persona_scores(model, behaviour, texts, sets)
    at = dict(zip(wanted, scores, strict=True))
    return tuple(
        written_effect(
            {key: at[strength] for key, strength in turn.items()},
            {"+": prompt_plus, "-": prompt_minus},
            at[0.0],
            strengths=turn,
            noise=abs(float((random_plus - random_minus).mean())),
            tokens=ANSWER_TOKENS,
            seed=seed,
        )
        for turn in turns
    )


def distinct_2(answers: Sequence[Tokens]) -> float:
    """Return distinct bigrams of tokens divided by all bigrams, over a whole set (Li et al. 2016)."""
    bigrams = Counter(pair for answer in answers for pair in pairwise(answer))
    return len(bigrams) / max(sum(bigrams.values()), 1)
