"""Refining directions by gradient: from where an estimate points to where the model answers most for its price.

A mean difference says where the two poles lie apart, not which way the model is moved most per nat of KL. From half way
between it and the slope of the preference at nothing added (``personas``), small steps go uphill on ``preference -
price · KL`` at the very strength at which the vector will be used, both signs at once. The steps are short and few on
purpose: far from where they begin, gradients of a few questions fit these questions alone.

Source: preference optimisation of steering vectors is BiPO's idea (Cao et al. 2024, arXiv:2406.00045, section 3); here
the price of KL stands in place of a reference model, and the start is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trimtab.engines.base import Array, Preference, Slopes
from trimtab.learning.adam import Adam
from trimtab.learning.journal import Journal, get_arrays, put_arrays
from trimtab.learning.questions import Question

KEY = "refining"
BATCH = 2  # questions of a step
STEP = 0.07  # longest step of a layer's vector, in lengths of it
WARMUP = 5
GROWTH = 1.75  # KL grows with this power of the scale around the usual budgets
KEEP_EVERY = 10


def preferences(questions: Sequence[Question]) -> list[Preference]:
    """What the model is to prefer: of each question with answers in character, the positive one."""
    return [
        Preference(question.prompt, told.positive, told.negative, question.answer)
        for question in questions
        if (told := question.in_character) is not None and told.positive and told.negative and question.answer
    ]


def price_of(preference: float, budget: float) -> float:
    """Nats of preference that a nat of KL is worth, such that the budget is the best place to be.

    Preference grows as the scale does, KL as its power ``GROWTH``: there the two slopes are equal.
    """
    return max(preference, 0.0) / (GROWTH * budget)


def refine(
    slopes: Slopes,
    additions: Mapping[int, Array],
    norms: Mapping[int, float],
    *,
    questions: int,
    price: float,
    steps: int,
    seed: int,
    journal: Journal,
    on_step: Callable[[], None],
) -> dict[int, Array]:
    """Take steps uphill from ``additions``.

    Args:
        slopes: Of questions with answers in character.
        additions: Layer to ``[hidden]`` as they are at the budget.
        norms: Mean hidden-state norm of each layer: steps are in its units, since layers differ twentyfold.
        questions: How many there are.
        price: Nats of preference that a nat of KL is worth.
        steps: How many.
        seed: Of the order of the questions.
        journal: Where the state is kept now and then, and found again.
        on_step: Called after each.

    Returns:
        Layer to ``[hidden]``, still at about the budget.
    """
    layers = sorted(additions)
    unit = np.array([norms[layer] for layer in layers])[:, None]
    at = np.stack([additions[layer] for layer in layers]).astype(np.float64) / unit  # [layer, hidden]
    rate = STEP * float(np.linalg.norm(at, axis=1).mean()) / math.sqrt(at.shape[1])
    state = Adam.of_arrays(get_arrays(journal, KEY), like=at) or Adam.beginning(at)
    order = _order(questions, steps, seed)
    for number in range(state.step, steps):
        pushed = {layer: (state.at[n] * unit[n]).astype(np.float32) for n, layer in enumerate(layers)}
        slope = slopes.at(pushed, order[number], price=price)
        gradient = np.stack([slope.gradient[layer] for layer in layers]).astype(np.float64) * unit
        warm = min(1.0, (number + 1) / WARMUP)
        state = state.downhill(-gradient, rate=rate * warm * 0.5 * (1 + math.cos(math.pi * number / steps)))
        if state.step % KEEP_EVERY == 0:
            put_arrays(journal, KEY, state.arrays())
        on_step()
    return {layer: (state.at[n] * unit[n]).astype(np.float32) for n, layer in enumerate(layers)}


def _order(questions: int, steps: int, seed: int) -> list[list[int]]:
    """The questions of each step: all of them in a new order, again and again."""
    generator = np.random.default_rng(seed)
    batch = min(BATCH, questions)
    rounds = -(-steps * batch // questions)
    numbers = np.concatenate([generator.permutation(questions) for _ in range(rounds)])
    return [numbers[n * batch : (n + 1) * batch].tolist() for n in range(steps)]
