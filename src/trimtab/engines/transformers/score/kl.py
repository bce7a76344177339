"""KL divergence per token between next-token distributions, in nats.

With logits ``a``, ``b`` and normalizers ``A = log Σ exp(a)``, ``B = log Σ exp(b)``::

    KL(p ‖ q) = Σ p · (log p - log q) = Σ p · (a - b) - A + B

so no table of log-probabilities is made, only the sum of ``p · (a - b)``, a few rows at a time (see ``logits``).
``Base`` keeps what does not change while many steerings are compared with the same base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trimtab.engines.protocol import TeacherDistribution
from trimtab.engines.transformers.score.logits import rows_per_part


@dataclass(frozen=True)
class Base:
    """Next-token distributions ``[token, vocabulary]`` from which KL is measured."""

    logits: Tensor
    normalizers: Tensor
    probabilities: Tensor

    @classmethod
    def of(cls, logits: Tensor, normalizers: Tensor) -> Base:
        """Prepare logits whose normalizers are known."""
        return cls(logits, normalizers, (logits - normalizers[:, None]).exp())

    def kl_to(self, logits: Tensor, normalizers: Tensor) -> Tensor:
        """Return KL(base ‖ other), ``[token]``."""
        return expected_difference(self.probabilities, self.logits, logits) - self.normalizers + normalizers


def kl_of_logprobs(base: Tensor, other: Tensor) -> Tensor:
    """Return KL(base ‖ other), ``[token]``, from two tables of log-probabilities, whose normalizers are 0.

    Gradients flow to both.
    """
    return expected_difference(base.exp(), base, other)


def expected_difference(weights: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Return Σ weights · (one - other) over the vocabulary of ``[token, vocabulary]``, a few rows at a time."""
    parts = zip(*(torch.split(table, rows_per_part(one)) for table in (weights, one, other)), strict=True)
    return torch.cat([torch.linalg.vecdot(weight, this - that) for weight, this, that in parts])


@dataclass(frozen=True)
class TopK:
    """Distributions of which the likeliest tokens are known, and the mass of all others as one more outcome.

    Attributes:
        tokens: Ids of the likeliest, ``[token, top]``.
        probabilities: Theirs and that of the rest, ``[token, top + 1]``; they add up to 1.
        logprobs: Their logarithms.
    """

    tokens: Tensor
    probabilities: Tensor
    logprobs: Tensor

    @classmethod
    def of(cls, distribution: TeacherDistribution) -> TopK:
        """Prepare a stored distribution."""
        rest = torch.from_numpy(distribution.rest).float()[:, None]
        stored = torch.cat([torch.from_numpy(distribution.logprobs).float(), rest], dim=-1)
        logprobs = stored.log_softmax(-1)  # rounded to 16 bits, the probabilities no longer add up to 1
        return cls(torch.from_numpy(distribution.tokens).long(), logprobs.exp(), logprobs)

    @classmethod
    def joined(cls, parts: Sequence[TopK]) -> TopK:
        """Concatenate the tokens of several answers."""
        return cls(
            torch.cat([part.tokens for part in parts]),
            torch.cat([part.probabilities for part in parts]),
            torch.cat([part.logprobs for part in parts]),
        )

    def kl_to(self, logits: Tensor) -> Tensor:
        """Return KL(teacher ‖ student), ``[token]``, of the student's logits ``[token, vocabulary]``.

        Merging all other tokens into one outcome can only lower KL (the log-sum inequality), so this is a lower bound
        of KL over the whole vocabulary; with 256 tokens it is close to it.
        """
        tokens = self.tokens.to(logits.device)
        best = logits.gather(-1, tokens)
        rest = log_rest(logits, tokens)
        normalizers = torch.logaddexp(best.logsumexp(-1), rest)
        student = torch.cat([best, rest[:, None]], dim=-1) - normalizers[:, None]
        probabilities, logprobs = self.probabilities.to(logits.device), self.logprobs.to(logits.device)
        return torch.where(probabilities > 0, probabilities * (logprobs - student), 0.0).sum(-1)


def top_k(logprobs: Tensor, top: int) -> TeacherDistribution:
    """Return the likeliest tokens of ``[token, vocabulary]`` and the mass of all others, rounded to 16 bits."""
    best = logprobs.topk(min(top, logprobs.shape[-1]), dim=-1)
    rest = log_rest(logprobs, best.indices)
    lowest = float(np.finfo(np.float16).min)
    return TeacherDistribution(
        tokens=best.indices.cpu().numpy().astype(np.int32),
        logprobs=best.values.clamp(min=lowest).cpu().numpy().astype(np.float16),
        rest=rest.clamp(min=lowest).cpu().numpy().astype(np.float16),
    )


def log_rest(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return log Σ exp over all tokens but some, ``[token]``.

    The excluded tokens are set to -∞ rather than subtracted from the whole, which would cancel where the rest is small.
    """
    if tokens.shape[-1] == logits.shape[-1]:
        return torch.full(logits.shape[:-1], -torch.inf, device=logits.device)
    return logits.scatter(-1, tokens, -torch.inf).logsumexp(-1)
