"""The texts that come with trimtab: sentence openings and neutral prompts, all of our own writing."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class NeutralPrompts:
    """User messages that lean to no behaviour; no message is in two lists. The first two lists are alike in kind.

    Attributes:
        calibration: Strength is calibrated on these.
        held_out: What calibration reached is checked on these.
        more: Others, of these kinds and more, for what is learned from many messages.
    """

    calibration: tuple[str, ...]
    held_out: tuple[str, ...]
    more: tuple[str, ...]


def _data(name: str) -> str:
    return (resources.files("trimtab.behaviours") / "data" / name).read_text(encoding="utf-8")


@cache
def builtin_suffixes() -> tuple[str, ...]:
    """The built-in sentence openings, with which an answer under a persona begins."""
    return tuple(line for line in _data("suffixes.txt").splitlines() if line)


@cache
def neutral_prompts() -> NeutralPrompts:
    """The built-in neutral prompts.

    Example:
        >>> len(neutral_prompts().calibration) == len(neutral_prompts().held_out)
        True
    """
    halves = tomllib.loads(_data("neutral.toml"))
    return NeutralPrompts(tuple(halves["calibration"]), tuple(halves["held_out"]), tuple(halves["more"]))
