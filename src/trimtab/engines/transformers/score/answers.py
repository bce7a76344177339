"""What the model thinks of given answers, and whether it would have written them itself.

Evaluation harnesses ask for both at once: the summed log-probability of an answer, and whether every token of it is the
likeliest one where it stands. One reading of prompts and answers gives both; beginnings that they share are read once.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trimtab.engines.layers import eagerly
from trimtab.engines.prefix_tree import build_chains, build_tree
from trimtab.engines.protocol import ForcedItem, Tokens
from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.engines.transformers.forward.run import Pass, encoder_inputs, place, run_plan
from trimtab.engines.transformers.model.lock import model_lock
from trimtab.engines.transformers.score.forcing import _Asked, _logits_at, _predictions
from trimtab.engines.transformers.score.logits import totals
from trimtab.engines.transformers.text.chat_template import check_length, check_tokens, pad_token, start_tokens
from trimtab.errors import SteeringError


def predict(engine: TransformersEngine, sequences: Sequence[tuple[Tokens, Tokens]]) -> list[NDArray[np.float32]]:
    """Log-probabilities of the next token at every position of every answer.

    An open ``engine.steered(...)`` and adapters that are switched on act. The head runs at the answer's positions alone
    where the model has a way to ask for that. All results stay in memory: ``token · vocabulary · 4`` bytes each.

    Args:
        engine: The model.
        sequences: Prompts and answers to them, as token ids.

    Returns:
        For each sequence ``[token, vocabulary]`` in nats: row ``n`` is what the model expects as token ``n`` of the
        answer, after the prompt and the answer's tokens before it.

    Raises:
        PromptError: A prompt is empty, a sequence does not fit into the context window, or there is no such token.
        SteeringError: The engine steers an encoder, which predicts nothing; or a scope around this has token scopes or
            conditions, which act in ``generate`` alone.

    Example:
        >>> (logprobs,) = predict(model, [(question.prompt, question.answer)])  # doctest: +SKIP
        >>> logprobs.shape  # doctest: +SKIP
        (24, 49152)
    """
    if engine.blocks.encoder:
        raise SteeringError("an encoder predicts no tokens", fix="load the model without encoder=True")
    with model_lock(engine.model):
        return [_predicted(engine, prompt, answer) for prompt, answer in sequences]


def _predicted(engine: TransformersEngine, prompt: Tokens, answer: Tokens) -> NDArray[np.float32]:
    vocabulary = int(engine.model.get_input_embeddings().weight.shape[0])
    check_tokens(prompt + answer, name=engine.info.name, vocabulary=vocabulary)
    read = prompt if engine.has_encoder else prompt + answer[:-1]
    check_length(read if prompt else (), str(read), name=engine.info.name, window=engine.context_window)
    inputs = _inputs(engine, prompt, answer)
    if answer and "logits_to_keep" in inspect.signature(engine.model.forward).parameters:
        inputs["logits_to_keep"] = len(answer)
    with torch.inference_mode(), eagerly():
        logits = engine.model(**inputs, use_cache=False).logits[0]
        last = logits[len(logits) - len(answer) :]
        logprobs: NDArray[np.float32] = last.float().log_softmax(-1).cpu().numpy()
    return logprobs


def _inputs(engine: TransformersEngine, prompt: Tokens, answer: Tokens) -> dict[str, Any]:
    """The model's keyword arguments: all but the answer's last token, which predicts nothing that is asked for."""
    device, _ = place(engine.model)
    if not engine.has_encoder:
        return {"input_ids": torch.tensor([prompt + answer[:-1]], device=device)}
    start = start_tokens(engine.model, engine.tokenizer)
    pad = pad_token(engine.model, engine.tokenizer)
    decoded = torch.tensor([start + answer[:-1]], device=device)
    return {"decoder_input_ids": decoded, **encoder_inputs([prompt], pad=pad, device=device)}


@dataclass(frozen=True)
class GreedyScores:
    """What the model thinks of the answers.

    Attributes:
        logprob: Summed log-probability of each answer, ``[item][answer]``, in nats.
        greedy: Whether each answer is made of the likeliest tokens, ``[item][answer]``; true of an empty one.
    """

    logprob: tuple[NDArray[np.float64], ...]
    greedy: tuple[NDArray[np.bool_], ...]


def greedy_scores(
    engine: TransformersEngine, items: Sequence[ForcedItem], *, max_tokens: int | None = None
) -> GreedyScores:
    """Score answers to prompts, as the model is steered where this is called.

    Of two tokens that are equally likely, the one with the lower id counts as the likeliest, as in greedy decoding.

    Args:
        engine: The model. Inside ``engine.steered(...)`` it is the steered one.
        items: Prompts and answers; ``reference`` plays no part.
        max_tokens: Upper bound on the new tokens of one pass; a lower one takes less memory. Where memory runs out,
            passes are halved.

    Raises:
        SteeringError: An encoder reads the prompts, or the steering around the call has scopes or conditions.

    Example:
        >>> item = ForcedItem(model.encode("The sky is"), (model.encode(" blue"),))  # doctest: +SKIP
        >>> with model.steered([(happy, 1.0)]):  # doctest: +SKIP
        ...     greedy_scores(model, [item]).greedy[0]
        array([ True])
    """
    if engine.has_encoder or engine.blocks.encoder:
        raise SteeringError(
            f"an encoder reads the prompts of {engine.info.name}", fix="answers of decoder-only models can be scored"
        )
    host = engine._host
    answers = [(n, a) for n, item in enumerate(items) for a, answer in enumerate(item.answers) if answer]
    build = build_tree if host.blocks.causal else build_chains
    tree = build([items[n].prompt + items[n].answers[a][:-1] for n, a in answers])
    predictions = _predictions(tree, items, answers)
    counts = [len(item.answers) for item in items]
    logprob: NDArray[np.float64] = np.zeros(sum(counts))
    greedy: NDArray[np.bool_] = np.ones(sum(counts), dtype=bool)

    def score(row: Pass) -> None:
        asked = _Asked.of(predictions, row.nodes)
        if not len(asked.at):
            _logits_at(engine.model, row, asked)  # later passes need its keys and values
            return
        logits = _logits_at(engine.model, row, asked).float()
        at, targets = (torch.from_numpy(given).to(logits.device) for given in (asked.at, asked.predictions.target))
        scores = logits[at, targets] - totals(logits)[at]
        np.add.at(logprob, asked.predictions.answer, scores.double().cpu().numpy())
        likeliest = logits.argmax(-1)[at] == targets
        np.logical_and.at(greedy, asked.predictions.answer, likeliest.cpu().numpy())

    with model_lock(engine.model), torch.inference_mode(), eagerly():
        plan = host.walks.plan(tree, host.cost(max_tokens))
        for _ in run_plan(tree, plan, score, model=engine.model, on_halved=lambda _: None):
            pass
    ends = np.cumsum(counts)[:-1]
    if not counts:
        return GreedyScores((), ())
    return GreedyScores(tuple(np.split(logprob, ends)), tuple(np.split(greedy, ends)))
