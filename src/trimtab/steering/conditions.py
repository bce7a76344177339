"""Conditions: whether a term acts, decided by what the hidden states read on a vector.

A reading is a z-score: the projection on the vector's direction against that of neutral text, averaged over the layers
and tokens at which the vector is read (``ControlVector.reader``). Readings are of the model as it is without what the
condition decides about, and every row is decided separately.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, TypeAlias, final, get_args

from trimtab.errors import SteeringError
from trimtab.steering.syntax import check_word, name_text, number_text
from trimtab.vectors import ControlVector

At: TypeAlias = Literal["prompt", "token", "last-user-turn"]
Side: TypeAlias = Literal["above", "below"]


@final
@dataclass(frozen=True)
class FalsePositives:
    """Threshold given as the share of texts that pass it, among those of ``fit_threshold``."""

    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise SteeringError(f"{self.rate} is not a false-positive rate", fix="give one between 0% and 100%")

    def __str__(self) -> str:
        # In decimal, because 100 * rate rounds: the text must read back as the same share.
        text = format(Decimal(repr(float(self.rate))).scaleb(2), "f")
        return f"fpr {text.rstrip('0').rstrip('.') if '.' in text else text}%"


@final
@dataclass(frozen=True)
class Comparison:
    """``vector above|below threshold at …``.

    Attributes:
        vector: The vector that is read.
        side: ``"above"`` or ``"below"``.
        threshold: In z-units of the vector's neutral text; or a rate of false positives, for which it was fitted.
        at: ``"prompt"``: once, on the whole prompt; ``"last-user-turn"``: once, on the last user message;
            ``"token"``: at each generated token, on the hidden state from which it was predicted.
        release: For ``"token"``: once it holds, it holds until the reading is on the other side of this (hysteresis).
        name: Name of the vector as given; its behaviour's name if not given.

    Raises:
        SteeringError: The threshold is no number, or the vector has no neutral statistics or was not fitted.
    """

    vector: ControlVector
    side: Side
    threshold: float | FalsePositives
    at: At = "prompt"
    release: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.vector.behaviour.name)
        called = self.name
        check_word("side", self.side, get_args(Side))
        check_word("place to read", self.at, get_args(At))
        if not isinstance(self.threshold, FalsePositives) and not math.isfinite(self.threshold):
            raise SteeringError(f"the threshold {self.threshold} on {called!r} is not a number", fix="give a z-score")
        if self.vector.reading_neutral is None:
            raise SteeringError(
                f"{called!r} has no neutral statistics, so nothing can be read against them",
                fix="train it again, or measure them with trimtab.calibrate(model, vector)",
            )
        level = self.level  # raises where the vector was not fitted
        if self.release is None:
            return
        if self.at != "token":
            raise SteeringError(f"a condition at {self.at} is decided once", fix="leave 'until' out, or say 'at token'")
        gap = level - self.release if self.side == "above" else self.release - level
        if not (math.isfinite(self.release) and gap >= 0):
            raise SteeringError(
                f"{called!r} {self.side} {level:g} cannot hold until {self.release:g}",
                fix="let go below the threshold of 'above', or above that of 'below'",
            )

    @property
    def level(self) -> float:
        """Return the threshold as a z-score."""
        if isinstance(self.threshold, FalsePositives):
            return self.vector.fitted_threshold(self.threshold.rate, at=self.at, above=self.side == "above")
        return float(self.threshold)

    def holds(self, reading: float, *, held: bool = False) -> bool:
        """Return True if a reading meets the threshold; ``held`` if the previous one did."""
        level = self.release if held and self.release is not None else self.level
        return reading > level if self.side == "above" else reading < level

    def __str__(self) -> str:
        limit = self.threshold if isinstance(self.threshold, FalsePositives) else number_text(self.threshold)
        until = "" if self.release is None else f" until {number_text(self.release)}"
        at = "" if self.at == "prompt" else f" at {self.at}"
        return f"{name_text(self.name)} {'>' if self.side == 'above' else '<'} {limit}{until}{at}"


@dataclass(frozen=True)
class _Joined:
    parts: tuple[Condition, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise SteeringError(f"{len(self.parts)} conditions cannot be joined", fix="join two or more")
        object.__setattr__(self, "parts", tuple(self.parts))


@final
class AllOf(_Joined):
    """Conjunction of two or more conditions."""

    def __str__(self) -> str:
        return " and ".join(_part_text(part, loose=(AnyOf, AllOf)) for part in self.parts)


@final
class AnyOf(_Joined):
    """Disjunction of two or more conditions."""

    def __str__(self) -> str:
        return " or ".join(_part_text(part, loose=(AnyOf,)) for part in self.parts)


@final
@dataclass(frozen=True)
class Not:
    """Negation of a condition."""

    part: Condition

    def __str__(self) -> str:
        return f"not {_part_text(self.part, loose=(AnyOf, AllOf))}"


Condition: TypeAlias = Comparison | AllOf | AnyOf | Not


def comparisons(condition: Condition) -> Iterator[Comparison]:
    """Yield the comparisons of a condition, from left to right."""
    if isinstance(condition, Comparison):
        yield condition
    elif isinstance(condition, Not):
        yield from comparisons(condition.part)
    else:
        for part in condition.parts:
            yield from comparisons(part)


def map_vectors(condition: Condition, change: Callable[[ControlVector], ControlVector]) -> Condition:
    """Return the same condition on changed vectors."""
    if isinstance(condition, Comparison):
        return replace(condition, vector=change(condition.vector))
    if isinstance(condition, Not):
        return Not(map_vectors(condition.part, change))
    return type(condition)(tuple(map_vectors(part, change) for part in condition.parts))


def decide(condition: Condition, holds: dict[Comparison, bool]) -> bool:
    """Return True if a condition holds, given the outcome of each of its comparisons."""
    if isinstance(condition, Comparison):
        return holds[condition]
    if isinstance(condition, Not):
        return not decide(condition.part, holds)
    decided = [decide(part, holds) for part in condition.parts]
    return all(decided) if isinstance(condition, AllOf) else any(decided)


def _part_text(part: Condition, *, loose: tuple[type, ...]) -> str:
    """Write a part, in parentheses where it would otherwise be read as belonging to its neighbours."""
    return f"({part})" if isinstance(part, loose) else str(part)
