"""A first draft of a behaviour file: from a name and a few words for each pole, text that is complete and explained."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from trimtab.behaviours.schema import DEFAULT_TEMPLATES
from trimtab.errors import BehaviourError

Kind: TypeAlias = Literal["noun", "adjective", "state", "clause"]

ARTICLES = ("a", "an", "the")
DETERMINERS = (*ARTICLES, "some", "someone", "somebody", "one", "my", "your", "his", "her", "our", "their", "this")
ADVERBS = ("always", "never", "often", "only", "rarely", "hardly", "seldom", "usually", "constantly")
INTENSIFIERS = ("extremely", "very", "really", "so", "deeply", "highly", "terribly", "utterly", "completely")
PREDICATIVE = (
    "afraid",
    "alive",
    "alone",
    "ashamed",
    "asleep",
    "awake",
    "aware",
    "glad",
    "ill",
    "ready",
    "sorry",
    "well",
)
VOWEL_BUT_A = re.compile(r"(?:uni[^nm]|us[aeiu]|eu|one\b|once\b|uto|ubi)", re.IGNORECASE)
SILENT_H = re.compile(r"(?:hour|honest|honour|honor|heir)", re.IGNORECASE)
ADJECTIVE_ENDINGS = ("an", "ish", "ese", "ic", "al", "ous", "ful", "y")  # of capitalised ones: Victorian, Gothic
LABEL_WORDS = 3
LABEL_STOPS = ("who", "that", "which", "with", "of", "for", "in", "on", "at", "by", "to", "and", "or", "but", "as")

# Every frame is laid on both poles, so that nothing differs between them but the words that were given.
FRAMES: dict[Kind, tuple[str, ...]] = {
    "noun": ("{x}", "someone who talks and thinks like {x}", "the very picture of {x}", "in every word and deed {x}"),
    "adjective": ("extremely {x}", "{a} {x} person", "someone who is always {x}", "{x} through and through"),
    "state": ("{x}", "forever {x}", "someone who is always {x}", "a person who is plainly {x}"),
    "clause": ("someone who {x}", "a person who {x}", "the kind of person who {x}", "known to all as someone who {x}"),
}


@dataclass(frozen=True)
class _Words:
    """The words of one pole: what kind they are, and the core that goes into frames."""

    kind: Kind
    core: str

    @property
    def as_noun(self) -> str:
        """The same as a noun phrase, for a pole whose other end is of another kind."""
        if self.kind == "adjective" and not _predicative(self.core):
            return f"{_article(self.core)} {self.core} person"
        return {"noun": self.core, "clause": f"someone who {self.core}"}.get(self.kind, f"someone who is {self.core}")


def draft(name: str, positive: Sequence[str], negative: Sequence[str]) -> str:
    """The text of a behaviour file: valid, commented, with the optional fields there to be uncommented.

    From a single phrasing of each pole, four are made in frames that both poles share; several are taken as they are.

    Args:
        name: Of the behaviour: lower-case letters, digits, ``-`` and ``_``.
        positive: Phrasings of the positive pole: "a pirate", "happy", "someone who never lies", "speaks in rhymes".
        negative: Phrasings of the negative pole, as many.

    Raises:
        BehaviourError: The name is no such identifier, a pole is empty, both poles say the same, or one has more
            phrasings than the other.

    Example:
        >>> print(draft("mood", ["happy"], ["sad"]).split("[negative]")[1].split("]")[0])
        <BLANKLINE>
        label = "sad"
        personas = [
            "extremely sad",
            "a sad person",
            "someone who is always sad",
            "sad through and through",
        <BLANKLINE>
    """
    check_name(name)
    sides = {"positive": [_clean(text) for text in positive], "negative": [_clean(text) for text in negative]}
    _check(sides)
    plus, minus = sides["positive"], sides["negative"]
    labels = _labels(plus[0], minus[0])
    if len(plus) == 1:
        plus, minus = _phrasings(plus[0], minus[0])
    return _TEXT.format(
        name=name,
        description=_quoted(f"{labels[0][0].upper()}{labels[0][1:]} against {labels[1]}."),
        positive_label=_quoted(labels[0]),
        positive_personas=_listed(plus),
        negative_label=_quoted(labels[1]),
        negative_personas=_listed(minus),
        templates="\n".join(_commented_template(template) for template in DEFAULT_TEMPLATES),
    )


def check_name(name: str) -> None:
    """Refuse a name that no behaviour can have.

    Raises:
        BehaviourError: It is not lower-case letters, digits, ``-`` and ``_``; the message suggests one that is.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        return
    near = slug(name)
    hint = f"try {near!r}: " if near else ""
    raise BehaviourError(f"{name!r} cannot be a behaviour's name", fix=f"{hint}lower-case letters, digits, '-' and '_'")


def slug(text: str) -> str:
    """The nearest name that a behaviour may have; empty where no letter or digit is left.

    Example:
        >>> slug("Sea Pirate!")
        'sea-pirate'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")


def _check(sides: dict[str, list[str]]) -> None:
    for side, texts in sides.items():
        if not texts or not all(map(_bare, texts)):
            raise BehaviourError(f"the {side} pole is empty", fix="say in a few words what it is, such as 'a pirate'")
    plus, minus = sides["positive"], sides["negative"]
    same = {_bare(text) for text in plus} & {_bare(text) for text in minus}
    if same:
        raise BehaviourError(f"both poles say {min(same)!r}", fix="the poles must differ")
    if len(plus) != len(minus):
        raise BehaviourError(
            f"{len(plus)} positive and {len(minus)} negative phrasings",
            fix="give as many of each, in matching order; or one of each, to have more made from them",
        )


def _clean(text: str) -> str:
    """One trimmed line that fits after "You are", without a final full stop."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    line = re.sub(r"^(?:you are|you're)\s+", "", line, flags=re.IGNORECASE).strip(".!;, ")
    first, _, rest = line.partition(" ")
    return f"{first.lower()} {rest}" if rest and first.lower() in DETERMINERS else line


def _bare(text: str) -> str:
    return " ".join(word for word in re.findall(r"\w+", text.casefold()) if word not in ARTICLES)


# Which kind of words -----------------------------------------------------------------------------------------------


def _words(text: str) -> _Words:
    """Tell nouns, adjectives, other states and clauses apart by their first words: a rule of thumb."""
    words = text.split()
    first = words[0].lower()
    who = re.match(r"(?:(?:someone|somebody|one|a person)\s+)?(?:who|that)\s+(.+)", text, re.IGNORECASE)
    if who:
        return _Words("clause", who[1])
    if first in DETERMINERS or _is_name(words):
        return _Words("noun", text)
    if _is_verb(words):
        return _Words("clause", text)
    if first in ADVERBS and len(words) > 1:  # "never late"
        return _Words("clause", f"is {text}")
    core = " ".join(words[1:]) if first in INTENSIFIERS and len(words) > 1 else text
    return _Words("adjective" if _is_adjective(core) else "state", core)


def _is_name(words: Sequence[str]) -> bool:
    return all(word[0].isupper() for word in words) and not words[-1].endswith(ADJECTIVE_ENDINGS)


def _is_verb(words: Sequence[str]) -> bool:
    """Whether the words begin with a verb such as "speaks", an adverb before it or not."""
    rest = [word.lower() for word in words]
    while rest and rest[0] in ADVERBS:
        rest = rest[1:]
    if not rest or not rest[0].endswith("s") or rest[0].endswith(("ss", "us", "is")):
        return False
    return len(words) > 1


def _is_adjective(text: str) -> bool:
    """Whether it is one adjective or several in a row: "calm and peaceful"."""
    parts = [part for part in re.split(r",\s*(?:and\s+)?|\s+(?:and|but|or)\s+", text) if part]
    return all(" " not in part and not part.lower().endswith("ing") for part in parts)


def _predicative(core: str) -> bool:
    return any(word in PREDICATIVE for word in re.findall(r"\w+", core.lower()))


def _article(core: str) -> str:
    vowel = core[0].lower() in "aeiou" and not VOWEL_BUT_A.match(core)
    return "an" if vowel or SILENT_H.match(core) else "a"


# Phrasings and labels ----------------------------------------------------------------------------------------------


def _phrasings(positive: str, negative: str) -> tuple[list[str], list[str]]:
    plus, minus = _words(positive), _words(negative)
    if plus.kind != minus.kind:
        plus, minus = _Words("noun", plus.as_noun), _Words("noun", minus.as_noun)
    frames = FRAMES[plus.kind]
    if plus.kind == "adjective" and (_predicative(plus.core) or _predicative(minus.core)):
        frames = tuple(frame.replace("{a} {x} person", "a person who is {x}") for frame in frames)
    return _framed(frames, plus.core), _framed(frames, minus.core)


def _framed(frames: Sequence[str], core: str) -> list[str]:
    # not str.format: the words may hold braces
    return [frame.replace("{a}", _article(core)).replace("{x}", core) for frame in frames]


def _labels(positive: str, negative: str) -> tuple[str, str]:
    plus, minus = _label(positive), _label(negative)
    return (plus, minus) if plus.casefold() != minus.casefold() else (_core(positive), _core(negative))


def _core(text: str) -> str:
    words = _words(text).core.split()
    bare = words[1:] if len(words) > 1 and words[0].lower() in (*ARTICLES, "is") else words
    return " ".join(bare)


def _label(text: str) -> str:
    """The words for tables: without an article, and cut before what only describes them further."""
    given, words = _words(text), _core(text).split()
    if given.kind == "state" and words[0].lower() in LABEL_STOPS:
        words = [word for word in words[1:] if word.lower() not in ARTICLES] or words
    if given.kind in ("noun", "adjective"):
        stop = next((n for n, word in enumerate(words) if n and word.lower() in LABEL_STOPS), len(words))
        stop = min([stop, *(n + 1 for n, word in enumerate(words) if word.endswith(","))])
        words = words[:stop]
    words = words[:LABEL_WORDS]
    while len(words) > 1 and words[-1].lower() in (*LABEL_STOPS, *ARTICLES):
        words = words[:-1]
    return " ".join(words).rstrip(",") or text


# The text ----------------------------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    """A TOML string; JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False)


def _listed(personas: Sequence[str]) -> str:
    return "\n".join(f"    {_quoted(persona)}," for persona in personas)


def _commented_template(template: dict[str, str]) -> str:
    return "\n".join(["# [[templates]]", *(f"# {key} = {_quoted(text)}" for key, text in template.items())])


_TEXT = """\
# A behaviour: an axis between two poles, along which a control vector moves a model.

# Lower-case letters, digits, '-' and '_'. Trained vectors go by this name.
name = "{name}"

# What changes along the axis, in one sentence; for people.
description = {description}

# Openings of an answer, each cut at every token: "builtin", a text file beside this one (one a line), or a list.
# suffixes = ["I walked to the shop and", "The first thing to do is", "My uncle once told me that"]

# Positive strength steers towards this pole. The label is for tables. Each persona must fit after "You are ...";
# several unlike ones are better than one, and line by line the two poles should differ in nothing but the point.
[positive]
label = {positive_label}
personas = [
{positive_personas}
]

# Negative strength steers towards this one.
[negative]
label = {negative_label}
personas = [
{negative_personas}
]

# How a persona is put to the model: a system message, a user message or both. These are the ones used if none is given.
{templates}

# What the finished vector is tried on, instead of the built-in everyday questions.
# [evaluation]
# prompts = ["What did you do today?", "Tell me about your home town."]
"""
