"""What a model predicts at every token of given answers: whole distributions, under whatever acts on it just now.

Teacher forcing (``forcing``) asks the same prompts under many steerings, and shares and skips what it can. This asks
each sequence once, in a plain pass of its own, so that scopes around it act, and adapters and other prompts may too.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trimtab.engines.base import Tokens
from trimtab.engines.blocks import eagerly
from trimtab.engines.transformers.checks import check_length, check_tokens
from trimtab.engines.transformers.engine import TransformersEngine
from trimtab.engines.transformers.special_tokens import pad_token, start_tokens
from trimtab.engines.transformers.walking import encoder_inputs, place
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
