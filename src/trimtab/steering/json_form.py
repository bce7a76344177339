"""JSON form of a steering: the models that validate it, its JSON Schema, reading and writing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)

from trimtab.errors import SteeringError, TrimtabError
from trimtab.steering.conditions import AllOf, AnyOf, At, Comparison, Condition, FalsePositives, Not
from trimtab.steering.operators import Ablate, Add, Bound, Cap, Clamp, Floor, Operator, Rotate, operator_name
from trimtab.steering.scopes import Part, Schedule, Scope
from trimtab.steering.syntax import DEEPEST
from trimtab.steering.term import FindVector, Layers, Term, check_terms

DEEPEST_JSON = 2 * DEEPEST + 8  # as deep as the text form: a list and an object for each "all" and "any"
_FIX = "docs/steering.md shows the JSON form"

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Whole = Annotated[int, Field(strict=True, ge=0)]
Text = Annotated[str, StringConstraints(min_length=1)]
Relative = Annotated[
    str,
    StringConstraints(pattern=r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[%z]$"),
    Field(description="Relative to neutral text: a percentile such as 25%, or standard deviations such as 1.5z."),
]
_A_NUMBER = {"type": "number"}
PlainPart = Literal["all", "prompt", "generated", "system", "user", "assistant", "thinking", "answer"]


def _one_form(expected: str, *keys: str) -> Discriminator:
    """Tells the forms of a field apart by type, and objects by their key, so that an error speaks of one alone."""

    def form(value: object) -> str | None:
        if isinstance(value, dict):
            return next((f"<{key}>" for key in keys if key in value), "<object>")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return "<number>"
        return "<list>" if isinstance(value, (list, tuple)) else "<text>" if isinstance(value, str) else None

    return Discriminator(form, custom_error_type="form", custom_error_message=f"Input should be {expected}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RateForm(_Strict):
    """The threshold that a share of the texts passes on which the condition was fitted."""

    fpr: Annotated[float, Field(strict=True, gt=0, lt=1)]


Threshold = Annotated[
    Annotated[Number, Tag("<number>")] | Annotated[RateForm, Tag("<object>")],
    _one_form('a z-score or {"fpr": 0.02}'),
]


class ComparisonForm(_Strict):
    """Comparison of a reading with a threshold."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [side], "properties": {side: {"not": {"type": "null"}}, other: {"type": "null"}}}
                for side, other in (("above", "below"), ("below", "above"))
            ]
        }
    )
    vector: Text = Field(description="Name or path of the vector that is read.")
    above: Threshold | None = Field(default=None, description="It holds above this z-score; this or below is needed.")
    below: Threshold | None = Field(default=None, description="It holds below this z-score.")
    at: At = Field(default="prompt", description="Where it is read: once on the prompt, or at each token.")
    until: Number | None = Field(default=None, description="At token: once it holds, it does until past this.")

    @model_validator(mode="after")
    def _has_one_side(self) -> ComparisonForm:
        if (self.above is None) == (self.below is None):
            raise ValueError("give a comparison either 'above' or 'below'")
        return self


class AllForm(_Strict):
    """Every part holds."""

    all_: list[ConditionForm] = Field(alias="all", min_length=1)


class AnyForm(_Strict):
    """At least one part holds."""

    any_: list[ConditionForm] = Field(alias="any", min_length=1)


class NotForm(_Strict):
    """The part does not hold."""

    not_: ConditionForm = Field(alias="not")


ConditionForm: TypeAlias = Annotated[
    Annotated[ComparisonForm, Tag("<object>")]
    | Annotated[AllForm, Tag("<all>")]
    | Annotated[AnyForm, Tag("<any>")]
    | Annotated[NotForm, Tag("<not>")],
    _one_form('a condition such as {"vector": "anger", "above": 2}', "all", "any", "not"),
]


class FirstForm(_Strict):
    """The first generated tokens."""

    first: Annotated[Whole, Field(ge=1)]


class FromForm(_Strict):
    """Generated tokens from a number on; the first one has number 0."""

    from_: Whole = Field(alias="from")


class AfterForm(_Strict):
    """Everything after the first place where a text stands."""

    after: Text


class BeforeForm(_Strict):
    """Everything before the first place where a text stands."""

    before: Text


PartForm: TypeAlias = Annotated[
    Annotated[PlainPart, Tag("<text>")]
    | Annotated[FirstForm, Tag("<first>")]
    | Annotated[FromForm, Tag("<from>")]
    | Annotated[AfterForm, Tag("<after>")]
    | Annotated[BeforeForm, Tag("<before>")],
    _one_form('a scope such as "generated", {"first": 8} or {"after": "TEXT"}', "first", "from", "after", "before"),
]


class DecayForm(_Strict):
    """Linear fade to nothing over a number of generated tokens."""

    decay: Positive


class HalfLifeForm(_Strict):
    """Halving with every number of generated tokens."""

    half_life: Positive = Field(alias="half-life")


ScheduleForm: TypeAlias = Annotated[
    Annotated[DecayForm, Tag("<decay>")] | Annotated[HalfLifeForm, Tag("<half-life>")],
    _one_form('{"decay": 32} or {"half-life": 16}', "decay", "half-life"),
]


LayersForm: TypeAlias = Annotated[
    Annotated[Literal["all", "middle"], Tag("<text>")] | Annotated[list[Whole], Field(min_length=1), Tag("<list>")],
    _one_form('"all", "middle" or a list of layers'),
]
BoundForm: TypeAlias = Annotated[
    Annotated[Number, Tag("<number>")] | Annotated[Relative, Tag("<text>")],
    _one_form('a number, a percentile such as "25%", or standard deviations such as "1.5z"'),
]


class _TermForm(_Strict):
    vector: Text = Field(description="Name or path of the vector.")
    layers: LayersForm | None = Field(default=None, description="Other layers than the vector's own.")
    tokens: list[PartForm] | None = Field(default=None, description="The tokens in all of these; all if left out.")
    schedule: ScheduleForm | None = Field(default=None, description="How the force fades along the answer.")
    when: ConditionForm | None = Field(default=None, description="It acts only where this holds.")


def _at_most_one(*names: str) -> ConfigDict:
    """Return the schema of fields that exclude each other; the loader checks the values."""
    pairs = [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    given: list[Any] = [{"required": [a, b], "properties": {a: _A_NUMBER, b: _A_NUMBER}} for a, b in pairs]
    return ConfigDict(json_schema_extra={"not": {"anyOf": given}})


class AddForm(_TermForm):
    """Adds the direction, at strength 1 if neither strength nor coefficient is given."""

    model_config = _at_most_one("strength", "coefficient")
    operator: Literal["add", "add_preserving_norm"] = "add"
    strength: Number | None = Field(default=None, description="By the calibrated dial.")
    coefficient: Number | None = Field(default=None, description="By the raw multiplier.")


class AblateForm(_TermForm):
    """Takes the direction out."""

    operator: Literal["ablate"]


class BoundedForm(_TermForm):
    """Raises the projection to a bound, or lowers it to one."""

    operator: Literal["floor", "cap"]
    bound: BoundForm


class ClampForm(_TermForm):
    """Moves the projection into a range."""

    operator: Literal["clamp"]
    low: BoundForm
    high: BoundForm


class RotateForm(_TermForm):
    """Turns the state towards the direction, at strength 1 if nothing else is given."""

    model_config = _at_most_one("strength", "coefficient", "degrees")
    operator: Literal["rotate"]
    strength: Number | None = Field(default=None, description="By the calibrated dial.")
    coefficient: Number | None = Field(default=None, description="By the raw multiplier, in radians.")
    degrees: Annotated[float, Field(strict=True, ge=-180, le=180)] | None = Field(default=None, description="By angle.")


_TAGS = {
    **dict.fromkeys(("add", "add_preserving_norm"), "<add>"),
    **dict.fromkeys(("floor", "cap"), "<bounded>"),
    **{name: f"<{name}>" for name in ("ablate", "clamp", "rotate")},
}


def _term_tag(value: object) -> str | None:
    operator = value.get("operator", "add") if isinstance(value, dict) else None
    return _TAGS.get(operator) if isinstance(operator, str) else None


TermForm: TypeAlias = Annotated[
    Annotated[AddForm, Tag("<add>")]
    | Annotated[AblateForm, Tag("<ablate>")]
    | Annotated[BoundedForm, Tag("<bounded>")]
    | Annotated[ClampForm, Tag("<clamp>")]
    | Annotated[RotateForm, Tag("<rotate>")],
    Discriminator(
        _term_tag,
        custom_error_type="form",
        custom_error_message=f"Input should be a term whose operator is one of {', '.join(_TAGS)}",
    ),
]


class SteeringForm(_Strict):
    """Steering of one request; docs/steering.md explains it."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="trimtab steering")

    terms: list[TermForm] = Field(description="In the order in which they act.")


for _form in (AllForm, AnyForm, NotForm):
    _form.model_rebuild()


def steering_schema() -> dict[str, Any]:
    """The JSON Schema of a steering, for editors, clients and other tools.

    Example:
        >>> steering_schema()["required"]
        ['terms']
    """
    schema = SteeringForm.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def terms_from_json(given: Any, *, find: FindVector) -> tuple[Term, ...]:
    """Read the terms of a steering.

    Args:
        given: ``{"terms": [...]}``, a bare list of terms, or either as JSON text.
        find: Finds a vector by the name that stands there; asked once for each name.

    Raises:
        SteeringError: It is none; the message names the place, such as ``terms.2.when.above``.
        VectorError: A vector cannot be found; so does this.

    Example:
        >>> terms_from_json([{"vector": "happy", "strength": 0.8}], find=find)  # doctest: +SKIP
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
    find, terms = cache(find), []
    for index, part in enumerate(form.terms):
        terms.append(_term(part, f"terms.{index}", find))
        with _blaming(f"terms.{index}"):
            check_terms(terms)
    return tuple(terms)


def _document(text: str | bytes | bytearray) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # of the encoding, too
        raise SteeringError(f"the steering is not JSON: {error}", fix=_FIX) from None


def _depth(value: object) -> int:
    """Return the nesting depth of lists and objects; counting ends after ``DEEPEST_JSON``."""
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


def _term(form: TermForm, place: str, find: FindVector) -> Term:
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


def _condition(form: ConditionForm, place: str, find: FindVector) -> Condition:
    if isinstance(form, ComparisonForm):
        return _comparison(form, place, find)
    if isinstance(form, NotForm):
        return Not(_condition(form.not_, f"{place}.not", find))
    key, parts = ("all", form.all_) if isinstance(form, AllForm) else ("any", form.any_)
    joined = tuple(_condition(part, f"{place}.{key}.{index}", find) for index, part in enumerate(parts))
    if len(joined) == 1:
        return joined[0]
    return AllOf(joined) if key == "all" else AnyOf(joined)


def _comparison(form: ComparisonForm, place: str, find: FindVector) -> Comparison:
    given = form.above if form.above is not None else form.below
    threshold = FalsePositives(given.fpr) if isinstance(given, RateForm) else cast("float", given)
    with _blaming(f"{place}.vector"):
        vector = find(form.vector)
    with _blaming(place):
        return Comparison(
            vector, "below" if form.above is None else "above", threshold, form.at, form.until, form.vector
        )


def term_to_json(term: Term) -> dict[str, Any]:
    """Return the JSON form of a term, which names its vectors as they were given."""
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
