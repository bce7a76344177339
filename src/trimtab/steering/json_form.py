"""Steerings from their JSON form, and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, cast

from pydantic import ValidationError

from trimtab.errors import SteeringError, TrimtabError
from trimtab.steering.conditions import AllOf, AnyOf, Comparison, Condition, FalsePositives, Not
from trimtab.steering.json_schema import (
    AddForm,
    AfterForm,
    AllForm,
    BeforeForm,
    BoundedForm,
    ClampForm,
    ComparisonForm,
    ConditionForm,
    DecayForm,
    FirstForm,
    LayersForm,
    NotForm,
    PartForm,
    RateForm,
    RotateForm,
    ScheduleForm,
    SteeringForm,
    TermForm,
    steering_schema,
)
from trimtab.steering.operators import Ablate, Add, Bound, Cap, Clamp, Floor, Operator, Rotate, operator_name
from trimtab.steering.scopes import Part, Schedule, Scope
from trimtab.steering.steering import Find, Layers, Steering, Term
from trimtab.steering.syntax import DEEPEST

__all__ = ["from_json", "steering_schema", "to_json"]

DEEPEST_JSON = 2 * DEEPEST + 8  # as deep as the text form: a list and an object for each "all" and "any"
_FIX = "docs/steering.md shows the JSON form"


# Reading ---------------------------------------------------------------------------------------------------------


def from_json(given: Any, *, find: Find) -> Steering:
    """A steering from its JSON form.

    Args:
        given: ``{"terms": [...]}``, a bare list of terms, or either as JSON text.
        find: Finds a vector by the name that stands there; asked once for each name.

    Raises:
        SteeringError: It is none; the message names the place, such as ``terms.2.when.above``.
        VectorError: A vector cannot be found; so does this.

    Example:
        >>> from_json([{"vector": "happy", "strength": 0.8}], find=find)  # doctest: +SKIP
    """
    if isinstance(given, (str, bytes, bytearray)):
        given = _document(given)
    if isinstance(given, (list, tuple)):
        given = {"terms": given}
    if _depth(given) > DEEPEST_JSON:
        raise _too_deep()
    try:
        form = SteeringForm.model_validate(given)
    except ValidationError as error:
        raise SteeringError(_first_problem(error), fix=_FIX) from None
    find, steering = cache(find), Steering()
    for index, part in enumerate(form.terms):
        term = _term(part, f"terms.{index}", find)
        with _blaming(f"terms.{index}"):
            steering += Steering((term,))
    return steering


def _document(text: str | bytes | bytearray) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # of the encoding, too
        raise SteeringError(f"the steering is not JSON: {error}", fix=_FIX) from None


def _depth(value: object) -> int:
    """How many lists and objects stand inside each other; counting ends after ``DEEPEST_JSON``."""
    level, depth = [value], 0
    while level and depth <= DEEPEST_JSON:
        inner = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list)))
        level, depth = [value for values in inner for value in values], depth + 1
    return depth


def _too_deep() -> SteeringError:
    return SteeringError(f"the steering has more than {DEEPEST_JSON} levels", fix="write its conditions flatter")


def _first_problem(error: ValidationError) -> str:
    """One line: the place, what is wrong, what was found; and how many more there are."""
    first, *rest = error.errors(include_url=False)
    places = [str(part) for part in first["loc"] if not str(part).startswith("<")]
    found = "" if first["type"] == "missing" else f" (found {str(first['input'])[:60]!r})"
    message = {"extra_forbidden": "is not known here", "missing": "is required but missing"}.get(
        first["type"], first["msg"].removeprefix("Value error, ")
    )
    more = f" [and {len(rest)} more]" if rest else ""
    return f"cannot read the steering at {'.'.join(places) or 'its top'}: {message}{found}{more}"


@contextmanager
def _blaming(place: str) -> Iterator[None]:
    """Whatever goes wrong inside comes from what stands at a place; its error will say so."""
    try:
        yield
    except TrimtabError as error:
        raise type(error)(f"in the steering at {place}: {error.problem}", fix=error.fix) from None


def _term(form: TermForm, place: str, find: Find) -> Term:
    with _blaming(f"{place}.vector"):
        vector = find(form.vector)
    operator = _operator(form, place)
    strength, coefficient = _amount(form)
    with _blaming(place):
        term = Term(vector, strength, coefficient, operator, name=form.vector)
    with _blaming(f"{place}.layers"):
        term = replace(term, layers=_layers(form.layers))
    with _blaming(f"{place}.tokens"):
        parts = [part for part in map(_part, form.tokens or ()) if part is not None]
        term = replace(term, tokens=Scope(tuple(parts), _schedule(form.schedule)))
    if form.when is None:
        return term
    condition = _condition(form.when, f"{place}.when", find)
    with _blaming(f"{place}.when"):
        return replace(term, condition=condition)


def _amount(form: TermForm) -> tuple[float | None, float | None]:
    """Strength and coefficient; strength 1 where nothing is said and one is needed."""
    if not isinstance(form, (AddForm, RotateForm)):
        return None, None
    whole = form.coefficient is None and not (isinstance(form, RotateForm) and form.degrees is not None)
    return 1.0 if form.strength is None and whole else form.strength, form.coefficient


def _operator(form: TermForm, place: str) -> Operator:
    if isinstance(form, AddForm):
        return Add(preserve_norm=form.operator == "add_preserving_norm")
    if isinstance(form, RotateForm):
        return Rotate(form.degrees)
    if isinstance(form, BoundedForm):
        bound = _bound(form.bound, f"{place}.bound")
        return Floor(bound) if form.operator == "floor" else Cap(bound)
    if isinstance(form, ClampForm):
        low, high = _bound(form.low, f"{place}.low"), _bound(form.high, f"{place}.high")
        with _blaming(f"{place}.high"):
            return Clamp(low, high)
    return Ablate()


def _bound(given: float | str, place: str) -> Bound:
    with _blaming(place):
        if isinstance(given, str):
            return Bound(float(given[:-1]), "percentile" if given.endswith("%") else "z")
        return Bound(given)


def _layers(given: LayersForm | None) -> Layers:
    return tuple(given) if isinstance(given, list) else given


def _part(form: PartForm) -> Part | None:
    """A part of a scope; None for ``"all"``."""
    if isinstance(form, str):
        return None if form == "all" else Part(form)
    if isinstance(form, AfterForm):
        return Part("after", text=form.after)
    if isinstance(form, BeforeForm):
        return Part("before", text=form.before)
    return Part("first", count=form.first) if isinstance(form, FirstForm) else Part("from", count=form.from_)


def _schedule(form: ScheduleForm | None) -> Schedule | None:
    if form is None:
        return None
    return Schedule("decay", form.decay) if isinstance(form, DecayForm) else Schedule("half-life", form.half_life)


def _condition(form: ConditionForm, place: str, find: Find) -> Condition:
    if isinstance(form, ComparisonForm):
        return _comparison(form, place, find)
    if isinstance(form, NotForm):
        return Not(_condition(form.not_, f"{place}.not", find))
    key, parts = ("all", form.all_) if isinstance(form, AllForm) else ("any", form.any_)
    joined = tuple(_condition(part, f"{place}.{key}.{index}", find) for index, part in enumerate(parts))
    if len(joined) == 1:
        return joined[0]
    return AllOf(joined) if key == "all" else AnyOf(joined)


def _comparison(form: ComparisonForm, place: str, find: Find) -> Comparison:
    given = form.above if form.above is not None else form.below
    threshold = FalsePositives(given.fpr) if isinstance(given, RateForm) else cast("float", given)
    with _blaming(f"{place}.vector"):
        vector = find(form.vector)
    with _blaming(place):
        return Comparison(
            vector, "below" if form.above is None else "above", threshold, form.at, form.until, form.vector
        )


# Writing ---------------------------------------------------------------------------------------------------------


def to_json(steering: Steering) -> dict[str, Any]:
    """The JSON form of a steering; vectors stand there by the names that they were given by.

    Example:
        >>> to_json(Steering())
        {'terms': []}
    """
    return {"terms": [_term_json(term) for term in steering.terms]}


def _term_json(term: Term) -> dict[str, Any]:
    written: dict[str, Any] = {"vector": term.name, "operator": operator_name(term.operator)}
    for name in ("strength", "coefficient"):
        if getattr(term, name) is not None:
            written[name] = float(getattr(term, name))
    written |= _arguments(term.operator)
    if term.layers is not None:
        written["layers"] = term.layers if isinstance(term.layers, str) else list(term.layers)
    if term.tokens.parts:
        written["tokens"] = [_part_json(part) for part in term.tokens.parts]
    if term.tokens.schedule is not None:
        written["schedule"] = {term.tokens.schedule.kind: float(term.tokens.schedule.tokens)}
    if term.condition is not None:
        written["when"] = _condition_json(term.condition)
    return written


def _arguments(operator: Operator) -> dict[str, Any]:
    if isinstance(operator, (Floor, Cap)):
        return {"bound": _bound_json(operator.bound)}
    if isinstance(operator, Clamp):
        return {"low": _bound_json(operator.low), "high": _bound_json(operator.high)}
    if isinstance(operator, Rotate) and operator.degrees is not None:
        return {"degrees": float(operator.degrees)}
    return {}


def _bound_json(bound: Bound) -> float | str:
    return float(bound.value) if bound.unit == "projection" else str(bound)


def _part_json(part: Part) -> str | dict[str, Any]:
    if part.kind in ("after", "before"):
        return {part.kind: part.text}
    return {part.kind: part.count} if part.kind in ("first", "from") else part.kind


def _condition_json(condition: Condition) -> dict[str, Any]:
    if isinstance(condition, Not):
        return {"not": _condition_json(condition.part)}
    if not isinstance(condition, Comparison):
        key = "all" if isinstance(condition, AllOf) else "any"
        return {key: [_condition_json(part) for part in condition.parts]}
    rate = condition.threshold.rate if isinstance(condition.threshold, FalsePositives) else None
    threshold = float(cast("float", condition.threshold)) if rate is None else {"fpr": rate}
    written = {"vector": condition.name, condition.side: threshold, "at": condition.at}
    return written if condition.release is None else {**written, "until": float(condition.release)}
