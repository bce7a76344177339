"""The tokens with which texts begin and end, from whichever of a model's configs says so."""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from trimtab.engines.base import Tokens


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens with which an answer ends."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if configured is None:
        configured = tokenizer.eos_token_id
    if configured is None:
        return ()
    return tuple(configured) if isinstance(configured, (list, tuple)) else (int(configured),)


def pad_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills rows up; a mask hides it."""
    pad = tokenizer.pad_token_id
    if pad is not None:
        return int(pad)
    stop = stop_tokens(model, tokenizer)
    return stop[0] if stop else 0


def start_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """The tokens with which a decoder begins, beside an encoder."""
    for config in (getattr(model, "generation_config", None), model.config):
        given = getattr(config, "decoder_start_token_id", None)
        if isinstance(given, int):
            return (given,)
    start = tokenizer.bos_token_id
    return (int(pad_token(model, tokenizer) if start is None else start),)
