"""Hidden states at chosen tokens of texts, a group of texts at a time, so that memory does not grow with their number.

Every group is one ``collect``, which shares prefixes. What is kept of a group, projections or means, is up to the
caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.engines import Engine, Prompt
from trimtab.engines.base import Array, Tokens
from trimtab.errors import PromptError, VectorError
from trimtab.learning.progress import OnProgress, Progress

GROUP = 96 * 1024**2  # bytes of states that are held at a time


@dataclass(frozen=True)
class Chosen:
    """A text as token ids, and the tokens of it whose states are wanted: indices, ascending."""

    tokens: Tokens
    wanted: tuple[int, ...]

    @property
    def span(self) -> tuple[int, int]:
        """From the first wanted token to the one after the last."""
        return self.wanted[0], self.wanted[-1] + 1


def has_states_everywhere(model: Engine) -> bool:
    """Whether every token of a prompt has a state; beside an encoder only the decoder's first token has one."""
    return not getattr(model, "has_encoder", False)


def check_reads(model: Engine) -> None:
    """Refuse a model whose prompts cannot be read token by token.

    Raises:
        VectorError: Only its decoder's first token has a state.
    """
    if not has_states_everywhere(model):
        raise VectorError(
            f"{model.info.name} has an encoder, and no state for each token of a prompt that a vector could be read at",
            fix="use a model that has only a decoder",
        )


def words_of(model: Engine, prompt: Prompt) -> Chosen:
    """A prompt, and its words.

    Raises:
        PromptError: It has none.
    """
    marked = model.marked(prompt)
    words = tuple(n for n, word in enumerate(marked.words) if word)
    if not words:
        raise PromptError(f"the prompt {marked.text[:40]!r} has no words to read", fix="give a text")
    return Chosen(marked.tokens, words)


def states_at(
    model: Engine,
    texts: Sequence[Chosen],
    *,
    layers: Sequence[int],
    phase: str,
    progress: OnProgress,
) -> Iterator[Array]:
    """The states of each text's wanted tokens, ``[token, layer, hidden]``, text after text.

    Raises:
        VectorError: A state is not finite.
    """
    sizes = [stop - start for start, stop in (text.span for text in texts)]
    per_token = max(len(layers), 1) * model.info.hidden_size * 4
    done = 0
    progress(Progress(phase, 0, len(texts)))
    for group in _groups(sizes, GROUP // per_token):
        read = [texts[n] for n in group]
        found = model.collect(
            [text.tokens for text in read], layers=layers, position="all", span=[text.span for text in read]
        ).states
        for text, states in zip(read, np.split(found, np.cumsum([sizes[n] for n in group])[:-1]), strict=True):
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
    """Neighbours together, as many as fit; one that does not fit is alone."""
    group: list[int] = []
    held = 0
    for number, size in enumerate(sizes):
        if group and held + size > limit:
            yield group
            group, held = [], 0
        group.append(number)
        held += size
    if group:
        yield group


@dataclass(frozen=True, eq=False)
class Pooled:
    """What is kept of each prompt when all its layers are looked at.

    Attributes:
        mean: States averaged over the words, ``[prompt, layer, hidden]``.
        last: States of the last token, ``[prompt, layer, hidden]``.
        norms: Mean norm of a word's state, ``[layer]``.
    """

    mean: Array
    last: Array
    norms: NDArray[np.float64]


def pooled_states(model: Engine, prompts: Sequence[Prompt], *, phase: str, progress: OnProgress) -> Pooled:
    """The states of prompts at every layer, averaged over their words and at their last token.

    Raises:
        PromptError: A prompt has no words.
    """
    words = [words_of(model, prompt) for prompt in prompts]
    texts = [Chosen(text.tokens, tuple(sorted({*text.wanted, len(text.tokens) - 1}))) for text in words]
    layers = range(model.info.layers)
    mean = np.zeros((len(texts), len(layers), model.info.hidden_size), dtype=np.float32)
    last = np.zeros_like(mean)
    norms = np.zeros(len(layers))
    found = states_at(model, texts, layers=layers, phase=phase, progress=progress)
    for number, (text, states) in enumerate(zip(words, found, strict=True)):
        said = states[: len(text.wanted)]  # the last token may be a word or come behind them all
        mean[number] = said.mean(axis=0, dtype=np.float64)
        last[number] = states[-1]
        norms += np.linalg.norm(said.astype(np.float64), axis=-1).sum(axis=0)
    return Pooled(mean, last, norms / max(sum(len(text.wanted) for text in words), 1))
