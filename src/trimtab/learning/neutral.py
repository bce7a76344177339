"""Neutral statistics: what ordinary chats read on a vector's directions; readings and bounds are measured against it.

A behaviour plays no part: the chats are trimtab's own neutral prompts, and the model's own answers to them where it
has given some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from trimtab.behaviours import neutral_prompts
from trimtab.engines import Engine
from trimtab.engines.base import Array, Tokens
from trimtab.learning.journal import Journal
from trimtab.learning.pooling import Chosen, has_states_everywhere, states_at
from trimtab.learning.progress import OnProgress, ignore
from trimtab.learning.questions import Question
from trimtab.vectors import PERCENTS, Neutral, Spread

PHASE = "Reading neutral chats"
KEY = "neutral"
FLOOR = 1e-6  # least deviation, as a part of the mean: where nothing varies, a z-score is large but a number

Floats = NDArray[np.float64]


def measure_neutral(
    model: Engine,
    directions: Mapping[int, Array],
    *,
    questions: Sequence[Question] = (),
    progress: OnProgress = ignore,
) -> Neutral | None:
    """Project neutral chats on directions: mean, spread and percentiles of tokens, of whole prompts, of last tokens.

    All built-in neutral prompts are read as user messages through the model's chat template. Single tokens are the
    words of these messages and of the model's own answers, where ``questions`` has some to these prompts. System
    prompts, marks of the template, special tokens and the first token of all (an attention sink) count nowhere.
    Projections and their statistics are in float64; deviations are of a sample (``n - 1``) and never 0.

    Args:
        model: The engine.
        directions: Layer to unit direction ``[hidden]``.
        questions: Neutral prompts with the model's answers; those of others are left out.
        progress: Called with the number of chats read.

    Returns:
        The statistics, in the units of hidden states; None for a model in which not every token has a state.

    Example:
        >>> neutral = measure_neutral(model, happy.directions)  # doctest: +SKIP
        >>> neutral.token.mean[15], neutral.token.deviation[15]  # doctest: +SKIP
    """
    if not (directions and has_states_everywhere(model)):
        return None
    chats = _chats(model, {question.text: question.answer for question in questions})
    if len(chats) < 2:
        return None
    layers = sorted(directions)
    along = np.stack([directions[layer].astype(np.float64) for layer in layers])
    read = [chat.chosen for chat in chats]
    tokens, means, lasts = [], [], []
    found = states_at(model, read, layers=layers, phase=PHASE, progress=progress)
    for chat, text, states in zip(chats, read, found, strict=True):
        projected = np.stack([states[:, n].astype(np.float64) @ along[n] for n in range(len(layers))], axis=1)
        tokens.append(projected[np.isin(text.wanted, chat.words + chat.answer)])
        means.append(projected[np.isin(text.wanted, chat.words)].mean(axis=0))
        lasts.append(projected[text.wanted.index(chat.last)])
    single = np.concatenate(tokens)
    percentiles = np.percentile(single, PERCENTS, axis=0)
    return Neutral(
        token=_spread(single, layers),
        mean=_spread(np.array(means), layers),
        last=_spread(np.array(lasts), layers),
        percentiles={layer: tuple(percentiles[:, n].tolist()) for n, layer in enumerate(layers)},
        prompts=len(chats),
        tokens=len(single),
    )


def noted_neutral(
    model: Engine,
    directions: Mapping[int, Array],
    *,
    questions: Sequence[Question],
    journal: Journal,
    progress: OnProgress,
) -> Neutral | None:
    """``measure_neutral``, noted in the journal of a training, and taken from there if it was measured before."""
    adapter: TypeAdapter[Neutral | None] = TypeAdapter(Neutral | None)
    if (kept := journal.get(KEY)) is not None:
        return adapter.validate_json(kept)
    measured = measure_neutral(model, directions, questions=questions, progress=progress)
    journal.put(KEY, json.dumps(None if measured is None else asdict(measured)).encode())
    return measured


@dataclass(frozen=True)
class _Chat:
    """A neutral prompt and what the model answered, as tokens.

    Attributes:
        tokens: Of both.
        words: The prompt's words.
        answer: The words of the answer.
        last: The prompt's last token.
    """

    tokens: Tokens
    words: tuple[int, ...]
    answer: tuple[int, ...]
    last: int

    @property
    def chosen(self) -> Chosen:
        """The text and all tokens that count."""
        return Chosen(self.tokens, tuple(sorted({*self.words, *self.answer, self.last})))


def _chats(model: Engine, answers: Mapping[str, Tokens]) -> list[_Chat]:
    """Every neutral prompt whose words are found, with its answer if there is one."""
    chats = []
    halves = neutral_prompts()
    for text in (*halves.calibration, *halves.held_out):
        marked = model.marked(text)
        spoken = _spoken(model, answers.get(text, ()))
        length = len(marked.tokens)
        words = tuple(n for n in range(length) if marked.words[n])
        if words:
            answer = tuple(range(length, length + len(spoken)))
            chats.append(_Chat(marked.tokens + spoken, words, answer, last=length - 1))
    return chats


def _spoken(model: Engine, answer: Tokens) -> Tokens:
    """An answer without the token that ends the turn, which stands for no text."""
    return answer if model.decode(answer[-1:]) else answer[:-1]


def _spread(projected: Floats, layers: Sequence[int]) -> Spread:
    mean = projected.mean(axis=0)
    least = np.maximum(FLOOR * np.abs(mean), float(np.finfo(np.float32).tiny))
    deviation = np.maximum(projected.std(axis=0, ddof=1), least)
    return Spread(
        mean={layer: float(mean[n]) for n, layer in enumerate(layers)},
        deviation={layer: float(deviation[n]) for n, layer in enumerate(layers)},
    )
