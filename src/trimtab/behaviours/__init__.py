"""Behaviours: named axes with two poles, described in TOML files."""

from trimtab.behaviours.behaviour import (
    Behaviour,
    ContrastiveText,
    Message,
    Pole,
    Template,
    read_choices,
    zoo_names,
)
from trimtab.behaviours.choices import ChoiceText
from trimtab.behaviours.keywords import PoleKeywords, keyword_pattern
from trimtab.behaviours.texts import NeutralPrompts, builtin_suffixes, neutral_prompts

__all__ = [
    "Behaviour",
    "ChoiceText",
    "ContrastiveText",
    "Message",
    "NeutralPrompts",
    "Pole",
    "PoleKeywords",
    "Template",
    "builtin_suffixes",
    "keyword_pattern",
    "neutral_prompts",
    "read_choices",
    "zoo_names",
]
