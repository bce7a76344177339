"""Objectives of training by gradient, with their gradients with respect to additions.

Both have one vector per layer, added to the layer's output, and both are means over texts that are read in passes:

- The expected persona ratio: at every token of given answers, the mean of ``log p₊ - log p₋`` over what the steered
  model would write next, where ``p₊`` and ``p₋`` are the unsteered model under the system prompts of the two poles;
  less ``price · KL(base ‖ steered)`` along the model's own answer. No token needs to be sampled: the expectation is a
  sum over the vocabulary.
- The distillation loss: KL(teacher ‖ student) per token. The teacher is the model under another prompt, of which the
  top-k distribution at every token of an answer is stored; the student reads the same answer without that prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from trimtab.arrays import F32, F64
from trimtab.engines.protocol import (
    DistillationExample,
    LossGradient,
    PersonaContrast,
    RatioGradient,
    TeacherDistribution,
    Tokens,
)
from trimtab.engines.transformers.grad.additive import AdditivePasses, AnsweredPrompt, Texts, has_gradients
from trimtab.engines.transformers.model.context import ModelContext
from trimtab.engines.transformers.score.kl import TopK, top_k

SIGNS = {"+": 1.0, "-": -1.0}
STORED_BYTES = 2 * 1024**3
MAX_RATIO = 8.0  # nats; of tokens that neither persona would say, the ratio of two tiny probabilities is noise
GROUP = 8  # questions whose tables are made together
ROWS = 64  # tokens whose distributions are processed at a time, so that they stay in the processor's cache


@final
class TreeRatioGradients:
    """Questions prepared for one model; see ``trimtab.engines.protocol.RatioGradients``."""

    def __init__(self, passes: AdditivePasses, items: Sequence[PersonaContrast]) -> None:
        self._items = tuple(items)
        self._texts = [[AnsweredPrompt(item.prompt, answer) for answer in item.answers] for item in items]
        self._persona_texts = [
            [
                AnsweredPrompt(prompt, answer)
                for prompt in (item.under_positive, item.under_negative)
                for answer in item.answers
            ]
            for item in items
        ]
        self._passes = passes
        self._stored: dict[int, _Unsteered] = {}
        self._bytes = 0

    def at(
        self,
        additions: Mapping[int, F32],
        numbers: Sequence[int],
        *,
        factors: Mapping[str, float],
        prices: Mapping[str, float],
    ) -> RatioGradient:
        """Return the expected ratio and KL of each sign on some of the questions, and the gradient.

        Args:
            additions: Layer to ``[hidden]``, for the positive sign.
            numbers: The questions.
            factors: Multiple of the additions that each sign uses; ``"-"`` acts against their direction.
            prices: Nats of ratio that a nat of KL is worth, by sign.

        Raises:
            ModelError: The model has no gradients, or there is no memory for them.
        """
        unsteered = self._prepared(numbers)
        signs = [(SIGNS[key] * factor, SIGNS[key], prices[key]) for key, factor in factors.items()]
        share = 1.0 / (len(numbers) * len(signs))

        def part(group: Sequence[int], added: Mapping[int, Tensor]) -> tuple[Tensor, tuple[float, ...]]:
            texts = [text for n in group for text in self._texts[n]]
            logits = self._passes.logits(texts, [factor for factor, _, _ in signs], added)
            by_sign = torch.split(logits, len(logits) // len(signs))
            values: list[tuple[float, float]] = []
            slopes = []
            for each, (_, sign, price) in zip(by_sign, signs, strict=True):
                ratio = kl = 0.0
                at = 0
                for n in group:
                    tokens = len(unsteered[n].ratio)
                    value = _ratio_and_slope(each[at : at + tokens].detach(), unsteered[n], sign=sign, price=price)
                    ratio, kl = ratio + value[0], kl + value[1]
                    slopes.append(share * value[2])
                    at += tokens
                values.append((ratio / len(numbers), kl / len(numbers)))
            # The gradient with respect to the logits is known in closed form, so no table but this one is kept.
            objective = torch.linalg.vecdot(logits, torch.cat(slopes)).sum()
            return objective, tuple(number for pair in values for number in pair)

        reported, gradient = self._passes.gradient(additions, self._texts, numbers, part)
        return RatioGradient(
            ratio=dict(zip(factors, reported[0::2], strict=True)),
            kl=dict(zip(factors, reported[1::2], strict=True)),
            gradient=gradient,
        )

    def _prepared(self, numbers: Sequence[int]) -> dict[int, _Unsteered]:
        """Return what the unsteered model predicts along the questions' answers, stored while memory is cheap."""
        made: dict[int, _Unsteered] = {}
        for number in numbers:
            if number in self._stored or number in made:
                continue
            group = [number]
            if self._bytes < STORED_BYTES:
                # Always the same groups, so that a table has the same bits whichever question was wanted first.
                first = number - number % GROUP
                group = list(range(first, min(first + GROUP, len(self._items))))
            for n, tables in zip(group, self._tables(group), strict=True):
                made[n] = tables
                if self._bytes < STORED_BYTES:
                    self._bytes += tables.ratio.nbytes + tables.base.nbytes
                    self._stored[n] = tables
        return {n: made[n] if n in made else self._stored[n] for n in numbers}

    def _tables(self, numbers: Sequence[int]) -> list[_Unsteered]:
        def personas(group: Sequence[int]) -> list[Tensor]:
            texts = [text for n in group for text in self._persona_texts[n]]
            tables = iter(self._passes.logprobs(texts, (0.0,), {})[0])
            pairs = [[torch.cat([next(tables) for _ in self._texts[n]]) for _ in range(2)] for n in group]
            return [(positive - negative).clamp_(-MAX_RATIO, MAX_RATIO).half() for positive, negative in pairs]

        def base(group: Sequence[int]) -> list[Tensor]:
            tables = self._passes.logprobs([self._texts[n][0] for n in group], (0.0,), {})[0]
            return [table.half() for table in tables]

        own = [texts[:1] for texts in self._texts]
        with torch.no_grad():
            ratios = [each for group in self._passes.parts(self._persona_texts, numbers, personas) for each in group]
            bases = [each for group in self._passes.parts(own, numbers, base) for each in group]
        made = []
        for n, ratio, table in zip(numbers, ratios, bases, strict=True):
            lengths = [len(text.answer) for text in self._texts[n]]
            weights = np.repeat(1.0 / (len(lengths) * np.array(lengths)), lengths)
            made.append(_Unsteered(ratio, table, weights))
        return made


@dataclass(frozen=True)
class _Unsteered:
    ratio: Tensor  # log p(token | positive prompt) - log p(token | negative prompt), [token of all answers, vocabulary]
    base: Tensor  # log-probabilities along the model's own answer, the first one, [token, vocabulary]
    weights: F64  # of the tokens of all answers; answers count alike, whatever their lengths


def _ratio_and_slope(
    logits: Tensor, unsteered: _Unsteered, *, sign: float, price: float
) -> tuple[float, float, Tensor]:
    """Return the expected ratio, the KL, and the gradient of ``sign · ratio - price · KL`` by the logits.

    With ``q`` the steered and ``p`` the base distribution at a token, ``r`` its ratios and ``R = Σ q r``::

        ∂R/∂logits = q · (r - R)        ∂KL(p ‖ q)/∂logits = q - p
    """
    slope = torch.empty_like(logits)
    weights = torch.from_numpy(unsteered.weights).to(logits.device, logits.dtype)
    own = len(unsteered.base)
    ratio = kl = torch.zeros((), device=logits.device)
    for start in range(0, len(logits), ROWS):
        rows = slice(start, start + ROWS)
        logprobs = logits[rows].log_softmax(-1)
        q, r, weight = logprobs.exp(), unsteered.ratio[rows].float(), weights[rows]
        expected = torch.linalg.vecdot(q, r)
        ratio = ratio + weight @ expected
        slope[rows] = q * ((sign * weight)[:, None] * (r - expected[:, None]))
        if price and start < own:
            base = unsteered.base[rows].float()
            here, p = slice(start, start + len(base)), base.exp()
            kl = kl + torch.linalg.vecdot(p, base - logprobs[: len(base)]).sum() / own
            slope[here] -= price / own * (q[: len(base)] - p)
    return float(ratio), float(kl), slope


@final
class TeacherDistillationLoss:
    """Examples prepared for one model; see ``trimtab.engines.protocol.DistillationLoss``."""

    def __init__(self, passes: AdditivePasses, examples: Sequence[DistillationExample]) -> None:
        self._passes = passes
        self._texts: list[Texts] = [[AnsweredPrompt(example.prompt, example.answer)] for example in examples]
        self._teachers = [TopK.of(example.expected) for example in examples]

    def at(self, additions: Mapping[int, F32], numbers: Sequence[int], *, halfway: float = math.inf) -> LossGradient:
        """Return mean KL(teacher ‖ student) of some of the examples, and the gradient of the loss.

        Raises:
            ModelError: The model has no gradients, or there is no memory for them.
        """

        def part(group: Sequence[int], added: Mapping[int, Tensor]) -> tuple[Tensor, tuple[float]]:
            by_example = self._kl(group, added)
            loss = torch.stack([_softened(kl, halfway).mean() for kl in by_example]).sum() / len(numbers)
            return loss, (sum(float(kl.detach().mean()) for kl in by_example) / len(numbers),)

        (kl,), gradient = self._passes.gradient(additions, self._texts, numbers, part)
        return LossGradient(kl=kl, gradient=gradient)

    def measure(self, additions: Mapping[int, F32]) -> list[F64]:
        """Return KL(teacher ‖ student) at each token of every example's answer, in nats."""
        with torch.no_grad():
            added = self._passes.tensors(additions, gradients=False)

            def part(group: Sequence[int]) -> list[F64]:
                return [kl.cpu().double().numpy() for kl in self._kl(group, added)]

            parts: Iterator[list[F64]] = self._passes.parts(self._texts, range(len(self._texts)), part)
            return [kl for each in parts for kl in each]

    def _kl(self, group: Sequence[int], added: Mapping[int, Tensor]) -> list[Tensor]:
        logits = self._passes.logits([self._texts[n][0] for n in group], (1.0,), added)
        teachers = [self._teachers[n] for n in group]
        return list(torch.split(TopK.joined(teachers).kl_to(logits), [len(teacher.tokens) for teacher in teachers]))


def _softened(kl: Tensor, halfway: float) -> Tensor:
    """Return ``h · log(1 + KL / h)``, whose slope is a half at ``KL = h``: tokens far off do not dominate the loss."""
    return kl if math.isinf(halfway) else halfway * torch.log1p(kl / halfway)


@final
@dataclass(frozen=True)
class ModelGradients:
    """See ``trimtab.engines.protocol.Gradients``."""

    context: ModelContext  # a model for which has_gradients holds

    @classmethod
    def of(cls, context: ModelContext) -> ModelGradients | None:
        """Return the gradients of a model, if its texts can be padded at their end without effect."""
        return cls(context) if has_gradients(context) else None

    def ratio_gradients(self, items: Sequence[PersonaContrast], *, bf16: bool = False) -> TreeRatioGradients:
        """See ``trimtab.engines.protocol.Gradients.ratio_gradients``."""
        texts: list[Texts] = [[AnsweredPrompt(item.prompt, answer) for answer in item.answers] for item in items]
        return TreeRatioGradients(AdditivePasses.of(self.context, texts, bf16=bf16), items)

    def teacher_distributions(
        self,
        texts: Sequence[tuple[Tokens, Tokens]],
        *,
        top: int,
        additions: Mapping[int, F32],
        generated: bool = False,
        bf16: bool = False,
    ) -> list[TeacherDistribution]:
        """See ``trimtab.engines.protocol.Gradients.teacher_distributions``."""
        answered: list[Texts] = [[AnsweredPrompt(prompt, answer)] for prompt, answer in texts]
        passes = AdditivePasses.of(self.context, answered, generated=generated, bf16=bf16)
        with torch.no_grad():
            added = passes.tensors(additions, gradients=False)

            def part(group: Sequence[int]) -> list[TeacherDistribution]:
                (tables,) = passes.logprobs([answered[n][0] for n in group], (1.0,), added)
                return [top_k(logprobs, top) for logprobs in tables]

            return [teacher for each in passes.parts(answered, range(len(answered)), part) for teacher in each]

    def distillation_loss(
        self, examples: Sequence[DistillationExample], *, generated: bool = False, bf16: bool = False
    ) -> TeacherDistillationLoss:
        """See ``trimtab.engines.protocol.Gradients.distillation_loss``."""
        texts: list[Texts] = [[AnsweredPrompt(example.prompt, example.answer)] for example in examples]
        passes = AdditivePasses.of(self.context, texts, generated=generated, bf16=bf16)
        return TeacherDistillationLoss(passes, examples)
