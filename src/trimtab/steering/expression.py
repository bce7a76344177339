"""Text form of a steering: ``happy:0.5 + cap(assistant, 25%)@generated when anger > 2``; see docs/steering.md.

    steering   := element ('+' element)*
    element    := term | '(' steering ')' ['when' condition]
    term       := body ['@' scope] ['when' condition]
    body       := vector [':' amount] | OPERATOR '(' vector [',' arguments] ')' [':' amount]
    vector     := NAME ['[' layers ']']
    scope      := item (',' item)*
    condition  := all ('or' all)*
    all        := one ('and' one)*
    one        := 'not' one | '(' condition ')' | comparison
    comparison := NAME ('>' | '<' | 'above' | 'below') threshold ['until' NUMBER] ['at' WHERE]

Words of the language are reserved only where the grammar allows them; any name can be written in double quotes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import TypeAlias, cast, get_args

from trimtab.steering.conditions import AllOf, AnyOf, At, Comparison, Condition, FalsePositives, Not, Side
from trimtab.steering.operators import ADD, OPERATORS, Bound, BoundUnit, Operator, takes_amount
from trimtab.steering.scopes import read_scope
from trimtab.steering.syntax import Cursor, one_of, percent_of
from trimtab.steering.term import FindVector, Layers, Term, check_terms
from trimtab.vectors import ControlVector

_UNITS: dict[str, BoundUnit] = {"": "projection", "%": "percentile", "z": "z"}
_SIDES: dict[str, Side] = {">": "above", "<": "below", "above": "above", "below": "below"}
_COEFFICIENT = re.compile(r"coefficient\s*=")
_LAYERS = re.compile(r"([0-9]{1,4})(?:\s*-\s*([0-9]{1,4}))?")

Placed: TypeAlias = tuple[int, Term]  # a term and its column


def parse_terms(text: str, *, find: FindVector) -> tuple[Term, ...]:
    """Read the terms of a steering.

    Args:
        text: The text form; ``"none"`` has no terms.
        find: Finds a vector by its name; called once for each name.

    Raises:
        SteeringError: The text is not a steering; the message points at the column.
        VectorError: A vector cannot be found; the message points at the column.

    Example:
        >>> parse_terms("happy:0.5 + ablate(refusal)", find=find)  # doctest: +SKIP
    """
    cursor = Cursor(text)
    if text.strip() == "none":
        return ()
    placed = _steering(cursor, cache(find))
    if cursor.skip() < len(text):
        raise cursor.error(_expected_here(cursor))
    terms = [term for _, term in placed]
    for number, (at, _) in enumerate(placed):
        with cursor.blaming(at):
            check_terms(terms[: number + 1])
    return tuple(terms)


def parse_condition(text: str, *, find: FindVector) -> Condition:
    """Read a condition, such as ``"angry > 1 at last-user-turn"``.

    Raises:
        SteeringError: The text is not a condition; the message points at the column.
        VectorError: A vector cannot be found; the message points at the column.
    """
    cursor = Cursor(text, what="condition", example="angry > 1 at last-user-turn")
    condition = _condition(cursor, cache(find))
    if cursor.skip() < len(text):
        raise cursor.error("expected 'and', 'or' or the end")
    return condition


def _expected_here(cursor: Cursor) -> str:
    if cursor.next == ")":
        return "this ')' closes nothing"
    if cursor.next == "(":
        return "no operator's name is directly before this '('"
    return "expected '+' and another vector"


def _steering(cursor: Cursor, find: FindVector) -> list[Placed]:
    terms = _element(cursor, find)
    while cursor.take("+"):
        terms += _element(cursor, find)
    return terms


def _element(cursor: Cursor, find: FindVector) -> list[Placed]:
    start = cursor.skip()
    if not cursor.take("("):
        return _when(cursor, [(start, _term(cursor, find))], find)
    with cursor.nested(start):
        terms = _steering(cursor, find)
    cursor.expect(")", "expected '+' and another vector, or ')'")
    if cursor.skip() < len(cursor.text) and cursor.next in "@:[":
        raise cursor.error(f"{cursor.next!r} belongs to a single term", fix="write it at each term of the group")
    return _when(cursor, terms, find)


def _term(cursor: Cursor, find: FindVector) -> Term:
    term = _body(cursor, find)
    return replace(term, tokens=read_scope(cursor)) if cursor.take("@") else term


def _when(cursor: Cursor, terms: list[Placed], find: FindVector) -> list[Placed]:
    """Return the terms, each with the condition that follows them as a further one."""
    if not cursor.word("when"):
        return terms
    at = cursor.skip()
    condition = _condition(cursor, find)
    with cursor.blaming(at):
        return [(start, _with_condition(term, condition)) for start, term in terms]


def _with_condition(term: Term, condition: Condition) -> Term:
    if term.condition is not None:
        condition = AllOf((*_parts_of_all(term.condition), *_parts_of_all(condition)))
    return replace(term, condition=condition)


def _parts_of_all(condition: Condition) -> tuple[Condition, ...]:
    return condition.parts if isinstance(condition, AllOf) else (condition,)


def _body(cursor: Cursor, find: FindVector) -> Term:
    start = cursor.at
    name = cursor.name()
    operator: Operator = ADD
    if cursor.next == "(" and not name.quoted:
        kind = name.text
        if kind not in OPERATORS:
            raise cursor.error(f"there is no operator {kind!r}", at=start, fix=one_of(kind, list(OPERATORS)))
        cursor.take("(")
        start = cursor.skip()
        name = cursor.name()
        layers_at, layers = _layers(cursor)
        operator = _operator(cursor, kind)
        cursor.expect(")", f"expected ')' after what {kind} takes")
    else:
        layers_at, layers = _layers(cursor)
    with cursor.blaming(start):
        vector = find(name.text)
    at, strength, coefficient = _amount(cursor)
    if takes_amount(operator) and strength is None and coefficient is None:
        with cursor.blaming(start):
            strength = vector.default_strength
    with cursor.blaming(start if at is None else at):
        term = Term(vector, strength, coefficient, operator, name=name.text)
    with cursor.blaming(layers_at):
        return replace(term, layers=layers)


def _amount(cursor: Cursor) -> tuple[int | None, float | None, float | None]:
    """Return the column of an amount, the strength and the coefficient."""
    if not cursor.take(":"):
        return None, None, None
    at = cursor.skip()
    if cursor.match(_COEFFICIENT):
        return at, None, cursor.number("coefficient").value
    return at, cursor.number("strength").value, None


def _layers(cursor: Cursor) -> tuple[int, Layers]:
    """Return the place of the layers, and the layers; None if not given."""
    at = cursor.skip()
    if not cursor.take("["):
        return at, None
    layers: Layers = cast("Layers", cursor.word("all", "middle")) or _listed_layers(cursor)
    cursor.expect("]", "expected ',' and more layers, or ']'")
    return at, layers


def _listed_layers(cursor: Cursor) -> tuple[int, ...]:
    layers: list[int] = []
    while True:
        at = cursor.skip()
        match = _LAYERS.fullmatch(cursor.match(_LAYERS))
        if not match:
            raise cursor.error("expected layers", at=at, fix="write them like [14-24], [8,12,16], [all] or [middle]")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise cursor.error(f"layers {first} to {last} are none", at=at, fix="give the lower layer first")
        layers += range(first, last + 1)
        if not cursor.take(","):
            return tuple(layers)


def _operator(cursor: Cursor, kind: str) -> Operator:
    """Return the operator, with the arguments that follow the vector."""
    arguments: list[object] = []
    at = cursor.at
    if kind in ("floor", "cap", "clamp"):
        arguments.append(_bound(cursor, kind))
        at = cursor.skip()
        if kind == "clamp":
            arguments.append(_bound(cursor, kind) if cursor.next == "," else arguments[0])
    elif kind == "rotate" and cursor.take(","):
        at = cursor.skip()
        arguments.append(cursor.number("angle", units=("°", "deg")).value)
    with cursor.blaming(at):
        return OPERATORS[kind](*arguments)


def _bound(cursor: Cursor, kind: str) -> Bound:
    if not cursor.take(","):
        raise cursor.error(f"{kind} needs a bound", fix=f"write it like {kind}(happy, 25%), or 3.5, or 1.5z")
    at = cursor.skip()
    number = cursor.number("bound", units=("%", "z"))
    with cursor.blaming(at):
        return Bound(number.value, _UNITS[number.unit])


def _condition(cursor: Cursor, find: FindVector) -> Condition:
    return _joined(cursor, "or", AnyOf, lambda: _joined(cursor, "and", AllOf, lambda: _one(cursor, find)))


def _joined(cursor: Cursor, word: str, kind: type[AllOf | AnyOf], read: Callable[[], Condition]) -> Condition:
    parts = [read()]
    while cursor.word(word):
        parts.append(read())
    return kind(tuple(parts)) if len(parts) > 1 else parts[0]


def _one(cursor: Cursor, find: FindVector) -> Condition:
    at = cursor.skip()
    if cursor.word("not"):
        with cursor.nested(at):
            return Not(_one(cursor, find))
    if cursor.take("("):
        with cursor.nested(at):
            inside = _condition(cursor, find)
        cursor.expect(")", "expected 'and', 'or' or ')'")
        return inside
    return _comparison(cursor, find)


def _comparison(cursor: Cursor, find: FindVector) -> Comparison:
    start = cursor.skip()
    name = cursor.name("expected the name or path of a vector to read")
    side = _side(cursor)
    if side is None:
        raise cursor.error("expected '>', '<', 'above' or 'below'", fix="write it like 'when anger > 2'")
    threshold = _threshold(cursor)
    at: At | None = None
    release: float | None = None
    while word := cursor.word("at", "until"):
        if word == "at" and at is None:
            at = cast("At | None", cursor.word(*get_args(At)) or None)
            if at is None:
                raise cursor.error("expected where it is read", fix=one_of(cursor.peek_word(), get_args(At)))
        elif word == "until" and release is None:
            release = _release(cursor, side)
        else:
            raise cursor.error(f"there is an {word!r} already", at=cursor.at - len(word))
    with cursor.blaming(start):
        vector: ControlVector = find(name.text)
        return Comparison(vector, side, threshold, at or "prompt", release, name.text)


def _side(cursor: Cursor) -> Side | None:
    word = next((mark for mark in "<>" if cursor.take(mark)), "") or cursor.word("above", "below")
    return _SIDES.get(word)


def _threshold(cursor: Cursor) -> float | FalsePositives:
    if not cursor.word("fpr"):
        return cursor.number("threshold", units=("z",)).value
    at = cursor.skip()
    rate = cursor.number("rate", units=("%",))
    if not rate.unit:
        raise cursor.error("a rate of false positives is given in percent", at=at, fix="write it like 'fpr 2%'")
    with cursor.blaming(at):
        return FalsePositives(percent_of(rate))


def _release(cursor: Cursor, side: Side) -> float:
    at = cursor.skip()
    if _side(cursor) == side:
        raise cursor.error(
            f"a condition that holds {side} a number is released on the other side",
            at=at,
            fix="leave the sign after 'until' out",
        )
    return cursor.number("threshold", units=("z",)).value
