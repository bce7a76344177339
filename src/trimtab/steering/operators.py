"""Operators that a term applies to a hidden state ``h`` along its direction ``u``.

| operator | result | law |
|---|---|---|
| ``Add()`` | ``h + a`` | adds commute, and add up |
| ``Add(preserve_norm=True)`` | ``(h + a)`` at the length of ``h`` | keeps ‖h‖ |
| ``Ablate()`` | ``h - (h·u) u`` | idempotent; equal to ``Clamp`` at 0 |
| ``Floor(b)`` | projection raised to ``b`` where it is below | idempotent; two make the higher one |
| ``Cap(b)`` | projection lowered to ``b`` where it is above | idempotent; two make the lower one |
| ``Clamp(b, c)`` | projection moved into ``b … c`` | ``Floor(b)`` and ``Cap(c)`` in either order; idempotent |
| ``Rotate(angle)`` | ``h`` turned towards ``u`` in their plane | keeps ‖h‖; angles add up until ``u`` is reached |

A steering applies its terms in their order. Operators other than adding do not commute in general.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias, final, get_args

from trimtab.errors import SteeringError
from trimtab.steering.syntax import check_word, number_text

BoundUnit: TypeAlias = Literal["projection", "percentile", "z"]


@final
@dataclass(frozen=True)
class Bound:
    """Bound of the projection on a vector's direction, which becomes a number for each layer.

    Attributes:
        value: The number.
        unit: ``"projection"``: as it is, the same at every layer; ``"percentile"``: 0 to 100, of the projections of
            neutral text on that layer's direction; ``"z"``: standard deviations from their mean.
    """

    value: float
    unit: BoundUnit = "projection"

    def __post_init__(self) -> None:
        check_word("unit", self.unit, get_args(BoundUnit))
        if not math.isfinite(self.value):
            raise SteeringError(f"the bound {self.value} is not a number", fix="give a finite number")
        if self.unit == "percentile" and not 0 <= self.value <= 100:
            raise SteeringError(f"there is no percentile {self.value:g}", fix="give 0% to 100%")

    def __str__(self) -> str:
        return number_text(self.value) + {"projection": "", "percentile": "%", "z": "z"}[self.unit]


@final
@dataclass(frozen=True)
class Add:
    """Add the direction; with ``preserve_norm`` the state is then brought back to its own length."""

    preserve_norm: bool = False


@final
@dataclass(frozen=True)
class Ablate:
    """Take the direction out of the state (Arditi et al. 2024, *Refusal is mediated by a single direction*)."""


@final
@dataclass(frozen=True)
class Floor:
    """Raise the projection where it is below a bound."""

    bound: Bound


@final
@dataclass(frozen=True)
class Cap:
    """Lower the projection where it is above a bound (activation capping)."""

    bound: Bound


@final
@dataclass(frozen=True)
class Clamp:
    """Move the projection into a range; equal bounds set it to a value."""

    low: Bound
    high: Bound

    def __post_init__(self) -> None:
        if self.low.unit == self.high.unit and self.low.value > self.high.value:
            raise SteeringError(f"cannot clamp from {self.low} up to {self.high}", fix="give the lower bound first")


@final
@dataclass(frozen=True)
class Rotate:
    """Turn the state towards the direction, or away from it, in the plane of the two; its length stays.

    Attributes:
        degrees: By how much; never past the direction or its opposite. None: by the term's strength, which must have
            been calibrated for turning.
    """

    degrees: float | None = None

    def __post_init__(self) -> None:
        if self.degrees is not None and not -180 <= self.degrees <= 180:
            raise SteeringError(f"cannot rotate by {self.degrees} degrees", fix="give an angle from -180 to 180")


ADD = Add()
Operator: TypeAlias = Add | Ablate | Floor | Cap | Clamp | Rotate

OPERATORS: dict[str, Callable[..., Operator]] = {
    "add": Add,
    "add_preserving_norm": partial(Add, preserve_norm=True),
    "ablate": Ablate,
    "floor": Floor,
    "cap": Cap,
    "clamp": Clamp,
    "rotate": Rotate,
}
"""The operators by their names in text and JSON."""

CALIBRATED = {name: OPERATORS[name]() for name in ("add", "add_preserving_norm", "rotate")}
"""The operators that have a strength, by name."""


def operator_name(operator: Operator) -> str:
    """Return the operator's name in text and JSON."""
    if isinstance(operator, Add):
        return "add_preserving_norm" if operator.preserve_norm else "add"
    return type(operator).__name__.lower()


def takes_amount(operator: Operator) -> bool:
    """Return True if a term of this operator has a strength or a coefficient."""
    return isinstance(operator, Add) or (isinstance(operator, Rotate) and operator.degrees is None)


def argument_texts(operator: Operator) -> tuple[str, ...]:
    """Return the operator's arguments in the text form."""
    if isinstance(operator, (Floor, Cap)):
        return (str(operator.bound),)
    if isinstance(operator, Clamp):
        bounds = (operator.low,) if operator.low == operator.high else (operator.low, operator.high)
        return tuple(map(str, bounds))
    if isinstance(operator, Rotate) and operator.degrees is not None:
        return (f"{number_text(operator.degrees)}deg",)
    return ()
