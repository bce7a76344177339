"""Constraints: what the text of an answer must be, as a frozen value that an engine compiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final, get_args

from trimtab.errors import ConstraintError, near_names

Kind: TypeAlias = Literal["choice", "regex", "json_schema", "grammar"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NOUNS = {"choice": "choice", "regex": "regular expression", "json_schema": "JSON schema", "grammar": "grammar"}
MAX_BYTES = 65_536  # of one constraint in UTF-8; grammars of 110 kB took seconds to compile
MAX_CHOICES = 1_000
MAX_DEPTH = 64  # of nested objects and arrays in a JSON schema


@final
@dataclass(frozen=True)
class Constraint:
    """What an answer must be: one of given texts, or a text of a regular expression, a JSON schema or a grammar.

    A constrained answer is unsteered, prompt included, unless ``steer`` asks for steering: constraints serve judgements
    and data, and a steered prompt moves both although no constrained token is steered.

    Attributes:
        kind: How ``source`` is read.
        source: The texts to choose from; the regular expression; the JSON schema as text; the grammar in Lark's syntax.
        steer: Steer the answer as an unconstrained one.

    Raises:
        ConstraintError: It is empty, malformed or larger than the limits.

    Example:
        >>> str(Constraint.choice(["yes", "no"]))
        '{"choice": ["yes", "no"]}'
        >>> Constraint.of('{"regex": "[0-9]{4}", "steer": true}').steer
        True
    """

    kind: Kind
    source: str | tuple[str, ...]
    steer: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            known = near_names(str(self.kind), KINDS) or f"use one of {', '.join(KINDS)}"
            raise ConstraintError(f"there is no constraint of kind {str(self.kind)[:40]!r}", fix=known)
        if self.kind == "choice":
            _check_choices(self.source)
        elif not isinstance(self.source, str) or not self.source.strip():
            raise ConstraintError(f"the {self.noun} of a constraint is empty or no text", fix="give its text")
        texts = self.source if isinstance(self.source, tuple) else (self.source,)
        try:
            size = sum(len(text.encode()) for text in texts)
        except UnicodeEncodeError:
            raise ConstraintError(f"the {self.noun} is not Unicode", fix="replace its lone surrogates") from None
        if size > MAX_BYTES:
            raise ConstraintError(f"the {self.noun} has {size:,} bytes, more than {MAX_BYTES:,}", fix="simplify it")
        if self.kind == "json_schema":
            _check_depth(parse_json(str(self.source)))

    @staticmethod
    def choice(choices: Sequence[str], *, steer: bool = False) -> Constraint:
        """Return a constraint to one of some texts."""
        if isinstance(choices, str) or not isinstance(choices, Sequence):
            raise ConstraintError(f"{str(choices)[:40]!r} is not a list of choices", fix='give a list: ["yes", "no"]')
        return Constraint("choice", tuple(choices), steer)

    @staticmethod
    def regex(pattern: str, *, steer: bool = False) -> Constraint:
        """Return a constraint to texts that a regular expression matches as a whole, in the syntax of Rust's regex."""
        return Constraint("regex", pattern, steer)

    @staticmethod
    def json_schema(schema: Mapping[str, Any] | str, *, steer: bool = False) -> Constraint:
        """Return a constraint to JSON of a schema, parsed or as text; properties are written in the schema's order."""
        parsed = parse_json(schema) if isinstance(schema, str) else schema
        if not isinstance(parsed, Mapping):
            raise ConstraintError(
                f"{str(parsed)[:40]!r} is not a JSON schema", fix="give an object; {} allows any JSON"
            )
        try:
            text = json.dumps(parsed, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            if isinstance(error, RecursionError):
                raise _too_deep() from None
            raise ConstraintError(f"the JSON schema is not JSON: {error}", fix="give a JSON object") from None
        return Constraint("json_schema", text, steer)

    @staticmethod
    def grammar(grammar: str, *, steer: bool = False) -> Constraint:
        """Return a constraint to texts of a context-free grammar in Lark's syntax, whose first rule is ``start``."""
        return Constraint("grammar", grammar, steer)

    @staticmethod
    def of(given: Constraint | Mapping[str, Any] | str) -> Constraint:
        """Return a constraint from its JSON form, parsed or as text.

        Raises:
            ConstraintError: It is not one.
        """
        if isinstance(given, Constraint):
            return given
        parsed = parse_json(given) if isinstance(given, str) else given
        if not isinstance(parsed, Mapping):
            raise ConstraintError(f"{str(given)[:40]!r} is not a constraint", fix='write {"choice": ["yes", "no"]}')
        kinds: list[Any] = [key for key in parsed if key != "steer"]
        steer = parsed.get("steer", False)
        if len(kinds) != 1 or not isinstance(steer, bool):
            raise ConstraintError(
                "a constraint has one kind, and steer, which is true or false",
                fix=f"give one of {', '.join(KINDS)}",
            )
        if kinds[0] == "json_schema":
            return Constraint.json_schema(parsed["json_schema"], steer=steer)
        if kinds[0] == "choice":
            return Constraint.choice(parsed["choice"], steer=steer)
        return Constraint(kinds[0], parsed[kinds[0]], steer)

    @staticmethod
    def of_rows(given: ConstraintRows, *, rows: int) -> list[Constraint | None]:
        """Return one constraint, or None, for each row: from one for all, or from a list with one for each.

        Raises:
            ConstraintError: It is not one, or a list has another length.
        """
        if given is None or isinstance(given, (Constraint, Mapping, str)):
            return [None if given is None else Constraint.of(given)] * rows
        listed = [None if each is None else Constraint.of(each) for each in given]
        if len(listed) != rows:
            raise ConstraintError(f"{len(listed)} constraints for {rows} prompts", fix="give one for each, or one")
        return listed

    @property
    def noun(self) -> str:
        """Return the kind in words."""
        return NOUNS[self.kind]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: the kind with its source, and ``steer`` if it is set."""
        source = list(self.source) if isinstance(self.source, tuple) else self.source
        value = parse_json(str(source)) if self.kind == "json_schema" else source
        return {self.kind: value, **({"steer": True} if self.steer else {})}

    def __str__(self) -> str:
        return json.dumps(self.to_json(), ensure_ascii=False)


ConstraintLike: TypeAlias = Constraint | Mapping[str, Any] | str
ConstraintRows: TypeAlias = ConstraintLike | Sequence[ConstraintLike | None] | None


def parse_json(text: str) -> Any:
    """Parse the JSON text of a constraint, or of a part of one.

    Raises:
        ConstraintError: It is not JSON, or too deeply nested to be read.
    """
    if len(text) > 2 * MAX_BYTES:  # white space may double a schema, but must not occupy the parser
        raise ConstraintError(
            f"the JSON has {len(text):,} characters; at most {2 * MAX_BYTES:,} are read", fix="cut it"
        )
    try:
        return json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise ConstraintError(f"{text[:40]!r} is not JSON: {error}", fix="check its brackets and quotes") from None


def _check_choices(choices: object) -> None:
    if not isinstance(choices, tuple) or not choices:
        raise ConstraintError("there is nothing to choose from", fix='give choices: ["yes", "no"]')
    if len(choices) > MAX_CHOICES:
        raise ConstraintError(
            f"there are {len(choices):,} choices, at most {MAX_CHOICES:,} can be", fix="leave some out"
        )
    for choice in choices:
        if not isinstance(choice, str) or not choice:
            raise ConstraintError(f"the choice {choice!r} is empty or no text", fix="give non-empty strings")
    if len(set(choices)) < len(choices):
        twice = next(choice for choice in choices if choices.count(choice) > 1)
        raise ConstraintError(f"the choice {twice[:40]!r} is given twice", fix="give it once")


def _check_depth(schema: Any) -> None:
    """Refuse deep nesting, level by level, since recursion is what deep nesting breaks."""
    level = [schema]
    for _ in range(MAX_DEPTH):
        inner = [value for part in level for value in (part.values() if isinstance(part, dict) else part)]
        level = [value for value in inner if isinstance(value, (dict, list))]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ConstraintError:
    return ConstraintError(f"the JSON is nested deeper than {MAX_DEPTH} levels", fix="flatten it, or use $ref")
