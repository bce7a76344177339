"""Load a behaviour from a file and check it: the two poles of a vector in words."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trimtab.behaviours.schema import (
    LIST_FORM,
    TEXT_FORM,
    BehaviourFile,
    ChoiceFile,
    MessageFile,
    PairFile,
    PoleKeywords,
)
from trimtab.errors import BehaviourError, near_names


@dataclass(frozen=True)
class NeutralPrompts:
    """User messages that lean to no behaviour; no message is in two lists. The first two lists are alike in kind.

    Attributes:
        calibration: Prompts on which strength is calibrated.
        held_out: Prompts on which calibration is checked.
        more: Others, of these kinds and more, for fits that need many messages.
    """

    calibration: tuple[str, ...]
    held_out: tuple[str, ...]
    more: tuple[str, ...]


def _data(name: str) -> str:
    return (resources.files("trimtab.behaviours") / "data" / name).read_text(encoding="utf-8")


@cache
def builtin_suffixes() -> tuple[str, ...]:
    """Return the built-in sentence openings, with which an answer under a persona begins."""
    return tuple(line for line in _data("suffixes.txt").splitlines() if line)


@cache
def neutral_prompts() -> NeutralPrompts:
    """Return the built-in neutral prompts.

    Example:
        >>> len(neutral_prompts().calibration) == len(neutral_prompts().held_out)
        True
    """
    halves = tomllib.loads(_data("neutral.toml"))
    return NeutralPrompts(tuple(halves["calibration"]), tuple(halves["held_out"]), tuple(halves["more"]))


@dataclass(frozen=True)
class Lookalikes:
    """Requests that a reader of harmful requests takes for the other kind most easily.

    Attributes:
        harmful: Harmful requests in innocent words.
        harmless: Harmless requests that look harmful.
    """

    harmful: tuple[str, ...]
    harmless: tuple[str, ...]


@cache
def lookalikes() -> Lookalikes:
    """Return the built-in look-alikes; none is in the example behaviour ``harmful``.

    Example:
        >>> lookalikes().harmless[0]
        'How do I kill a Python process?'
    """
    kinds = tomllib.loads(_data("lookalikes.toml"))
    return Lookalikes(tuple(kinds["harmful"]), tuple(kinds["harmless"]))


MATCHING, NOT_MATCHING = "answer_matching_behavior", "answer_not_matching_behavior"
OPPOSITE = {"yes": " No", "no": " Yes", "(a)": " (B)", "(b)": " (A)"}
ENDS_IN_OPTION = re.compile(r"(.*\S)\s*(\([A-Z]\))\s*", re.DOTALL)
FIX = f"an entry has question, positive and negative, or question (or statement) and {MATCHING}"


@dataclass(frozen=True)
class ChoiceText:
    """A question and two answers to it, one of each pole; the answers may begin with a space."""

    question: str
    positive: str
    negative: str


def _parse_choices(text: str, *, where: str) -> tuple[ChoiceText, ...]:
    if text.lstrip().startswith("["):
        entries = _json(text, where=where)
        return tuple(_choice(entry, where=f"{where}: entry {n}") for n, entry in enumerate(entries, start=1))
    lines = enumerate(text.split("\n"), start=1)  # a JSON string may hold U+2028
    numbered = ((f"{where}:{n}", line) for n, line in lines if line.strip())
    return tuple(_choice(_json(line, where=place), where=place) for place, line in numbered)


def _json(text: str, *, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BehaviourError(f"{where}: invalid JSON: {error}", fix=FIX) from None
    except RecursionError:
        raise BehaviourError(f"{where}: JSON that is nested too deeply", fix=FIX) from None


def _choice(entry: object, *, where: str) -> ChoiceText:
    if not isinstance(entry, dict):
        raise BehaviourError(f"{where}: {str(entry)[:60]!r} is not an object", fix=FIX)
    if MATCHING in entry:
        matching = _text(entry, MATCHING, where=where)
        opposite = OPPOSITE.get(matching.strip().lower())
        other = opposite if opposite and NOT_MATCHING not in entry else _text(entry, NOT_MATCHING, where=where)
        if "question" in entry or "statement" not in entry:
            question = _text(entry, "question", where=where)
        else:
            statement = _text(entry, "statement", where=where)
            question = f'Is this something that you would say? Answer Yes or No.\n"{statement}"'
        choice = ChoiceText(question, matching, other)
    elif "question" in entry:
        choice = ChoiceText(*(_text(entry, key, where=where) for key in ("question", "positive", "negative")))
    else:
        choice = _split_texts(entry, where=where)
    if choice.positive.strip() == choice.negative.strip():
        raise BehaviourError(f"{where}: both answers read {choice.positive.strip()!r}", fix="the answers must differ")
    return choice


def _text(entry: Mapping[str, Any], key: str, *, where: str) -> str:
    if key not in entry:
        raise BehaviourError(f"{where}: {key}: is required but missing", fix=FIX)
    value = entry[key]
    if not isinstance(value, str) or not value.strip():
        raise BehaviourError(f"{where}: {key}: is not a text (found {str(value)[:60]!r})", fix=FIX)
    return value


def _split_texts(entry: Mapping[str, Any], *, where: str) -> ChoiceText:
    """Split a pair of whole texts before the option in which each ends."""
    positive, negative = (ENDS_IN_OPTION.fullmatch(_text(entry, key, where=where)) for key in ("positive", "negative"))
    if positive is None or negative is None or positive[1] != negative[1]:
        raise BehaviourError(f"{where}: the texts are not alike up to an option such as (A) at their end", fix=FIX)
    return ChoiceText(positive[1], positive[2], negative[2])


@dataclass(frozen=True)
class Message:
    """One chat message."""

    role: str
    content: str


@dataclass(frozen=True)
class Pole:
    """One end of the axis: a label for tables, and phrasings that fit into a template's ``{persona}``."""

    label: str
    personas: tuple[str, ...]


@dataclass(frozen=True)
class Template:
    """Form in which the model reads a persona: a system message, a user message, or both."""

    system: str | None = None
    user: str | None = None

    def messages(self, persona: str) -> tuple[Message, ...]:
        """Return the chat that asks the model to be ``persona``."""
        parts = (("system", self.system), ("user", self.user))
        return tuple(Message(role, text.replace("{persona}", persona)) for role, text in parts if text)

    def instruction(self, persona: str) -> str:
        """Return the persona as a system prompt, under which the model answers in character."""
        carrier = self.system if self.system and "{persona}" in self.system else self.user
        return (carrier or "{persona}").replace("{persona}", persona)


@dataclass(frozen=True)
class ContrastiveText:
    """Pair given directly: two chats, read at the end of the generation prompt."""

    positive: tuple[Message, ...]
    negative: tuple[Message, ...]


@dataclass(frozen=True)
class Behaviour:
    """A named axis with a positive and a negative pole.

    Attributes:
        name: Lower-case identifier.
        description: What changes along the axis.
        positive: The pole that positive strength steers towards.
        negative: The pole that negative strength steers towards.
        templates: Forms in which the model reads a persona.
        suffixes: Openings of the answer; each is cut at every token.
        pairs: Pairs given directly; when there are any, they are trained on instead of personas.
        evaluation_prompts: User messages that take the place of the built-in held-out prompts.
        choices: Questions with an answer of each pole to choose from, for evaluation.
        keywords: Words that identify answers of each pole, for evaluation; None if there are none.
        source: The file that it came from, for messages.

    Example:
        >>> Behaviour.load("happy").negative.label
        'sad'
    """

    name: str
    description: str
    positive: Pole
    negative: Pole
    templates: tuple[Template, ...]
    suffixes: tuple[str, ...]
    pairs: tuple[ContrastiveText, ...] = ()
    evaluation_prompts: tuple[str, ...] = ()
    choices: tuple[ChoiceText, ...] = ()
    keywords: PoleKeywords | None = None
    source: str = field(default="", compare=False)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Behaviour:
        """Load a behaviour of the zoo or an example by name, or any TOML file by path.

        The example ``harmful`` has pairs of harmful and harmless requests, for a reader of them.

        Raises:
            BehaviourError: Nothing is found there (with near names), or the file does not describe a behaviour: the
                message names the file, the key, the value and what was expected.
        """
        path = Path(os.path.expanduser(name_or_path))  # noqa: PTH111 - Path.expanduser raises without a home
        if path.suffix == ".toml" or os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises on overlong names
            return _from_file(path)
        name = str(name_or_path)
        for folder in ("zoo", "examples"):
            if name in _names_in(folder):
                text = (_packaged(folder) / f"{name}.toml").read_text(encoding="utf-8")
                return _from_text(text, where=f"{name} ({folder})", folder=Path())
        if len(path.parts) > 1:
            return _from_file(path)
        hint = near_names(name, zoo_names()) or f"there are: {', '.join(zoo_names())}."
        raise BehaviourError(f"no behaviour named {name!r}", fix=f"{hint} A path to a .toml file works too")

    @classmethod
    def parse(cls, text: str, *, where: str = "the behaviour") -> Behaviour:
        """Return a behaviour from the text of its file, which may not name other files.

        Raises:
            BehaviourError: It does not describe a behaviour, or names a file.

        Example:
            >>> Behaviour.parse("name = 'x'")
            Traceback (most recent call last):
            ...
            trimtab.errors.BehaviourError: the behaviour: description: is missing; see docs/behaviours.md for the fields
        """
        return _from_text(text, where=where, folder=None)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of all fields but the source, in hexadecimal."""
        content = asdict(self)
        content.pop("source")
        for later in ("choices", "keywords"):  # fields that earlier versions did not have
            if not content[later]:
                content.pop(later)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_choices(path: Path, *, what: str = "choices file") -> tuple[ChoiceText, ...]:
    """Return the choices of a file: a JSON list, or one JSON object a line, in one of three formats.

    An entry has ``question``, ``positive`` and ``negative``; or ``positive`` and ``negative`` that end in different
    options; or ``question`` or ``statement`` with the matching answer, as in Anthropic's model-written evals.

    Raises:
        BehaviourError: It cannot be read, is empty, or is of none of these formats: the line or entry is named.
    """
    choices = _parse_choices(_read(path, what=what), where=str(path))
    if not choices:
        raise BehaviourError(f"{what} {str(path)!r} has no choices", fix="give at least one")
    return choices


def zoo_names() -> tuple[str, ...]:
    """Return the names of the behaviours that come with trimtab."""
    return _names_in("zoo")


@cache
def _names_in(folder: str) -> tuple[str, ...]:
    return tuple(sorted(entry.name[:-5] for entry in _packaged(folder).iterdir() if entry.name.endswith(".toml")))


def _packaged(folder: str) -> Any:
    return resources.files("trimtab.behaviours") / folder


def _read(path: Path, *, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BehaviourError(f"{what} {str(path)!r} does not exist", fix="check the path") from None
    except UnicodeDecodeError as error:
        raise BehaviourError(f"{what} {str(path)!r} is not UTF-8 ({error.reason})", fix="save it as UTF-8") from None
    except OSError as error:
        raise BehaviourError(f"{what} {str(path)!r} cannot be read: {error.strerror}", fix="check the path") from None


def _from_file(path: Path) -> Behaviour:
    return _from_text(_read(path, what="behaviour file"), where=str(path), folder=path.parent)


def _from_text(text: str, *, where: str, folder: Path | None) -> Behaviour:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BehaviourError(f"{where} is not valid TOML: {error}", fix="mend the line that it names") from None
    try:
        parsed = BehaviourFile.model_validate(raw)
    except ValidationError as error:
        raise BehaviourError(f"{where}: {_first_problem(error)}", fix="see docs/behaviours.md for the fields") from None
    keywords = parsed.evaluation.keywords
    behaviour = Behaviour(
        name=parsed.name,
        description=parsed.description,
        positive=Pole(parsed.positive.label, tuple(parsed.positive.personas)),
        negative=Pole(parsed.negative.label, tuple(parsed.negative.personas)),
        templates=tuple(Template(t.system, t.user) for t in parsed.templates),
        suffixes=_suffixes(parsed.suffixes, where=where, folder=folder),
        pairs=_pairs(parsed.pairs, where=where, folder=folder),
        evaluation_prompts=tuple(parsed.evaluation.prompts),
        choices=_choices(parsed.evaluation.choices, where=where, folder=folder),
        keywords=PoleKeywords(tuple(keywords.positive), tuple(keywords.negative)) if keywords else None,
        source=where,
    )
    _check(behaviour, pairs_given=parsed.pairs is not None)
    return behaviour


def _first_problem(error: ValidationError) -> str:
    """Return one line on a validation error: the key, what is wrong, the value; and how many more errors there are."""
    first, *rest = error.errors(include_url=False)
    key = ".".join(str(part) for part in first["loc"] if part not in (TEXT_FORM, LIST_FORM)) or "the file"
    value = "" if first["type"] == "missing" else f" (found {str(first['input'])[:60]!r})"
    more = f" [and {len(rest)} more]" if rest else ""
    message = {
        "extra_forbidden": "is not a field of a behaviour file",
        "missing": "is required but missing",
    }.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{key}: {message}{value}{more}"


def _beside(folder: Path | None, name: str, where: str) -> Path:
    """Return the path of a file that a behaviour's file names.

    Raises:
        BehaviourError: There is no folder: the behaviour is bare text.
    """
    if folder is None:
        raise BehaviourError(f"{where} names the file {name[:80]!r}", fix="write its content into the behaviour")
    return folder / name


def _suffixes(given: str | list[str], *, where: str, folder: Path | None) -> tuple[str, ...]:
    if given == "builtin":
        return builtin_suffixes()
    if isinstance(given, str):
        lines = _read(_beside(folder, given, where), what=f"{where}: suffixes file").split("\n")
        given = [line.strip() for line in lines if line.strip()]
    if not given:
        raise BehaviourError(f"{where}: suffixes: no suffixes", fix="give at least one opening, or leave the field out")
    return tuple(given)


def _pairs(given: str | list[PairFile] | None, *, where: str, folder: Path | None) -> tuple[ContrastiveText, ...]:
    if given is None:
        return ()
    if isinstance(given, str):
        path = _beside(folder, given, where)
        lines = _read(path, what=f"{where}: pairs file").split("\n")  # a JSON string may hold U+2028
        given = [_pair_line(line, where=f"{path}:{n}") for n, line in enumerate(lines, start=1) if line.strip()]
    return tuple(ContrastiveText(_chat(pair.positive), _chat(pair.negative)) for pair in given)


def _pair_line(line: str, *, where: str) -> PairFile:
    try:
        return PairFile.model_validate_json(line)
    except ValidationError as error:
        raise BehaviourError(
            f"{where}: {_first_problem(error)}", fix='each line is {"positive": ..., "negative": ...}'
        ) from None


def _chat(given: str | list[MessageFile]) -> tuple[Message, ...]:
    if isinstance(given, str):
        return (Message("user", given),)
    return tuple(Message(message.role, message.content) for message in given)


def _choices(given: str | list[ChoiceFile] | None, *, where: str, folder: Path | None) -> tuple[ChoiceText, ...]:
    if given is None:
        return ()
    if isinstance(given, str):
        return read_choices(_beside(folder, given, where), what=f"{where}: choices file")
    return tuple(ChoiceText(choice.question, choice.positive, choice.negative) for choice in given)


def _check(behaviour: Behaviour, *, pairs_given: bool) -> None:
    """Refuse what is well-formed but cannot make a contrast."""
    where = behaviour.source
    if pairs_given:
        if len(behaviour.pairs) < 2:
            count = "only one pair" if behaviour.pairs else "no pairs"
            raise BehaviourError(f"{where}: pairs: {count}", fix="give at least two (dozens are better)")
        for n, pair in enumerate(behaviour.pairs, start=1):
            if pair.positive == pair.negative:
                raise BehaviourError(f"{where}: pairs: pair {n} has the same text on both sides", fix="mend or drop it")
    for side, pole in (("positive", behaviour.positive), ("negative", behaviour.negative)):
        if not pole.personas and not pairs_given:
            raise BehaviourError(f"{where}: {side}.personas: the pole is empty", fix="give at least one persona")
    if bool(behaviour.positive.personas) != bool(behaviour.negative.personas):
        raise BehaviourError(f"{where}: one pole has personas and the other has none", fix="give both, or neither")
    both = {p.casefold() for p in behaviour.positive.personas} & {p.casefold() for p in behaviour.negative.personas}
    if both:
        raise BehaviourError(
            f"{where}: positive and negative share the persona {min(both)!r}", fix="the poles must differ"
        )
