"""Refine directions by gradient ascent on the expected persona ratio, at the budget.

A mean difference says how the hidden states of the poles differ, not which addition changes most, per nat of KL, what
the model writes. The objective does: at every token of given answers, the mean of ``log p₊ - log p₋`` over what the
steered model would write next, where ``p₊`` and ``p₋`` are the unsteered model under the system prompts of the two
poles. It is exact, without samples and without a judge. Preferring one persona's answers to the other's, which was the
objective before, is reached as well by making the other's less likely, which no reader of an answer sees.

Steps start half way between the mean difference and the gradient at zero, and go uphill at the strength at which the
vector will be used, both signs at once. They are few and short on purpose: a few questions are soon overfitted.

Source: the price on KL replaces the reference model of preference optimisation (BiPO, Cao et al. 2024,
arXiv:2406.00045, section 3); the expectation is that of persona logit arithmetic. docs/notes/training.md has figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.arrays import F32, F64
from trimtab.behaviours import Behaviour
from trimtab.engines.protocol import Gradients, PersonaContrast, RatioGradients, Text
from trimtab.errors import BehaviourError, CalibrationError
from trimtab.training.checkpoint import Checkpoint
from trimtab.training.progress import OnProgress, Progress
from trimtab.training.questions import Question, persona_chats
from trimtab.training.search import SIGNS

KEY = "refining"
BATCH = 4  # questions of a step
STEP = 0.07  # longest step of a layer's vector, relative to its length
FEW_STEPS = 24  # beyond which steps are shorter, so that the way they can go grows with the root of their number
WARMUP = 5
GROWTH = 1.75  # KL grows with this power of the scale around the usual budgets
KEEP_EVERY = 8
MEMORY = 0.8  # of ratio and KL over steps; one step has few questions
FIRST_PRICE = 0.25
LEAST_RATIO = 0.02  # nats; a price near 0 would let KL grow without bound
PULL = 0.25  # part of the way to the budget that a step corrects a sign's factor by
MOST_PULL = 1.1


def contrasts(engine: Text, behaviour: Behaviour, questions: Sequence[Question]) -> list[PersonaContrast]:
    """Return the questions with the model's own answers and with the chats of both personas.

    Along the personas' answers the ratio could be raised too. That took three times the work for the same effect.

    Raises:
        BehaviourError: The behaviour has no personas.
    """
    chats = persona_chats(behaviour, [question.text for question in questions])
    prompts = [engine.marked(chat).tokens for chat in chats]
    return [
        PersonaContrast(question.prompt, positive, negative, (question.answer,))
        for question, positive, negative in zip(questions, prompts[0::2], prompts[1::2], strict=True)
        if question.answer
    ]


@dataclass
class _Running:
    """Running means of ratio and KL by sign, and the factor at which each sign spends the budget."""

    ratio: dict[str, float]
    kl: dict[str, float]
    factors: dict[str, float]

    @classmethod
    def restored(cls, numbers: F64) -> _Running:
        by_sign = [dict(zip(SIGNS, row, strict=True)) for row in numbers.tolist()]
        return cls(*by_sign)

    def numbers(self) -> F64:
        return np.array([[each[key] for key in SIGNS] for each in (self.ratio, self.kl, self.factors)])

    @property
    def prices(self) -> dict[str, float]:
        """Return the nats of ratio that a nat of KL is worth, such that the optimum is at the budget.

        With scale ``s``, the ratio is ``R s`` and KL is ``K s^g`` with ``g = GROWTH``. Setting the derivative of
        ``R s - price · K s^g`` at ``s = 1`` to 0 gives ``price = R / (g K)``.
        """
        return {key: max(sign * self.ratio[key], LEAST_RATIO) / (GROWTH * self.kl[key]) for key, sign in SIGNS.items()}

    def follow(self, ratio: Mapping[str, float], kl: Mapping[str, float], *, budget: float) -> None:
        """Take the values of a step into the means, and bring each sign nearer to the budget."""
        for key in SIGNS:
            self.ratio[key] = MEMORY * self.ratio[key] + (1 - MEMORY) * ratio[key]
            self.kl[key] = MEMORY * self.kl[key] + (1 - MEMORY) * max(kl[key], 1e-6)
            pull = (budget / self.kl[key]) ** (PULL / GROWTH)
            self.factors[key] *= min(max(pull, 1 / MOST_PULL), MOST_PULL)


def refine(
    gradients: RatioGradients,
    additions: Mapping[int, F32],
    norms: Mapping[int, float],
    *,
    factors: Mapping[str, float],
    budget: float,
    questions: int,
    steps: int,
    seed: int,
    checkpoint: Checkpoint,
    on_step: Callable[[], None],
) -> tuple[dict[int, F32], dict[str, float]]:
    """Take steps uphill from some additions, with KL held at the budget.

    Args:
        gradients: Of questions with both personas' chats.
        additions: Layer to ``[hidden]``, for a factor of 1.
        norms: Mean hidden-state norm of each layer: steps are in its units, since layers differ twentyfold.
        factors: By sign, the multiple of the additions that spends about the budget.
        budget: Nats per token.
        questions: Number of questions.
        steps: Number of steps.
        seed: Seed of the order of the questions.
        checkpoint: Written every ``KEEP_EVERY`` steps.
        on_step: Called after each step.

    Returns:
        Layer to ``[hidden]``, and the factor at which each sign spends about the budget.
    """
    from trimtab.training.optimiser import LayerUnits, adam, batches, warmed_cosine

    units = LayerUnits.of({layer: norms[layer] for layer in additions})
    start = units.point(additions)
    longest = STEP * math.sqrt(min(1.0, FEW_STEPS / max(steps, 1)))
    highest = longest * float(np.linalg.norm(start, axis=1).mean()) / math.sqrt(start.shape[1])
    descent = adam(start)
    saved = checkpoint.get_arrays(KEY)
    running: _Running | None = None
    if saved is not None and descent.restore(saved):
        running = _Running.restored(saved["running"])
    order = batches(questions, steps=steps, size=BATCH, seed=seed)
    for number in range(descent.step, steps):
        ascent = gradients.at(
            units.additions(descent.at),
            order[number],
            factors=factors if running is None else running.factors,
            prices=dict.fromkeys(SIGNS, FIRST_PRICE) if running is None else running.prices,
        )
        if running is None:
            running = _Running(dict(ascent.ratio), dict.fromkeys(SIGNS, budget), dict(factors))
        running.follow(ascent.ratio, ascent.kl, budget=budget)
        # The objective is to be raised, and an optimiser goes down.
        slope = -_across(units.gradient(ascent.gradient), descent.at)
        descent.downhill(slope, rate=highest * warmed_cosine(number, steps, warmup=WARMUP))
        if descent.step % KEEP_EVERY == 0:
            checkpoint.put_arrays(KEY, {**descent.arrays(), "running": running.numbers()})
        on_step()
    return units.additions(descent.at), dict(factors if running is None else running.factors)


def _across(gradient: F64, point: F64) -> F64:
    """Return the part of a gradient that turns the point: its length is the factors' business."""
    across: F64 = gradient - float((gradient * point).sum() / np.square(point).sum()) * point
    return across


PERSONAS_KEY = "personas"
PERSONAS_PHASE = "Learning from the personas"
PERSONAS_BATCH = 8  # questions between two writes of the checkpoint


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
    gradients: RatioGradients,
    *,
    questions: int,
    layers: Sequence[int],
    width: int,
    checkpoint: Checkpoint,
    progress: OnProgress,
) -> dict[int, F32]:
    """Return the gradient of the expected ratio at zero, as unit directions.

    Args:
        gradients: Of questions with both personas' chats.
        questions: Number of them.
        layers: Layers to take it at; those below the lowest cost nothing.
        width: Size of the hidden states.
        checkpoint: Where the sum so far is saved.
        progress: Called every few questions.

    Returns:
        Layer to a unit direction ``[hidden]``.

    Raises:
        CalibrationError: The gradients point nowhere.
        BehaviourError: There are no questions with answers.
        ModelError: Gradients cannot be taken of the model's weights, or memory does not suffice.
    """
    if not questions:
        fix = "see what the model answers to neutral prompts, or use another method"
        raise BehaviourError("there are no answers to learn from", fix=fix)
    nothing = {layer: np.zeros(width, dtype=np.float32) for layer in layers}
    saved = checkpoint.get_arrays(PERSONAS_KEY)
    done, total = (0, np.zeros((len(layers), width))) if saved is None else (int(saved["done"]), saved["total"])
    progress(Progress(PERSONAS_PHASE, done, questions))
    while done < questions:
        numbers = range(done, min(done + PERSONAS_BATCH, questions))
        # At zero both signs are the same pass, and so is their gradient: one is enough.
        slope = gradients.at(nothing, numbers, factors={"+": 1.0}, prices={"+": 0.0})
        total = total + len(numbers) * np.stack([slope.gradient[layer] for layer in layers])
        if not np.isfinite(total).all():
            raise CalibrationError("the personas' answers have a gradient that is no number", fix="load in float32")
        done = numbers.stop
        checkpoint.put_arrays(PERSONAS_KEY, {"done": np.array(done), "total": total})
        progress(Progress(PERSONAS_PHASE, done, questions))
    lengths = np.linalg.norm(total, axis=1)
    if not (lengths > 0).all():
        fix = "see whether the personas change the model's answers at all, or use another method"
        raise CalibrationError("the personas' answers have no gradient", fix=fix)
    return {layer: (total[n] / lengths[n]).astype(np.float32) for n, layer in enumerate(layers)}
