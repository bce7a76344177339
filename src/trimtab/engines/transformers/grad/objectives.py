"""How far a model is from predicting what another chat makes it predict, and which way that changes with additions.

The other chat, under a system prompt say, is the teacher: what it expects at every token of an answer is noted once, as
its likeliest tokens and the mass of all the others. The student reads the same answer after a prompt of its own, with
one vector per layer added; its loss is the KL divergence from teacher to student per token, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.arrays import F32
from trimtab.engines.protocol import (
    DistillationExample,
    LossGradient,
    Preference,
    PreferenceGradient,
    TeacherDistribution,
    Tokens,
)
from trimtab.engines.transformers.grad.additive import AdditivePasses, PersonaText, Texts, frozen, has_gradients
from trimtab.engines.transformers.model.context import ModelContext
from trimtab.engines.transformers.score.kl import TopK, kl_of_logprobs, top_k

SIGNS = (1.0, -1.0)


@final
class TreePreferenceGradients:
    """Questions prepared for one model; see ``trimtab.engines.protocol.Slopes``.

    Args:
        pushing: Passes of the model.
        items: The questions.
    """

    @classmethod
    def of(cls, host: ModelContext, items: Sequence[Preference], *, swift: bool) -> TreePreferenceGradients:
        """Questions for a model that has gradients; see ``trimtab.engines.protocol.Gradients.slopes``."""
        return cls(AdditivePasses.of(host, [_texts(item) for item in items], swift=swift), items)

    def __init__(self, pushing: AdditivePasses, items: Sequence[Preference]) -> None:
        self._items = tuple(items)
        self._texts = [_texts(item) for item in items]
        self._pushing = pushing
        self._reference: dict[int, Tensor] = {}

    def at(self, additions: Mapping[int, F32], numbers: Sequence[int], *, price: float) -> PreferenceGradient:
        """Value and gradient of ``preference - price · KL`` on some of the questions.

        Args:
            additions: Layer to ``[hidden]``, for the positive sign.
            numbers: Which questions.
            price: Nats of preference that a nat of KL is worth; at 0, KL is not measured.

        Raises:
            ModelError: The model has no gradients, or there is no memory for them.
        """
        pushes = self._pushing.pushes(additions)
        gradient = {layer: np.zeros_like(added, dtype=np.float32) for layer, added in additions.items()}
        value = cost = 0.0
        signs = SIGNS if any(added.any() for added in additions.values()) else SIGNS[:1]  # of nothing, both are one
        if price:
            self._note_reference(numbers)

        def work(group: Sequence[int]) -> PreferenceGradient:
            return self._part(group, pushes, signs, price=price, share=len(signs) * len(numbers))

        with self._pushing.lock, frozen(self._pushing.model), torch.enable_grad():
            for part in self._pushing.parts(self._texts, numbers, work):
                value, cost = value + part.preference, cost + part.kl
                for layer, slope in part.gradient.items():
                    gradient[layer] += slope
        return PreferenceGradient(preference=value if len(signs) > 1 else 0.0, kl=cost, gradient=gradient)

    def _note_reference(self, numbers: Sequence[int]) -> None:
        """What the model as it is expects along its own answers, of questions of which that is not known yet."""
        with torch.no_grad():
            for n in numbers:
                if n not in self._reference:
                    own = [PersonaText(self._items[n].prompt, self._items[n].own)]
                    self._reference[n] = self._pushing.logprobs(own, (0.0,), {})[0][0].detach()

    def _part(
        self,
        group: Sequence[int],
        pushes: Mapping[int, Tensor],
        signs: Sequence[float],
        *,
        price: float,
        share: int,
    ) -> PreferenceGradient:
        texts = [told for n in group for told in self._texts[n][: 3 if price else 2]]
        found = self._pushing.logprobs(texts, signs, pushes)
        preference, kl = (total / share for total in self._totals(found, group, signs, priced=price > 0))
        slopes = torch.autograd.grad(preference - price * kl, list(pushes.values()))
        return PreferenceGradient(
            preference=float(preference.detach()),
            kl=float(kl.detach()),
            gradient={layer: slope.cpu().numpy() for layer, slope in zip(pushes, slopes, strict=True)},
        )

    def _totals(
        self, found: Sequence[Sequence[Tensor]], numbers: Sequence[int], signs: Sequence[float], *, priced: bool
    ) -> tuple[Tensor, Tensor]:
        """Preference and mean KL, summed over signs and questions; KL that costs nothing is not measured, and 0."""
        preference = kl = torch.zeros((), device=found[0][0].device)
        for sign, logprobs in zip(signs, found, strict=True):
            each = iter(logprobs)
            for n in numbers:
                item = self._items[n]
                positive, negative = _mean(next(each), item.positive), _mean(next(each), item.negative)
                preference = preference + sign * (positive - negative)
                if priced:
                    base = self._reference[n]
                    kl = kl + kl_of_logprobs(base, next(each)).mean()
        return preference, kl


def _texts(item: Preference) -> Texts:
    return [PersonaText(item.prompt, answer) for answer in (item.positive, item.negative, item.own)]


def _mean(logprobs: Tensor, answer: Tokens) -> Tensor:
    """Mean log-probability of an answer's tokens."""
    return logprobs.gather(1, torch.tensor(answer, device=logprobs.device)[:, None]).mean()


def expectations(
    host: ModelContext,
    texts: Sequence[tuple[Tokens, Tokens]],
    *,
    top: int,
    additions: Mapping[int, F32],
    generated: bool,
    swift: bool,
) -> list[TeacherDistribution]:
    """What a model expects at every token of given answers.

    Args:
        host: The model.
        texts: Prompts with answers, as token ids.
        top: How many of the likeliest tokens are noted.
        additions: Layer to ``[hidden]``: what is added meanwhile.
        generated: See ``trimtab.engines.protocol.Gradients.imitation``.
        swift: See ``trimtab.engines.protocol.Gradients.imitation``.

    Returns:
        Of each answer.
    """
    told: list[Texts] = [[PersonaText(prompt, answer)] for prompt, answer in texts]
    pushing = AdditivePasses.of(host, told, generated=generated, swift=swift)
    with torch.no_grad():
        pushes = pushing.pushes(additions, gradients=False)

        def work(group: Sequence[int]) -> list[TeacherDistribution]:
            (found,) = pushing.logprobs([told[n][0] for n in group], (1.0,), pushes)
            return [top_k(logprobs, top) for logprobs in found]

        return [expected for part in pushing.parts(told, range(len(told)), work) for expected in part]


@final
class TeacherDistillationLoss:
    """Lessons prepared for one model; see ``trimtab.engines.protocol.Imitation``.

    Args:
        pushing: Passes of the model.
        lessons: What is to be predicted.
    """

    @classmethod
    def of(
        cls, host: ModelContext, lessons: Sequence[DistillationExample], *, generated: bool, swift: bool
    ) -> TeacherDistillationLoss:
        """Lessons for a model that has gradients; see ``trimtab.engines.protocol.Gradients.imitation``."""
        texts: list[Texts] = [[PersonaText(lesson.prompt, lesson.answer)] for lesson in lessons]
        return cls(AdditivePasses.of(host, texts, generated=generated, swift=swift), lessons)

    def __init__(self, pushing: AdditivePasses, lessons: Sequence[DistillationExample]) -> None:
        self._pushing = pushing
        self._texts: list[Texts] = [[PersonaText(lesson.prompt, lesson.answer)] for lesson in lessons]
        self._targets = [TopK.of(lesson.expected) for lesson in lessons]

    def at(self, additions: Mapping[int, F32], numbers: Sequence[int], *, halfway: float = math.inf) -> LossGradient:
        """Mean KL(teacher ‖ student) of some of the lessons, and the gradient of the loss.

        Raises:
            ModelError: The model has no gradients, or there is no memory for them.
        """
        pushes = self._pushing.pushes(additions)
        gradient = {layer: np.zeros_like(added, dtype=np.float32) for layer, added in additions.items()}
        kl = 0.0

        def work(group: Sequence[int]) -> LossGradient:
            each = self._each(group, pushes)
            loss = torch.stack([_counted(kls, halfway).mean() for kls in each]).sum() / len(numbers)
            slopes = torch.autograd.grad(loss, list(pushes.values()))
            return LossGradient(
                kl=sum(float(kls.detach().mean()) for kls in each) / len(numbers),
                gradient={layer: slope.cpu().numpy() for layer, slope in zip(pushes, slopes, strict=True)},
            )

        with self._pushing.lock, frozen(self._pushing.model), torch.enable_grad():
            for part in self._pushing.parts(self._texts, numbers, work):
                kl += part.kl
                for layer, slope in part.gradient.items():
                    gradient[layer] += slope
        return LossGradient(kl=kl, gradient=gradient)

    def measure(self, additions: Mapping[int, F32]) -> list[NDArray[np.float64]]:
        """Of every lesson, KL(teacher ‖ student) at each token of its answer, in nats."""
        with torch.no_grad():
            pushes = self._pushing.pushes(additions, gradients=False)

            def work(group: Sequence[int]) -> list[NDArray[np.float64]]:
                return [each.cpu().double().numpy() for each in self._each(group, pushes)]

            parts: Iterator[list[NDArray[np.float64]]] = self._pushing.parts(self._texts, range(len(self._texts)), work)
            return [each for part in parts for each in part]

    def _each(self, group: Sequence[int], pushes: Mapping[int, Tensor]) -> list[Tensor]:
        logits = self._pushing.logits([self._texts[n][0] for n in group], (1.0,), pushes)
        targets = [self._targets[n] for n in group]
        return list(torch.split(TopK.joined(targets).kl_to(logits), [len(target.tokens) for target in targets]))


def _counted(kls: Tensor, halfway: float) -> Tensor:
    """What each token counts in the loss."""
    return kls if math.isinf(halfway) else halfway * torch.log1p(kls / halfway)


@final
@dataclass(frozen=True)
class ModelGradients:
    """See ``trimtab.engines.protocol.Gradients``.

    Attributes:
        host: A model for which ``has_gradients`` holds.
    """

    host: ModelContext

    @classmethod
    def of(cls, host: ModelContext) -> ModelGradients | None:
        """Of a model, if texts of it can be padded at their end without effect."""
        return cls(host) if has_gradients(host) else None

    def slopes(self, items: Sequence[Preference], *, swift: bool = False) -> TreePreferenceGradients:
        """See ``trimtab.engines.protocol.Gradients.slopes``."""
        return TreePreferenceGradients.of(self.host, items, swift=swift)

    def expectations(
        self,
        texts: Sequence[tuple[Tokens, Tokens]],
        *,
        top: int,
        additions: Mapping[int, F32],
        generated: bool = False,
        swift: bool = False,
    ) -> list[TeacherDistribution]:
        """See ``trimtab.engines.protocol.Gradients.expectations``."""
        return expectations(self.host, texts, top=top, additions=additions, generated=generated, swift=swift)

    def imitation(
        self, lessons: Sequence[DistillationExample], *, generated: bool = False, swift: bool = False
    ) -> TeacherDistillationLoss:
        """See ``trimtab.engines.protocol.Gradients.imitation``."""
        return TeacherDistillationLoss.of(self.host, lessons, generated=generated, swift=swift)
