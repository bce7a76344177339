"""A prompt's rules: its items where it has a list, its sentences where it has none."""

from __future__ import annotations

import re
from dataclasses import dataclass

ITEM = re.compile(r"^[ \t]*(?:[-*•–]|\(?\d{1,2}[.)])[ \t]+\S.*$", re.MULTILINE)
SENTENCE = re.compile(r"\S.*?(?:[.!?][\"'”’)]*(?=\s+[^\sa-z]|\s*\Z)|\n|\Z)", re.DOTALL)
MOST = 12  # rules; more take long to weigh and to read


@dataclass(frozen=True)
class Rule:
    """One instruction of a prompt.

    Attributes:
        text: As it stands there, without its mark.
        prompt: The whole prompt.
        without: It without the rule.
    """

    text: str
    prompt: str
    without: str


def rules_of(prompt: str) -> tuple[Rule, ...]:
    r"""The rules of a prompt, ``MOST`` at most; none where it is a single one.

    Example:
        >>> [rule.text for rule in rules_of("You are a guide.\n- Be brief.\n- Say where to eat.")]
        ['Be brief.', 'Say where to eat.']
        >>> rules_of("Be brief. Be kind.")[0].without
        'Be kind.'
        >>> rules_of("Be brief.")
        ()
    """
    found = [match.span() for match in ITEM.finditer(prompt)]
    if len(found) < 2:
        found = [match.span() for match in SENTENCE.finditer(prompt) if match.group().strip()]
    if len(found) < 2:
        return ()
    return tuple(_rule(prompt, start, stop) for start, stop in found[:MOST])


def first_sentence(prompt: str) -> str:
    """A prompt cut down to its first sentence; all of it where that is one."""
    match = SENTENCE.search(prompt.strip())
    return match.group().strip() if match else prompt.strip()


def _rule(prompt: str, start: int, stop: int) -> Rule:
    text = re.sub(r"^\s*(?:[-*•–]|\(?\d{1,2}[.)])\s+", "", prompt[start:stop]).strip()
    before, after = prompt[:start].rstrip(" \t"), prompt[stop:].lstrip(" \t")
    if before.endswith("\n") or not before:
        after = after.removeprefix("\n")
    elif after and not after.startswith("\n"):
        before += " "
    return Rule(text, prompt.strip(), (before + after).strip())
