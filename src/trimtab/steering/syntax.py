"""Cursor over the text form: words, names, numbers and quoted texts, with errors that give the column."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, final

from trimtab.errors import SteeringError, TrimtabError

RESERVED = ("when", "and", "or", "not", "above", "below", "at", "until", "none")
DEEPEST = 64  # parentheses inside each other
LONG_TEXT = 40  # from here on a column is hard to count, and so is shown
_SHOWN = 60

_SPACE = re.compile(r"\s*")
_WORD = re.compile(r'[^\s:@+()\[\],<>"]+')
_NAME = re.compile(r'(?:[A-Za-z]:[\\/])?[^\s:@+()\[\],<>"]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\])')
_RUN = re.compile(r'[+-]?[^\s:@+()\[\],<>"]*[eE][+-]\d+[%z]?|[+-]?[^\s:@+()\[\],<>"]*')
_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(.*)", re.DOTALL)


class Name(NamedTuple):
    """Name of a vector as written; a quoted one is never a word of the language."""

    text: str
    quoted: bool


class Number(NamedTuple):
    """Number with its text and unit."""

    value: float
    text: str
    unit: str


@final
class Cursor:
    """Position in a text that is being parsed.

    Example:
        >>> cursor = Cursor("happy:0.5")
        >>> cursor.name().text, cursor.take(":"), cursor.number("strength").value
        ('happy', True, 0.5)
    """

    def __init__(self, text: str, *, what: str = "steering", example: str = "happy:0.5 + formal:-0.3") -> None:
        self.text = text
        self.at = 0
        self._what = what
        self._fix = f"write it like {example!r}"
        self._depth = 0

    @property
    def next(self) -> str:
        """Return the next character; empty at the end."""
        return self.text[self.at : self.at + 1]

    def skip(self) -> int:
        """Skip white space and return the position."""
        self.match(_SPACE)
        return self.at

    def take(self, mark: str) -> bool:
        """Skip white space and a mark; return False if the mark is not there."""
        self.skip()
        present = self.text.startswith(mark, self.at)
        self.at += len(mark) * present
        return present

    def expect(self, mark: str, why: str) -> None:
        """Skip a required mark."""
        if not self.take(mark):
            raise self.error(why)

    def peek_word(self) -> str:
        """Return the word after white space; empty if there is none."""
        match = _WORD.match(self.text, self.skip())
        return match[0] if match else ""

    def word(self, *among: str) -> str:
        """Skip and return one of these words; empty if the next word is another."""
        word = self.peek_word()
        if word not in among:
            return ""
        self.at += len(word)
        return word

    def name(self, why: str = "expected the name or path of a vector") -> Name:
        """Skip and return a vector's name, bare or in double quotes."""
        start = self.skip()
        if self.next == '"':
            text = self.quoted()
            if not text:
                raise self.error(why, at=start)
            return Name(text, quoted=True)
        name = self.match(_NAME)
        if not name:
            raise self.error(why)
        return Name(name, quoted=False)

    def quoted(self) -> str:
        r"""Skip and return a text in double quotes, in which ``\"`` is a quote and ``\\`` a backslash."""
        match = _QUOTED.match(self.text, self.skip())
        if not match:
            raise self.error('this quote is never closed; a quote inside is \\"', fix='close it with "')
        self.at = match.end()
        return _ESCAPE.sub(r"\1", match[1])

    def match(self, pattern: re.Pattern[str]) -> str:
        """Skip and return the match of a pattern here; empty if there is none."""
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return match[0] if match else ""

    def number(self, called: str, *, units: tuple[str, ...] = ()) -> Number:
        """Skip and return a finite number, with its unit if one follows."""
        start = self.skip()
        run = self.match(_RUN)
        article = "an" if called[0] in "aeiou" else "a"
        match = _NUMBER.fullmatch(run)
        if run.lstrip("+-").lower() in ("nan", "inf", "infinity"):
            raise self.error(f"the {called} {run} is not a number", at=start, fix="give a finite number")
        if not match or match[2] not in ("", *units):
            actual = repr(run or self.next) if run or self.next else "nothing"
            raise self.error(f"expected {article} {called}, found {actual}", at=start)
        value = float(match[1])
        if math.isinf(value):
            raise self.error(f"the {called} {match[1]} is too large", at=start, fix="give a smaller number")
        return Number(value, match[1], match[2] or (self.word(*units) if units else ""))

    @contextmanager
    def nested(self, at: int) -> Iterator[None]:
        """Enter parentheses or the operand of ``not``; refuse too deep nesting."""
        self._depth += 1
        if self._depth > DEEPEST:
            raise self.error(f"more than {DEEPEST} parentheses inside each other", at=at, fix="write it flatter")
        yield
        self._depth -= 1

    def error(self, why: str, *, at: int | None = None, fix: str | None = None) -> SteeringError:
        """Return a syntax error with the column and a fix."""
        place = self.at if at is None else at
        problem = f"cannot read the {self._what} {self.text!r} at column {place + 1}: {why}"
        return SteeringError(problem, fix=(fix or self._fix) + self._picture(place))

    @contextmanager
    def blaming(self, at: int) -> Iterator[None]:
        """Add the column to errors that are raised inside."""
        try:
            yield
        except TrimtabError as error:
            problem = f"in the {self._what} {self.text!r} at column {at + 1}: {error.problem}"
            picture = self._picture(at)
            if error.fix is None:
                raise type(error)(problem + picture) from None
            raise type(error)(problem, fix=error.fix + picture) from None

    def _picture(self, at: int) -> str:
        """Return the text around a place and a caret below; empty if the text is short or has several lines."""
        if len(self.text) <= LONG_TEXT or not self.text.isprintable():
            return ""
        start = max(0, at - _SHOWN // 2)
        return f"\n    {self.text[start : start + _SHOWN]}\n    {' ' * (at - start)}^"


def number_text(value: float) -> str:
    """Return the shortest text that reads back as the same number.

    Example:
        >>> number_text(2.0), number_text(0.1)
        ('2', '0.1')
    """
    return repr(float(value)).removesuffix(".0")


def name_text(name: str) -> str:
    """Return a name, quoted where it would be read as something else.

    Example:
        >>> name_text("happy"), name_text("a+b")
        ('happy', '"a+b"')
    """
    return name if _NAME.fullmatch(name) and name not in RESERVED else quoted_text(name)


def quoted_text(text: str) -> str:
    """Return a text in double quotes, as ``Cursor.quoted`` reads it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def one_of(word: str, known: Sequence[str]) -> str:
    """Return a suggestion for an unknown word.

    Example:
        >>> one_of("genrated", ("prompt", "generated"))
        "did you mean 'generated'?"
    """
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(known)}"


def check_word(what: str, word: str, known: Sequence[str]) -> None:
    """Refuse a word that is not among the known ones.

    Raises:
        SteeringError: It is not.
    """
    if word not in known:
        raise SteeringError(f"there is no {what} {word!r}", fix=one_of(str(word), known))


def percent_of(number: Number) -> float:
    """Return a percentage as a share, rounded once."""
    if number.value == 0.0:
        return 0.0
    mantissa, _, exponent = number.text.lower().partition("e")
    return float(f"{mantissa}e{int(exponent or 0) - 2}")
