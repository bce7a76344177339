"""Steering: an ordered list of terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, cast

import numpy as np

from trimtab.errors import SteeringError
from trimtab.steering.budget import predicted_kl, scale_to_budget
from trimtab.steering.compiled import CompiledSteering, compile_terms
from trimtab.steering.expression import parse_terms
from trimtab.steering.json_form import term_to_json, terms_from_json
from trimtab.steering.term import FindVector, Term, check_terms
from trimtab.vectors import ControlVector, ModelInfo, find_vector

SteeringLike: TypeAlias = "Steering | str | Sequence[Term | tuple[ControlVector, float]] | None"
RowsLike: TypeAlias = "SteeringLike | Sequence[SteeringLike]"


@dataclass(frozen=True)
class Steering:
    """Steering of one request: terms, in the order in which they act.

    Raises:
        VectorMismatchError: Its vectors belong to different models.

    Example:
        >>> Steering.of(None).terms
        ()
    """

    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        check_terms(self.terms)

    @classmethod
    def of(cls, given: SteeringLike, *, find: FindVector | None = None, normalize: float | None = None) -> Steering:
        """Return a steering from a list of terms or of ``(vector, strength)``, or from the text form.

        Args:
            given: Such as ``[(happy, 0.8)]`` or ``"happy:0.8 + formal:-0.3@generated"``.
            find: Finds the vectors that a text names; the vectors folder if not given.
            normalize: Rescale it to this predicted KL in nats per token; see ``normalized``.

        Raises:
            SteeringError: It is none of these, or does not read as text; the message points at the place.
            VectorError: A vector that the text names cannot be found or read.
        """
        if isinstance(given, Steering):
            steering = given
        elif isinstance(given, str):
            steering = cls(parse_terms(given, find=find or find_vector))
        else:
            items = () if given is None else (given,) if isinstance(given, Term) else given
            if not isinstance(items, Sequence):
                raise _not_a_steering(given)
            steering = cls(tuple(map(_term, items)))
        return steering if normalize is None else steering.normalized(normalize)

    @classmethod
    def of_rows(cls, given: RowsLike, *, rows: int) -> tuple[Steering, ...]:
        """Return a steering for each row, from one for all of them or from a list with one for each.

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

    @classmethod
    def from_json(cls, given: Any, *, find: FindVector | None = None) -> Steering:
        """Return a steering from its JSON form, a dict or text; docs/steering.schema.json describes it.

        Raises:
            SteeringError: It is not one; the message points at the place.
            VectorError: A vector cannot be found or read.
        """
        return cls(terms_from_json(given, find=find or find_vector))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, which names the vectors."""
        return {"terms": [term_to_json(term) for term in self.terms]}

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms)) or "none"

    def __add__(self, other: Steering) -> Steering:
        return Steering(self.terms + other.terms)

    def compile(self, model: ModelInfo) -> CompiledSteering:
        """Return the change that each term makes to each layer.

        Raises:
            VectorMismatchError: A vector belongs to another model.
            SteeringError: A strength is not finite, or a vector lacks a calibration or neutral statistics.
        """
        for term in self.terms:
            for vector in term.vectors:
                vector.check_model(model)
        return compile_terms(self.terms)

    def budget(self) -> float:
        """Return the KL that it is predicted to spend, in nats per token; see ``trimtab.steering.budget``.

        Scopes and conditions are ignored, so this is the KL where every term acts.

        Raises:
            SteeringError: A term was never calibrated for its operator.
        """
        return predicted_kl(self.terms)

    def normalized(self, budget: float) -> Steering:
        """Return the mix with strengths scaled so that it is predicted to spend ``budget`` nats per token.

        Raises:
            SteeringError: Its KL cannot be predicted, or is 0.
        """
        return Steering(scale_to_budget(self.terms, budget))

    def for_any_model(self) -> Steering:
        """Return the same steering with vectors that every model of their width and depth accepts."""
        accepted = cache(ControlVector.for_any_model)  # terms that share a vector still do
        return Steering(tuple(term.map_vectors(accepted) for term in self.terms))


def _is_one_for_each(given: object) -> bool:
    """Return True for a list of steerings, and False for the terms of one."""
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
