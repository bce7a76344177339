"""A behaviour's direction learned from its personas: towards what one says at plus, what the other says at minus.

No hidden states are compared. The model answers questions under the system prompts that ask for the two poles; then,
without any prompt, the gradient of ``log p(positive answer) - log p(negative answer)``, both per token, with respect to
what is added to each layer is taken at nothing added, over all questions at once. Steps uphill at the budget follow in
``refining``.

Source: the objective is BiPO's (Cao et al. 2024, arXiv:2406.00045, section 3), to first order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trimtab.behaviours import Behaviour
from trimtab.engines.base import Array, Gradients
from trimtab.errors import BehaviourError, CalibrationError
from trimtab.learning.adam import Floats
from trimtab.learning.journal import Journal, get_arrays, put_arrays
from trimtab.learning.progress import OnProgress, Progress
from trimtab.learning.questions import Question
from trimtab.learning.refining import preferences

KEY = "personas"
PHASE = "Learning from the personas"
BATCH = 4  # questions between two notes


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
    journal: Journal,
    progress: OnProgress,
) -> dict[int, Array]:
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
    done, total = _begun(get_arrays(journal, KEY), shape=(depth, width))
    progress(Progress(PHASE, done, len(items)))
    slopes = gradients.slopes(items, swift=True)
    while done < len(items):
        numbers = range(done, min(done + BATCH, len(items)))
        slope = slopes.at(nothing, numbers, price=0.0)
        total = total + len(numbers) * np.stack([slope.gradient[layer] for layer in range(depth)])
        if not np.isfinite(total).all():
            raise CalibrationError("the personas' answers have a gradient that is no number", fix="load in float32")
        done = numbers.stop
        put_arrays(journal, KEY, {"done": np.array(done), "total": total})
        progress(Progress(PHASE, done, len(items)))
    lengths = np.linalg.norm(total, axis=1)
    if not (lengths > 0).all():
        fix = "see whether the personas change the model's answers at all, or use another method"
        raise CalibrationError("the personas' answers have no gradient", fix=fix)
    return {layer: (total[layer] / lengths[layer]).astype(np.float32) for layer in range(depth)}


def _begun(kept: Mapping[str, Floats] | None, *, shape: tuple[int, int]) -> tuple[int, Floats]:
    if kept is None:
        return 0, np.zeros(shape)
    return int(kept["done"]), kept["total"]
