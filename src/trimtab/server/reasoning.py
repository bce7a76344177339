"""Thoughts of reasoning models, apart from what they answer."""

from __future__ import annotations

from typing import final

from trimtab.engines.protocol import ThinkingMarkers
from trimtab.server.marks import MarkSplitter, Part


@final
class ThoughtSplitter:
    """Splits an answer into thoughts and text while it is written.

    Args:
        markers: Marks around thoughts.
        prompt: Text of the prompt, which may have opened them already.
    """

    def __init__(self, markers: ThinkingMarkers, prompt: str) -> None:
        self._inside = prompt.rstrip().endswith(markers.open)
        self._splitter = MarkSplitter(markers.open, markers.close, inside=self._inside)
        self._bare = True  # nothing but white space was found since the last mark

    def feed(self, piece: str) -> list[Part]:
        """Append a piece, and return the parts that are certain."""
        return self._stripped(self._splitter.feed(piece))

    def finish(self) -> list[Part]:
        """End the answer, and return what was held back."""
        return self._stripped(self._splitter.finish())

    def _stripped(self, parts: list[Part]) -> list[Part]:
        """Return the parts that have text, without the line breaks between a mark and the text behind it."""
        stripped: list[Part] = []
        for part in parts:
            if part.inside != self._inside:
                self._inside, self._bare = part.inside, True
            text = part.text.lstrip() if self._bare else part.text
            if text:
                self._bare = False
                stripped.append(Part(part.inside, text))
        return stripped
