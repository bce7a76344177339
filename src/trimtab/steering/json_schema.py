"""What the JSON form of a steering may say: the models that validate it, and the JSON Schema made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator

from trimtab.steering.conditions import At

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


# Conditions ------------------------------------------------------------------------------------------------------


class RateForm(_Strict):
    """The threshold that a share of the texts passes on which the condition was fitted."""

    fpr: Annotated[float, Field(strict=True, gt=0, lt=1)]


Threshold = Annotated[
    Annotated[Number, Tag("<number>")] | Annotated[RateForm, Tag("<object>")],
    _one_form('a z-score or {"fpr": 0.02}'),
]


class ComparisonForm(_Strict):
    """Whether what is read on a vector is above or below a threshold."""

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
    at: At = Field(default="prompt", description="Where it is read: once on the prompt, or anew at each token.")
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


# Scopes ----------------------------------------------------------------------------------------------------------


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
    """From whole to nothing in a straight line, over so many generated tokens."""

    decay: Positive


class HalfLifeForm(_Strict):
    """Halved with every so many generated tokens."""

    half_life: Positive = Field(alias="half-life")


ScheduleForm: TypeAlias = Annotated[
    Annotated[DecayForm, Tag("<decay>")] | Annotated[HalfLifeForm, Tag("<half-life>")],
    _one_form('{"decay": 32} or {"half-life": 16}', "decay", "half-life"),
]


# Terms -----------------------------------------------------------------------------------------------------------

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
    """Of fields that exclude each other, for the schema; the loader is told by the values."""
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
    """What to apply in one request; docs/steering.md explains it."""

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
