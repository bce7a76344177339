"""How the preference between two answers, and its price in KL, change with what is added to hidden states.

Where teacher forcing tells what additions do, this tells which way to change them: gradients with respect to one vector
per layer, added at every token but the attention sink. Both signs of the additions are looked at together, since one
direction serves both sides of a dial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from trimtab.engines.base import Array, Preference, Slope, Tokens
from trimtab.engines.transformers.host import Host
from trimtab.engines.transformers.pushing import Pushing, Texts, Told, frozen

SIGNS = (1.0, -1.0)


@final
class PreferenceSlopes:
    """Questions prepared for one model; see ``trimtab.engines.base.Slopes``.

    Args:
        pushing: Passes of the model.
        items: The questions.
    """

    @classmethod
    def of(cls, host: Host, items: Sequence[Preference], *, swift: bool) -> PreferenceSlopes:
        """Questions for a model that has gradients; see ``trimtab.engines.base.Gradients.slopes``."""
        return cls(Pushing.of(host, [_texts(item) for item in items], swift=swift), items)

    def __init__(self, pushing: Pushing, items: Sequence[Preference]) -> None:
        self._items = tuple(items)
        self._texts = [_texts(item) for item in items]
        self._pushing = pushing
        self._reference: dict[int, Tensor] = {}

    def at(self, additions: Mapping[int, Array], numbers: Sequence[int], *, price: float) -> Slope:
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

        def work(group: Sequence[int]) -> Slope:
            return self._part(group, pushes, signs, price=price, share=len(signs) * len(numbers))

        with frozen(self._pushing.model), torch.enable_grad():
            for part in self._pushing.parts(self._texts, numbers, work):
                value, cost = value + part.preference, cost + part.kl
                for layer, slope in part.gradient.items():
                    gradient[layer] += slope
        return Slope(preference=value if len(signs) > 1 else 0.0, kl=cost, gradient=gradient)

    def _note_reference(self, numbers: Sequence[int]) -> None:
        """What the model as it is expects along its own answers, of questions of which that is not known yet."""
        with torch.no_grad():
            for n in numbers:
                if n not in self._reference:
                    own = [Told(self._items[n].prompt, self._items[n].own)]
                    self._reference[n] = self._pushing.logprobs(own, (0.0,), {})[0][0].detach()

    def _part(
        self,
        group: Sequence[int],
        pushes: Mapping[int, Tensor],
        signs: Sequence[float],
        *,
        price: float,
        share: int,
    ) -> Slope:
        texts = [told for n in group for told in self._texts[n][: 3 if price else 2]]
        found = self._pushing.logprobs(texts, signs, pushes)
        preference, kl = (total / share for total in self._totals(found, group, signs, priced=price > 0))
        slopes = torch.autograd.grad(preference - price * kl, list(pushes.values()))
        return Slope(
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
                    kl = kl + (base.exp() * (base - next(each))).sum(-1).mean()
        return preference, kl


def _texts(item: Preference) -> Texts:
    return [Told(item.prompt, answer) for answer in (item.positive, item.negative, item.own)]


def _mean(logprobs: Tensor, answer: Tokens) -> Tensor:
    """Mean log-probability of an answer's tokens."""
    return logprobs.gather(1, torch.tensor(answer, device=logprobs.device)[:, None]).mean()
