"""Writing steerings in their text form: what ``expression`` reads back as the same values."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from trimtab.steering.conditions import AllOf, AnyOf, Comparison, Condition, FalsePositives, Not
from trimtab.steering.operators import Add, Cap, Clamp, Floor, Operator, Rotate, operator_name
from trimtab.steering.syntax import name_text, number_text, quoted_text

if TYPE_CHECKING:
    from trimtab.steering.scopes import Part, Scope
    from trimtab.steering.steering import Term

_SIGNS = {"above": ">", "below": "<"}
SHORTEST_RANGE = 3  # layers in a row that are written as 14-16


def format_term(term: Term) -> str:
    """A term as text.

    Example:
        >>> format_term(Term(happy, 0.8, tokens="generated"))  # doctest: +SKIP
        'happy:0.8@generated'
    """
    text = _body(term)
    if not term.tokens.is_all:
        text += f"@{format_scope(term.tokens)}"
    if term.condition is not None:
        text += f" when {format_condition(term.condition)}"
    return text


def format_scope(scope: Scope) -> str:
    """A scope as text.

    Example:
        >>> from trimtab.steering import Scope
        >>> format_scope(Scope.of("generated,first 8"))
        'generated, first 8'
    """
    items = [_part(part) for part in scope.parts]
    if scope.schedule is not None:
        items.append(f"{scope.schedule.kind} {number_text(scope.schedule.tokens)}")
    return ", ".join(items) or "all"


def format_condition(condition: Condition) -> str:
    """A condition as text, with no more parentheses than it needs."""
    if isinstance(condition, Comparison):
        return _comparison(condition)
    if isinstance(condition, Not):
        return f"not {_inside(condition.part, condition)}"
    word = " and " if isinstance(condition, AllOf) else " or "
    return word.join(_inside(part, condition) for part in condition.parts)


def _inside(part: Condition, whole: Condition) -> str:
    """``and`` binds closer than ``or``, ``not`` closer than both; what would run together keeps parentheses."""
    loose = isinstance(part, AnyOf) or (isinstance(part, AllOf) and not isinstance(whole, AnyOf))
    return f"({format_condition(part)})" if loose else format_condition(part)


def _comparison(comparison: Comparison) -> str:
    threshold = comparison.threshold
    limit = f"fpr {_percent(threshold.rate)}" if isinstance(threshold, FalsePositives) else number_text(threshold)
    until = "" if comparison.release is None else f" until {number_text(comparison.release)}"
    at = "" if comparison.at == "prompt" else f" at {comparison.at}"
    return f"{name_text(comparison.name)} {_SIGNS[comparison.side]} {limit}{until}{at}"


def _percent(rate: float) -> str:
    """A share in percent, such that the same share is read back."""
    text = format(Decimal(repr(float(rate))).scaleb(2), "f")
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}%"


def _body(term: Term) -> str:
    vector = name_text(term.name) + _layers(term)
    if term.coefficient is not None:
        amount = f":coefficient={number_text(term.coefficient)}"
    else:
        amount = "" if term.strength is None else f":{number_text(term.strength)}"
    operator = term.operator
    if operator == Add():
        return vector + amount
    return f"{operator_name(operator)}({', '.join((vector, *_arguments(operator)))}){amount}"


def _arguments(operator: Operator) -> tuple[str, ...]:
    if isinstance(operator, (Floor, Cap)):
        return (str(operator.bound),)
    if isinstance(operator, Clamp):
        bounds = (operator.low,) if operator.low == operator.high else (operator.low, operator.high)
        return tuple(map(str, bounds))
    if isinstance(operator, Rotate) and operator.degrees is not None:
        return (f"{number_text(operator.degrees)}deg",)
    return ()


def _layers(term: Term) -> str:
    if term.layers is None:
        return ""
    if isinstance(term.layers, str):
        return f"[{term.layers}]"
    runs: list[list[int]] = []
    for layer in term.layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return f"[{','.join(map(_run, runs))}]"


def _run(layers: list[int]) -> str:
    if len(layers) >= SHORTEST_RANGE:
        return f"{layers[0]}-{layers[-1]}"
    return ",".join(map(str, layers))


def _part(part: Part) -> str:
    if part.kind in ("after", "before"):
        return f"{part.kind}:{quoted_text(part.text)}"
    return f"{part.kind} {part.count}" if part.kind in ("first", "from") else part.kind
