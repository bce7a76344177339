"""Behaviours: named axes with two poles, described in TOML files."""

from trimtab.behaviours.behaviour import (
    Behaviour,
    ChoiceText,
    ContrastiveText,
    Lookalikes,
    Message,
    NeutralPrompts,
    Pole,
    Template,
    builtin_suffixes,
    lookalikes,
    neutral_prompts,
    read_choices,
    zoo_names,
)
from trimtab.behaviours.schema import PoleKeywords, keyword_pattern

__all__ = [
    "Behaviour",
    "ChoiceText",
    "ContrastiveText",
    "Lookalikes",
    "Message",
    "NeutralPrompts",
    "Pole",
    "PoleKeywords",
    "Template",
    "builtin_suffixes",
    "keyword_pattern",
    "lookalikes",
    "neutral_prompts",
    "read_choices",
    "zoo_names",
]
