"""How the preference between two answers, and its price in KL, change with what is added to hidden states.

Where teacher forcing tells what additions do, this tells which way to change them: gradients with respect to one vector
per layer, added at every token but the attention sink. Both signs of the additions are looked at together, since one
direction serves both sides of a dial.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from trimtab.engines.base import Array, Preference, Slope, Tokens
from trimtab.engines.blocks import Blocks, block_output, eagerly, with_block_output
from trimtab.engines.transformers.host import Host
from trimtab.engines.transformers.walking import place

if TYPE_CHECKING:
    from torch import nn

SIGNS = (1.0, -1.0)


def prepare_slopes(host: Host, items: Sequence[Preference]) -> PreferenceSlopes | None:
    """Prepare questions for gradients; None where padding at the end would not be without effect."""
    if host.start is not None or not host.blocks.causal or host.blocks.encoder:
        return None
    return PreferenceSlopes(host.model, host.blocks, items, sink=host.sink)


@final
class PreferenceSlopes:
    """Questions prepared for one model; see ``trimtab.engines.base.Slopes``."""

    def __init__(self, model: nn.Module, blocks: Blocks, items: Sequence[Preference], *, sink: bool) -> None:
        self._model = model
        self._blocks = blocks
        self._items = tuple(items)
        self._sink = sink
        with torch.no_grad(), eagerly():
            self._reference = [
                self._logprobs([_Row(item.prompt, item.own, 0.0)], {})[0].detach() for item in self._items
            ]

    def at(self, additions: Mapping[int, Array], numbers: Sequence[int], *, price: float) -> Slope:
        """Value and gradient of ``preference - price · KL`` on some of the questions.

        Args:
            additions: Layer to ``[hidden]``, for the positive sign.
            numbers: Which questions.
            price: Nats of preference that a nat of KL is worth.
        """
        device, _ = place(self._model)
        pushes = {
            layer: torch.tensor(added, dtype=torch.float32, device=device, requires_grad=True)
            for layer, added in additions.items()
        }
        rows = [row for n in numbers for sign in SIGNS for row in _rows(self._items[n], sign)]
        with _frozen(self._model), torch.enable_grad(), eagerly():
            found = self._logprobs(rows, pushes)
            preference, kl = self._values(found, numbers)
            gradients = torch.autograd.grad(preference - price * kl, list(pushes.values()))
        return Slope(
            preference=float(preference.detach()),
            kl=float(kl.detach()),
            gradient={layer: gradient.cpu().numpy() for layer, gradient in zip(pushes, gradients, strict=True)},
        )

    def _values(self, found: Sequence[Tensor], numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Half the swing, and the mean KL of both signs, over the questions."""
        preference = kl = torch.zeros((), device=found[0].device)
        each = iter(found)
        for n in numbers:
            item, base = self._items[n], self._reference[n]
            for sign in SIGNS:
                positive, negative = _mean(next(each), item.positive), _mean(next(each), item.negative)
                preference = preference + sign * (positive - negative)
                kl = kl + (base.exp() * (base - next(each))).sum(-1).mean()
        count = len(SIGNS) * len(numbers)
        return preference / count, kl / count

    def _logprobs(self, rows: Sequence[_Row], pushes: Mapping[int, Tensor]) -> list[Tensor]:
        """For each row the log-probabilities ``[token, vocabulary]`` at its answer, in one pass padded at the end."""
        device, _ = place(self._model)
        longest = max(len(row.read) for row in rows)
        tokens = torch.zeros(len(rows), longest, dtype=torch.long, device=device)
        for at, row in enumerate(rows):
            tokens[at, : len(row.read)] = torch.tensor(row.read, device=device)
        first = min(len(row.prompt) for row in rows) - 1
        inputs: dict[str, Any] = {"input_ids": tokens, "use_cache": False}
        if "logits_to_keep" in inspect.signature(self._model.forward).parameters:
            inputs["logits_to_keep"] = longest - first
        else:
            first = 0
        signs = torch.tensor([row.sign for row in rows], device=device)[:, None, None]
        with self._blocks.hooked(pushes, lambda layer, output: self._pushed(output, signs * pushes[layer], longest)):
            logits = self._model(**inputs).logits
        return [
            logits[at, len(row.prompt) - 1 - first : len(row.read) - first].float().log_softmax(-1)
            for at, row in enumerate(rows)
        ]

    def _pushed(self, output: Any, push: Tensor, count: int) -> Any:
        """A block's output with ``push`` (``[row, 1, hidden]``) added at every token but the sink."""
        state = block_output(output)
        view = self._blocks.layout.view(state)
        where = torch.zeros(1, view.shape[1], 1, device=view.device)
        offset = self._blocks.layout.offset
        where[:, offset + (1 if self._sink else 0) : offset + count] = 1.0
        return with_block_output(output, self._blocks.layout.add(state, (where * push).to(view.dtype)))


@dataclass(frozen=True)
class _Row:
    """One sequence of a pass, and the sign with which additions act on it."""

    prompt: Tokens
    answer: Tokens
    sign: float

    @property
    def read(self) -> Tokens:
        """All but the answer's last token, which predicts nothing that is asked for."""
        return self.prompt + self.answer[:-1]


def _rows(item: Preference, sign: float) -> list[_Row]:
    return [_Row(item.prompt, answer, sign) for answer in (item.positive, item.negative, item.own)]


def _mean(logprobs: Tensor, answer: Tokens) -> Tensor:
    """Mean log-probability of an answer's tokens."""
    return logprobs.gather(1, torch.tensor(answer, device=logprobs.device)[:, None]).mean()


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Inside, the model's weights take no gradients; afterwards they are as they were."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
