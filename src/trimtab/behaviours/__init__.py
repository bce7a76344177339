"""Behaviours: named axes with two poles, described in TOML files."""

from trimtab.behaviours.behaviour import (
    Behaviour,
    ContrastiveText,
    Message,
    Pole,
    Template,
    zoo_names,
)
from trimtab.behaviours.texts import NeutralPrompts, builtin_suffixes, neutral_prompts

__all__ = [
    "Behaviour",
    "ContrastiveText",
    "Message",
    "NeutralPrompts",
    "Pole",
    "Template",
    "builtin_suffixes",
    "neutral_prompts",
    "zoo_names",
]
