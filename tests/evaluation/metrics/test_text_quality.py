"""Repetition of answers."""

from __future__ import annotations

from trimtab.training.written import distinct_share


def test_distinct_share_repeated_words_is_low():
    assert distinct_share("one two three four five") == 1.0
    assert distinct_share("no no no no no no") == 0.25
    assert distinct_share("a b c a b c") == 0.75
    assert distinct_share("again and again and") == 1.0  # two of two
    assert distinct_share("two words") == 1.0
    assert distinct_share("") == 1.0
