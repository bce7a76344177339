"""Questions with two answers to choose from, and reading them from files in public formats.

Three kinds of entry are known, in a JSON list or one a line:

- our own: ``question``, ``positive``, ``negative``;
- ``question`` (or ``statement``, which one would say or not), ``answer_matching_behavior`` and, unless
  it is plain, ``answer_not_matching_behavior``: as in the persona evaluations of Perez et al. (2022, arXiv:2212.09251)
  and in the data of CAA (Rimsky et al. 2024, arXiv:2312.06681);
- ``positive`` and ``negative`` as whole texts that are alike up to the option in which they end: CAA's training pairs.

Further keys, such as ``label_confidence``, are passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trimtab.errors import BehaviourError

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


def parse_choices(text: str, *, where: str) -> tuple[ChoiceText, ...]:
    """The choices of a JSON list, or of one JSON object a line.

    Args:
        text: What the file says.
        where: Its name, for messages.

    Raises:
        BehaviourError: It is no JSON, or an entry is of no known kind: the message names the line or the entry.

    Example:
        >>> entry = '{"statement": "I like tea", "answer_matching_behavior": " Yes"}'
        >>> parse_choices(entry, where="tea.jsonl")[0].negative
        ' No'
    """
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
        choice = ChoiceText(_question(entry, where=where), matching, other)
    elif "question" in entry:
        question, positive, negative = (_text(entry, key, where=where) for key in ("question", "positive", "negative"))
        choice = ChoiceText(question, positive, negative)
    else:
        choice = _whole(entry, where=where)
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


def _question(entry: Mapping[str, Any], *, where: str) -> str:
    if "question" in entry or "statement" not in entry:
        return _text(entry, "question", where=where)
    statement = _text(entry, "statement", where=where)
    return f'Is this something that you would say? Answer Yes or No.\n"{statement}"'


def _whole(entry: Mapping[str, Any], *, where: str) -> ChoiceText:
    """A pair of whole texts, parted before the option in which each ends."""
    positive, negative = (ENDS_IN_OPTION.fullmatch(_text(entry, key, where=where)) for key in ("positive", "negative"))
    if positive is None or negative is None or positive[1] != negative[1]:
        raise BehaviourError(f"{where}: the texts are not alike up to an option such as (A) at their end", fix=FIX)
    return ChoiceText(positive[1], positive[2], negative[2])
