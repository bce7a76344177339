"""What a steering does to each layer, as numbers: no words, no names, and no torch yet."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, final

import numpy as np

from trimtab.arrays import F32
from trimtab.errors import SteeringError
from trimtab.steering.operators import Ablate, Add, Bound, Cap, Clamp, Floor, Rotate, operator_name
from trimtab.vectors import PERCENTS, ControlVector

if TYPE_CHECKING:
    from trimtab.steering.steering import Term


@final
@dataclass(frozen=True, eq=False)
class LayerAdd:
    """``h + added``; with ``preserve_norm`` at the length of ``h``."""

    added: F32
    preserve_norm: bool = False


@final
@dataclass(frozen=True, eq=False)
class LayerClamp:
    """``h + (clip(p, low, high) - p) · direction``, where ``p = h · direction``."""

    direction: F32
    low: float
    high: float


@final
@dataclass(frozen=True, eq=False)
class LayerRotate:
    """``h`` turned by so many radians towards ``direction``, at most until it lies along it; away where negative."""

    direction: F32
    radians: float


Change: TypeAlias = LayerAdd | LayerClamp | LayerRotate


@final
@dataclass(frozen=True, eq=False)
class CompiledTerm:
    """A term, and the change that it makes to the output of each block; layers where it makes none are left out."""

    term: Term
    changes: Mapping[int, Change]


def compile_term(term: Term) -> CompiledTerm:
    """Work a term out.

    Raises:
        SteeringError: The vector lacks what the term asks of it: a calibration, or neutral statistics.
    """
    return CompiledTerm(term, _changes(term))


def _changes(term: Term) -> dict[int, Change]:
    operator, vector = term.operator, term.vector
    given = None if term.layers is None else term.steered_layers or None  # a vector may have no layers at all
    if isinstance(operator, Add):
        added = vector.addition(
            term.strength, coefficient=term.coefficient, layers=given, operator=operator_name(operator)
        )
        return {
            layer: LayerAdd(vector_, operator.preserve_norm)
            for layer, vector_ in sorted(added.items())
            if vector_.any()
        }
    if isinstance(operator, Rotate):
        if operator.degrees is not None:
            angles = dict.fromkeys(term.steered_layers, math.radians(operator.degrees))
        else:
            angles = vector.multipliers(
                term.strength, coefficient=term.coefficient, layers=given, operator=operator_name(operator)
            )
        return {
            layer: LayerRotate(vector.directions[layer], angle)
            for layer, angle in sorted(angles.items())
            if angle != 0.0
        }
    return {layer: LayerClamp(vector.directions[layer], *_range(term, layer)) for layer in term.steered_layers}


def _range(term: Term, layer: int) -> tuple[float, float]:
    """The projections that a term leaves alone at a layer."""
    operator = term.operator
    if isinstance(operator, Ablate):
        return 0.0, 0.0
    if isinstance(operator, Floor):
        return bound_at(term.vector, operator.bound, layer), math.inf
    if isinstance(operator, Cap):
        return -math.inf, bound_at(term.vector, operator.bound, layer)
    assert isinstance(operator, Clamp)
    low, high = bound_at(term.vector, operator.low, layer), bound_at(term.vector, operator.high, layer)
    if low > high:
        raise SteeringError(f"{term} clamps from {low:.3g} up to {high:.3g} at layer {layer}", fix="swap the bounds")
    return low, high


def bound_at(vector: ControlVector, bound: Bound, layer: int) -> float:
    """A bound as a projection on the direction of one layer.

    Raises:
        SteeringError: It is relative to neutral text, and the vector has no neutral statistics there.
    """
    if bound.unit == "projection":
        return bound.value
    if vector.neutral is None or layer not in vector.neutral.percentiles:
        raise SteeringError(
            f"{vector.behaviour.name!r} has no neutral statistics at layer {layer}, by which {bound} would be a number",
            fix="train it again, or measure them with trimtab.calibrate(model, vector)",
        )
    if bound.unit == "percentile":
        return float(np.interp(bound.value, PERCENTS, vector.neutral.percentiles[layer]))
    return vector.neutral.token.mean[layer] + bound.value * vector.neutral.token.deviation[layer]
