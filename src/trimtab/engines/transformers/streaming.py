"""Text while it is generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final


@final
class TextStream:
    """Turns tokens into pieces of text, holding back what later tokens may still change."""

    def __init__(self, decode: Callable[[Sequence[int]], str], on_text: Callable[[str], None]) -> None:
        self._decode = decode
        self._on_text = on_text
        self._tokens: list[int] = []
        self._shown = 0

    def token(self, token: int) -> None:
        """One more token."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        if not text.endswith("\ufffd"):
            self._show(text)

    def end(self) -> None:
        """Nothing comes any more: give out what was held back."""
        self._show(self._decode(self._tokens))

    def _show(self, text: str) -> None:
        if len(text) > self._shown:
            self._on_text(text[self._shown :])
            self._shown = len(text)
