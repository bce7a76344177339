"""The written effect, and the strengths inside which text holds together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trimtab
from trimtab.behaviours import Behaviour
from trimtab.engines.protocol import Completion
from trimtab.training.written import (
    MAX_PERPLEXITY,
    TextChecks,
    Written,
    distinct_share,
    limits_of,
    persona_prompts,
    persona_scores,
    score_answers,
    search_safe_range,
    why_no_ratio,
    written_effect,
)
from trimtab.vectors import Interval

FINE = TextChecks(repetitive=0.0, distinct=0.98, relevance=0.8, surprise=1.2)


def test_distinct_share_repeated_words_is_low():
    assert distinct_share("one two three four five") == 1.0
    assert distinct_share("no no no no no no") == 0.25
    assert distinct_share("two words") == 1.0


def written_of(engine, texts):
    return Written(tuple(texts), tuple(engine.encode(text) for text in texts))


def test_score_answers_equals_teacher_forced_tables(llama):
    prompts = [llama.encode("Hello"), llama.encode("What now?")]
    sets = [written_of(llama, [" fine", " well then"]), written_of(llama, [" fine", " no"]), written_of(llama, [" a"])]
    scores = score_answers(llama, prompts, sets)
    for k, answers in enumerate(sets):
        for n, answer in enumerate(answers.tokens):
            table = llama.predict([(prompts[n], answer)])[0]
            expected = np.mean([table[t, token] for t, token in enumerate(answer)])
            assert scores[k, n] == pytest.approx(expected, abs=1e-4)
    assert np.isnan(scores[2, 1])


def test_persona_scores_are_differences_between_the_prompts(llama):
    behaviour, texts = Behaviour.load("happy"), ["How was your day?", "What is rain?"]
    written = written_of(llama, ["It was good.", "Water."])
    positive, negative = persona_prompts(llama, behaviour, texts)
    expected = score_answers(llama, positive, [written]) - score_answers(llama, negative, [written])
    assert np.allclose(persona_scores(llama, behaviour, texts, [written]), expected, atol=1e-6)
    assert positive[0] != positive[1]  # phrasings take turns


def test_written_effect_is_paired_by_question():
    plain = np.array([0.5, -0.5, 1.0, 0.0])
    scores = {"+": plain + 0.2, "-": plain - 0.1}
    prompted = {"+": plain + 0.1, "-": plain - 0.05}
    effect = written_effect(scores, prompted, plain, strengths={"+": 0.5, "-": -0.5}, noise=0.01, tokens=24)
    assert effect.effect["+"].value == pytest.approx(0.2)
    assert effect.effect["+"].low == pytest.approx(0.2)  # no spread, although the questions differ
    assert effect.swing.value == pytest.approx(0.3)
    assert effect.times_prompt is not None
    assert effect.times_prompt.value == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("swing", "noise", "withheld"),
    [
        (Interval(0.1, 0.05, 0.15), 0.02, False),
        (Interval(0.1, 0.05, 0.15), 0.12, True),
        (Interval(0.1, -0.01, 0.2), 0.02, True),
        (Interval(-0.1, -0.2, -0.05), 0.02, True),
    ],
)
def test_ratio_is_withheld_where_prompts_do_nothing(swing, noise, withheld):
    assert (why_no_ratio(swing, noise) is not None) == withheld


@pytest.mark.parametrize(
    ("checks", "limit"),
    [
        (FINE, None),
        (TextChecks(0.0, 0.97, 0.8, 1.2), None),
        (TextChecks(0.02, 0.97, 0.8, 1.2), "repetition"),
        (TextChecks(0.10, 0.97, 0.8, 1.2), "repetition"),
        (TextChecks(0.0, 0.90, 0.8, 1.2), "repetition"),
        (TextChecks(0.0, 0.98, 0.3, 1.2), "relevance"),
        (TextChecks(0.0, 0.98, 0.8, 1.2 + np.log(MAX_PERPLEXITY) + 0.01), "likelihood"),
    ],
)
def test_limit_names_what_is_exceeded(checks, limit):
    assert checks.limit(FINE) == limit


LOOPS = TextChecks(repetitive=0.1, distinct=0.97, relevance=0.8, surprise=1.2)


@pytest.mark.parametrize(
    ("loops", "broken"),
    [
        ((), ()),
        ((0.25,), ()),  # with none beyond, by chance
        ((1.0,), (1.0,)),
        ((0.75, 1.0), (0.75, 1.0)),
        ((0.25, 0.75), (0.25, 0.5, 0.75, 1.0)),  # not at 0.5 by chance
    ],
)
def test_limits_of_repetition_reach_outwards(loops, broken):
    strengths = (0.25, 0.5, 0.75, 1.0)
    found = limits_of({0.0: FINE, -1.0: FINE, **{s: LOOPS if s in loops else FINE for s in strengths}})
    assert found == {0.0: None, -1.0: None, **{s: "repetition" if s in broken else None for s in strengths}}


def limits(low, high):
    """Return limits of a text that breaks beyond ``low`` and ``high``."""
    return lambda strengths: {s: None if low <= s <= high else "repetition" for s in strengths}


@given(low=st.floats(-1.2, 0.0), high=st.floats(0.0, 1.2), halvings=st.integers(1, 4))
def test_safe_range_is_the_last_step_that_holds(low, high, halvings):
    found = search_safe_range(limits(low, high), halvings=halvings, questions=3)
    step = 2.0**-halvings
    assert found.high == pytest.approx(min(np.floor(high / step) * step, 1.0))
    assert found.low == pytest.approx(max(np.ceil(low / step) * step, -1.0))
    assert found.reasons["+"] == ("budget" if found.high == 1.0 else "repetition")
    assert found.contains(0.0)


@given(broken=st.sets(st.integers(-4, 4).filter(bool)))
def test_safe_range_never_ends_at_a_broken_strength(broken):
    found = search_safe_range(
        lambda strengths: {s: "relevance" if round(s * 4) in broken else None for s in strengths},
        halvings=2,
        questions=1,
    )
    assert round(found.high * 4) not in broken
    assert round(found.low * 4) not in broken


def test_safe_range_tries_few_strengths():
    tried: list[float] = []

    def limit_at(strengths):
        tried.extend(strengths)
        return limits(-0.3, 0.8)(strengths)

    found = search_safe_range(limit_at, halvings=3, questions=1)
    assert (found.low, found.high) == (-0.25, 0.75)
    assert len(tried) == len(set(tried)) <= 8


def test_safe_range_counts_its_rounds():
    rounds: list[int] = []
    search_safe_range(limits(-0.3, 0.8), halvings=2, questions=1, on_round=lambda: rounds.append(1))
    assert len(rounds) == 2


@pytest.mark.slow
def test_phrase_repeated_scores_below_answers_in_character(smollm2):
    behaviour = Behaviour.load("happy")
    texts = list(trimtab.behaviours.neutral_prompts().held_out[:8])
    instructions = [trimtab.behaviours.pairs.persona_instructions(behaviour, n).positive for n in range(len(texts))]
    chats = [
        [{"role": "system", "content": words}, {"role": "user", "content": text}]
        for words, text in zip(instructions, texts, strict=True)
    ]
    in_character: list[Completion] = smollm2.generate(chats, max_new_tokens=32)
    phrase = smollm2.encode("I am so happy! " * 8)[:32]
    looped = Written.of_tokens(smollm2, [phrase] * len(texts))
    scores = persona_scores(smollm2, behaviour, texts, [Written.of(in_character), looped])
    assert scores[0].mean() > scores[1].mean()
    assert all(distinct_share(text) < 0.75 for text in looped.texts)
    assert list(pairwise(phrase))
