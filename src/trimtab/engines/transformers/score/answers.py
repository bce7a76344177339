"""Scores of given answers: whole distributions along them, and whether the model would have generated them itself.

Evaluation harnesses ask for two things at once: the summed log-probability of an answer, and whether each of its tokens
is the likeliest one. One prefix-tree pass over prompts and answers gives both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trimtab.arrays import F32, F64
from trimtab.engines.layers import eagerly
from trimtab.engines.protocol import ForcedItem, Tokens
from trimtab.engines.transformers.forward.run import Pass, encoder_inputs, place, run_plan
from trimtab.engines.transformers.model.context import ModelContext
from trimtab.engines.transformers.model.lock import model_lock
from trimtab.engines.transformers.score.logits import PassTargets, answer_tree, logits_at, token_logprobs
from trimtab.engines.transformers.text.chat_template import check_length, check_tokens
from trimtab.errors import SteeringError


def predict(context: ModelContext, sequences: Sequence[tuple[Tokens, Tokens]], *, window: int | None) -> list[F32]:
    """Return the log-probabilities of the next token at every position of every answer.

    Args:
        context: The model.
        sequences: Prompts and answers, as token ids.
        window: How many tokens the model can read.

    Returns:
        For each sequence ``[token, vocabulary]`` in nats.

    Raises:
        PromptError: A prompt is empty, a sequence does not fit into the context window, or there is no such token.
        SteeringError: The engine steers an encoder, which predicts nothing; or an open ``steered()`` has token scopes
            or conditions.
    """
    if context.blocks.encoder:
        raise SteeringError("an encoder predicts no tokens", fix="load the model without encoder=True")
    vocabulary = int(context.model.get_input_embeddings().weight.shape[0])
    tables = []
    for prompt, answer in sequences:
        check_tokens(prompt + answer, name=context.info.name, vocabulary=vocabulary)
        read = prompt if context.start is not None else prompt + answer[:-1]
        check_length(read if prompt else (), str(read), name=context.info.name, window=window)
        with model_lock(context.model), torch.inference_mode(), eagerly():
            tables.append(answer_logprobs(context, prompt, answer).cpu().numpy())
    return tables


def answer_logprobs(context: ModelContext, prompt: Tokens, answer: Tokens) -> torch.Tensor:
    """Return log-probabilities ``[token, vocabulary]`` at an answer, from a separate pass over prompt and answer.

    Unlike teacher forcing this also serves a single answer under hooks that follow a schedule, token by token.
    """
    device, _ = place(context.model)
    opening = prompt if context.start is None else context.start
    ids = torch.tensor([opening + answer[:-1]], device=device)
    inputs: dict[str, Any] = {"input_ids": ids}
    if context.start is not None:
        inputs = {"decoder_input_ids": ids, **encoder_inputs([prompt], pad=context.pad, device=device)}
    columns = len(opening) - 1 + np.arange(len(answer))
    logits = logits_at(context.model, {**inputs, "use_cache": False}, np.zeros_like(columns), columns)
    return logits.float().log_softmax(-1)


@dataclass(frozen=True)
class GreedyScores:
    """Log-probabilities of answers, and whether greedy decoding would give them.

    Attributes:
        logprob: Summed log-probability of each answer, ``[item][answer]``, in nats.
        greedy: Whether each answer is made of the likeliest tokens, ``[item][answer]``; true of an empty one.
    """

    logprob: tuple[F64, ...]
    greedy: tuple[NDArray[np.bool_], ...]


def greedy_scores(context: ModelContext, items: Sequence[ForcedItem], *, max_tokens: int | None = None) -> GreedyScores:
    """Score answers to prompts under the open ``steered()`` scopes.

    Of two equally likely tokens the one with the lower id counts as the likeliest, as in greedy decoding.

    Args:
        context: The model.
        items: Prompts and answers; ``reference`` is ignored.
        max_tokens: Upper bound on the new tokens of one pass. Where memory runs out, passes are halved.

    Raises:
        SteeringError: An encoder reads the prompts, or an open scope has token scopes or conditions.
    """
    if context.start is not None or context.blocks.encoder:
        raise SteeringError(
            f"an encoder reads the prompts of {context.info.name}", fix="answers of decoder-only models can be scored"
        )
    tree, targets = answer_tree(items, share=context.blocks.causal)
    counts = [len(item.answers) for item in items]
    logprob: F64 = np.zeros(sum(counts))
    greedy: NDArray[np.bool_] = np.ones(sum(counts), dtype=bool)

    def score(row: Pass) -> None:
        asked = PassTargets.of(targets, row.nodes)
        logits = logits_at(context.model, row.inputs, asked.rows, asked.columns).float()
        if not len(asked.at):
            return  # run for its keys and values, which later passes need
        logprobs, _ = token_logprobs(logits, asked.at, asked.targets.token)
        np.add.at(logprob, asked.targets.answer, logprobs.double().cpu().numpy())
        likeliest = logits.argmax(-1).cpu().numpy()[asked.at] == asked.targets.token
        np.logical_and.at(greedy, asked.targets.answer, likeliest)

    with model_lock(context.model), torch.inference_mode(), eagerly():
        plan = context.prefix_sharing.plan(tree, context.cost(max_tokens))
        for _ in run_plan(tree, plan, score, model=context.model, on_halved=lambda _: None):
            pass
    if not counts:
        return GreedyScores((), ())
    ends = np.cumsum(counts)[:-1]
    return GreedyScores(tuple(np.split(logprob, ends)), tuple(np.split(greedy, ends)))
