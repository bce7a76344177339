"""The text form of a steering: ``happy:0.8 + formal:-0.3``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trimtab.errors import SteeringError

_NAME = re.compile(r"((?:[A-Za-z]:[\\/])?[^:+]+?)\s*(?=[:+]|$)")
_NUMBER = re.compile(r"\s*:\s*([+-]?[^\s+:]*[eE][+-]\d+|[+-]?[^\s+:]*)\s*")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class ExpressionTerm:
    """A vector's name or path, and its strength."""

    name: str
    strength: float


def parse_expression(text: str) -> tuple[ExpressionTerm, ...]:
    """Read ``NAME[:STRENGTH] + NAME[:STRENGTH] …``; a strength that is left out is 1.

    Raises:
        SteeringError: It does not read so; the message points at the column.

    Example:
        >>> parse_expression("happy:0.8 + formal:-0.3")[1]
        ExpressionTerm(name='formal', strength=-0.3)
    """
    terms = []
    at = _after_space(text, 0)
    while True:
        name = _NAME.match(text, at)
        if name is None:
            raise _unreadable(text, at, "expected the name or path of a vector")
        number = _NUMBER.match(text, name.end())
        terms.append(ExpressionTerm(name[1], _strength(text, number) if number else 1.0))
        at = _after_space(text, (number or name).end())
        if at == len(text):
            return tuple(terms)
        if text[at] != "+":
            raise _unreadable(text, at, "expected '+' and another vector")
        at = _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _strength(text: str, number: re.Match[str]) -> float:
    try:
        return float(number[1])
    except ValueError:
        raise _unreadable(text, number.start(1), f"expected a strength, found {number[1]!r}") from None


def _unreadable(text: str, at: int, why: str) -> SteeringError:
    return SteeringError(
        f"cannot read the steering {text!r} at column {at + 1}: {why}",
        fix="write it like 'happy:0.8 + formal:-0.3'",
    )
