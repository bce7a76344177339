"""Read whole prompts on a vector, as conditions on prompts do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from trimtab.engines.base import MarkedPrompt
from trimtab.engines.prefix_tree import build_chains, build_tree
from trimtab.engines.transformers.host import Host
from trimtab.engines.transformers.states import over_tokens, read_states
from trimtab.errors import PromptError, VectorError
from trimtab.reading import neutral_of, projections, z_scores
from trimtab.steering.conditions import At
from trimtab.vectors import ControlVector, Pool


def score_prompts(
    host: Host, prompts: Sequence[MarkedPrompt], vector: ControlVector, *, at: At = "prompt"
) -> NDArray[np.float64]:
    """A z-score for each prompt: how far it lies along a vector, in deviations of neutral prompts.

    At ``"prompt"`` as the vector's reader says: the mean over the prompt's words, or its last token. At
    ``"last-user-turn"`` the mean over the words of the last user message. Open scopes play no part.

    Raises:
        PromptError: A prompt has no words to read, or no user message.
        VectorError: The vector has no neutral statistics or layers to be read at, or an encoder reads the prompts.
    """
    if at not in ("prompt", "last-user-turn"):
        raise PromptError(f"a prompt cannot be scored at {at!r}", fix="use 'prompt' or 'last-user-turn'")
    if host.start is not None:
        raise VectorError(
            f"{host.info.name} has an encoder, and no state for each token of a prompt that a vector could be read at",
            fix="use a model that has only a decoder",
        )
    layers = vector.reading_layers
    if not layers:
        raise VectorError(f"{vector.behaviour.name!r} has no layers to be read at", fix="give one that steers some")
    neutral_of(vector)
    if not prompts:
        return np.zeros(0)
    pool: Pool = "last" if at == "prompt" and vector.reader is not None and vector.reader.pool == "last" else "mean"
    masks = [_read_tokens(prompt, at, pool) for prompt in prompts]
    build = build_tree if host.blocks.causal else build_chains
    tree = build([prompt.tokens for prompt in prompts])
    with ExitStack() as stack:
        for scope in host.scopes:
            stack.enter_context(scope.hooks.idle())
        states = read_states(
            host.model,
            host.blocks,
            tree,
            over_tokens(tree, masks),
            layers=layers,
            cost=host.cost(),
            proof=host.walks,
            stop_early=True,
        ).states
    return np.asarray(z_scores(projections(states, vector, layers), vector, layers, pool=pool).mean(axis=-1))


def _read_tokens(prompt: MarkedPrompt, at: At, pool: Pool) -> NDArray[np.bool_]:
    """Which tokens are read, ``[token]``."""
    mask = np.zeros(len(prompt.tokens), dtype=bool)
    if pool == "last":
        mask[-1] = True
        return mask
    users = [turn for turn in prompt.turns if turn.role == "user"]
    if at == "last-user-turn":
        if not users:
            raise PromptError(f"no user message was found in {prompt.text[:40]!r}", fix="read it at prompt")
        mask[users[-1].start : users[-1].stop] = True
        mask &= np.array(prompt.words)
    else:
        mask[:] = prompt.words
    if not mask.any():
        raise PromptError(f"the prompt has no words to read ({prompt.text[:40]!r})", fix="write something")
    return mask
