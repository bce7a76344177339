"""The check on held-out prompts: does what was calibrated hold where it was not?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from trimtab.behaviours import Behaviour, neutral_prompts
from trimtab.engines import Engine, ForcedItem
from trimtab.engines.base import Tokens
from trimtab.learning.controls import effect_of, random_like
from trimtab.learning.progress import OnProgress, Progress
from trimtab.learning.questions import Question, QuestionSet, ask, interval
from trimtab.learning.sweep import Steerable
from trimtab.steering import Steering, Term
from trimtab.vectors import ControlVector, HeldOut, Quality

PHASE = "Checking on held-out prompts"


def check_held_out(
    model: Engine,
    vector: ControlVector,
    behaviour: Behaviour | None,
    *,
    count: int,
    max_new_tokens: int,
    seed: int,
    progress: OnProgress,
) -> ControlVector:
    """The vector, its calibration record completed with what it does on prompts that calibration never saw."""
    assert vector.calibration is not None
    assert vector.scale is not None
    texts = (behaviour.evaluation_prompts if behaviour else ()) or neutral_prompts().held_out[:count]
    questions = ask(model, texts, behaviour, max_new_tokens=max_new_tokens, progress=progress)
    asked = QuestionSet(model, questions)
    progress(Progress(PHASE, 0, 3))
    steerable = Steerable(
        vector.directions, {layer: vector.weights[layer] * vector.norms[layer] for layer in vector.directions}
    )
    scale = dict(vector.scale)
    random = random_like(steerable, seed=seed)
    kl = {
        key: asked.measure(steerable.additions(vector.layers, sign * scale[key])).kl
        for key, sign in (("+", 1.0), ("-", -1.0))
    }
    random_kl = asked.measure(random.additions(vector.layers, scale["+"])).kl
    effect = None
    calibrated = vector.calibration.effect
    if asked.has_effect and calibrated is not None:
        effect = effect_of(
            (asked,),
            steerable,
            vector.layers,
            scale,
            prompt_swing=interval(asked.prompt_swing),
            randoms=calibrated.random_swings,
        )
    progress(Progress(PHASE, 1, 3))
    noise = replace(vector, directions=random.directions)
    quality = _qualities(model, questions, vector, noise, max_new_tokens, progress)
    held_out = HeldOut(kl=kl, effect=effect, quality=quality, random_kl=random_kl, prompts=len(questions))
    return replace(vector, calibration=replace(vector.calibration, held_out=held_out))


def _qualities(
    model: Engine,
    questions: Sequence[Question],
    vector: ControlVector,
    noise: ControlVector,
    max_new_tokens: int,
    progress: OnProgress,
) -> dict[str, Quality]:
    """Greedy answers under each steering, as the base model sees them."""
    steerings = {"+": Term(vector, 1.0), "-": Term(vector, -1.0), "random": Term(noise, 1.0)}
    answers: dict[str, list[Tokens]] = {"base": [question.answers[0] for question in questions]}
    chats = [[{"role": "user", "content": question.text}] for question in questions]
    for name, term in steerings.items():
        steered = model.generate(chats, steering=Steering((term,)), max_new_tokens=max_new_tokens)
        answers[name] = [completion.tokens for completion in steered]
    progress(Progress(PHASE, 2, 3))
    names = list(answers)
    items = [
        ForcedItem(question.prompt, tuple(answers[name][n] for name in names)) for n, question in enumerate(questions)
    ]
    scores = model.teacher_forcing(items).base
    progress(Progress(PHASE, 3, 3))
    logprob, tokens = np.array(scores.logprob).sum(axis=0), np.array(scores.tokens).sum(axis=0)
    perplexity = dict(zip(names, np.exp(-logprob / tokens), strict=True))
    return {name: Quality(float(perplexity[name] / perplexity["base"]), distinct_2(answers[name])) for name in names}


def distinct_2(answers: Sequence[Tokens]) -> float:
    """Distinct bigrams of tokens divided by all bigrams, over a whole set (Li et al. 2016)."""
    bigrams = Counter(pair for answer in answers for pair in pairwise(answer))
    return len(bigrams) / max(sum(bigrams.values()), 1)
