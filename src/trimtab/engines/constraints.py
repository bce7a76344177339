"""Constraints: what the text of an answer must be, as a frozen value that an engine compiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final, get_args

from trimtab.errors import ConstraintError, near_names

Kind: TypeAlias = Literal["choice", "regex", "json_schema", "grammar", "tags"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NOUNS = {
    "choice": "choice",
    "regex": "regular expression",
    "json_schema": "JSON schema",
    "grammar": "grammar",
    "tags": "tagged part",
}
MAX_BYTES = 65_536  # of one constraint in UTF-8; grammars of 110 kB took seconds to compile
MAX_CHOICES = 1_000
MAX_TAGS = 128
MAX_DEPTH = 64  # of nested objects and arrays in a JSON schema


@final
@dataclass(frozen=True)
class Tag:
    """A constrained part of a free answer: a text that begins it, what it must be, and a text that ends it.

    Attributes:
        begin: Text with which the part begins. Where the free answer has it, the constraint holds from there on.
        constraint: What follows; not tags, and without ``steer``.
        end: Text behind it. Without one the part ends where nothing of the constraint may follow.
        trigger: The first letters of ``begin``, behind which the rest must follow; empty for all of ``begin``. Tags of
            several tools may share a trigger. A special token at the beginning of ``begin`` triggers alone.

    Raises:
        ConstraintError: ``begin`` is empty or does not start with the trigger, or the constraint cannot be inside.

    Example:
        >>> str(Tag("<tool_call>", Constraint.json_schema({}), end="</tool_call>"))
        '{"begin": "<tool_call>", "json_schema": {}, "end": "</tool_call>"}'
    """

    begin: str
    constraint: Constraint
    end: str = ""
    trigger: str = ""

    def __post_init__(self) -> None:
        for text in (self.begin, self.end, self.trigger):
            if not isinstance(text, str):
                raise ConstraintError(f"{str(text)[:40]!r} of a tag is no text", fix="give strings")
        if not self.begin or not self.begin.startswith(self.trigger):
            raise ConstraintError(
                f"a tag begins with {self.begin[:40]!r}, its trigger is {self.trigger[:40]!r}",
                fix="give the text that begins it, and as trigger the first letters of that text",
            )
        if not isinstance(self.constraint, Constraint) or self.constraint.kind == "tags" or self.constraint.steer:
            raise ConstraintError(
                f"the constraint of the tag {self.begin[:40]!r} is none, has tags itself, or has steer",
                fix="give one of another kind, and steer to Constraint.tags",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, with the constraint's kind and source."""
        end = {"end": self.end} if self.end else {}
        return {"begin": self.begin, **self.constraint.to_json(), **end, **self._trigger_json()}

    def _trigger_json(self) -> dict[str, str]:
        return {"trigger": self.trigger} if self.trigger else {}

    @staticmethod
    def of(given: Tag | Mapping[str, Any]) -> Tag:
        """Return a tag from its JSON form.

        Raises:
            ConstraintError: It is not one.
        """
        if isinstance(given, Tag):
            return given
        if not isinstance(given, Mapping) or "begin" not in given:
            raise ConstraintError(
                f"{str(given)[:40]!r} is not a tag", fix='write {"begin": "<n>", "regex": "[0-9]+", "end": "</n>"}'
            )
        texts = ("begin", "end", "trigger")
        inside = Constraint.of({key: value for key, value in given.items() if key not in texts})
        return Tag(given["begin"], inside, given.get("end", ""), given.get("trigger", ""))

    def __str__(self) -> str:
        return json.dumps(self.to_json(), ensure_ascii=False)


@final
@dataclass(frozen=True)
class Constraint:
    """What an answer must be: one of given texts, or a text of a regular expression, a JSON schema or a grammar.

    Or it is free but for parts between *tags*, such as tool calls, which are constrained.

    A constrained answer is unsteered, prompt included, unless ``steer`` asks for steering: constraints serve judgements
    and data, and a steered prompt moves both although no constrained token is steered. An answer with tags is steered
    everywhere but in its constrained parts, or with ``steer`` also there.

    Attributes:
        kind: How ``source`` is read.
        source: The texts to choose from; the regular expression; the JSON schema as text; the grammar in Lark's syntax;
            or the tags.
        steer: Steer the answer as an unconstrained one.
        once: Of tags: have one part at most; the text behind it is free. Else there may be any number.

    Raises:
        ConstraintError: It is empty, malformed or larger than the limits.

    Example:
        >>> str(Constraint.choice(["yes", "no"]))
        '{"choice": ["yes", "no"]}'
        >>> Constraint.of('{"regex": "[0-9]{4}", "steer": true}').steer
        True
    """

    kind: Kind
    source: str | tuple[str, ...] | tuple[Tag, ...]
    steer: bool = False
    once: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            known = near_names(str(self.kind), KINDS) or f"use one of {', '.join(KINDS)}"
            raise ConstraintError(f"there is no constraint of kind {str(self.kind)[:40]!r}", fix=known)
        if self.once and self.kind != "tags":
            raise ConstraintError(f"once is for tags, not for a {self.noun}", fix="leave it out")
        if self.kind == "choice":
            _check_choices(self.source)
        elif self.kind == "tags":
            _check_tags(self.source)
        elif not isinstance(self.source, str) or not self.source.strip():
            raise ConstraintError(f"the {self.noun} of a constraint is empty or no text", fix="give its text")
        texts = self.source if isinstance(self.source, tuple) else (self.source,)
        try:
            size = sum(len(str(text).encode()) for text in texts)
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
    def tags(tags: Sequence[Tag | Mapping[str, Any]], *, once: bool = False, steer: bool = False) -> Constraint:
        """Return a constraint of the parts of a free answer that are between tags.

        Tags with the same beginning are alternatives.

        Example:
            >>> call = Constraint.json_schema({"type": "object"})
            >>> Constraint.tags([Tag("<tool_call>", call, end="</tool_call>")], once=True).unsteers
            False
        """
        if isinstance(tags, (str, Mapping)) or not isinstance(tags, Sequence):
            raise ConstraintError(f"{str(tags)[:40]!r} is not a list of tags", fix="give a list")
        return Constraint("tags", tuple(map(Tag.of, tags)), steer, once)

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
        kinds: list[Any] = [key for key in parsed if key not in ("steer", "once")]
        steer, once = parsed.get("steer", False), parsed.get("once", False)
        if len(kinds) != 1 or not isinstance(steer, bool) or not isinstance(once, bool):
            raise ConstraintError(
                "a constraint has one kind, and steer and once, which are true or false",
                fix=f"give one of {', '.join(KINDS)}",
            )
        if kinds[0] == "tags":
            return Constraint.tags(parsed["tags"], once=once, steer=steer)
        if once:
            raise ConstraintError("once is for tags", fix="leave it out")
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

    @property
    def choices(self) -> tuple[str, ...]:
        """Return the texts to choose from; empty for another kind."""
        return tuple(each for each in self.source if isinstance(each, str)) if self.kind == "choice" else ()

    @property
    def parts(self) -> tuple[Tag, ...]:
        """Return the tags; empty for another kind."""
        return tuple(each for each in self.source if isinstance(each, Tag)) if self.kind == "tags" else ()

    @property
    def unsteers(self) -> bool:
        """Return True if the whole answer is to be unsteered, prompt included."""
        return self.kind != "tags" and not self.steer

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: the kind with its source, and ``steer`` and ``once`` if they are set."""
        value: Any = self.source
        if isinstance(value, tuple):
            value = [each.to_json() if isinstance(each, Tag) else each for each in value]
        elif self.kind == "json_schema":
            value = parse_json(value)
        flags = {"steer": self.steer, "once": self.once}
        return {self.kind: value, **{name: True for name, is_set in flags.items() if is_set}}

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


def _check_tags(tags: object) -> None:
    if not isinstance(tags, tuple) or not tags or not all(isinstance(tag, Tag) for tag in tags):
        raise ConstraintError("there are no tags", fix="give a list of Tag")
    if len(tags) > MAX_TAGS:
        raise ConstraintError(f"there are {len(tags)} tags, at most {MAX_TAGS} can be", fix="leave some out")
    triggers = {tag.trigger or tag.begin for tag in tags}
    for trigger in triggers:
        if inner := [other for other in triggers if other != trigger and other in trigger]:
            raise ConstraintError(
                f"the trigger {trigger[:40]!r} has the trigger {inner[0][:40]!r} in it, which would come first",
                fix="give both tags the shorter one as trigger",
            )


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
