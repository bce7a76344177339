"""How the preference between two answers, and its price in KL, change with what is added to hidden states.

Where teacher forcing tells what additions do, this tells which way to change them: gradients with respect to one vector
per layer, added at every token but the attention sink. Both signs of the additions are looked at together, since one
direction serves both sides of a dial.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.engines.base import Array, Preference, Slope, Tokens
from trimtab.engines.blocks import Blocks, block_output, eagerly, with_block_output
from trimtab.engines.passes import Walk
from trimtab.engines.prefix_tree import Ints, build_tree
from trimtab.engines.transformers.default_model import first_line
from trimtab.engines.transformers.host import Host
from trimtab.engines.transformers.walking import is_out_of_memory, place, release
from trimtab.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

SIGNS = (1.0, -1.0)
WITHOUT = "train with refine=0"

Sequences: TypeAlias = Sequence["_Sequence"]


def prepare_slopes(host: Host, items: Sequence[Preference]) -> PreferenceSlopes | None:
    """Prepare questions for gradients; None where padding at the end would not be without effect."""
    if host.start is not None or not host.blocks.causal or host.blocks.encoder:
        return None
    cost = host.cost()
    tree = build_tree([sequence.read for item in items for sequence in _sequences(item)])
    shares = isinstance(host.walks.plan(tree, cost, times=len(items)), Walk)
    return PreferenceSlopes(
        host.model, host.blocks, items, sink=host.sink, shared_tokens=cost.walk_tokens if shares else None
    )


@final
class PreferenceSlopes:
    """Questions prepared for one model; see ``trimtab.engines.base.Slopes``.

    Args:
        model: The model.
        blocks: Its blocks.
        items: The questions.
        sink: Whether nothing is added at a text's first token.
        shared_tokens: How many tokens a pass may have in which questions and answers share what they begin with; None
            where the model does not allow for it, and each answer has a row of its own.
    """

    def __init__(
        self, model: nn.Module, blocks: Blocks, items: Sequence[Preference], *, sink: bool, shared_tokens: int | None
    ) -> None:
        self._model = model
        self._blocks = blocks
        self._items = tuple(items)
        self._sink = sink
        self._shared_tokens = shared_tokens
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        with torch.no_grad(), eagerly():
            own = [[_Sequence(item.prompt, item.own)] for item in self._items]
            self._reference = [self._logprobs(sequences, (0.0,), {})[0][0].detach() for sequences in own]

    def at(self, additions: Mapping[int, Array], numbers: Sequence[int], *, price: float) -> Slope:
        """Value and gradient of ``preference - price · KL`` on some of the questions.

        Args:
            additions: Layer to ``[hidden]``, for the positive sign.
            numbers: Which questions.
            price: Nats of preference that a nat of KL is worth.

        Raises:
            ModelError: The model has no gradients, or there is no memory for them.
        """
        device, _ = place(self._model)
        pushes = {
            layer: torch.tensor(added, dtype=torch.float32, device=device, requires_grad=True)
            for layer, added in additions.items()
        }
        gradient = {layer: np.zeros_like(added, dtype=np.float32) for layer, added in additions.items()}
        value = cost = 0.0
        with _frozen(self._model), torch.enable_grad(), eagerly():
            for part in self._parts(numbers, pushes, price=price):
                value, cost = value + part.preference, cost + part.kl
                for layer, slope in part.gradient.items():
                    gradient[layer] += slope
        return Slope(preference=value, kl=cost, gradient=gradient)

    def _parts(self, numbers: Sequence[int], pushes: Mapping[int, Tensor], *, price: float) -> Iterator[Slope]:
        """What each pass contributes; one that memory does not suffice for is done question by question."""
        groups = deque(self._groups(numbers))
        while groups:
            group = groups.popleft()
            try:
                yield self._part(group, pushes, price=price, share=len(SIGNS) * len(numbers))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise ModelError(f"no gradients: {first_line(error)}", fix=WITHOUT) from error
                release(error)
                if len(group) == 1:
                    problem = "memory does not suffice for the gradients of one question"
                    raise ModelError(problem, fix=WITHOUT) from None
                groups.extendleft([n] for n in reversed(group))

    def _part(self, group: Sequence[int], pushes: Mapping[int, Tensor], *, price: float, share: int) -> Slope:
        sequences = [sequence for n in group for sequence in _sequences(self._items[n])]
        found = self._logprobs(sequences, SIGNS, pushes)
        preference, kl = (total / share for total in self._totals(found, group))
        slopes = torch.autograd.grad(preference - price * kl, list(pushes.values()))
        return Slope(
            preference=float(preference.detach()),
            kl=float(kl.detach()),
            gradient={layer: slope.cpu().numpy() for layer, slope in zip(pushes, slopes, strict=True)},
        )

    def _groups(self, numbers: Sequence[int]) -> list[list[int]]:
        """The questions pass by pass."""
        if self._shared_tokens is None:
            return [list(numbers)]
        groups: list[list[int]] = []
        for n in numbers:
            wider = [*groups[-1], n] if groups else [n]
            read = [sequence.read for at in wider for sequence in _sequences(self._items[at])]
            if groups and len(build_tree(read)) <= self._shared_tokens:
                groups[-1] = wider
            else:
                groups.append([n])
        return groups

    def _totals(self, found: Sequence[Sequence[Tensor]], numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Preference and mean KL, summed over signs and questions."""
        preference = kl = torch.zeros((), device=found[0][0].device)
        for sign, logprobs in zip(SIGNS, found, strict=True):
            each = iter(logprobs)
            for n in numbers:
                item, base = self._items[n], self._reference[n]
                positive, negative = _mean(next(each), item.positive), _mean(next(each), item.negative)
                preference = preference + sign * (positive - negative)
                kl = kl + (base.exp() * (base - next(each))).sum(-1).mean()
        return preference, kl

    def _logprobs(
        self, sequences: Sequences, signs: Sequence[float], pushes: Mapping[int, Tensor]
    ) -> list[list[Tensor]]:
        """For each sign and sequence the log-probabilities ``[token, vocabulary]`` at its answer, in one pass."""
        device, dtype = place(self._model)
        layout = _apart(sequences, signs) if self._shared_tokens is None else _shared(sequences, signs)
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(layout.tokens).to(device), "use_cache": False}
        if layout.sees is not None:
            sees = torch.from_numpy(layout.sees)
            mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
            inputs["attention_mask"] = mask.expand(len(layout.tokens), 1, *sees.shape).to(device)
            inputs["position_ids"] = torch.from_numpy(layout.depths).to(device)
        first = min(int(columns[0]) for _, columns in layout.answers) if self._keeps else 0
        if self._keeps:
            inputs["logits_to_keep"] = layout.tokens.shape[1] - first
        factors = torch.tensor(layout.signs, dtype=torch.float32, device=device)[:, None, None]
        where = torch.from_numpy((layout.depths > 0) | (not self._sink)).to(device, torch.float32)[..., None] * factors
        with self._blocks.hooked(pushes, lambda layer, output: self._pushed(output, pushes[layer], where)):
            logits = self._model(**inputs).logits
        logprobs = [
            logits[row, torch.from_numpy(columns - first).to(device)].float().log_softmax(-1)
            for row, columns in layout.answers
        ]
        return [logprobs[n * len(sequences) : (n + 1) * len(sequences)] for n in range(len(signs))]

    def _pushed(self, output: Any, push: Tensor, where: Tensor) -> Any:
        """A block's output with ``push`` added as often as ``where`` (``[row, token, 1]``) says."""
        state = block_output(output)
        view = self._blocks.layout.view(state)
        factors = torch.zeros(len(where), view.shape[1], 1, device=view.device)
        offset = self._blocks.layout.offset
        factors[:, offset : offset + where.shape[1]] = where.to(view.device)
        return with_block_output(
            output, self._blocks.layout.add(state, (factors * push.to(view.device)).to(view.dtype))
        )


@dataclass(frozen=True)
class _Sequence:
    """A question with one answer."""

    prompt: Tokens
    answer: Tokens

    @property
    def read(self) -> Tokens:
        """All but the answer's last token, which predicts nothing that is asked for."""
        return self.prompt + self.answer[:-1]


def _sequences(item: Preference) -> list[_Sequence]:
    return [_Sequence(item.prompt, answer) for answer in (item.positive, item.negative, item.own)]


@dataclass(frozen=True)
class _Layout:
    """How sequences lie in one pass.

    Attributes:
        tokens: ``[row, column]``.
        depths: Position ids, likewise.
        signs: Of each row.
        sees: ``[column, column]``: which tokens a token sees; None where those are all before it.
        answers: For each sign and then each sequence, the row and the columns at which its answer's tokens are
            predicted.
    """

    tokens: Ints
    depths: Ints
    signs: tuple[float, ...]
    sees: NDArray[np.bool_] | None
    answers: tuple[tuple[int, Ints], ...]


def _apart(sequences: Sequences, signs: Sequence[float]) -> _Layout:
    """A row for each sign and sequence, padded at the end, which nothing sees that counts."""
    longest = max(len(sequence.read) for sequence in sequences)
    tokens = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        tokens[row, : len(sequence.read)] = sequence.read
    answers = [
        (n * len(sequences) + row, np.arange(len(sequence.prompt) - 1, len(sequence.read)))
        for n in range(len(signs))
        for row, sequence in enumerate(sequences)
    ]
    return _Layout(
        tokens=np.tile(tokens, (len(signs), 1)),
        depths=np.tile(np.arange(longest), (len(signs) * len(sequences), 1)),
        signs=tuple(sign for sign in signs for _ in sequences),
        sees=None,
        answers=tuple(answers),
    )


def _shared(sequences: Sequences, signs: Sequence[float]) -> _Layout:
    """A row for each sign, in which everything that sequences begin with stands once."""
    tree = build_tree([sequence.read for sequence in sequences])
    nodes = np.arange(len(tree))
    paths = [tree.path(int(end)) for end in tree.ends]
    return _Layout(
        tokens=np.tile(tree.token, (len(signs), 1)),
        depths=np.tile(tree.depth, (len(signs), 1)),
        signs=tuple(signs),
        sees=tree.sees(nodes, nodes),
        answers=tuple(
            (row, path[len(sequence.prompt) - 1 :])
            for row in range(len(signs))
            for path, sequence in zip(paths, sequences, strict=True)
        ),
    )


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
