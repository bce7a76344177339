"""Text quality of answers (perplexity, repetition, length, refusals), and KL along the base model's own answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trimtab.arrays import F32, F64
from trimtab.behaviours import Message
from trimtab.engines.protocol import Forces, Predicts
from trimtab.evaluation.interventions import Intervention
from trimtab.evaluation.metrics.refusals import refuses
from trimtab.evaluation.records import Damage
from trimtab.training.controls import distinct_2
from trimtab.training.questions import Question
from trimtab.training.written import MIN_DISTINCT, Written, answer_logprobs, distinct_share


def measure_text_quality(
    engine: Forces, questions: Sequence[Question], base: Written, written: Sequence[Written]
) -> tuple[Damage, ...]:
    """Measure the text of several sets of answers to the first questions, each at most as long as ``base``.

    The perplexity of answers is ``exp(-sum(log p) / tokens)``; log-probabilities are the base model's, so that fluent
    text of another character counts as little damage.
    """
    logprobs = answer_logprobs(engine, [question.prompt for question in questions], [base, *written])
    qualities = []
    for answers, logprob in zip(written, logprobs[1:], strict=True):
        reference = base.first(len(answers))
        qualities.append(
            Damage(
                kl=None,
                perplexity_ratio=float(np.exp(_per_token(logprob, answers) - _per_token(logprobs[0], reference))),
                distinct_2=distinct_2(answers.tokens),
                repetition=float(np.mean([distinct_share(text) < MIN_DISTINCT for text in answers.texts])),
                length_ratio=sum(map(len, answers.tokens)) / max(sum(map(len, reference.tokens)), 1),
                refuses=float(np.mean([refuses(text) for text in answers.texts])),
            )
        )
    return tuple(qualities)


def _per_token(logprob: F64, answers: Written) -> float:
    return -float(logprob[: len(answers)].sum()) / max(sum(map(len, answers.tokens)), 1)


def kl_per_question(
    engine: Predicts, intervention: Intervention, questions: Sequence[Question], *, base: Sequence[F32] = ()
) -> F64:
    """Measure the mean per-token KL(base ‖ intervention) along the base model's own answer to each question.

    The base reads the plain question. The intervention reads the same answer after its opening (a system prompt,
    examples), under its steering, and with its adapter switched on. One question is read at a time, so that no more
    than two tables ``[token, vocabulary]`` are made.

    For a steering of all tokens this is what ``training.questions.KlSet`` measures, question by question.
    ``base``, the ``own_predictions`` of the questions, can be shared among interventions.

    Returns:
        ``[question]``, in nats per token; exactly 0 for the base itself.

    Raises:
        PromptError: The opening, the question and the answer together do not fit into the context window.
        SteeringError: The steering has token scopes or conditions, which act in ``generate`` alone.
    """
    kls = []
    for number, question in enumerate(questions):
        table = base[number] if base else own_predictions(engine, [question])[0]
        chat, prompt = intervention.chat(number, question.text), question.prompt
        if chat != (Message("user", question.text),):
            prompt = engine.encode(engine.render(chat))
        with intervention.active(), engine.steered(intervention.steering):
            (changed,) = engine.predict([(prompt, question.answer)])
        kls.append(float(kl_of_tables(table, changed).sum()) / max(len(question.answer), 1))
    return np.array(kls)


def own_predictions(engine: Predicts, questions: Sequence[Question]) -> list[F32]:
    """Return the base model's log-probabilities ``[token, vocabulary]`` along each of its plain answers.

    They stay in memory, ``token · vocabulary · 4`` bytes a question.
    """
    return engine.predict([(question.prompt, question.answer) for question in questions])


def kl_of_tables(base: F32, other: F32) -> F64:
    """Return KL(base ‖ other), ``[token]``, of log-probabilities ``[token, vocabulary]``; exactly 0 from itself.

    It is summed by numpy in float64: reports have pinned its sums, whose last digits depend on the order of additions.
    """
    probabilities = np.exp(base.astype(np.float64))
    # A token that the base never generates adds nothing, though its difference is ∞ - ∞.
    differences = np.subtract(base, other, out=np.zeros_like(probabilities), where=probabilities > 0, dtype=np.float64)
    kl: F64 = np.einsum("tv,tv->t", probabilities, differences)
    return kl
