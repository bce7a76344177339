"""A steering: an ordered list of terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from trimtab.errors import SteeringError, VectorMismatchError
from trimtab.steering.conditions import Condition, comparisons, with_vectors
from trimtab.steering.operators import ADD, Operator, operator_name, takes_amount
from trimtab.steering.plan import CompiledTerm, compile_term
from trimtab.steering.scopes import ALL, Scope
from trimtab.vectors import ControlVector, ModelInfo, find_vector

Layers: TypeAlias = Literal["all", "middle"] | tuple[int, ...] | None
Find: TypeAlias = Callable[[str], ControlVector]


@dataclass(frozen=True)
class Term:
    """One vector, and what is done with it where and when.

    Attributes:
        vector: The control vector.
        strength: By the calibrated dial. Only ``Add`` and ``Rotate`` take one, and they need one, or a coefficient.
        coefficient: Or by the raw multiplier.
        operator: What is done; adding if not given.
        layers: None: the vector's own; ``"all"`` that have a direction; ``"middle"``: the middle third; or a list.
        tokens: Which tokens; all if not given. The text form is taken too.
        condition: When; always if not given.
        name: How the vector was named; its behaviour's name if not given.

    Raises:
        SteeringError: The parts do not go together, or there are no such layers.

    Example:
        >>> Term(happy, 0.8, tokens="generated, first 8")  # doctest: +SKIP
    """

    vector: ControlVector
    strength: float | None = None
    coefficient: float | None = None
    operator: Operator = ADD
    layers: Layers = None
    tokens: Scope = ALL
    condition: Condition | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.tokens, str):
            object.__setattr__(self, "tokens", Scope.of(self.tokens))
        if self.layers is not None and not isinstance(self.layers, str):
            object.__setattr__(self, "layers", tuple(sorted({int(layer) for layer in self.layers})))
        given = (self.strength is not None) + (self.coefficient is not None)
        if takes_amount(self.operator) and given != 1:
            raise SteeringError("give a term either a strength or a coefficient", fix="one of the two, not both")
        if not takes_amount(self.operator) and given:
            raise SteeringError(
                f"{operator_name(self.operator)} has no strength", fix="it is whole; leave strength and coefficient out"
            )
        object.__setattr__(self, "name", self.name or self.vector.behaviour.name)
        _ = self.steered_layers
        check_one_model(self.vectors)

    @property
    def vectors(self) -> tuple[ControlVector, ...]:
        """The vector, and those that its condition reads."""
        read = () if self.condition is None else comparisons(self.condition)
        return (self.vector, *(comparison.vector for comparison in read))

    @property
    def steered_layers(self) -> tuple[int, ...]:
        """The layers that it acts on, in order.

        Raises:
            SteeringError: The model does not have them, or the vector has no direction there.
        """
        if self.layers is None:
            return self.vector.layers
        depth = self.vector.model.layers
        if self.layers == "all":
            return tuple(self.vector.directions)
        layers = middle_layers(depth) if self.layers == "middle" else self.layers
        called = self.name
        if isinstance(layers, str) or not layers:
            raise SteeringError(f"layers {layers!r} of {called!r} are not known", fix="use 'all', 'middle' or a list")
        for layer in layers:
            if not 0 <= layer < depth:
                raise SteeringError(f"there is no layer {layer}", fix=f"{called!r} is for layers 0 to {depth - 1}")
            if layer not in self.vector.directions:
                raise SteeringError(
                    f"{called!r} has no direction at layer {layer}",
                    fix=f"it has them at {', '.join(map(str, self.vector.directions))}",
                )
        return layers

    def __str__(self) -> str:
        from trimtab.steering.formatting import format_term

        return format_term(self)


SteeringLike: TypeAlias = "Steering | str | Sequence[Term | tuple[ControlVector, float]] | None"
RowsLike: TypeAlias = "SteeringLike | Sequence[SteeringLike]"


@dataclass(frozen=True)
class Steering:
    """What to apply in one request: terms, in the order in which they act.

    Raises:
        VectorMismatchError: Its vectors belong to different models.

    Example:
        >>> Steering.of(None).terms
        ()
    """

    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        check_one_model([vector for term in self.terms for vector in term.vectors])

    @classmethod
    def of(cls, given: SteeringLike, *, find: Find | None = None, normalize: float | None = None) -> Steering:
        """A steering from whatever a user may write: a list of terms or of ``(vector, strength)``, or the text form.

        Args:
            given: Such as ``[(happy, 0.8)]`` or ``"happy:0.8 + formal:-0.3@generated"``.
            find: Finds the vectors that a text names; the vectors folder if not given.
            normalize: Rescale it so that it is predicted to spend so many nats per token; see ``normalized``.

        Raises:
            SteeringError: It is none of these, or does not read as text; the message points at the place.
            VectorError: A vector that the text names cannot be found or read.
        """
        steering = cls._of(given, find)
        return steering if normalize is None else steering.normalized(normalize)

    @classmethod
    def _of(cls, given: SteeringLike, find: Find | None) -> Steering:
        if given is None:
            return cls()
        if isinstance(given, Steering):
            return given
        if isinstance(given, str):
            from trimtab.steering.expression import parse_steering

            return parse_steering(given, find=find or find_vector)
        if isinstance(given, Term):
            return cls((given,))
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

    @classmethod
    def from_json(cls, given: Any, *, find: Find | None = None) -> Steering:
        """A steering from its JSON form, a dict or text; docs/steering.schema.json describes it.

        Raises:
            SteeringError: It is not one; the message points at the place.
            VectorError: A vector cannot be found or read.
        """
        from trimtab.steering.json_form import from_json

        return from_json(given, find=find or find_vector)

    def to_json(self) -> dict[str, Any]:
        """The JSON form; vectors stand there by name."""
        from trimtab.steering.json_form import to_json

        return to_json(self)

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms)) or "none"

    def __add__(self, other: Steering) -> Steering:
        return Steering(self.terms + other.terms)

    def plan(self, model: ModelInfo) -> tuple[CompiledTerm, ...]:
        """What each term does to each layer.

        Raises:
            VectorMismatchError: A vector belongs to another model.
            SteeringError: A strength is not finite, or the vector lacks what the term asks of it.
        """
        for term in self.terms:
            for vector in term.vectors:
                vector.check_model(model)
        return tuple(map(compile_term, self.terms))

    def budget(self) -> float:
        """The KL that it is predicted to spend, in nats per token; see ``trimtab.steering.meter``.

        Scopes and conditions are left out of account, so it is what it spends where everything acts.

        Raises:
            SteeringError: A term was never calibrated for what it does, so nothing is known of its price.
        """
        from trimtab.steering.meter import predicted_kl

        return predicted_kl(self)

    def normalized(self, budget: float) -> Steering:
        """The same mix, with all strengths multiplied so that it is predicted to spend ``budget`` nats per token.

        Raises:
            SteeringError: Its price cannot be predicted, or it spends nothing.
        """
        from trimtab.steering.meter import normalized

        return normalized(self, budget)

    def for_any_model(self) -> Steering:
        """The same with vectors that every model of their width and depth accepts."""
        freed = {id(vector): vector.for_any_model() for term in self.terms for vector in term.vectors}
        return Steering(tuple(_with_vectors(term, freed) for term in self.terms))


def middle_layers(depth: int) -> tuple[int, ...]:
    """The middle third of a model's blocks.

    Example:
        >>> middle_layers(6)
        (2, 3)
    """
    third = max(1, round(depth / 3))
    start = (depth - third) // 2
    return tuple(range(start, start + third))


def check_one_model(vectors: Sequence[ControlVector]) -> None:
    """Refuse vectors that do not all belong to one model.

    Raises:
        VectorMismatchError: Two differ in width, depth or weights.
    """
    first: ControlVector | None = None
    for vector in vectors:
        if first is not None:
            check_same_model(first, vector)
        if first is None or not first.model.fingerprint:  # any model of its size: it tells nothing of the others
            first = vector


def check_same_model(a: ControlVector, b: ControlVector) -> None:
    """Refuse two vectors that cannot belong to one model.

    Raises:
        VectorMismatchError: They differ in width, depth or weights.
    """
    sizes = {(vector.model.hidden_size, vector.model.layers) for vector in (a, b)}
    prints = {vector.model.fingerprint for vector in (a, b)} - {""}
    if len(sizes) > 1 or len(prints) > 1:
        raise VectorMismatchError(
            f"{a.behaviour.name!r} is for {a.model.name}, {b.behaviour.name!r} for {b.model.name}",
            fix="steer by vectors of one model",
        )


def _with_vectors(term: Term, vectors: Mapping[int, ControlVector]) -> Term:
    """The same term of other vectors, by the ``id`` of those that they take the place of."""
    condition = None if term.condition is None else with_vectors(term.condition, vectors)
    return replace(term, vector=vectors[id(term.vector)], condition=condition)


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
