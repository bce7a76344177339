"""Steering: an ordered list of terms."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeGuard, cast

import numpy as np

from trimtab.errors import SteeringError, TrimtabError
from trimtab.steering.budget import predicted_kl, scale_to_budget
from trimtab.steering.compiled import CompiledSteering, compile_terms
from trimtab.steering.expression import parse_terms
from trimtab.steering.json_form import term_to_json, terms_from_json
from trimtab.steering.syntax import name_text, quoted_text
from trimtab.steering.term import FindVector, Term, check_terms
from trimtab.vectors import ControlVector, ModelInfo, find_vector

# Part of a steering and whole steering: values, the text form, the JSON form (parsed or not), strengths by name.
TermLike: TypeAlias = "Term | ControlVector | tuple[ControlVector | str, float] | str | Mapping[Any, Any]"
SteeringLike: TypeAlias = "Steering | TermLike | Sequence[TermLike] | None"
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
    def of(
        cls,
        given: SteeringLike,
        *,
        find: FindVector | None = None,
        normalize: float | None = None,
        paths: bool = True,
    ) -> Steering:
        """Return a steering from any form that a user may write.

        Args:
            given: Text such as ``"happy:0.5 + formal:-0.3@generated"``; pairs such as ``[(happy, 0.5)]`` or
                ``[("happy", 0.5)]``; a mapping such as ``{"happy": 0.5}``; terms; the JSON form, as text or parsed.
                The parts of a list add up.
            find: Finds the vectors that are named; the vectors folder if not given.
            normalize: Rescale it to this predicted KL in nats per token; see ``normalized``.
            paths: Whether ``find`` takes paths, so that an error may say how to quote one; False looks for no file.

        Raises:
            SteeringError: It is none of these, or does not read as text; the message points at the place.
            VectorError: A vector that is named cannot be found or read.
        """
        steering = cls(_terms(given, find or find_vector, paths))
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
    """Return True for a list of steerings, and False for one steering or a list of its terms."""
    if isinstance(given, (Steering, Term, ControlVector, str, Mapping)) or not isinstance(given, Sequence):
        return False
    if not given or _is_pair(given):
        return False
    return not any(isinstance(item, (Term, ControlVector)) or _is_pair(item) or _is_json_term(item) for item in given)


def _terms(given: object, find: FindVector, paths: bool) -> tuple[Term, ...]:
    if given is None:
        return ()
    if isinstance(given, Steering):
        return given.terms
    if isinstance(given, Term):
        return (given,)
    if isinstance(given, ControlVector):
        return (Term(given, given.default_strength),)  # as its name does without a strength
    if isinstance(given, str):
        return _terms_of_text(given, find, paths)
    if isinstance(given, Mapping):
        if _is_json_term(given):
            return terms_from_json([given], find=find)
        if isinstance(given.get("terms"), Sequence):
            return terms_from_json(dict(given), find=find)
        return tuple(_pair(vector, strength, find) for vector, strength in given.items())
    if _is_pair(given):
        return (_pair(*given, find),)
    if not isinstance(given, Sequence) or isinstance(given, (bytes, bytearray)):
        raise _not_a_steering(given)
    if given and all(map(_is_json_term, given)):
        return terms_from_json(list(given), find=find)  # whose errors name the place in the list
    for item in given:
        if not (isinstance(item, (Steering, Term, ControlVector, str, Mapping)) or _is_pair(item)):
            raise _not_a_steering(item)
    return tuple(term for item in given for term in _terms(item, find, paths))


def _terms_of_text(text: str, find: FindVector, paths: bool) -> tuple[Term, ...]:
    """Read the text form, or JSON, with whose first characters no text form begins."""
    if not text.lstrip().startswith(("{", "[")):
        try:
            return parse_terms(text, find=find)
        except TrimtabError as error:
            raise (_with_quoted_path(error, text) if paths else error) from None
    try:
        return _terms(json.loads(text), find, paths)
    except (ValueError, RecursionError):
        return terms_from_json(text, find=find)  # which says what is wrong with it


def _with_quoted_path(error: TrimtabError, text: str) -> TrimtabError:
    """Return an error that also says how to quote an existing file's path, if the text has one without quotes."""
    starts = [0, *(at + 1 for at, character in enumerate(text) if character == "+")]
    ends = [len(text), *(at for at, character in enumerate(text) if character in ":@[+")]
    for start in starts:
        for end in sorted((end for end in ends if end > start), reverse=True):
            path = text[start:end].strip()
            if path and name_text(path) != path and os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises
                return type(error)(error.problem, fix=f"write the path in double quotes: {quoted_text(path)}")
    return error


def _is_pair(item: object) -> TypeGuard[tuple[ControlVector | str, float]]:
    if not isinstance(item, Sequence) or isinstance(item, (str, bytes)) or len(item) != 2:
        return False
    return isinstance(item[0], (ControlVector, str)) and _is_number(item[1])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _is_json_term(item: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(item, Mapping) and isinstance(item.get("vector"), str)


def _pair(vector: object, strength: object, find: FindVector) -> Term:
    if not isinstance(vector, (ControlVector, str)) or not _is_number(strength):
        raise _not_a_steering({vector: strength})
    if isinstance(vector, str):
        return Term(find(vector), float(cast("float", strength)), name=vector)
    return Term(vector, float(cast("float", strength)))


def _not_a_steering(given: object) -> SteeringError:
    return SteeringError(
        f"{str(given)[:80]!r} is not a steering",
        fix="give text like 'happy:0.5', a list of (vector, strength), or {'happy': 0.5}",
    )
