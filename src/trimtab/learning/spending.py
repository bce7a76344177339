"""What a mix really spends, beside what ``Steering.budget`` predicts."""

from __future__ import annotations

from dataclasses import dataclass

from trimtab.behaviours import neutral_prompts
from trimtab.engines import Engine
from trimtab.errors import SteeringError
from trimtab.learning.progress import OnProgress, ignore
from trimtab.learning.questions import KlSet, ask
from trimtab.steering import Steering, SteeringLike
from trimtab.steering.meter import price
from trimtab.steering.plan import Change

PROMPTS = 12
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Spending:
    """The KL of a mix, in nats per token.

    Attributes:
        measured: Mean KL(base ‖ steered) along the model's own answers to neutral prompts.
        predicted: What the mixing meter says; None where a term was never calibrated for what it does.
        prompts: How many prompts.
    """

    measured: float
    predicted: float | None
    prompts: int


def measure_spending(
    model: Engine, steering: SteeringLike, *, prompts: int = PROMPTS, progress: OnProgress = ignore
) -> Spending:
    """Measure what a steering of all tokens spends on held-out neutral prompts.

    Args:
        model: The engine.
        steering: What to measure.
        prompts: How many prompts.
        progress: Called with each step of the work.

    Raises:
        SteeringError: It has token scopes or conditions, so what it spends hangs on the request;
            ``generate(..., measure_kl=True)`` measures that.

    Example:
        >>> measure_spending(model, [(happy, 0.5), (formal, 0.5)]).measured  # doctest: +SKIP
        0.29
    """
    chosen = Steering.of(steering)
    if any(not term.tokens.is_all or term.condition is not None for term in chosen.terms):
        raise SteeringError(
            "what token scopes and conditions spend hangs on the request", fix="use generate(..., measure_kl=True)"
        )
    changes: dict[int, list[Change]] = {}
    for planned in chosen.plan(model.info):
        for layer, change in planned.changes.items():
            changes.setdefault(layer, []).append(change)
    texts = neutral_prompts().held_out[:prompts]
    questions = ask(model, texts, None, in_character=0, max_new_tokens=ANSWER_TOKENS, progress=progress)
    return Spending(KlSet(model, questions).measure(dict(changes)), price(chosen), len(texts))
