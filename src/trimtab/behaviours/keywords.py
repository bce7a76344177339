"""Keywords of the two poles: words, phrases, or regular expressions between slashes."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class PoleKeywords:
    """What texts of the two poles are expected to contain; each is read as ``keyword_pattern`` does."""

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()


def keyword_pattern(keyword: str) -> re.Pattern[str]:
    """What a keyword matches, in any case: a whole word or phrase, or a regular expression written ``/like this/``.

    Raises:
        re.error: The expression between the slashes is not one.

    Example:
        >>> [bool(keyword_pattern("glad").search(text)) for text in ("Glad to help", "a gladiator")]
        [True, False]
        >>> bool(keyword_pattern("/glad|joy(ful)?/").search("a gladiator"))
        True
    """
    if len(keyword) > 2 and keyword.startswith("/") and keyword.endswith("/"):
        return re.compile(keyword[1:-1], re.IGNORECASE)
    phrase = r"\s+".join(map(re.escape, keyword.split()))
    return re.compile(rf"(?<!\w){phrase}(?!\w)", re.IGNORECASE)
