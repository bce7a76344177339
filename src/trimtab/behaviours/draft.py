"""First draft of a behaviour file: complete, commented text from a name and a few words for each pole."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence

from trimtab.behaviours.schema import DEFAULT_TEMPLATES
from trimtab.errors import BehaviourError

ARTICLES = ("a", "an", "the")
LABEL_WORDS = 4

# Each fits any phrase that follows "You are". Both poles get the same ones, so that they differ in the phrase alone.
FRAMES = ("{phrase}", "unmistakably {phrase}", "first and foremost {phrase}", "{phrase} in everything you say")


def draft(name: str, positive: Sequence[str], negative: Sequence[str]) -> str:
    """Return the text of a behaviour file: valid, commented, with the optional fields ready to be uncommented.

    From a single phrasing of each pole, four are made in frames that both poles share; several are taken as they are.

    Args:
        name: Name of the behaviour: lower-case letters, digits, ``-`` and ``_``.
        positive: Phrasings of the positive pole that fit after "You are": "a pirate", "happy", "someone who never
            lies".
        negative: Phrasings of the negative pole, as many.

    Raises:
        BehaviourError: The name is not valid, a pole is empty, both poles say the same, or one has more phrasings
            than the other.

    Example:
        >>> print(draft("mood", ["happy"], ["sad"]).split("[negative]")[1].split("]")[0])
        <BLANKLINE>
        label = "sad"
        personas = [
            "sad",
            "unmistakably sad",
            "first and foremost sad",
            "sad in everything you say",
        <BLANKLINE>
    """
    check_name(name)
    sides = {"positive": [_clean(text) for text in positive], "negative": [_clean(text) for text in negative]}
    _check(sides)
    plus, minus = sides["positive"], sides["negative"]
    labels = _label(plus[0]), _label(minus[0])
    if labels[0].casefold() == labels[1].casefold():
        labels = plus[0], minus[0]
    if len(plus) == 1:
        # Not str.format: the phrase may hold braces.
        plus, minus = ([frame.replace("{phrase}", text) for frame in FRAMES] for (text,) in (plus, minus))
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
    """Refuse a name that is not valid for a behaviour.

    Raises:
        BehaviourError: It is not lower-case letters, digits, ``-`` and ``_``; the message suggests one that is.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        return
    near = slug(name)
    hint = f"try {near!r}: " if near else ""
    raise BehaviourError(f"{name!r} cannot be a behaviour's name", fix=f"{hint}lower-case letters, digits, '-' and '_'")


def slug(text: str) -> str:
    """Return the nearest valid name; empty where no letter or digit is left.

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
    """Return one trimmed line that fits after "You are", without a final full stop."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    line = re.sub(r"^(?:you are|you're)\s+", "", line, flags=re.IGNORECASE).strip(".!;, ")
    first, _, rest = line.partition(" ")
    if first.lower() == "who" and rest:
        return f"someone who {rest}"
    return f"{first.lower()} {rest}" if rest and first.lower() in (*ARTICLES, "someone") else line


def _bare(text: str) -> str:
    return " ".join(word for word in re.findall(r"\w+", text.casefold()) if word not in ARTICLES)


def _label(text: str) -> str:
    """Return the first words of a phrase for tables, without an article."""
    words = re.sub(r"^(?:someone who|an?|the)\s+", "", text).split()[:LABEL_WORDS]
    return " ".join(words).rstrip(",")


def _quoted(text: str) -> str:
    """Return a TOML string; JSON's escapes are valid in TOML."""
    return json.dumps(text, ensure_ascii=False)


def _listed(personas: Sequence[str]) -> str:
    return "\n".join(f"    {_quoted(persona)}," for persona in personas)


def _commented_template(template: dict[str, str]) -> str:
    return "\n".join(["# [[templates]]", *(f"# {key} = {_quoted(text)}" for key, text in template.items())])


_TEXT = """\
# A behaviour: an axis between two poles, along which a control vector moves a model.

# Lower-case letters, digits, '-' and '_'. Trained vectors get this name.
name = "{name}"

# What changes along the axis, in one sentence; for people.
description = {description}

# Openings of an answer, each cut at every token: "builtin", a text file beside this one (one a line), or a list.
# suffixes = ["I walked to the shop and", "The first thing to do is", "My uncle once told me that"]

# Positive strength steers towards this pole. The label is for tables. Each persona must fit after "You are ...";
# several unlike ones are better than one, and line by line the two poles should differ in the point alone.
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

# How the model is asked to be a persona: by a system message, a user message or both. The default ones are:
{templates}

# Questions that the finished vector is evaluated on, instead of the built-in everyday ones.
# [evaluation]
# prompts = ["What did you do today?", "Tell me about your home town."]
"""
