"""Whether an answer goes round in circles."""

from __future__ import annotations

LOOPS = 0.5  # of runs of three words different: an answer below goes round in circles


def distinct(answer: str) -> float:
    """The share of an answer's runs of three words that are different; low where it goes round in circles.

    Example:
        >>> distinct("no no no no no"), distinct("I will not do that")
        (0.3333333333333333, 1.0)
    """
    words = answer.split()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(runs)) / len(runs) if runs else 1.0


def loops(answer: str) -> bool:
    """Whether fewer than half of an answer's runs of three words are different.

    Example:
        >>> loops("no no no no no"), loops("I will not do that")
        (True, False)
    """
    return distinct(answer) < LOOPS
