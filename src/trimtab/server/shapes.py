"""Parts of answers that several routes share, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trimtab.engines.protocol import Completion, StreamedToken, TokenLogprob


def usage_json(prompt_tokens: int, completions: Sequence[Completion]) -> dict[str, int]:
    """Return the tokens that a request has taken."""
    written = sum(len(completion.tokens) for completion in completions)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": written,
        "total_tokens": prompt_tokens + written,
    }


def read_usage_json(prompt_tokens: int, completions: Sequence[Completion] = (), *, thoughts: int = 0) -> dict[str, Any]:
    """Return the tokens that a request has taken, under the names of newer routes.

    Args:
        prompt_tokens: Tokens of the prompts.
        completions: The answers.
        thoughts: Tokens of their thoughts.
    """
    written = sum(len(completion.tokens) for completion in completions)
    return {
        "input_tokens": prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": thoughts},
        "total_tokens": prompt_tokens + written,
    }


def trimtab_json(completions: Sequence[Completion], *, stage: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what steering did to each answer: its receipt, whether the safe range was left, and readings.

    Args:
        completions: The answers.
        stage: What a flow has chosen.
    """
    answers = [_answer_json(number, completion) for number, completion in enumerate(completions)]
    return {"answers": answers} if stage is None else {"answers": answers, "stage": stage}


def _answer_json(number: int, completion: Completion) -> dict[str, Any]:
    receipt = completion.receipt
    value: dict[str, Any] = {
        "index": number,
        "receipt": asdict(receipt),
        "beyond_safe": any(term.beyond_safe is not None for term in receipt.terms),
    }
    if completion.readings:
        value["readings"] = {name: list(scores) for name, scores in completion.readings.items()}
    return value


def logprobs_json(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return log-probabilities in the shape of chat completions."""
    return {"content": [logprob_json(token) for token in tokens], "refusal": None}


def logprob_json(token: TokenLogprob) -> dict[str, Any]:
    """Return the log-probability of one token with its alternatives."""
    return {**_one(token), "top_logprobs": [_one(other) for other in token.alternatives]}


def _one(token: TokenLogprob) -> dict[str, Any]:
    whole = "\ufffd" not in token.text  # a part of a character has no text of its own
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.text.encode()) if whole else None}


def readings_json(tokens: Sequence[StreamedToken]) -> dict[str, Any]:
    """Return the readings of tokens in the shape of a stream's chunk."""
    names = tokens[0].readings if tokens else ()
    return {"readings": {name: [token.readings[name] for token in tokens] for name in names}}
