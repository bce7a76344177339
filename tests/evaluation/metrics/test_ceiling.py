"""The ceiling: logit arithmetic of the personas, against sums over the vocabulary by hand."""

from __future__ import annotations

import math

import pytest

from trimtab import Behaviour
from trimtab.behaviours import neutral_prompts
from trimtab.evaluation.metrics.ceiling import ceiling_effects
from trimtab.training.progress import ignore
from trimtab.training.questions import ask

KL = {"+": 0.05, "-": 0.02}


@pytest.fixture(scope="module")
def questions(tiny_llama):
    texts = neutral_prompts().held_out[:2]
    return ask(tiny_llama, texts, Behaviour.load("happy"), personas=2, max_new_tokens=4, progress=ignore)


def tilted(engine, question, answer, multiplier) -> list[tuple[list[float], list[float]]]:
    """Return log p and log q of every token of an answer, by hand."""
    persona = question.persona_answers
    plain, plus, minus = (
        engine.predict([(prompt, answer)])[0].tolist()
        for prompt in (question.prompt, persona.under_positive, persona.under_negative)
    )
    tables = []
    for p, a, b in zip(plain, plus, minus, strict=True):
        logits = [p[v] + multiplier * (a[v] - b[v]) for v in range(len(p))]
        normaliser = math.log(sum(math.exp(logit) for logit in logits))
        tables.append((p, [logit - normaliser for logit in logits]))
    return tables


def test_ceiling_effects_equal_sums_by_hand(tiny_llama, questions):
    multipliers, effects = ceiling_effects(tiny_llama, questions, KL)
    assert multipliers["+"] > 0 > multipliers["-"]
    for key, multiplier in multipliers.items():
        spent = []
        for number, question in enumerate(questions):
            own = tilted(tiny_llama, question, question.answer, multiplier)
            spent += [sum(math.exp(x) * (x - y) for x, y in zip(p, q, strict=True)) for p, q in own]
            means = []
            for answer in (question.persona_answers.positive, question.persona_answers.negative):
                tables = tilted(tiny_llama, question, answer, multiplier)
                changes = [q[token] - p[token] for (p, q), token in zip(tables, answer, strict=True)]
                means.append(sum(changes) / len(changes))
            assert effects[key][number] == pytest.approx(means[0] - means[1], abs=1e-4)
        assert sum(spent) / len(spent) == pytest.approx(KL[key], rel=0.02)
    assert effects["+"].mean() > 0 > effects["-"].mean()
