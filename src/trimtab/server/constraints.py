"""Constraints of a request: OpenAI's response formats and vLLM's structured outputs."""

from __future__ import annotations

from trimtab.engines.constraints import Constraint
from trimtab.errors import ConstraintError
from trimtab.server.errors import RequestError
from trimtab.server.fields import ConstraintFields, ResponseFormat, StructuredOutputs

JSON_OBJECT = {"type": "object"}


def request_constraint(fields: ConstraintFields, *, steer: bool = False) -> Constraint | None:
    """Return what the answers of a request must be; None if they are free.

    Raises:
        RequestError: It is asked for twice, or is no constraint.
    """
    asked, given = fields.response_format, fields.structured_outputs
    if asked is not None and asked.type == "text":
        asked = None
    if asked is not None and given is not None:
        raise RequestError("the answer's form is given twice", fix="drop response_format", param="structured_outputs")
    param = "response_format" if given is None else "structured_outputs"
    try:
        if asked is not None:
            return _of_format(asked, steer=steer)
        return None if given is None else _of_outputs(given, steer=steer)
    except ConstraintError as error:
        raise RequestError(error.problem, fix=error.fix, param=param, code=error.code) from None


def _of_format(asked: ResponseFormat, *, steer: bool) -> Constraint:
    schema = asked.json_schema.schema_ if asked.json_schema is not None else JSON_OBJECT
    return Constraint.json_schema(JSON_OBJECT if schema is None else schema, steer=steer)


def _of_outputs(given: StructuredOutputs, *, steer: bool) -> Constraint:
    kinds = [name for name in type(given).model_fields if getattr(given, name) not in (None, False)]
    if len(kinds) != 1:
        raise ConstraintError(f"{len(kinds)} forms are asked for", fix="give one of json, regex, choice, grammar, tags")
    if given.json_ is not None:
        return Constraint.json_schema(given.json_, steer=steer)
    if given.regex is not None:
        return Constraint.regex(given.regex, steer=steer)
    if given.choice is not None:
        return Constraint.choice(given.choice, steer=steer)
    if given.grammar is not None:
        return Constraint.grammar(given.grammar, steer=steer)
    if given.tags is not None:
        return Constraint.tags(given.tags, steer=steer)
    return Constraint.json_schema(JSON_OBJECT, steer=steer)
