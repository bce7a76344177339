"""Objectives of training by gradient, with their gradients with respect to additions.

Both have one vector per layer, added to the layer's output, and both are means over texts that are read in passes:

- The preference gradient: with ``s = ±1`` for the sign at which the additions ``v`` act, and log p the mean
  log-probability of an answer's tokens,
  ``preference = mean over s of s · [log p(positive | s v) - log p(negative | s v)]``, which is half the swing, less
  ``price · KL(base ‖ steered)`` along the model's own answer.
- The distillation loss: KL(teacher ‖ student) per token. The teacher is the model under another prompt, of which the
  top-k distribution at every token of an answer is stored; the student reads the same answer without that prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from trimtab.arrays import F32, F64
from trimtab.engines.protocol import (
    DistillationExample,
    LossGradient,
    Preference,
    PreferenceGradient,
    TeacherDistribution,
    Tokens,
)
from trimtab.engines.transformers.grad.additive import AdditivePasses, AnsweredPrompt, Texts, has_gradients
from trimtab.engines.transformers.model.context import ModelContext
from trimtab.engines.transformers.score.kl import TopK, kl_of_logprobs, top_k

SIGNS = (1.0, -1.0)


@final
class TreePreferenceGradients:
    """Questions prepared for one model; see ``trimtab.engines.protocol.PreferenceGradients``."""

    def __init__(self, passes: AdditivePasses, items: Sequence[Preference]) -> None:
        self._items = tuple(items)
        self._texts = [_texts(item) for item in items]
        self._passes = passes
        self._base: dict[int, Tensor] = {}

    def at(self, additions: Mapping[int, F32], numbers: Sequence[int], *, price: float) -> PreferenceGradient:
        """Return value and gradient of ``preference - price · KL`` on some of the questions.

        Args:
            additions: Layer to ``[hidden]``, for the positive sign.
            numbers: The questions.
            price: Nats of preference that a nat of KL is worth; at 0, KL is not measured.

        Raises:
            ModelError: The model has no gradients, or there is no memory for them.
        """
        # At zero both signs are the same pass, and so is their gradient: one is enough.
        signs = SIGNS if any(added.any() for added in additions.values()) else SIGNS[:1]
        if price:
            self._measure_base(numbers)

        def part(group: Sequence[int], added: Mapping[int, Tensor]) -> tuple[Tensor, tuple[float, float]]:
            return self._part(group, added, signs, price=price, share=len(signs) * len(numbers))

        (preference, kl), gradient = self._passes.gradient(additions, self._texts, numbers, part)
        return PreferenceGradient(preference=preference if len(signs) > 1 else 0.0, kl=kl, gradient=gradient)

    def _measure_base(self, numbers: Sequence[int]) -> None:
        """Compute the unsteered distributions along the model's own answers, once per question."""
        with torch.no_grad():
            for n in numbers:
                if n not in self._base:
                    answer = AnsweredPrompt(self._items[n].prompt, self._items[n].answer)
                    self._base[n] = self._passes.logprobs([answer], (0.0,), {})[0][0].detach()

    def _part(
        self, group: Sequence[int], added: Mapping[int, Tensor], signs: Sequence[float], *, price: float, share: int
    ) -> tuple[Tensor, tuple[float, float]]:
        texts = [text for n in group for text in self._texts[n][: 3 if price else 2]]
        by_sign = self._passes.logprobs(texts, signs, added)
        preference = kl = torch.zeros((), device=by_sign[0][0].device)
        for sign, tables in zip(signs, by_sign, strict=True):
            each = iter(tables)
            for n in group:
                item = self._items[n]
                positive, negative = _mean(next(each), item.positive), _mean(next(each), item.negative)
                preference = preference + sign * (positive - negative)
                if price:
                    kl = kl + kl_of_logprobs(self._base[n], next(each)).mean()
        preference, kl = preference / share, kl / share
        return preference - price * kl, (float(preference.detach()), float(kl.detach()))


def _texts(item: Preference) -> Texts:
    return [AnsweredPrompt(item.prompt, answer) for answer in (item.positive, item.negative, item.answer)]


def _mean(logprobs: Tensor, answer: Tokens) -> Tensor:
    return logprobs.gather(1, torch.tensor(answer, device=logprobs.device)[:, None]).mean()


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

    def preference_gradients(self, items: Sequence[Preference], *, bf16: bool = False) -> TreePreferenceGradients:
        """See ``trimtab.engines.protocol.Gradients.preference_gradients``."""
        return TreePreferenceGradients(AdditivePasses.of(self.context, map(_texts, items), bf16=bf16), items)

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
