"""JSON form of a steering: the models that validate it, its JSON Schema, reading and writing."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, reduce
from itertools import combinations
from typing import Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
    create_model,
    model_validator,
)

from trimtab.errors import SteeringError, TrimtabError
from trimtab.steering.conditions import AllOf, AnyOf, At, Comparison, Condition, FalsePositives, Not, Side
from trimtab.steering.operators import OPERATORS, Bound, Operator, operator_name, takes_amount
from trimtab.steering.scopes import Part, Schedule, Scope
from trimtab.steering.syntax import DEEPEST
from trimtab.steering.term import FindVector, Term, check_terms

DEEPEST_JSON = 2 * DEEPEST + 8  # as deep as the text form: a list and an object for each "all" and "any"
_FIX = "docs/steering.md shows the JSON form"

# The models of the JSON form, from which validation and the schema follow. They are made by functions because most
# objects have one key, and because all fields that take several forms choose one in the same way.


def _form(name: str, description: str, schema: Mapping[str, Any] | None = None, /, **fields: Any) -> Any:
    """Return the model of an object that has these fields and no others; ``schema`` is added to its JSON Schema."""
    config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=dict(schema or {}))
    return create_model(name, __config__=config, __doc__=description, __module__=__name__, **fields)


def _one_key(name: str, description: str, key: str, kind: Any) -> dict[Any, Any]:
    """Return the model of an object with one key, by that key."""
    return {key: _form(name, description, **{key.replace("-", "_"): (kind, Field(alias=key))})}


def _optional(kind: Any, description: str) -> tuple[Any, Any]:
    return kind | None, Field(default=None, description=description)


def _union(expected: str, tag: Callable[[object], str | None], forms: Mapping[str, Any]) -> Any:
    """Return a union in which a tag chooses the form, so that an error is about one form alone."""
    tagged = [Annotated[form, Tag(name)] for name, form in forms.items()]
    discriminator = Discriminator(tag, custom_error_type="form", custom_error_message=f"Input should be {expected}")
    return Annotated[reduce(operator.or_, tagged), discriminator]


def _one_of(expected: str, forms: Mapping[type | str, Any]) -> Any:
    """Return a union in which the type of the value chooses the form, or for objects one of their keys."""

    def tag(value: object) -> str | None:
        if isinstance(value, dict):
            return next((f"<{key}>" for key in forms if isinstance(key, str) and key in value), "<dict>")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return "<float>"
        return "<list>" if isinstance(value, (list, tuple)) else "<str>" if isinstance(value, str) else None

    names = (key if isinstance(key, str) else key.__name__ for key in forms)
    return _union(expected, tag, {f"<{name}>": form for name, form in zip(names, forms.values(), strict=True)})


def _at_most_one(*names: str) -> dict[str, Any]:
    """Return the schema of numbers that exclude each other; the loader checks the values."""
    number = {"type": "number"}
    pairs = combinations(names, 2)
    return {"not": {"anyOf": [{"required": [a, b], "properties": {a: number, b: number}} for a, b in pairs]}}


_NUMBER = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_POSITIVE = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
_WHOLE = Annotated[int, Field(strict=True, ge=0)]
_TEXT = Annotated[str, StringConstraints(min_length=1)]
_RELATIVE = Annotated[
    str,
    StringConstraints(pattern=r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[%z]$"),
    Field(description="Relative to neutral text: a percentile such as 25%, or standard deviations such as 1.5z."),
]
_PLAIN_PART = Literal["all", "prompt", "generated", "system", "user", "assistant", "thinking", "answer"]

_THRESHOLD = _one_of(
    'a z-score or {"fpr": 0.02}',
    {
        float: _NUMBER,
        dict: _form(
            "RateForm",
            "The threshold that a share of the texts passes on which the condition was fitted.",
            fpr=(Annotated[float, Field(strict=True, gt=0, lt=1)], ...),
        ),
    },
)


def _check_one_side(comparison: Any) -> Any:
    if (comparison.above is None) == (comparison.below is None):
        raise ValueError("give a comparison either 'above' or 'below'")
    return comparison


_COMPARISON = _form(
    "ComparisonForm",
    "Comparison of a reading with a threshold.",
    {
        "oneOf": [
            {"required": [side], "properties": {side: {"not": {"type": "null"}}, other: {"type": "null"}}}
            for side, other in (("above", "below"), ("below", "above"))
        ]
    },
    __validators__={"one_side": model_validator(mode="after")(_check_one_side)},
    vector=(_TEXT, Field(description="Name or path of the vector that is read.")),
    above=_optional(_THRESHOLD, "It holds above this z-score; this or below is needed."),
    below=_optional(_THRESHOLD, "It holds below this z-score."),
    at=(At, Field(default="prompt", description="Where it is read: once on the prompt, or at each token.")),
    until=_optional(_NUMBER, "At token: once it holds, it does until past this."),
)
_CONDITIONS = "Annotated[list[_CONDITION], Field(min_length=1)]"
_JOINING = {
    **_one_key("AllForm", "Every part holds.", "all", _CONDITIONS),
    **_one_key("AnyForm", "At least one part holds.", "any", _CONDITIONS),
    **_one_key("NotForm", "The part does not hold.", "not", "_CONDITION"),
}
_CONDITION = _one_of('a condition such as {"vector": "anger", "above": 2}', {dict: _COMPARISON, **_JOINING})
for _joining in _JOINING.values():
    _joining.model_rebuild()

_PART = _one_of(
    'a scope such as "generated", {"first": 8} or {"after": "TEXT"}',
    {
        str: _PLAIN_PART,
        **_one_key("FirstForm", "The first generated tokens.", "first", Annotated[_WHOLE, Field(ge=1)]),
        **_one_key("FromForm", "Generated tokens from a number on; the first one has number 0.", "from", _WHOLE),
        **_one_key("AfterForm", "Everything after the first place where a text stands.", "after", _TEXT),
        **_one_key("BeforeForm", "Everything before the first place where a text stands.", "before", _TEXT),
    },
)
_SCHEDULE = _one_of(
    '{"decay": 32} or {"half-life": 16}',
    {
        **_one_key("DecayForm", "Linear fade to nothing over a number of generated tokens.", "decay", _POSITIVE),
        **_one_key("HalfLifeForm", "Halving with every number of generated tokens.", "half-life", _POSITIVE),
    },
)
_LAYERS = _one_of(
    '"all", "middle" or a list of layers',
    {str: Literal["all", "middle"], list: Annotated[list[_WHOLE], Field(min_length=1)]},
)
_BOUND = _one_of(
    'a number, a percentile such as "25%", or standard deviations such as "1.5z"', {float: _NUMBER, str: _RELATIVE}
)

_TERM: dict[str, Any] = {
    "vector": (_TEXT, Field(description="Name or path of the vector.")),
    "layers": _optional(_LAYERS, "Other layers than the vector's own."),
    "tokens": (
        "list[_PART] | None",
        Field(default=None, description="The tokens in all of these; all if left out."),
    ),
    "schedule": _optional(_SCHEDULE, "How the force fades along the answer."),
    "when": _optional(_CONDITION, "It acts only where this holds."),
}
_STRENGTH = _optional(_NUMBER, "By the calibrated dial.")
_DEGREES = Annotated[float, Field(strict=True, ge=-180, le=180)]
_TERM_FORMS: dict[tuple[str, ...], Any] = {  # by the operators that they take
    ("add", "add_preserving_norm"): _form(
        "AddForm",
        "Adds the direction, at the vector's default strength if neither strength nor coefficient is given.",
        _at_most_one("strength", "coefficient"),
        **_TERM,
        operator=(Literal["add", "add_preserving_norm"], "add"),
        strength=_STRENGTH,
        coefficient=_optional(_NUMBER, "By the raw multiplier."),
    ),
    ("ablate",): _form("AblateForm", "Takes the direction out.", **_TERM, operator=(Literal["ablate"], ...)),
    ("floor", "cap"): _form(
        "BoundedForm",
        "Raises the projection to a bound, or lowers it to one.",
        **_TERM,
        operator=(Literal["floor", "cap"], ...),
        bound=(_BOUND, ...),
    ),
    ("clamp",): _form(
        "ClampForm",
        "Moves the projection into a range.",
        **_TERM,
        operator=(Literal["clamp"], ...),
        low=(_BOUND, ...),
        high=(_BOUND, ...),
    ),
    ("rotate",): _form(
        "RotateForm",
        "Turns the state towards the direction, at the vector's default strength if nothing else is given.",
        _at_most_one("strength", "coefficient", "degrees"),
        **_TERM,
        operator=(Literal["rotate"], ...),
        strength=_STRENGTH,
        coefficient=_optional(_NUMBER, "By the raw multiplier, in radians."),
        degrees=_optional(_DEGREES, "By angle."),
    ),
}


def _term_tag(value: object) -> str | None:
    name = value.get("operator", "add") if isinstance(value, dict) else None
    return next((f"<{names[0]}>" for names in _TERM_FORMS if name in names), None)


_ANY_TERM = _union(
    f"a term whose operator is one of {', '.join(OPERATORS)}",
    _term_tag,
    {f"<{names[0]}>": form for names, form in _TERM_FORMS.items()},
)
_STEERING: type[BaseModel] = _form(
    "SteeringForm",
    "Steering of one request; docs/steering.md explains it.",
    {"title": "trimtab steering"},
    terms=("list[_ANY_TERM]", Field(description="In the order in which they act.")),
)


def steering_schema() -> dict[str, Any]:
    """Return the JSON Schema of a steering, for editors, clients and other tools.

    Example:
        >>> steering_schema()["required"]
        ['terms']
    """
    schema = _STEERING.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def terms_from_json(given: Any, *, find: FindVector) -> tuple[Term, ...]:
    """Read the terms of a steering.

    Args:
        given: ``{"terms": [...]}``, a bare list of terms, or either as JSON text.
        find: Finds a vector by its name; called once for each name.

    Raises:
        SteeringError: It is none; the message names the place, such as ``terms.2.when.above``.
        VectorError: A vector cannot be found; so does this.

    Example:
        >>> terms_from_json([{"vector": "happy", "strength": 0.5}], find=find)  # doctest: +SKIP
    """
    if isinstance(given, (str, bytes, bytearray)):
        given = _document(given)
    if isinstance(given, (list, tuple)):
        given = {"terms": given}
    if _depth(given) > DEEPEST_JSON:
        raise _too_deep()
    try:
        form = _STEERING.model_validate(given)
    except ValidationError as error:
        raise SteeringError(_first_problem(error), fix=_FIX) from None
    # Unions are dumped by the class of each part, so the warning that a part has no tag does not matter.
    document = form.model_dump(by_alias=True, exclude_none=True, warnings=False)
    find, terms = cache(find), []
    for index, part in enumerate(document["terms"]):
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
    """Return one line: the place, the problem, the value, and the number of further problems."""
    first, *rest = error.errors(include_url=False)
    places = [str(part) for part in first["loc"] if not str(part).startswith("<")]
    value = "" if first["type"] == "missing" else f" (found {str(first['input'])[:60]!r})"
    message = {"extra_forbidden": "is not known here", "missing": "is required but missing"}.get(
        first["type"], first["msg"].removeprefix("Value error, ")
    )
    more = f" [and {len(rest)} more]" if rest else ""
    return f"cannot read the steering at {'.'.join(places) or 'its top'}: {message}{value}{more}"


@contextmanager
def _blaming(place: str) -> Iterator[None]:
    """Add the place to errors that are raised inside."""
    try:
        yield
    except TrimtabError as error:
        raise type(error)(f"in the steering at {place}: {error.problem}", fix=error.fix) from None


def _term(given: dict[str, Any], place: str, find: FindVector) -> Term:
    """Return a term from its validated JSON, in which nulls are left out and defaults are filled in."""
    with _blaming(f"{place}.vector"):
        vector = find(given["vector"])
    action = _operator(given, place)
    strength, coefficient = given.get("strength"), given.get("coefficient")
    with _blaming(place):
        if takes_amount(action) and strength is None and coefficient is None:
            strength = vector.default_strength
        term = Term(vector, strength, coefficient, action, name=given["vector"])
    with _blaming(f"{place}.layers"):
        layers = given.get("layers")
        term = replace(term, layers=tuple(layers) if isinstance(layers, list) else layers)
    with _blaming(f"{place}.tokens"):
        parts = tuple(_part(part) for part in given.get("tokens", ()) if part != "all")
        schedules = [Schedule(kind, tokens) for kind, tokens in given.get("schedule", {}).items()]
        term = replace(term, tokens=Scope(parts, *schedules))
    if "when" not in given:
        return term
    condition = _condition(given["when"], f"{place}.when", find)
    with _blaming(f"{place}.when"):
        return replace(term, condition=condition)


def _operator(given: dict[str, Any], place: str) -> Operator:
    arguments: list[Any] = [_bound(given[key], f"{place}.{key}") for key in ("bound", "low", "high") if key in given]
    if "degrees" in given:
        arguments.append(given["degrees"])
    with _blaming(f"{place}.high"):  # only the two bounds of a clamp can be at odds
        return OPERATORS[given["operator"]](*arguments)


def _bound(given: float | str, place: str) -> Bound:
    with _blaming(place):
        if isinstance(given, str):
            return Bound(float(given[:-1]), "percentile" if given.endswith("%") else "z")
        return Bound(given)


def _part(given: Any) -> Part:
    if isinstance(given, str):
        return Part(cast("Any", given))
    ((kind, value),) = given.items()
    return Part(kind, text=value) if isinstance(value, str) else Part(kind, count=value)


def _condition(given: dict[str, Any], place: str, find: FindVector) -> Condition:
    if "vector" in given:
        return _comparison(given, place, find)
    if "not" in given:
        return Not(_condition(given["not"], f"{place}.not", find))
    ((key, parts),) = given.items()
    joined = tuple(_condition(part, f"{place}.{key}.{index}", find) for index, part in enumerate(parts))
    if len(joined) == 1:
        return joined[0]
    return AllOf(joined) if key == "all" else AnyOf(joined)


def _comparison(given: dict[str, Any], place: str, find: FindVector) -> Comparison:
    side: Side = "above" if "above" in given else "below"
    level = given[side]
    threshold = FalsePositives(level["fpr"]) if isinstance(level, dict) else level
    with _blaming(f"{place}.vector"):
        vector = find(given["vector"])
    with _blaming(place):
        return Comparison(vector, side, threshold, given["at"], given.get("until"), given["vector"])


def term_to_json(term: Term) -> dict[str, Any]:
    """Return the JSON form of a term, which names its vectors as they were given."""
    written: dict[str, Any] = {"vector": term.name, "operator": operator_name(term.operator)}
    for name in ("strength", "coefficient"):
        if getattr(term, name) is not None:
            written[name] = float(getattr(term, name))
    for name, value in vars(term.operator).items():  # bounds and degrees
        if isinstance(value, Bound):
            written[name] = float(value.value) if value.unit == "projection" else str(value)
        elif name == "degrees" and value is not None:
            written[name] = float(value)
    if term.layers is not None:
        written["layers"] = term.layers if isinstance(term.layers, str) else list(term.layers)
    if term.tokens.parts:
        written["tokens"] = [_part_json(part) for part in term.tokens.parts]
    if term.tokens.schedule is not None:
        written["schedule"] = {term.tokens.schedule.kind: float(term.tokens.schedule.tokens)}
    if term.condition is not None:
        written["when"] = _condition_json(term.condition)
    return written


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
