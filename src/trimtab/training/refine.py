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
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from trimtab.arrays import F32
from trimtab.behaviours import Behaviour
from trimtab.engines.protocol import Gradients, Preference, PreferenceGradients
from trimtab.errors import BehaviourError, CalibrationError
from trimtab.training.checkpoint import Checkpoint, get_arrays, put_arrays
from trimtab.training.progress import OnProgress, Progress
from trimtab.training.questions import Question

DECAY = (0.9, 0.95)
EPSILON = 1e-12

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Adam:
    """Where steps have led so far; all arrays are of one shape.

    Attributes:
        step: How many were taken.
        at: The point.
        first: Running mean of gradients.
        second: Running mean of their squares.
    """

    step: int
    at: Floats
    first: Floats
    second: Floats

    @classmethod
    def beginning(cls, at: Floats) -> Adam:
        """Before the first step.

        Example:
            >>> Adam.beginning(np.array([1.0])).downhill(np.array([9.0]), rate=0.25).at
            array([0.75])
        """
        return cls(0, at, np.zeros_like(at), np.zeros_like(at))

    def downhill(self, gradient: Floats, *, rate: float, shrink: float = 0.0) -> Adam:
        """One step down; before it, the point shrinks by ``rate * shrink`` of itself."""
        step = self.step + 1
        first = DECAY[0] * self.first + (1 - DECAY[0]) * gradient
        second = DECAY[1] * self.second + (1 - DECAY[1]) * gradient**2
        ahead = first / (1 - DECAY[0] ** step)
        spread = np.sqrt(second / (1 - DECAY[1] ** step))
        return Adam(step, self.at * (1 - rate * shrink) - rate * ahead / (spread + EPSILON), first, second)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, to be noted."""
        return {"step": np.array(self.step), "at": self.at, "first": self.first, "second": self.second}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]] | None, *, like: Floats) -> Adam | None:
        """From what ``arrays`` gave, if it is of that shape."""
        if arrays is None or arrays["at"].shape != like.shape:
            return None
        return cls(int(arrays["step"]), arrays["at"], arrays["first"], arrays["second"])


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
    slopes: PreferenceGradients,
    additions: Mapping[int, F32],
    norms: Mapping[int, float],
    *,
    questions: int,
    price: float,
    steps: int,
    seed: int,
    journal: Checkpoint,
    on_step: Callable[[], None],
) -> dict[int, F32]:
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


PERSONAS_KEY = "personas"
PERSONAS_PHASE = "Learning from the personas"
PERSONAS_BATCH = 4  # questions between two notes


def checked_gradients(gradients: Gradients | None, behaviour: Behaviour) -> Gradients:
    """The gradients, where there is something to be learned with them.

    Raises:
        CalibrationError: The model has none.
        BehaviourError: The behaviour has no personas.
    """
    if gradients is None:
        fix = "use a decoder-only model, or another method"
        raise CalibrationError("the model has no gradients with respect to its hidden states", fix=fix)
    if not behaviour.positive.personas:
        fix = "give it personas, or use another method"
        raise BehaviourError(f"the behaviour {behaviour.name!r} has no personas to learn from", fix=fix)
    return gradients


def persona_directions(
    gradients: Gradients,
    questions: Sequence[Question],
    *,
    depth: int,
    width: int,
    journal: Checkpoint,
    progress: OnProgress,
) -> dict[int, F32]:
    """Directions of all layers along which the personas' answers become likelier, each at its own sign.

    Args:
        gradients: Of the model.
        questions: With answers in character.
        depth: How many layers the model has.
        width: Of its hidden states.
        journal: Where the sum is kept, and found again.
        progress: Told of each few questions.

    Returns:
        Layer to a unit direction ``[hidden]``.

    Raises:
        CalibrationError: The gradients point nowhere.
        BehaviourError: There are no answers in character.
        ModelError: Gradients cannot be taken of the model's weights, or memory does not suffice.
    """
    items = preferences(questions)
    if not items:
        fix = "see what the model answers under the personas, or use another method"
        raise BehaviourError("there are no answers in character to learn from", fix=fix)
    nothing = {layer: np.zeros(width, dtype=np.float32) for layer in range(depth)}
    done, total = _begun(get_arrays(journal, PERSONAS_KEY), shape=(depth, width))
    progress(Progress(PERSONAS_PHASE, done, len(items)))
    slopes = gradients.slopes(items, swift=True)
    while done < len(items):
        numbers = range(done, min(done + PERSONAS_BATCH, len(items)))
        slope = slopes.at(nothing, numbers, price=0.0)
        total = total + len(numbers) * np.stack([slope.gradient[layer] for layer in range(depth)])
        if not np.isfinite(total).all():
            raise CalibrationError("the personas' answers have a gradient that is no number", fix="load in float32")
        done = numbers.stop
        put_arrays(journal, PERSONAS_KEY, {"done": np.array(done), "total": total})
        progress(Progress(PERSONAS_PHASE, done, len(items)))
    lengths = np.linalg.norm(total, axis=1)
    if not (lengths > 0).all():
        fix = "see whether the personas change the model's answers at all, or use another method"
        raise CalibrationError("the personas' answers have no gradient", fix=fix)
    return {layer: (total[layer] / lengths[layer]).astype(np.float32) for layer in range(depth)}


def _begun(kept: Mapping[str, Floats] | None, *, shape: tuple[int, int]) -> tuple[int, Floats]:
    if kept is None:
        return 0, np.zeros(shape)
    return int(kept["done"]), kept["total"]
