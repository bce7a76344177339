"""Controls: what random directions do at the same KL, and whether prompt-equivalents mean anything."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32
from trimtab.engines import Engine, ForcedItem
from trimtab.engines.protocol import Tokens
from trimtab.stats import mean_interval
from trimtab.steering import Steering, Term
from trimtab.training.progress import OnProgress, Progress
from trimtab.training.questions import EffectSet, KlSet, Question
from trimtab.training.search import (
    SIGNS,
    SWEEP_TOLERANCE,
    SignedEffects,
    Steerable,
    at_budget,
    signed_effects,
    spend_both,
)
from trimtab.vectors import ControlVector, Effect, HeldOut, Interval, Quality

RANDOM_GUESS = 3.4  # a random direction spends far less than a learned one of its length
GUARD = 1.0  # what random directions do by chance must stay below one prompt-equivalent


@dataclass(frozen=True)
class RandomControls:
    """What random directions do at the same layers and the same KL.

    Attributes:
        swings: Mean swing of each, in nats per token.
        per_prompt: Root mean square of their swings on one prompt; without an effect, their mean over ``n`` prompts
            spreads by this divided by the root of ``n``.
    """

    swings: tuple[float, ...]
    per_prompt: float

    def spread(self, prompts: int) -> float:
        """Standard deviation of a random direction's mean swing on so many prompts."""
        return self.per_prompt / math.sqrt(prompts)


def random_like(steerable: Steerable, *, seed: int) -> Steerable:
    """Random unit directions in place of the learned ones."""
    generator = np.random.default_rng(seed)
    directions: dict[int, F32] = {}
    for layer, direction in steerable.directions.items():
        draw = generator.standard_normal(direction.shape)
        directions[layer] = (draw / np.linalg.norm(draw)).astype(np.float32)
    return Steerable(directions, steerable.norms)


def random_swings(
    kl: KlSet,
    sets: Sequence[EffectSet],
    steerable: Steerable,
    layers: Sequence[int],
    *,
    budget: float,
    guess: float,
    count: int,
    seed: int,
) -> RandomControls:
    """Swings of ``count`` random directions at the same layers and the same KL.

    Random directions spend alike, so each one's scale is a good guess for the next.
    """
    scale = dict.fromkeys(SIGNS, guess)
    swings = []
    for number in range(count):
        random = random_like(steerable, seed=seed + number)
        spent = spend_both(kl, random, layers, budget=budget, guess=scale, tolerance=SWEEP_TOLERANCE)
        tried = {key: point.scale for key, point in spent.items()}
        swings.append(at_budget(signed_effects(sets, random, layers, tried), spent, budget))
        scale = {key: point.at(budget) for key, point in spent.items()}
    return RandomControls(
        swings=tuple(float(swing.mean()) for swing in swings),
        per_prompt=float(np.sqrt(np.mean([np.mean(np.square(swing)) for swing in swings]))),
    )


def effect_record(
    effects: SignedEffects, own: NDArray[np.float64], randoms: RandomControls, *, all_own: NDArray[np.float64]
) -> Effect:
    """The effect at ±1, beside the prompts' own and that of random directions.

    Args:
        effects: Per question.
        own: The prompts' own swing on the same questions.
        randoms: Random directions at the same KL.
        all_own: The prompts' own swing on every question asked, by which the guard decides.
    """
    swing, prompt_swing = mean_interval(effects.swing), mean_interval(own)
    reason = why_no_equivalents(mean_interval(all_own), randoms.spread(len(all_own)))
    return Effect(
        effect={"+": float(effects.plus.mean()), "-": float(effects.minus.mean())},
        swing=swing,
        prompt_swing=prompt_swing,
        prompt_equivalents=None if reason else swing.value / prompt_swing.value,
        reason=reason,
        random_swings=randoms.swings,
        random_spread=randoms.spread(len(own)),
        prompts=len(own),
    )


def why_no_equivalents(prompt_swing: Interval, spread: float) -> str | None:
    """Why dividing by the prompts' own swing would divide by noise; None if it would not.

    Args:
        prompt_swing: The prompts' own swing, in nats per token.
        spread: Standard deviation of a random direction's mean swing on so many prompts.
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


PHASE = "Checking on held-out prompts"


def check_held_out(
    model: Engine,
    vector: ControlVector,
    questions: Sequence[Question],
    effects: EffectSet | None,
    *,
    randoms: RandomControls | None,
    all_own: NDArray[np.float64],
    max_new_tokens: int,
    seed: int,
    progress: OnProgress,
) -> ControlVector:
    """The vector, its calibration record completed with what it does on prompts that calibration never saw."""
    assert vector.calibration is not None
    assert vector.scale is not None
    progress(Progress(PHASE, 0, 3))
    learned = Steerable.of(vector, vector.directions)
    random = random_like(learned, seed=seed)
    kl = KlSet(model, questions)
    spent = {key: kl.measure(learned.additions(vector.layers, sign * vector.scale[key])) for key, sign in SIGNS.items()}
    spent["random"] = kl.measure(random.additions(vector.layers, vector.scale["+"]))
    effect = random_swing = None
    if effects is not None and randoms is not None:
        measured = signed_effects([effects], learned, vector.layers, vector.scale)
        effect = effect_record(measured, effects.prompt_swing, randoms, all_own=all_own)
        random_swing = mean_interval(signed_effects([effects], random, vector.layers, vector.scale).swing)
    progress(Progress(PHASE, 1, 3))
    noise = replace(vector, directions=random.directions)
    quality = _qualities(model, questions, kl.own_logprob, vector, noise, max_new_tokens, progress)
    held_out = HeldOut(spent, effect, random_swing, quality, len(questions))
    return replace(vector, calibration=replace(vector.calibration, held_out=held_out))


def _qualities(
    model: Engine,
    questions: Sequence[Question],
    own_logprob: float,
    vector: ControlVector,
    noise: ControlVector,
    max_new_tokens: int,
    progress: OnProgress,
) -> dict[str, Quality]:
    """Greedy answers under each steering, as the base model sees them."""
    steerings = {"+": Term(vector, 1.0), "-": Term(vector, -1.0), "random": Term(noise, 1.0)}
    answers: dict[str, list[Tokens]] = {"base": [question.answer for question in questions]}
    chats = [[{"role": "user", "content": question.text}] for question in questions]
    rows = [steering for term in steerings.values() for steering in [Steering((term,))] * len(chats)]
    written = model.generate(chats * len(steerings), steering=rows, max_new_tokens=max_new_tokens)
    for number, name in enumerate(steerings):
        steered = written[number * len(chats) : (number + 1) * len(chats)]
        answers[name] = [completion.tokens for completion in steered]
    progress(Progress(PHASE, 2, 3))
    items = [
        ForcedItem(question.prompt, tuple(answers[name][n] for name in steerings))
        for n, question in enumerate(questions)
    ]
    scores = model.teacher_forcing(items, once=True).base
    progress(Progress(PHASE, 3, 3))
    logprob = {"base": own_logprob, **dict(zip(steerings, np.array(scores.logprob).sum(axis=0), strict=True))}
    surprise = {name: -logprob[name] / sum(map(len, given)) for name, given in answers.items()}
    return {
        name: Quality(float(np.exp(surprise[name] - surprise["base"])), distinct_2(given))
        for name, given in answers.items()
    }


def distinct_2(answers: Sequence[Tokens]) -> float:
    """Distinct bigrams of tokens divided by all bigrams, over a whole set (Li et al. 2016)."""
    bigrams = Counter(pair for answer in answers for pair in pairwise(answer))
    return len(bigrams) / max(sum(bigrams.values()), 1)
