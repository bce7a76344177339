"""Choose the next token of each row from its logits.

A row is changed and cut in this order; each step acts on what the steps before it left:

1. the *constraint*'s mask; where it forces a text, the text's next token is taken and nothing else happens,
2. *logit bias*,
3. *penalties*: repetition, frequency, presence,
4. *min_tokens*: stop tokens are excluded,
5. *temperature*; a greedy row ends here with its largest logit,
6. *top_k*, 7. *top_p*, 8. *min_p*,
9. *Gumbel noise*: the largest of logits plus noise is distributed as the softmax of the logits.

Reported log-probabilities are of the model's distribution before all of this, in float32. A row is computed alone, so
its token and its log-probability do not depend on its neighbours. Noise depends on the seed, the prompt and how often
the prompt came before: noise that all rows shared would make answers to different prompts lean to the same tokens.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.engines.protocol import Tokens
from trimtab.engines.sampling import Sampling
from trimtab.errors import ModelError, PromptError


@dataclass(frozen=True)
class Choice:
    """Token that was chosen.

    Attributes:
        token: Its id.
        logprob: Its log-probability before anything changed the logits, in nats.
        alternatives: The likeliest tokens with theirs, likeliest first, as many as were asked for.
    """

    token: int
    logprob: float
    alternatives: tuple[tuple[int, float], ...] = ()


class RowConstraint(Protocol):
    """Constraint of one answer, in the state after its tokens so far."""

    @property
    def complete(self) -> bool:
        """Return True if nothing may follow, so that the answer ends."""

    def mask(self) -> NDArray[np.int32] | None:
        """Return the tokens that may follow, one bit for each, ``[ceil(vocabulary / 32)]``; None allows all."""

    def advance(self, token: int) -> None:
        """Take a token."""

    def forced(self) -> Tokens:
        """Return the tokens that must follow, whatever the model would choose."""


@final
class TokenChooser:
    """State of choosing the tokens of one row.

    Args:
        sampling: How tokens are chosen.
        prompt: Token ids of the prompt.
        stop: The model's own tokens that end an answer.
        repeat: How often the prompt came before in the same call.
        constraint: What the answer has to be.
    """

    def __init__(
        self,
        sampling: Sampling,
        prompt: Tokens,
        *,
        stop: Sequence[int],
        repeat: int = 0,
        constraint: RowConstraint | None = None,
    ) -> None:
        self.sampling = sampling
        self.prompt = prompt
        self.constraint = constraint
        self.stop_tokens = frozenset((*(() if sampling.ignore_eos else stop), *sampling.stop_token_ids))
        self.tokens: list[int] = []
        self._counts: Counter[int] = Counter()
        seed = None if sampling.seed is None else _seed_of(sampling.seed, prompt, repeat)
        self._noise = np.random.Generator(np.random.SFC64(seed)) if sampling.temperature > 0 else None

    def take(self, token: int) -> None:
        """Append a token to the answer."""
        self.tokens.append(token)
        self._counts[token] += 1
        if self.constraint is not None:
            self.constraint.advance(token)

    @property
    def is_plain(self) -> bool:
        """Return True if the next token is the one with the largest of the model's logits."""
        return self._noise is None and self.constraint is None and not self.sampling.changes_logits

    def scores(self, logits: Tensor) -> Tensor:
        """Return scores ``[vocabulary]`` whose largest is at the next token, from the model's logits in float32."""
        forced = () if self.constraint is None else self.constraint.forced()
        if forced:  # without sampling, so that noise is drawn only where there is a choice
            return torch.full_like(logits, -torch.inf).index_fill_(0, _ids(forced[:1], logits), 0.0)
        scores = self._changed(logits)
        sampling, noise = self.sampling, self._noise
        if noise is None:
            return scores
        scores = scores / float(sampling.temperature)
        if 0 < sampling.top_k < len(scores):
            scores = scores.masked_fill(scores < scores.topk(sampling.top_k).values[-1], -torch.inf)
        if sampling.top_p < 1:
            scores = _within_top_p(scores, sampling.top_p)
        if sampling.min_p > 0:
            probability = scores.softmax(-1)
            scores = scores.masked_fill(probability < sampling.min_p * probability.amax(), -torch.inf)
        exponential = noise.standard_exponential(len(scores))  # four times as fast as torch; in 32 bits some would be 0
        return scores - torch.from_numpy(exponential).float().log().to(scores.device)

    def _changed(self, logits: Tensor) -> Tensor:
        """Return the logits after constraint, bias, penalties and the exclusion of stop tokens."""
        sampling = self.sampling
        scores = logits
        mask = None if self.constraint is None else self.constraint.mask()
        if mask is not None:
            scores = scores.masked_fill(_excluded(mask, len(scores), scores.device), -torch.inf)
        if not sampling.changes_logits:
            return scores
        scores = scores.clone()
        if sampling.logit_bias:
            biased = _ids(sampling.logit_bias, scores)
            scores[biased] += torch.tensor(list(sampling.logit_bias.values()), device=scores.device)
        if sampling.repetition_penalty != 1:
            repeated = _ids(self._prompt_tokens.union(self._counts), scores)
            values, penalty = scores[repeated], sampling.repetition_penalty
            scores[repeated] = torch.where(values > 0, values / penalty, values * penalty)
        if self._counts and (sampling.frequency_penalty or sampling.presence_penalty):
            generated = _ids(self._counts, scores)
            counts = torch.tensor(list(self._counts.values()), dtype=scores.dtype, device=scores.device)
            scores[generated] -= sampling.frequency_penalty * counts + sampling.presence_penalty
        if len(self.tokens) < sampling.min_tokens:
            scores[_ids(self.stop_tokens, scores)] = -torch.inf
        return scores

    @cached_property
    def _prompt_tokens(self) -> frozenset[int]:
        return frozenset(self.prompt)


def choose(logits: Tensor, choosers: Sequence[TokenChooser]) -> list[Choice | Exception]:
    """Choose the next token of each row; ``TokenChooser.take`` appends it to its answer.

    Args:
        logits: The model's logits, ``[row, vocabulary]``, in any floating type.
        choosers: One for each row.

    Returns:
        A choice for each row, or the error of a row whose logits are not numbers, or that has no token left to choose.
    """
    raw = logits.float()
    errors: dict[int, Exception] = {}
    scores = raw
    if not all(chooser.is_plain for chooser in choosers):
        rows = list(raw)
        for n, chooser in enumerate(choosers):
            try:
                rows[n] = rows[n] if chooser.is_plain else chooser.scores(rows[n])
            except Exception as error:  # of this row alone, most often of its constraint
                errors[n] = error
        scores = torch.stack(rows)
    best = scores.argmax(-1, keepdim=True)
    normalizers = _log_normalizers(raw)
    logprobs = raw.gather(-1, best)[:, 0] - normalizers
    # One copy from the device for all rows. Token ids are exact in float64.
    table = torch.stack([best[:, 0].double(), logprobs.double(), scores.gather(-1, best)[:, 0].double()]).tolist()
    choices: list[Choice | Exception] = []
    for n, (chooser, token, logprob, score) in enumerate(zip(choosers, *table, strict=True)):
        answered = len(chooser.tokens)
        if n in errors:
            choices.append(errors[n])
        elif math.isnan(logprob):
            choices.append(
                ModelError(
                    f"the model's logits are not numbers at token {answered} of an answer",
                    fix="check its weights, load it with dtype='float32', or steer it less",
                )
            )
        elif score == -math.inf:
            choices.append(
                PromptError(
                    f"no token is left to choose at token {answered} of an answer",
                    fix="loosen its constraint, logit_bias or min_tokens",
                )
            )
        else:
            alternatives = _alternatives(raw[n], normalizers[n], chooser.sampling.logprobs)
            choices.append(Choice(int(token), logprob, alternatives))
    return choices


def _log_normalizers(logits: Tensor) -> Tensor:
    """Return log Σ exp of each row.

    On a CPU row by row: threads share the sum of one row, but not the sums of several, which rounds differently.
    """
    if logits.device.type != "cpu":
        return logits.logsumexp(-1)
    return torch.stack([row.logsumexp(-1) for row in logits])


def _alternatives(logits: Tensor, normalizer: Tensor, count: int | None) -> tuple[tuple[int, float], ...]:
    if not count:
        return ()
    largest = logits.topk(min(count, len(logits)))
    logprobs = (largest.values - normalizer).tolist()
    return tuple(zip(largest.indices.tolist(), logprobs, strict=True))


def _within_top_p(scores: Tensor, top_p: float) -> Tensor:
    """Exclude the least likely tokens that have 1 - ``top_p`` of the probability together.

    Tokens as likely as one that is kept are kept too. On a CPU numpy sorts several times as fast as torch.
    """
    ascending = torch.from_numpy(np.sort(scores.numpy())) if scores.device.type == "cpu" else scores.sort().values
    below = (ascending.softmax(-1).cumsum(-1) <= 1 - top_p)[:-1].sum()  # at least one is kept
    return scores.masked_fill(scores < ascending.gather(0, below[None]), -torch.inf)


def _excluded(mask: NDArray[np.int32], vocabulary: int, device: torch.device) -> Tensor:
    """Return True for tokens whose bit is 0, and for those beyond the mask: rows that pad a table of embeddings."""
    excluded = np.ones(vocabulary, dtype=bool)
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")[:vocabulary]
    excluded[: len(bits)] = bits == 0
    return torch.from_numpy(excluded).to(device)


def _ids(tokens: Collection[int], scores: Tensor) -> Tensor:
    """Return token ids that have a score: a tokenizer may have more tokens than its model, or an encoder other ones."""
    return torch.tensor([token for token in tokens if token < len(scores)], dtype=torch.long, device=scores.device)


def _seed_of(seed: int, prompt: Tokens, repeat: int) -> int:
    content = repr((operator.index(seed), repeat, *prompt)).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little")
