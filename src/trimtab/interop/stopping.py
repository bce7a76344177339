"""Texts at which an answer is to stop."""

from __future__ import annotations

from collections.abc import Sequence


def cut_at(text: str, stops: Sequence[str]) -> str:
    """``text`` up to the first place where any of ``stops`` begins; empty ones stop nothing.

    Example:
        >>> cut_at("Paris. Next question", [".", " "])
        'Paris'
    """
    places = [text.find(stop) for stop in stops if stop]
    return text[: min((place for place in places if place >= 0), default=len(text))]
