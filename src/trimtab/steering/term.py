"""Term of a steering: one vector, and what is done with it where and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from trimtab.errors import SteeringError, VectorMismatchError
from trimtab.steering.conditions import Condition, comparisons, map_vectors
from trimtab.steering.operators import ADD, Operator, argument_texts, operator_name, takes_amount
from trimtab.steering.scopes import ALL, Scope
from trimtab.steering.syntax import name_text, number_text
from trimtab.vectors import BeyondSafe, ControlVector
from trimtab.vectors.records import layer_range

Layers: TypeAlias = Literal["all", "middle"] | tuple[int, ...] | None
FindVector: TypeAlias = Callable[[str], ControlVector]
SHORTEST_RANGE = 3  # consecutive layers that are written as 14-16


@dataclass(frozen=True)
class Term:
    """One vector, and its operator, layers, tokens and condition.

    Attributes:
        vector: The control vector.
        strength: By the calibrated dial. Only ``Add`` and ``Rotate`` take one, and they need one, or a coefficient.
        coefficient: Or by the raw multiplier.
        operator: The operation; adding if not given.
        layers: None: the vector's own; ``"all"`` that have a direction; ``"middle"``: the middle third; or a list.
        tokens: Token scope, or its text form; all tokens if not given.
        condition: Condition under which it acts; always if not given.
        name: Name of the vector as given; its behaviour's name if not given.

    Raises:
        SteeringError: The parts do not go together, or there are no such layers.

    Example:
        >>> Term(happy, 0.5, tokens="generated, first 8")  # doctest: +SKIP
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
        check_terms((self,))

    @property
    def vectors(self) -> tuple[ControlVector, ...]:
        """Return the vector, and those that its condition reads."""
        read = () if self.condition is None else comparisons(self.condition)
        return (self.vector, *(comparison.vector for comparison in read))

    @property
    def steered_layers(self) -> tuple[int, ...]:
        """Return the layers that it acts on, in order.

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

    @property
    def amount(self) -> float | None:
        """Return the strength, or the coefficient; None for an operator that takes neither."""
        return self.coefficient if self.strength is None else self.strength

    @property
    def beyond_safe(self) -> BeyondSafe | None:
        """Return by what it exceeds the safe range of its vector; None inside, or where the range says nothing.

        The range was measured with one vector that is added at its own layers and at all tokens. So it says nothing
        about other operators, layers and scopes, nor about what several terms do together.
        """
        vector, amount = self.vector, self.amount
        if vector.safe is None or vector.scale is None or amount is None:
            return None
        if self.operator != ADD or self.layers is not None or not self.tokens.is_all:
            return None
        if self.strength is None:
            amount /= vector.scale["+" if amount >= 0 else "-"]
        return vector.safe.beyond(amount)

    def map_vectors(self, change: Callable[[ControlVector], ControlVector]) -> Term:
        """Return the same term on changed vectors, its condition's included."""
        condition = None if self.condition is None else map_vectors(self.condition, change)
        return replace(self, vector=change(self.vector), condition=condition)

    def __str__(self) -> str:
        text = self._operation_text()
        if not self.tokens.is_all:
            text += f"@{self.tokens}"
        if self.condition is not None:
            text += f" when {self.condition}"
        return text

    def _operation_text(self) -> str:
        vector = name_text(self.name) + _layers_text(self.layers)
        if self.coefficient is not None:
            amount = f":coefficient={number_text(self.coefficient)}"
        else:
            amount = "" if self.strength is None else f":{number_text(self.strength)}"
        if self.operator == ADD:
            return vector + amount
        return f"{operator_name(self.operator)}({', '.join((vector, *argument_texts(self.operator)))}){amount}"


def middle_layers(depth: int) -> tuple[int, ...]:
    """Return the middle third of a model's blocks.

    Example:
        >>> middle_layers(6)
        (2, 3)
    """
    third = max(1, round(depth / 3))
    start = (depth - third) // 2
    return tuple(range(start, start + third))


def check_terms(terms: Iterable[Term]) -> None:
    """Refuse terms whose vectors do not all belong to one model.

    Raises:
        VectorMismatchError: Two differ in width, depth or weights.
    """
    first: ControlVector | None = None
    for vector in (vector for term in terms for vector in term.vectors):
        if first is not None and not first.model.matches(vector.model):
            names = f"{first.behaviour.name!r} is for {first.model.name}, {vector.behaviour.name!r} for"
            raise VectorMismatchError(f"{names} {vector.model.name}", fix="steer by vectors of one model")
        if first is None or not first.model.fingerprint:  # a vector for any model of its size identifies none
            first = vector


def _layers_text(layers: Layers) -> str:
    if layers is None:
        return ""
    text = layers if isinstance(layers, str) else layer_range(layers, separator=",", shortest=SHORTEST_RANGE)
    return f"[{text}]"
