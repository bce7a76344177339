"""The check on held-out prompts: does what was calibrated hold where it was not?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trimtab.engines import Engine, ForcedItem
from trimtab.engines.base import Tokens
from trimtab.learning.controls import RandomSwings, effect_record, random_like
from trimtab.learning.progress import OnProgress, Progress
from trimtab.learning.questions import EffectSet, KlSet, Question, interval
from trimtab.learning.sweep import SIGNS, Steerable, signed_effects
from trimtab.steering import Steering, Term
from trimtab.vectors import ControlVector, HeldOut, Quality

PHASE = "Checking on held-out prompts"


def check_held_out(
    model: Engine,
    vector: ControlVector,
    questions: Sequence[Question],
    effects: EffectSet | None,
    *,
    randoms: RandomSwings | None,
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
        random_swing = interval(signed_effects([effects], random, vector.layers, vector.scale).swing)
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
