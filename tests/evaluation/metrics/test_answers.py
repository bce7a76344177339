"""Answers as seen from outside, beside obvious references on a tiny model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from by_hand import logits_of
from trimtab.evaluation.metrics.text_quality import measure_text_quality
from trimtab.training.progress import ignore
from trimtab.training.questions import ask
from trimtab.training.written import Written

TEXTS = ("Hello!", "What is rain?", "Tell me of a walk.")
LOOPING = "no no no no no no"
REFUSING = "I'm sorry, but I can't help with that."


@pytest.fixture(scope="module")
def questions(tiny_llama):
    return ask(tiny_llama, TEXTS, None, personas=0, max_new_tokens=6, progress=ignore)


@pytest.fixture(scope="module")
def base(tiny_llama, questions) -> Written:
    return Written.of_tokens(tiny_llama, [question.answer for question in questions])


def written(engine, *texts: str) -> Written:
    return Written.of_tokens(engine, [engine.encode(text)[1:] for text in texts])


def slow_perplexity(engine, questions, answers: Written) -> float:
    """Read every answer alone after the bare question; return the mean over all tokens together."""
    total = count = 0.0
    for question, answer in zip(questions, answers.tokens, strict=False):
        logits = logits_of(engine.model, [*question.prompt, *answer])[len(question.prompt) - 1 : -1].double()
        logprobs = logits.log_softmax(-1)
        total += sum(float(logprobs[n, token]) for n, token in enumerate(answer))
        count += len(answer)
    return math.exp(-total / count)


def test_written_keeps_texts_and_tokens(tiny_llama, questions, base):
    completions = tiny_llama.generate(list(TEXTS), max_new_tokens=6)
    assert Written.of(completions) == Written(
        tuple(c.text for c in completions), tuple(question.answer for question in questions)
    )
    assert base.texts == tuple(tiny_llama.decode(question.answer) for question in questions)
    assert len(base.first(2)) == 2
    assert base.first(2).texts == base.texts[:2]
    assert base.first(2).tokens == base.tokens[:2]


def test_perplexity_ratio_is_relative_to_the_base(tiny_llama, questions, base):
    whole = written(tiny_llama, "Hi, you.", "It is wet", "We went, and it rained.")
    short = written(tiny_llama, "zzzz", "It is wet")
    found = measure_text_quality(tiny_llama, questions, base, [whole, short])
    for looks, answers in zip(found, (whole, short), strict=True):
        own = slow_perplexity(tiny_llama, questions, base.first(len(answers)))
        ratio = slow_perplexity(tiny_llama, questions, answers) / own
        assert looks.perplexity_ratio == pytest.approx(ratio, rel=1e-3)
        assert ratio > 1.5


def test_text_quality_of_base_is_neutral(tiny_llama, questions, base):
    for answers in (base, base.first(2)):
        (looks,) = measure_text_quality(tiny_llama, questions, base, [answers])
        assert looks.perplexity_ratio == 1.0
        assert looks.length_ratio == 1.0


def test_text_quality_together_equals_alone(tiny_llama, questions, base):
    sets = [written(tiny_llama, "a", "b"), base, written(tiny_llama, "a", LOOPING, "c")]
    together = measure_text_quality(tiny_llama, questions, base, sets)
    for answers, looks in zip(sets, together, strict=True):
        (alone,) = measure_text_quality(tiny_llama, questions, base, [answers])
        assert looks.perplexity_ratio == pytest.approx(alone.perplexity_ratio, rel=1e-4)
        assert (looks.distinct_2, looks.repetition, looks.length_ratio) == (
            alone.distinct_2,
            alone.repetition,
            alone.length_ratio,
        )


def test_distinct_2_counts_over_the_whole_set(tiny_llama, questions, base):
    answers = Written(("", "", ""), ((1, 2, 1, 2), (1, 2), (7,)))  # 1-2, 2-1, 1-2; 1-2; none
    (looks,) = measure_text_quality(tiny_llama, questions, base, [answers])
    assert looks.distinct_2 == pytest.approx(2 / 4)


def test_length_ratio_is_on_the_same_questions(tiny_llama, questions, base):
    answers = Written(("", ""), ((1,) * 9, (2,) * 4))
    (looks,) = measure_text_quality(tiny_llama, questions, base, [answers])
    assert looks.length_ratio == pytest.approx(13 / sum(map(len, base.tokens[:2])))


@pytest.mark.parametrize(
    ("texts", "loops", "refuses"),
    [
        ((LOOPING, "It is wet", "We went for a walk"), 1 / 3, 0.0),
        ((REFUSING, "It is wet", REFUSING), 0.0, 2 / 3),
        ((LOOPING, REFUSING), 0.5, 0.5),
    ],
)
def test_text_quality_counts_repetition_and_refusals(tiny_llama, questions, base, texts, loops, refuses):
    (looks,) = measure_text_quality(tiny_llama, questions, base, [written(tiny_llama, *texts)])
    assert looks.repetition == pytest.approx(loops)
    assert looks.refuses == pytest.approx(refuses)


def test_text_quality_empty_answer_is_finite(tiny_llama, questions, base):
    (looks,) = measure_text_quality(
        tiny_llama, questions, base, [Written(("", "Hi"), ((), tiny_llama.encode("Hi")[1:]))]
    )
    alone = slow_perplexity(tiny_llama, questions[1:], Written(("Hi",), (tiny_llama.encode("Hi")[1:],)))
    own = slow_perplexity(tiny_llama, questions, base.first(2))
    assert looks.perplexity_ratio == pytest.approx(alone / own, rel=1e-3)
    assert np.isfinite(looks.distinct_2)
