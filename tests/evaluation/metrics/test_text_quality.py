"""Repetition of answers."""

from __future__ import annotations

from trimtab.evaluation.metrics.text_quality import is_repetitive
from trimtab.training.written import distinct_share


def test_distinct_share_repeated_words_is_low():
    assert distinct_share("one two three four five") == 1.0
    assert distinct_share("no no no no no no") == 0.25
    assert distinct_share("two words") == 1.0


def test_is_repetitive_below_half_distinct_is_true():
    assert is_repetitive("no no no no no no")
    assert not is_repetitive("again and again and")  # two of two
    assert distinct_share("a b c a b c") == 0.75
    assert distinct_share("a b a b a b") == 0.5
    assert not is_repetitive("a b a b a b")
    assert is_repetitive("a b a b a b a")


def test_is_repetitive_short_answers_is_false():
    assert not is_repetitive("")
    assert not is_repetitive("no no")
