"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Progress:
    """One step of long work.

    Attributes:
        phase: What is being done, in words for people.
        done: Units of this phase done.
        total: All its units.
        status: How it stands, where more than its steps can be told, such as a number that falls.
        note: Something that people should know, such as that memory ran out and the work goes on in smaller pieces.
    """

    phase: str
    done: int
    total: int
    note: str = ""
    status: str = ""


OnProgress: TypeAlias = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """Tell nobody."""
