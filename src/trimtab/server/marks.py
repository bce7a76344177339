"""Split an answer at marks, such as those around thoughts and around tool calls, while it is written."""

from __future__ import annotations

from typing import NamedTuple, final


class Part(NamedTuple):
    """Piece of an answer, inside or outside of the marks; empty where a mark ended one."""

    inside: bool
    text: str


@final
class MarkSplitter:
    """Text in pieces, split at an opening and a closing mark.

    A piece is handed on as soon as no mark can begin in it. The time is linear in the text.

    Args:
        opening: Mark before what is inside.
        closing: Mark behind it.
        inside: Whether the text begins inside.

    Example:
        >>> splitter = MarkSplitter("<think>", "</think>")
        >>> parts = [*splitter.feed("<think>Hm.</th"), *splitter.feed("ink>Yes"), *splitter.finish()]
        >>> [(part.inside, part.text) for part in parts]
        [(False, ''), (True, 'Hm.'), (True, ''), (False, 'Yes')]
    """

    def __init__(self, opening: str, closing: str, *, inside: bool = False) -> None:
        self._marks = {False: opening, True: closing}
        self._inside = inside
        self._held = ""

    def feed(self, piece: str) -> list[Part]:
        """Append a piece of text, and return the parts that are certain."""
        parts = []
        self._held += piece
        while (at := self._held.find(self._marks[self._inside])) >= 0:
            parts.append(Part(self._inside, self._held[:at]))
            self._held = self._held[at + len(self._marks[self._inside]) :]
            self._inside = not self._inside
        certain = len(self._held) - self._may_begin()
        if certain:
            parts.append(Part(self._inside, self._held[:certain]))
            self._held = self._held[certain:]
        return parts

    def finish(self) -> list[Part]:
        """End the text, and return what was held back."""
        held, self._held = self._held, ""
        return [Part(self._inside, held)] if held else []

    def _may_begin(self) -> int:
        """Return how many of the last characters may begin a mark."""
        mark = self._marks[self._inside]
        longest = min(len(mark) - 1, len(self._held))
        return next((count for count in range(longest, 0, -1) if mark.startswith(self._held[-count:])), 0)
