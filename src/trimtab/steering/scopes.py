"""Token scopes: which tokens a term touches, and how its force changes along the answer.

Padding and the attention sink (the first token of a text that a decoder reads) are in no scope. Whether a token is in a
scope is decided when it is read, from the prompt and from what was generated up to it; so a scope means the same with
and without a cache.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import combinations, product
from typing import Literal, TypeAlias, cast, final, get_args

from trimtab.errors import SteeringError
from trimtab.steering.syntax import Cursor, check_word, number_text, one_of, quoted_text

PartKind: TypeAlias = Literal[
    "prompt", "generated", "system", "user", "assistant", "after", "before", "thinking", "answer", "first", "from"
]
ScheduleKind: TypeAlias = Literal["decay", "half-life"]

PLAIN_PARTS = ("prompt", "generated", "system", "user", "assistant", "thinking", "answer")
_UNQUOTED = re.compile(r'[^\s,+)"]+')

TURNS = ("system", "user", "assistant")
OF_GENERATED = ("generated", "thinking", "answer", "first", "from")  # parts that hold generated tokens alone
_EXCLUDING = (
    *product(("prompt", "system", "user"), OF_GENERATED),
    *combinations(TURNS, 2),
    ("thinking", "answer"),
)


@final
@dataclass(frozen=True)
class Part:
    """Set of tokens.

    * ``prompt``, ``generated``: what the model was given, and what it wrote (a generated token counts once it is read).
    * ``system``, ``user``, ``assistant``: the words of such turns, without the template's marks around them; what is
      being generated is the assistant's.
    * ``after``, ``before``: everything after, or before, the first occurrence of ``text``. Where the prompt does
      not have it, the answer is searched as it grows: the token that completes ``text`` is neither.
    * ``thinking``, ``answer``: the thoughts of a reasoning model in what it generates, and what follows them. The
      marks themselves are neither. A model without such marks only answers.
    * ``first``, ``from``: generated tokens up to, and from, the number ``count``.
    """

    kind: PartKind
    text: str = ""
    count: int = 0

    def __post_init__(self) -> None:
        check_word("scope", self.kind, get_args(PartKind))
        if self.kind in ("after", "before") and not self.text:
            raise SteeringError(f"{self.kind}: of what?", fix=f'write the text, such as {self.kind}:"Answer"')
        if self.kind in ("first", "from") and self.count < (1 if self.kind == "first" else 0):
            least = "1" if self.kind == "first" else "0"
            raise SteeringError(f"{self.kind} {self.count} is not a number of tokens", fix=f"give at least {least}")

    def __str__(self) -> str:
        if self.kind in ("after", "before"):
            return f"{self.kind}:{quoted_text(self.text)}"
        return f"{self.kind} {self.count}" if self.kind in ("first", "from") else self.kind


@final
@dataclass(frozen=True)
class Schedule:
    """Fade of a term along the answer; on the prompt it has full force.

    Attributes:
        kind: ``"decay"``: from 1 down to 0 in a straight line, over ``tokens`` generated tokens; ``"half-life"``:
            halved with every ``tokens`` of them.
        tokens: How many.
    """

    kind: ScheduleKind
    tokens: float

    def __post_init__(self) -> None:
        check_word("schedule", self.kind, get_args(ScheduleKind))
        if not (math.isfinite(self.tokens) and self.tokens > 0):
            raise SteeringError(f"{self.kind} over {self.tokens} tokens", fix="give a number above 0")

    def coefficient(self, generated: int) -> float:
        """Return the factor at generated token number ``generated``, counted from 0."""
        if self.kind == "decay":
            return max(0.0, 1.0 - generated / self.tokens)
        return float(0.5 ** (generated / self.tokens))

    def __str__(self) -> str:
        return f"{self.kind} {number_text(self.tokens)}"


@final
@dataclass(frozen=True)
class Scope:
    """Tokens that are in every one of ``parts``; no parts means all tokens.

    Example:
        >>> Scope((Part("generated"), Part("first", count=8))).parts[1].count
        8
    """

    parts: tuple[Part, ...] = ()
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        kinds = {part.kind for part in self.parts}
        for a, b in _EXCLUDING:
            if a in kinds and b in kinds:
                raise _contradiction(f"{a} and {b}")
        first = min((part.count for part in self.parts if part.kind == "first"), default=math.inf)
        start = max((part.count for part in self.parts if part.kind == "from"), default=0)
        if start >= first:
            raise _contradiction(f"the first {first} and from {start}")
        before = {part.text for part in self.parts if part.kind == "before"}
        if both := before & {part.text for part in self.parts if part.kind == "after"}:
            raise _contradiction(f"before and after {min(both)!r}")
        if self.schedule is not None and (given := kinds & {"prompt", "system", "user"}):
            raise _contradiction(f"a {self.schedule.kind} over generated tokens and {min(given)}")

    @classmethod
    def of(cls, text: str) -> Scope:
        """Return a scope from its text form, such as ``"generated, first 8, half-life 16"``.

        Raises:
            SteeringError: The text is not a scope; the message points at the column.
        """
        cursor = Cursor(text, what="scope", example="generated, first 8")
        scope = read_scope(cursor)
        if cursor.skip() < len(text):
            raise cursor.error("expected ',' and another part")
        return scope

    def __str__(self) -> str:
        schedule = () if self.schedule is None else (self.schedule,)
        return ", ".join(map(str, (*self.parts, *schedule))) or "all"

    @property
    def is_all(self) -> bool:
        """Return True for every token at full force."""
        return not self.parts and self.schedule is None


def _contradiction(what: str) -> SteeringError:
    return SteeringError(f"no token can be in {what}", fix="drop one of the two")


ALL = Scope()


def read_scope(cursor: Cursor) -> Scope:
    """Read a scope from a longer text."""
    start = cursor.skip()
    parts: list[Part] = []
    schedule: Schedule | None = None
    while True:
        at = cursor.skip()
        item = _scope_item(cursor)
        if isinstance(item, Part):
            parts.append(item)
        elif item is not None and schedule is not None:
            raise cursor.error("there is a schedule already", at=at, fix="give one of decay and half-life")
        else:
            schedule = item or schedule
        if not cursor.take(","):
            break
    with cursor.blaming(start):
        return Scope(tuple(parts), schedule)


def _scope_item(cursor: Cursor) -> Part | Schedule | None:
    """Return a part or a schedule; None for ``all``."""
    at = cursor.skip()
    if cursor.word("all"):
        return None
    if kind := cursor.word(*PLAIN_PARTS):
        return Part(cast("PartKind", kind))
    if kind := cursor.word("after", "before"):
        cursor.expect(":", f'expected a text, such as {kind}:"Answer"')
        cursor.skip()
        text = cursor.quoted() if cursor.next == '"' else cursor.match(_UNQUOTED)
        with cursor.blaming(at):
            return Part(cast("PartKind", kind), text=text)
    if kind := cursor.word("first", "from"):
        count = _whole_number(cursor)
        with cursor.blaming(at):
            return Part(cast("PartKind", kind), count=count)
    if kind := cursor.word(*get_args(ScheduleKind)):
        tokens = cursor.number("number of tokens").value
        with cursor.blaming(at):
            return Schedule(cast("ScheduleKind", kind), tokens)
    word = cursor.peek_word()
    known = ("all", *get_args(PartKind), *get_args(ScheduleKind))
    problem = f"there is no scope {word!r}" if word else "expected a scope, such as generated"
    raise cursor.error(problem, at=at, fix=one_of(word, known) if word else None)


def _whole_number(cursor: Cursor) -> int:
    at = cursor.skip()
    number = cursor.number("number of tokens")
    if not number.value.is_integer():
        raise cursor.error(f"{number.text} is not a number of tokens", at=at, fix="give a whole number")
    return int(number.value)
