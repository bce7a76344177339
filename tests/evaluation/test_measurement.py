"""Baseline: the base model's answers, shared by all measurements."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.writing import write
from trimtab.behaviours import neutral_prompts
from trimtab.evaluation.interventions import Intervention
from trimtab.evaluation.measurement import Baseline, Sizes
from trimtab.evaluation.metrics.text_quality import kl_per_question
from trimtab.training.progress import ignore
from trimtab.training.questions import ask

QUESTIONS, WRITTEN = 5, 3


@pytest.mark.parametrize(("short", "long"), [(4, 9), (9, 4), (6, 6)])
def test_baseline_shared_answers_equal_separate_ones(fake, short, long):
    sizes = Sizes(
        questions=QUESTIONS, kl=2, controls_kl=2, written=WRITTEN, facts=4, answer_tokens=short, written_tokens=long
    )
    baseline = Baseline(fake, sizes=sizes)

    texts = neutral_prompts().held_out[:QUESTIONS]
    asked = ask(fake, texts, None, personas=0, max_new_tokens=short, progress=ignore)
    written = write(fake, Intervention(), texts[:WRITTEN], max_new_tokens=long)
    assert baseline.questions == asked
    assert baseline.written.texts == tuple(answer.text for answer in written)
    assert baseline.written.tokens == tuple(answer.tokens for answer in written)


def test_kl_with_kept_predictions_equals_fresh_ones(tiny_llama):
    baseline = Baseline(tiny_llama, sizes=Sizes(questions=3, kl=3, controls_kl=2, written=2, facts=4))
    intervention = Intervention(openings=(Intervention().chat(0, "Speak like a pirate."),))

    kept = kl_per_question(tiny_llama, intervention, baseline.questions, base=baseline.own_predictions)
    assert np.array_equal(kept, kl_per_question(tiny_llama, intervention, baseline.questions))
    assert (kept > 0).all()
