"""Compiled steering: the change that each term makes to each layer, as numpy arrays.

A steering is compiled once, whatever batches it is applied to later. The result depends on no engine and needs no
torch; it can be pickled, and equal steerings have equal digests.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias, final

import numpy as np

from trimtab.arrays import F32, ArrayValue, digest_of, read_only
from trimtab.errors import SteeringError
from trimtab.steering.conditions import Comparison, Condition, comparisons
from trimtab.steering.operators import Ablate, Add, Bound, Cap, Clamp, Floor, Rotate, operator_name
from trimtab.steering.scopes import ALL, Scope
from trimtab.steering.term import Term
from trimtab.vectors import PERCENTS, BeyondSafe, ControlVector


@final
@dataclass(frozen=True, eq=False)
class LayerAdd(ArrayValue):
    """``h + added``; with ``preserve_norm`` scaled to the length of ``h``."""

    added: F32
    preserve_norm: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "added", read_only(self.added))

    def _content(self) -> Iterable[bytes]:
        return self.added.tobytes(), bytes([self.preserve_norm])


@final
@dataclass(frozen=True, eq=False)
class LayerClamp(ArrayValue):
    """``h + (clip(p, low, high) - p) · direction``, where ``p = h · direction``."""

    direction: F32
    low: float
    high: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", read_only(self.direction))

    def _content(self) -> Iterable[bytes]:
        return self.direction.tobytes(), np.array([self.low, self.high]).tobytes()


@final
@dataclass(frozen=True, eq=False)
class LayerRotate(ArrayValue):
    """``h`` rotated by ``radians`` towards ``direction``, at most until it lies along it; away where negative."""

    direction: F32
    radians: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "direction", read_only(self.direction))

    def _content(self) -> Iterable[bytes]:
        return self.direction.tobytes(), np.float64(self.radians).tobytes()


Change: TypeAlias = LayerAdd | LayerClamp | LayerRotate


@final
@dataclass(frozen=True, eq=False)
class CompiledTerm(ArrayValue):
    """Term with its changes worked out."""

    text: str  # the term in the text form
    changes: Mapping[int, Change]  # layer to the change of its output; layers that are not changed are left out
    scope: Scope = ALL  # the tokens that it acts on
    condition: Condition | None = None  # None: always
    beyond_safe: BeyondSafe | None = None  # by what it exceeds the safe range of its vector; a receipt says so

    def __post_init__(self) -> None:
        changes = {layer: self.changes[layer] for layer in sorted(self.changes)}
        object.__setattr__(self, "changes", MappingProxyType(changes))

    @cached_property
    def effect_digest(self) -> str:
        """Return the SHA-256 of the changes, whatever their text form, scope and condition."""
        return digest_of(*(f"{layer} {change.digest}".encode() for layer, change in self.changes.items()))

    def _content(self) -> Iterable[bytes]:
        yield self.text.encode()
        yield repr(self.scope).encode()
        yield str(self.condition).encode()
        for comparison in () if self.condition is None else comparisons(self.condition):
            yield from _comparison_content(comparison)
        for layer, change in self.changes.items():
            yield f"{layer} {change.digest}".encode()
        if self.beyond_safe is not None:
            yield str(self.beyond_safe).encode()


@final
@dataclass(frozen=True)
class CompiledSteering:
    """Compiled terms of a steering, in the order in which they act.

    Example:
        >>> NONE.terms, NONE.layers
        ((), ())
    """

    terms: tuple[CompiledTerm, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of everything that decides the effect of the steering, and of its text form."""
        return digest_of(*(term.digest.encode() for term in self.terms))

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the layers that are changed, in order."""
        return tuple(sorted({layer for term in self.terms for layer in term.changes}))

    @property
    def changes(self) -> dict[int, tuple[Change, ...]]:
        """Return layer to the changes that all terms make there, in the order in which they act."""
        return {layer: tuple(t.changes[layer] for t in self.terms if layer in t.changes) for layer in self.layers}

    @property
    def is_plain(self) -> bool:
        """Return True if every term acts on all tokens, always."""
        return all(term.scope.is_all and term.condition is None for term in self.terms)

    def __str__(self) -> str:
        return " + ".join(term.text for term in self.terms) or "none"

    def __add__(self, other: CompiledSteering) -> CompiledSteering:
        return CompiledSteering(self.terms + other.terms)


NONE = CompiledSteering()
"""The compiled steering that does nothing."""


def compile_terms(terms: Iterable[Term]) -> CompiledSteering:
    """Compile terms.

    Raises:
        SteeringError: A strength is not finite, or a vector lacks a calibration or neutral statistics.
    """
    return CompiledSteering(
        tuple(CompiledTerm(str(term), _changes(term), term.tokens, term.condition, term.beyond_safe) for term in terms)
    )


def _comparison_content(comparison: Comparison) -> Iterable[bytes]:
    """Yield the bytes that decide a comparison: its threshold, and everything that the vector's readings depend on."""
    vector = comparison.vector
    yield np.float64(comparison.level).tobytes()
    neutral = None if vector.reading_neutral is None else asdict(vector.reading_neutral)
    reader = None if vector.reader is None else asdict(vector.reader)
    yield json.dumps([neutral, reader, vector.reading_layers]).encode()
    for layer in vector.reading_layers:
        yield vector.reading_directions[layer].tobytes()


def _changes(term: Term) -> dict[int, Change]:
    operator, vector = term.operator, term.vector
    given = None if term.layers is None else term.steered_layers or None  # a vector may have no layers at all
    if isinstance(operator, Add):
        added = vector.addition(
            term.strength, coefficient=term.coefficient, layers=given, operator=operator_name(operator)
        )
        return {layer: LayerAdd(change, operator.preserve_norm) for layer, change in added.items() if change.any()}
    if isinstance(operator, Rotate):
        if operator.degrees is not None:
            angles = dict.fromkeys(term.steered_layers, math.radians(operator.degrees))
        else:
            angles = vector.multipliers(
                term.strength, coefficient=term.coefficient, layers=given, operator=operator_name(operator)
            )
        return {layer: LayerRotate(vector.directions[layer], angle) for layer, angle in angles.items() if angle != 0.0}
    return {layer: LayerClamp(vector.directions[layer], *_range(term, layer)) for layer in term.steered_layers}


def _range(term: Term, layer: int) -> tuple[float, float]:
    """Return the lowest and the highest projection that a term leaves unchanged at a layer."""
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
    """Return a bound as a projection on the direction of one layer.

    Raises:
        SteeringError: It is relative to neutral text, and the vector has no neutral statistics there.
    """
    if bound.unit == "projection":
        return bound.value
    if vector.neutral is None or layer not in vector.neutral.percentiles:
        raise SteeringError(
            f"{vector.behaviour.name!r} has no neutral statistics at layer {layer}, which the bound {bound} refers to",
            fix="train it again, or measure them with trimtab.calibrate(model, vector)",
        )
    if bound.unit == "percentile":
        return float(np.interp(bound.value, PERCENTS, vector.neutral.percentiles[layer]))
    return vector.neutral.token.mean[layer] + bound.value * vector.neutral.token.deviation[layer]
