"""The mixing meter: what a mix of vectors is predicted to spend, before it is tried.

KL grows about as the square of what is added, a little less steeply around the usual budgets (``EXPONENT``, measured).
So each term has an amplitude, the root of what it spends alone; amplitudes add up like vectors do, with the cosine
between what two terms add; and the power of the sum is the KL of the mix. Opposed vectors save, aligned ones cost more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import SteeringError
from trimtab.steering.operators import Add, Rotate, operator_name, takes_amount
from trimtab.steering.steering import Steering, Term

EXPONENT = 1.75
WARN_ABOVE = 1.1  # nats per token: there text begins to fall apart


def price(steering: Steering) -> float | None:
    """What it is predicted to spend, in nats per token; None where a term was never calibrated for what it does."""
    return predicted_kl(steering) if all(_is_priced(term) for term in steering.terms) else None


def known_price(steering: Steering) -> float:
    """What those of its terms are predicted to spend that were calibrated for what they do, in nats per token."""
    return predicted_kl(Steering(tuple(term for term in steering.terms if _is_priced(term))))


def predicted_kl(steering: Steering) -> float:
    """See ``Steering.budget``."""
    terms = [term for term in steering.terms if _amount(term) != 0.0]
    if not terms:
        return 0.0
    amplitudes = np.array([_alone(term) ** (1.0 / EXPONENT) for term in terms])
    pushes = [_pushes(term) for term in terms]
    cosines = np.array([[_cosine(a, b) for b in pushes] for a in pushes])
    return float(max(amplitudes @ cosines @ amplitudes, 0.0) ** (EXPONENT / 2.0))


def normalized(steering: Steering, budget: float) -> Steering:
    """See ``Steering.normalized``."""
    if not (math.isfinite(budget) and budget > 0):
        raise SteeringError(f"a budget of {budget} nat makes no sense", fix="give a number such as 0.4")
    spent = predicted_kl(steering)
    if spent == 0.0:
        raise SteeringError(f"{str(steering)!r} spends nothing, so it has no strength to rescale", fix="add a term")
    factor = (budget / spent) ** (1.0 / EXPONENT)
    return Steering(tuple(_scaled(term, factor) for term in steering.terms))


def _amount(term: Term) -> float | None:
    return term.coefficient if term.strength is None else term.strength


def _scaled(term: Term, factor: float) -> Term:
    if term.strength is not None:
        return replace(term, strength=term.strength * factor)
    assert term.coefficient is not None
    return replace(term, coefficient=term.coefficient * factor)


def _is_priced(term: Term) -> bool:
    try:
        return _amount(term) == 0.0 or _alone(term) >= 0
    except SteeringError:
        return False


def _alone(term: Term) -> float:
    """What a term spends by itself, in nats per token."""
    called = term.name or term.vector.behaviour.name
    unknown = SteeringError(
        f"nothing is known of what {str(term)!r} spends",
        fix=f"calibrate {called!r}, and steer by strength" if takes_amount(term.operator) else "leave it out",
    )
    record, name = term.vector.calibration, operator_name(term.operator)
    if not takes_amount(term.operator) or record is None:
        raise unknown
    amount = _amount(term)
    assert amount is not None
    sign = "+" if amount >= 0 else "-"
    scale = term.vector.scale if name == "add" else term.vector.operator_scales.get(name)
    if scale is None:
        raise unknown
    strength = amount if term.strength is not None else amount * _share(term) / scale[sign]
    spent = record.kl[sign] if name == "add" else record.budget
    return float(spent * abs(strength) ** EXPONENT)


def _share(term: Term) -> float:
    """A coefficient counts whole at layers that are given; this is how much more that is than on the vector's own."""
    weights = sum(term.vector.weights.values())
    return 1.0 if term.layers is None or not weights else len(term.steered_layers) / weights


def _pushes(term: Term) -> Mapping[int, NDArray[np.float64]]:
    """What a term moves at each layer, in norms of the layer; turning moves along the direction too."""
    given = None if term.layers is None else term.steered_layers or None
    assert isinstance(term.operator, (Add, Rotate))
    found = term.vector.multipliers(
        term.strength, coefficient=term.coefficient, layers=given, operator=operator_name(term.operator)
    )
    return {layer: much * term.vector.directions[layer].astype(np.float64) for layer, much in found.items()}


def _cosine(a: Mapping[int, NDArray[np.float64]], b: Mapping[int, NDArray[np.float64]]) -> float:
    """Over all layers together."""
    along = sum(float(a[layer] @ b[layer]) for layer in a.keys() & b.keys())
    lengths = [math.sqrt(sum(float(push @ push) for push in pushes.values())) for pushes in (a, b)]
    return along / (lengths[0] * lengths[1]) if all(lengths) else 0.0
