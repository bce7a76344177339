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

from trimtab.arrays import F32, F64
from trimtab.behaviours import Behaviour
from trimtab.engines.protocol import Gradients, Preference, PreferenceGradients
from trimtab.errors import BehaviourError, CalibrationError
from trimtab.training.checkpoint import Checkpoint
from trimtab.training.progress import OnProgress, Progress
from trimtab.training.questions import Question

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
        if (told := question.persona_answers) is not None and told.positive and told.negative and question.answer
    ]


def price_of(preference: float, budget: float) -> float:
    """Nats of preference that a nat of KL is worth, such that the budget is the best place to be.

    Preference grows as the scale does, KL as its power ``GROWTH``: there the two slopes are equal.
    """
    return max(preference, 0.0) / (GROWTH * budget)


def refine(
    gradients: PreferenceGradients,
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
        gradients: Of questions with answers in character.
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
    from trimtab.training.optimiser import LayerUnits, adam, batches, warmed_cosine

    units = LayerUnits.of({layer: norms[layer] for layer in additions})
    start = units.point(additions)
    highest = STEP * float(np.linalg.norm(start, axis=1).mean()) / math.sqrt(start.shape[1])
    descent = adam(start)
    descent.restore(journal.get_arrays(KEY))
    order = batches(questions, steps=steps, size=BATCH, seed=seed)
    for number in range(descent.step, steps):
        found = gradients.at(units.additions(descent.at), order[number], price=price)
        # The objective is to be raised, and an optimiser goes down.
        descent.downhill(-units.gradient(found.gradient), rate=highest * warmed_cosine(number, steps, warmup=WARMUP))
        if descent.step % KEEP_EVERY == 0:
            journal.put_arrays(KEY, descent.arrays())
        on_step()
    return units.additions(descent.at)


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
    done, total = _begun(journal.get_arrays(PERSONAS_KEY), shape=(depth, width))
    progress(Progress(PERSONAS_PHASE, done, len(items)))
    slopes = gradients.slopes(items, swift=True)
    while done < len(items):
        numbers = range(done, min(done + PERSONAS_BATCH, len(items)))
        slope = slopes.at(nothing, numbers, price=0.0)
        total = total + len(numbers) * np.stack([slope.gradient[layer] for layer in range(depth)])
        if not np.isfinite(total).all():
            raise CalibrationError("the personas' answers have a gradient that is no number", fix="load in float32")
        done = numbers.stop
        journal.put_arrays(PERSONAS_KEY, {"done": np.array(done), "total": total})
        progress(Progress(PERSONAS_PHASE, done, len(items)))
    lengths = np.linalg.norm(total, axis=1)
    if not (lengths > 0).all():
        fix = "see whether the personas change the model's answers at all, or use another method"
        raise CalibrationError("the personas' answers have no gradient", fix=fix)
    return {layer: (total[layer] / lengths[layer]).astype(np.float32) for layer in range(depth)}


def _begun(kept: Mapping[str, F64] | None, *, shape: tuple[int, int]) -> tuple[int, F64]:
    if kept is None:
        return 0, np.zeros(shape)
    return int(kept["done"]), kept["total"]
