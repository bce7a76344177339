"""Neutral statistics: projections of ordinary chats on a vector's directions, against which readings are measured.

The behaviour is not involved: the chats are the built-in neutral prompts, with the model's answers where there are any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trimtab.arrays import F32, F64
from trimtab.behaviours import neutral_prompts
from trimtab.engines import Prompt
from trimtab.engines.protocol import Collects, Text, Tokens
from trimtab.errors import PromptError, VectorError
from trimtab.training.progress import OnProgress, Progress, ignore
from trimtab.training.questions import CalibrationSet, Question
from trimtab.vectors import PERCENTS, ControlVector, Neutral, Spread

GROUP = 96 * 1024**2  # bytes of states that are held at a time


@dataclass(frozen=True)
class Chosen:
    """Text as token ids, with the ascending indices of the tokens whose hidden states are wanted."""

    tokens: Tokens
    wanted: tuple[int, ...]


def check_reads(model: Text) -> None:
    """Refuse a model whose prompts cannot be read token by token.

    Raises:
        VectorError: It has an encoder, and only its decoder's first token has a state.
    """
    if not model.capabilities.reads_every_token:
        raise VectorError(
            f"{model.info.name} has an encoder, and no state for each token of a prompt that a vector could be read at",
            fix="use a model that has only a decoder",
        )


def words_of(model: Text, prompt: Prompt) -> Chosen:
    """Return a prompt as tokens, with its words.

    Raises:
        PromptError: It has none.
    """
    marked = model.marked(prompt)
    words = tuple(n for n, word in enumerate(marked.words) if word)
    if not words:
        raise PromptError(f"the prompt {marked.text[:40]!r} has no words to read", fix="give a text")
    return Chosen(marked.tokens, words)


def states_at(
    model: Collects, texts: Sequence[Chosen], *, layers: Sequence[int], phase: str, progress: OnProgress
) -> Iterator[F32]:
    """Yield the hidden states of each text's wanted tokens, ``[token, layer, hidden]``, text after text.

    Raises:
        VectorError: A state is not finite.
    """
    spans = [(text.wanted[0], text.wanted[-1] + 1) for text in texts]
    sizes = [stop - start for start, stop in spans]
    per_token = max(len(layers), 1) * model.info.hidden_size * 4
    done = 0
    progress(Progress(phase, 0, len(texts)))
    for group in _groups(sizes, GROUP // per_token):
        tokens, span = [texts[n].tokens for n in group], [spans[n] for n in group]
        hidden = model.collect(tokens, layers=layers, position="all", span=span).states
        for text, states in zip(
            [texts[n] for n in group], np.split(hidden, np.cumsum([sizes[n] for n in group])[:-1]), strict=True
        ):
            wanted = states[np.array(text.wanted) - text.wanted[0]]
            if not np.isfinite(wanted).all():
                raise VectorError(
                    f"hidden states of {model.info.name} are not finite on {model.decode(text.tokens)[:40]!r}",
                    fix="load the model in a wider dtype",
                )
            yield wanted
        done += len(group)
        progress(Progress(phase, done, len(texts)))


def _groups(sizes: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Yield runs of neighbours, as many as fit into ``limit``; one that is larger is its own run."""
    group: list[int] = []
    total = 0
    for number, size in enumerate(sizes):
        if group and total + size > limit:
            yield group
            group, total = [], 0
        group.append(number)
        total += size
    if group:
        yield group


@dataclass(frozen=True, eq=False)
class Pooled:
    """Hidden states of prompts at all layers, pooled.

    Attributes:
        mean: States averaged over the words, ``[prompt, layer, hidden]``.
        last: States of the last token, ``[prompt, layer, hidden]``.
        norms: Mean norm of a word's state, ``[layer]``.
    """

    mean: F32
    last: F32
    norms: F64


def pooled_states(model: Collects, prompts: Sequence[Prompt], *, phase: str, progress: OnProgress) -> Pooled:
    """Return the hidden states of prompts at every layer, averaged over their words and at their last token.

    Raises:
        PromptError: A prompt has no words.
    """
    words = [words_of(model, prompt) for prompt in prompts]
    texts = [Chosen(text.tokens, tuple(sorted({*text.wanted, len(text.tokens) - 1}))) for text in words]
    layers = range(model.info.layers)
    mean = np.zeros((len(texts), len(layers), model.info.hidden_size), dtype=np.float32)
    last = np.zeros_like(mean)
    norms = np.zeros(len(layers))
    hidden = states_at(model, texts, layers=layers, phase=phase, progress=progress)
    for number, (text, states) in enumerate(zip(words, hidden, strict=True)):
        spoken = states[: len(text.wanted)]  # the last token may be a word or come behind them all
        mean[number] = spoken.mean(axis=0, dtype=np.float64)
        last[number] = states[-1]
        norms += np.linalg.norm(spoken.astype(np.float64), axis=-1).sum(axis=0)
    return Pooled(mean, last, norms / max(sum(len(text.wanted) for text in words), 1))


PHASE = "Reading neutral chats"
FLOOR = 1e-6  # least deviation, as a part of the mean: where nothing varies, a z-score is large but a number


def measure_neutral(
    model: Collects,
    directions: Mapping[int, F32],
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
    if not (directions and model.capabilities.reads_every_token):
        return None
    chats = list(_chats(model, {question.text: question.answer for question in questions}))
    if len(chats) < 2:
        return None
    layers = sorted(directions)
    along = np.stack([directions[layer].astype(np.float64) for layer in layers])
    tokens, means, lasts = [], [], []
    hidden = states_at(model, [chat.text for chat in chats], layers=layers, phase=PHASE, progress=progress)
    for chat, states in zip(chats, hidden, strict=True):
        projected = np.stack([states[:, n].astype(np.float64) @ along[n] for n in range(len(layers))], axis=1)
        tokens.append(projected[np.isin(chat.text.wanted, chat.words + chat.answer)])
        means.append(projected[np.isin(chat.text.wanted, chat.words)].mean(axis=0))
        lasts.append(projected[chat.text.wanted.index(chat.last)])
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


def add_neutral(calibration: CalibrationSet, vector: ControlVector, *, progress: OnProgress) -> ControlVector:
    """Return the vector with neutral statistics; unchanged where its thresholds were fitted against those it has."""
    if vector.fits and vector.neutral is not None:
        return vector

    def measure() -> Neutral | None:
        questions = calibration.questions
        return measure_neutral(calibration.model, vector.directions, questions=questions, progress=progress)

    return replace(vector, neutral=calibration.checkpoint.remember("neutral", Neutral | None, measure))


@dataclass(frozen=True)
class _Chat:
    """Neutral prompt with the model's answer; indices of the prompt's words, of the answer, and the prompt's end."""

    text: Chosen
    words: tuple[int, ...]
    answer: tuple[int, ...]
    last: int


def _chats(model: Text, answers: Mapping[str, Tokens]) -> Iterator[_Chat]:
    """Yield every neutral prompt that has words, with its answer if there is one."""
    halves = neutral_prompts()
    for prompt in (*halves.calibration, *halves.held_out):
        marked = model.marked(prompt)
        words = tuple(n for n, word in enumerate(marked.words) if word)
        if not words:
            continue
        answer = answers.get(prompt, ())
        if not model.decode(answer[-1:]):  # the token that ends the turn has no text
            answer = answer[:-1]
        length = len(marked.tokens)
        at = tuple(range(length, length + len(answer)))
        text = Chosen(marked.tokens + answer, tuple(sorted({*words, *at, length - 1})))
        yield _Chat(text, words, at, length - 1)


def _spread(projected: F64, layers: Sequence[int]) -> Spread:
    mean = projected.mean(axis=0)
    least = np.maximum(FLOOR * np.abs(mean), float(np.finfo(np.float32).tiny))
    deviation = np.maximum(projected.std(axis=0, ddof=1), least)
    return Spread(
        mean={layer: float(mean[n]) for n, layer in enumerate(layers)},
        deviation={layer: float(deviation[n]) for n, layer in enumerate(layers)},
    )
