"""Which answers go round in circles."""

from __future__ import annotations

from trimtab.evaluation.metrics.text_quality import distinct, loops


def test_answers_that_go_round_in_circles_are_seen():
    assert distinct("one two three four five") == 1.0
    assert distinct("no no no no no no") == 0.25
    assert distinct("two words") == 1.0


def test_an_answer_loops_where_fewer_than_half_of_its_runs_of_words_are_different():
    assert loops("no no no no no no")
    assert not loops("again and again and")  # two of two
    assert distinct("a b c a b c") == 0.75
    assert distinct("a b a b a b") == 0.5
    assert not loops("a b a b a b")
    assert loops("a b a b a b a")


def test_short_and_empty_answers_do_not_loop():
    assert not loops("")
    assert not loops("no no")
