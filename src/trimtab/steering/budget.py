"""Budget of a mix of vectors: the KL that it is predicted to spend, before it is tried.

One vector at strength ``s`` spends about ``kl₁ · |s|^EXPONENT`` nats per token, where ``kl₁`` is what calibration
measured at strength 1. Near a small change KL grows as its square; around the usual budgets it was measured to grow a
little less steeply.

For a mix, each term ``i`` gets the amplitude ``a_i = kl_i^(1/EXPONENT)``, which is proportional to what it adds.
Amplitudes add up like vectors with the cosines ``C`` between what the terms add, over all layers together:

    KL of the mix = (aᵀ C a)^(EXPONENT / 2)

So opposed vectors save KL and aligned ones cost more. One term alone gets its own KL back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from trimtab.arrays import F64
from trimtab.errors import SteeringError
from trimtab.steering.operators import Add, Rotate, operator_name, takes_amount
from trimtab.steering.term import Term

EXPONENT = 1.75
WARN_ABOVE = 1.1  # nats per token; above it text quality begins to break down


def predicted_kl(terms: Sequence[Term]) -> float:
    """Return the KL that terms are predicted to spend together, in nats per token.

    Raises:
        SteeringError: A term was never calibrated for its operator.
    """
    terms = [term for term in terms if term.amount != 0.0]
    if not terms:
        return 0.0
    amplitudes = np.array([_kl_alone(term) ** (1.0 / EXPONENT) for term in terms])
    # Rounding can make the square of a mix that cancels negative.
    return float(max(amplitudes @ cosines(terms) @ amplitudes, 0.0) ** (EXPONENT / 2.0))


def cosines(terms: Sequence[Term]) -> F64:
    """Return the cosines between what terms add, over all layers together, ``[term, term]``.

    A term that adds nothing has the cosine 0 with every other. All must add or rotate.
    """
    moves = [_moves(term) for term in terms]
    return np.array([[_cosine(a, b) for b in moves] for a in moves])


def predicted_kl_or_none(terms: Sequence[Term]) -> float | None:
    """Return the predicted KL, or None where a term was never calibrated for its operator."""
    return predicted_kl(terms) if all(map(_is_calibrated, terms)) else None


def least_predicted_kl(terms: Sequence[Term]) -> float:
    """Return the predicted KL of those terms that were calibrated for their operators."""
    return predicted_kl([term for term in terms if _is_calibrated(term)])


def scale_to_budget(terms: Sequence[Term], budget: float) -> tuple[Term, ...]:
    """Multiply all strengths so that the terms are predicted to spend ``budget`` nats per token together.

    Raises:
        SteeringError: The budget is not positive, or the KL cannot be predicted or is 0.
    """
    if not (math.isfinite(budget) and budget > 0):
        raise SteeringError(f"the budget {budget} is not a positive number of nats", fix="give a number such as 0.4")
    spent = predicted_kl(terms)
    if spent == 0.0:
        text = " + ".join(map(str, terms)) or "none"
        raise SteeringError(f"{text!r} spends nothing, so its strengths cannot be scaled to a budget", fix="add a term")
    factor = (budget / spent) ** (1.0 / EXPONENT)
    return tuple(_scaled(term, factor) for term in terms)


def _scaled(term: Term, factor: float) -> Term:
    if term.strength is not None:
        return replace(term, strength=term.strength * factor)
    assert term.coefficient is not None
    return replace(term, coefficient=term.coefficient * factor)


def _is_calibrated(term: Term) -> bool:
    try:
        return term.amount == 0.0 or _kl_alone(term) >= 0
    except SteeringError:
        return False


def _kl_alone(term: Term) -> float:
    """Return what a term spends alone, in nats per token."""
    unknown = SteeringError(
        f"the KL of {str(term)!r} cannot be predicted, because no calibration measured it",
        fix=f"calibrate {term.name!r}, and steer by strength" if takes_amount(term.operator) else "leave it out",
    )
    record, name = term.vector.calibration, operator_name(term.operator)
    if not takes_amount(term.operator) or record is None:
        raise unknown
    amount = term.amount
    assert amount is not None
    sign = "+" if amount >= 0 else "-"
    scale = term.vector.scale if name == "add" else term.vector.operator_scales.get(name)
    if scale is None:
        raise unknown
    strength = amount if term.strength is not None else amount * _share(term) / scale[sign]
    spent = record.kl[sign] if name == "add" else record.budget
    return float(spent * abs(strength) ** EXPONENT)


def _share(term: Term) -> float:
    """Return how much more a coefficient adds at the term's layers than at the vector's own.

    At given layers a coefficient counts whole; at the vector's own it is shared out by their weights.
    """
    weights = sum(term.vector.weights.values())
    return 1.0 if term.layers is None or not weights else len(term.steered_layers) / weights


def _moves(term: Term) -> Mapping[int, F64]:
    """Return what a term adds at each layer, in norms of the layer; a rotation moves along its direction too."""
    given = None if term.layers is None else term.steered_layers or None
    assert isinstance(term.operator, (Add, Rotate))
    multipliers = term.vector.multipliers(
        term.strength, coefficient=term.coefficient, layers=given, operator=operator_name(term.operator)
    )
    return {
        layer: multiplier * term.vector.directions[layer].astype(np.float64)
        for layer, multiplier in multipliers.items()
    }


def _cosine(a: Mapping[int, F64], b: Mapping[int, F64]) -> float:
    """Return the cosine of two moves over all layers together; 0 where one of them is nothing."""
    along = sum(float(a[layer] @ b[layer]) for layer in a.keys() & b.keys())
    lengths = [math.sqrt(sum(float(move @ move) for move in moves.values())) for moves in (a, b)]
    return along / (lengths[0] * lengths[1]) if all(lengths) else 0.0
