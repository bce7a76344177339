"""The ceiling of steering: logit arithmetic of the two personas, at the same KL as a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from trimtab.arrays import F32, F64
from trimtab.engines.protocol import Predicts, Tokens
from trimtab.training.questions import Question
from trimtab.training.search import SIGNS, find_scale

TOLERANCE = 0.01  # of the KL, relative
FIRST_MULTIPLIER = 1.0


@dataclass(frozen=True)
class _Tables:
    """Predictions along one answer: log p, and log p+ - log p-, ``[token, vocabulary]``."""

    plain: F32
    contrast: F32

    def log_normaliser(self, multiplier: float) -> F64:
        """Return log Z = log of the sum of p * exp(multiplier * contrast), ``[token]``."""
        logits = self.plain + np.float32(multiplier) * self.contrast
        highest = logits.max(axis=1)
        logits -= highest[:, None]
        return np.asarray(highest + np.log(np.exp(logits, out=logits).sum(axis=1, dtype=np.float64)))


def ceiling_effects(
    engine: Predicts, questions: Sequence[Question], kl: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, F64]]:
    """Return the preference effects of logit arithmetic that spends a given KL, by sign.

    ``log q = log p + multiplier * (log p+ - log p-) - log Z`` at every token, where p+ and p- are the model under the
    system prompts of the two poles. The multiplier of each sign is found on the plain answers.

    Args:
        engine: The engine, unsteered.
        questions: With the model's own answers and persona answers.
        kl: Mean KL(p ‖ q) per token to spend, in nats, by sign.

    Returns:
        The multipliers, and the effects per question in nats per token.

    Raises:
        CalibrationError: No multiplier spends the KL.
    """
    own = [_tables(engine, question, question.answer) for question in questions]
    # log p - log q = log Z - multiplier * contrast, and its mean under p is the KL; only log Z depends on more.
    drift = np.concatenate([_mean_under_plain(tables) for tables in own])

    def kl_at(sign: float, size: float) -> float:
        normalisers = np.concatenate([tables.log_normaliser(sign * size) for tables in own])
        return float((normalisers - sign * size * drift).mean())

    multipliers = {
        key: sign * find_scale(partial(kl_at, sign), budget=kl[key], guess=FIRST_MULTIPLIER, tolerance=TOLERANCE).scale
        for key, sign in SIGNS.items()
    }
    halves = {key: np.zeros((len(questions), 2)) for key in SIGNS}
    for number, question in enumerate(questions):
        assert question.persona_answers is not None
        for half, answer in enumerate((question.persona_answers.positive, question.persona_answers.negative)):
            tables = _tables(engine, question, answer)
            contrast = tables.contrast[np.arange(len(answer)), answer]
            for key, multiplier in multipliers.items():
                change = multiplier * contrast - tables.log_normaliser(multiplier)
                halves[key][number, half] = change.mean()
    return multipliers, {key: each[:, 0] - each[:, 1] for key, each in halves.items()}


def _tables(engine: Predicts, question: Question, answer: Tokens) -> _Tables:
    assert question.persona_answers is not None
    prompts = (question.prompt, question.persona_answers.under_positive, question.persona_answers.under_negative)
    plain, positive, negative = engine.predict([(prompt, answer) for prompt in prompts])
    return _Tables(plain, positive - negative)


def _mean_under_plain(tables: _Tables) -> F64:
    return np.asarray(np.einsum("tv,tv->t", np.exp(tables.plain.astype(np.float64)), tables.contrast))
