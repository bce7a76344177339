"""A steering: an ordered list of terms, and what it adds to each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import SteeringError
from trimtab.steering.expression import parse_expression
from trimtab.vectors import ControlVector, ModelInfo, find_vector


@dataclass(frozen=True)
class Term:
    """One vector and how strongly to apply it: by the calibrated ``strength``, or by a raw ``coefficient``."""

    vector: ControlVector
    strength: float | None = None
    coefficient: float | None = None

    def __post_init__(self) -> None:
        if (self.strength is None) == (self.coefficient is None):
            raise SteeringError("give a term either a strength or a coefficient", fix="one of the two, not both")

    def __str__(self) -> str:
        amount = f"{self.strength:g}" if self.strength is not None else f"coefficient {self.coefficient:g}"
        return f"{self.vector.behaviour.name}:{amount}"


SteeringLike: TypeAlias = "Steering | str | Sequence[Term | tuple[ControlVector, float]] | None"
RowsLike: TypeAlias = "SteeringLike | Sequence[SteeringLike]"


@dataclass(frozen=True)
class Steering:
    """What to apply in one request.

    Example:
        >>> Steering.of(None).terms
        ()
    """

    terms: tuple[Term, ...] = ()

    @classmethod
    def of(cls, given: SteeringLike) -> Steering:
        """A steering from whatever a user may write: a list of ``(vector, strength)``, or the text form.

        Raises:
            SteeringError: It is none of these.
            VectorError: A vector that the text names cannot be found or read.
        """
        if given is None:
            return cls()
        if isinstance(given, Steering):
            return given
        if isinstance(given, str):
            return cls(tuple(Term(find_vector(term.name), term.strength) for term in parse_expression(given)))
        if isinstance(given, Sequence):
            return cls(tuple(_term(item) for item in given))
        raise _not_a_steering(given)

    @classmethod
    def of_rows(cls, given: RowsLike, *, rows: int) -> tuple[Steering, ...]:
        """A steering for each row, from one for all of them or from a list with one for each.

        Raises:
            SteeringError: It is neither, or the list has another length.
            VectorError: A vector that a text names cannot be found or read.

        Example:
            >>> Steering.of_rows([None, []], rows=2)
            (Steering(terms=()), Steering(terms=()))
        """
        if not _is_one_for_each(given):
            return (cls.of(cast("SteeringLike", given)),) * rows
        each = cast("Sequence[SteeringLike]", given)
        if len(each) != rows:
            raise SteeringError(f"{len(each)} steerings for {rows} prompts", fix="give one steering, or one for each")
        texts = {item: cls.of(item) for item in each if isinstance(item, str)}  # a vector is read once
        return tuple(texts[item] if isinstance(item, str) else cls.of(item) for item in each)

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms)) or "none"

    def __add__(self, other: Steering) -> Steering:
        return Steering(self.terms + other.terms)

    def additions(self, model: ModelInfo) -> dict[int, NDArray[np.float32]]:
        """Layer to what is added to that block's output, ``[hidden]``; layers where the terms cancel are left out.

        Raises:
            VectorMismatchError: A vector belongs to another model.
            SteeringError: A strength is not finite, or the vector was never calibrated.
        """
        total: dict[int, NDArray[np.float32]] = {}
        for term in self.terms:
            term.vector.check_model(model)
            for layer, added in term.vector.addition(term.strength, coefficient=term.coefficient).items():
                total[layer] = total[layer] + added if layer in total else added
        return {layer: total[layer] for layer in sorted(total) if total[layer].any()}


def _is_one_for_each(given: object) -> bool:
    """Whether this is a list of steerings, and not the terms of one."""
    if isinstance(given, (Steering, str)) or not isinstance(given, Sequence) or not given:
        return False
    return not any(isinstance(item, (Term, ControlVector)) or _names_a_vector(item) for item in given)


def _names_a_vector(item: object) -> bool:
    return isinstance(item, Sequence) and any(isinstance(part, ControlVector) for part in item)


def _term(item: object) -> Term:
    if isinstance(item, Term):
        return item
    if isinstance(item, Sequence) and len(item) == 2:
        vector, strength = item
        if isinstance(vector, ControlVector) and isinstance(strength, (int, float, np.number)):
            return Term(vector, float(strength))
    raise _not_a_steering(item)


def _not_a_steering(given: object) -> SteeringError:
    return SteeringError(
        f"{str(given)[:80]!r} is not a steering",
        fix="give a list of (vector, strength) or text like 'happy:0.8'",
    )
