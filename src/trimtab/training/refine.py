"""Refine directions by gradient ascent on ``preference - price · KL``.

A mean difference says how the hidden states of the poles differ, not which addition changes the answers most per nat
of KL. So steps start half way between it and the preference gradient at zero (``persona_directions``), and go uphill at
the strength at which the vector will be used, both signs at once. They are few and short on purpose: a few questions
are soon overfitted.

Source: optimising steering vectors for preferences is BiPO's idea (Cao et al. 2024, arXiv:2406.00045, section 3). Here
a price on KL replaces the reference model, and the start is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trimtab.arrays import F32
from trimtab.behaviours import Behaviour
from trimtab.engines.protocol import Gradients, Preference, PreferenceGradients
from trimtab.errors import BehaviourError, CalibrationError
from trimtab.training.checkpoint import Checkpoint
from trimtab.training.progress import OnProgress, Progress
from trimtab.training.questions import Question

KEY = "refining"
BATCH = 2  # questions of a step
STEP = 0.07  # longest step of a layer's vector, relative to its length
WARMUP = 5
GROWTH = 1.75  # KL grows with this power of the scale around the usual budgets
KEEP_EVERY = 10


def preferences(questions: Sequence[Question]) -> list[Preference]:
    """Return the questions with answers in character, of which the positive one is to be preferred."""
    return [
        Preference(question.prompt, answers.positive, answers.negative, question.answer)
        for question in questions
        if (answers := question.persona_answers) is not None
        and answers.positive
        and answers.negative
        and question.answer
    ]


def price_of(preference: float, budget: float) -> float:
    """Return the nats of preference that a nat of KL is worth, such that the optimum is at the budget.

    With scale ``s``, preference is ``P s`` and KL is ``budget · s^g`` with ``g = GROWTH``. Setting the derivative of
    ``P s - price · budget · s^g`` at ``s = 1`` to 0 gives ``price = P / (g · budget)``.
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
    checkpoint: Checkpoint,
    on_step: Callable[[], None],
) -> dict[int, F32]:
    """Take steps uphill from some additions.

    Args:
        gradients: Of questions with answers in character.
        additions: Layer to ``[hidden]``, at the budget.
        norms: Mean hidden-state norm of each layer: steps are in its units, since layers differ twentyfold.
        questions: Number of questions.
        price: Nats of preference that a nat of KL is worth.
        steps: Number of steps.
        seed: Seed of the order of the questions.
        checkpoint: Written every ``KEEP_EVERY`` steps.
        on_step: Called after each step.

    Returns:
        Layer to ``[hidden]``, at about the same KL.
    """
    from trimtab.training.optimiser import LayerUnits, adam, batches, warmed_cosine

    units = LayerUnits.of({layer: norms[layer] for layer in additions})
    start = units.point(additions)
    highest = STEP * float(np.linalg.norm(start, axis=1).mean()) / math.sqrt(start.shape[1])
    descent = adam(start)
    descent.restore(checkpoint.get_arrays(KEY))
    order = batches(questions, steps=steps, size=BATCH, seed=seed)
    for number in range(descent.step, steps):
        ascent = gradients.at(units.additions(descent.at), order[number], price=price)
        # The objective is to be raised, and an optimiser goes down.
        descent.downhill(-units.gradient(ascent.gradient), rate=highest * warmed_cosine(number, steps, warmup=WARMUP))
        if descent.step % KEEP_EVERY == 0:
            checkpoint.put_arrays(KEY, descent.arrays())
        on_step()
    return units.additions(descent.at)


PERSONAS_KEY = "personas"
PERSONAS_PHASE = "Learning from the personas"
PERSONAS_BATCH = 4  # questions between two writes of the checkpoint


def checked_gradients(gradients: Gradients | None, behaviour: Behaviour) -> Gradients:
    """Return the gradients, or refuse a model or behaviour that nothing can be learned from.

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
    checkpoint: Checkpoint,
    progress: OnProgress,
) -> dict[int, F32]:
    """Return the preference gradient at zero of all layers, as unit directions.

    Args:
        gradients: Gradients of the model.
        questions: With answers in character.
        depth: Number of layers.
        width: Size of the hidden states.
        checkpoint: Where the sum so far is saved.
        progress: Called every few questions.

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
    saved = checkpoint.get_arrays(PERSONAS_KEY)
    done, total = (0, np.zeros((depth, width))) if saved is None else (int(saved["done"]), saved["total"])
    progress(Progress(PERSONAS_PHASE, done, len(items)))
    objective = gradients.preference_gradients(items, bf16=True)
    while done < len(items):
        numbers = range(done, min(done + PERSONAS_BATCH, len(items)))
        slope = objective.at(nothing, numbers, price=0.0)
        total = total + len(numbers) * np.stack([slope.gradient[layer] for layer in range(depth)])
        if not np.isfinite(total).all():
            raise CalibrationError("the personas' answers have a gradient that is no number", fix="load in float32")
        done = numbers.stop
        checkpoint.put_arrays(PERSONAS_KEY, {"done": np.array(done), "total": total})
        progress(Progress(PERSONAS_PHASE, done, len(items)))
    lengths = np.linalg.norm(total, axis=1)
    if not (lengths > 0).all():
        fix = "see whether the personas change the model's answers at all, or use another method"
        raise CalibrationError("the personas' answers have no gradient", fix=fix)
    return {layer: (total[layer] / lengths[layer]).astype(np.float32) for layer in range(depth)}
