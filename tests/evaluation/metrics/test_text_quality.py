"""Which answers go round in circles."""

from __future__ import annotations

from trimtab.evaluation.metrics.text_quality import distinct_share, is_repetitive


def test_answers_that_go_round_in_circles_are_seen():
    assert distinct_share("one two three four five") == 1.0
    assert distinct_share("no no no no no no") == 0.25
    assert distinct_share("two words") == 1.0


def test_an_answer_loops_where_fewer_than_half_of_its_runs_of_words_are_different():
    assert is_repetitive("no no no no no no")
    assert not is_repetitive("again and again and")  # two of two
    assert distinct_share("a b c a b c") == 0.75
    assert distinct_share("a b a b a b") == 0.5
    assert not is_repetitive("a b a b a b")
    assert is_repetitive("a b a b a b a")


def test_short_and_empty_answers_do_not_loop():
    assert not is_repetitive("")
    assert not is_repetitive("no no")
