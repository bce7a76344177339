"""Passes with vectors added to hidden states, through which gradients with respect to those vectors flow.

A pass reads some texts, each once for every factor of the vectors, and gives the log-probabilities of their answers'
tokens. What texts begin with in common is read once, where the model allows for it.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trimtab.engines.base import Array, Tokens
from trimtab.engines.blocks import Blocks, block_output, eagerly, with_block_output
from trimtab.engines.passes import Walk
from trimtab.engines.prefix_tree import Ints, build_tree
from trimtab.engines.transformers.default_model import first_line
from trimtab.engines.transformers.host import Host
from trimtab.engines.transformers.walking import is_out_of_memory, place, release
from trimtab.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

Texts: TypeAlias = Sequence["Told"]
Part = TypeVar("Part")

NO_GRADIENTS = "load the model in float32 or bfloat16, without quantised weights; or train with refine=0"
NO_MEMORY = "ask for shorter answers, or train with refine=0"


@dataclass(frozen=True)
class Told:
    """A prompt with an answer.

    Attributes:
        prompt: Token ids of the prompt.
        answer: Of the answer.
    """

    prompt: Tokens
    answer: Tokens

    @property
    def read(self) -> Tokens:
        """All but the answer's last token, which predicts nothing that is asked for."""
        return self.prompt + self.answer[:-1]


def has_gradients(host: Host) -> bool:
    """Whether texts of a model can be padded at their end without effect, which passes rely on."""
    return host.start is None and host.blocks.causal and not host.blocks.encoder


@final
class Pushing:
    """Passes of one model.

    Args:
        model: The model.
        blocks: Its blocks.
        sink: Whether nothing is added at a text's first token.
        generated: Whether vectors are added at the answers' tokens alone.
        shared_tokens: How many tokens a pass may have in which texts share what they begin with; None where the model
            does not allow for it, and each text has a row of its own.
    """

    def __init__(
        self, model: nn.Module, blocks: Blocks, *, sink: bool, generated: bool = False, shared_tokens: int | None
    ) -> None:
        self.model = model
        self._blocks = blocks
        self._sink = sink
        self._generated = generated
        self._shared_tokens = shared_tokens
        self._keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters

    @classmethod
    def of(cls, host: Host, texts: Sequence[Texts], *, generated: bool = False) -> Pushing:
        """For a model for which ``has_gradients`` holds, and every set of texts that a pass may be asked for."""
        cost = host.cost()
        tree = build_tree([told.read for several in texts for told in several])
        shares = isinstance(host.walks.plan(tree, cost, times=len(texts)), Walk)
        shared_tokens = cost.walk_tokens if shares else None
        return cls(host.model, host.blocks, sink=host.sink, generated=generated, shared_tokens=shared_tokens)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return place(self.model)[0]

    def pushes(self, additions: Mapping[int, Array], *, gradients: bool = True) -> dict[int, Tensor]:
        """Additions as tensors, ``[hidden]`` each."""
        return {
            layer: torch.tensor(added, dtype=torch.float32, device=self.device, requires_grad=gradients)
            for layer, added in additions.items()
        }

    def parts(
        self, texts: Sequence[Texts], numbers: Sequence[int], work: Callable[[Sequence[int]], Part]
    ) -> Iterator[Part]:
        """What ``work`` makes of the numbers, several in a pass; a pass that memory does not suffice for is split.

        Args:
            texts: By number, what is read of it.
            numbers: Those to do.
            work: Does some of them in one pass.

        Raises:
            ModelError: The model has no gradients, or there is no memory for even one of them.
        """
        groups = deque(self._groups(texts, numbers))
        while groups:
            group = groups.popleft()
            try:
                yield work(group)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise ModelError(f"no gradients: {first_line(error)}", fix=NO_GRADIENTS) from error
                release(error)
                if len(group) == 1:
                    problem = "memory does not suffice for the gradients of one question"
                    raise ModelError(problem, fix=NO_MEMORY) from None
                groups.extendleft([n] for n in reversed(group))

    def _groups(self, texts: Sequence[Texts], numbers: Sequence[int]) -> list[list[int]]:
        """The numbers pass by pass."""
        if self._shared_tokens is None:
            return [list(numbers)]
        groups: list[list[int]] = []
        for n in numbers:
            wider = [*groups[-1], n] if groups else [n]
            if groups and len(build_tree([told.read for at in wider for told in texts[at]])) <= self._shared_tokens:
                groups[-1] = wider
            else:
                groups.append([n])
        return groups

    def logprobs(self, texts: Texts, factors: Sequence[float], pushes: Mapping[int, Tensor]) -> list[list[Tensor]]:
        """For each factor and text the log-probabilities ``[token, vocabulary]`` at its answer, in one pass.

        Args:
            texts: What is read.
            factors: What the pushes are multiplied by.
            pushes: Layer to ``[hidden]``.
        """
        device, dtype = place(self.model)
        layout = _apart(texts, factors) if self._shared_tokens is None else _shared(texts, factors)
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(layout.tokens).to(device), "use_cache": False}
        if layout.sees is not None:
            sees = torch.from_numpy(layout.sees)
            mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
            inputs["attention_mask"] = mask.expand(len(layout.tokens), 1, *sees.shape).to(device)
            inputs["position_ids"] = torch.from_numpy(layout.depths).to(device)
        first = min(int(columns[0]) for _, columns in layout.answers) if self._keeps else 0
        if self._keeps:
            inputs["logits_to_keep"] = layout.tokens.shape[1] - first
        with eagerly(), self._blocks.hooked(pushes, self._adding(layout, pushes)):
            logits = self.model(**inputs).logits
        logprobs = [
            logits[row, torch.from_numpy(columns - first).to(device)].float().log_softmax(-1)
            for row, columns in layout.answers
        ]
        return [logprobs[n * len(texts) : (n + 1) * len(texts)] for n in range(len(factors))]

    def _adding(self, layout: _Layout, pushes: Mapping[int, Tensor]) -> Callable[[int, Any], Any]:
        """A hook that adds the pushes at every token that is in scope."""
        touched = layout.generated if self._generated else (layout.depths > 0) | (not self._sink)
        factors = torch.tensor(layout.factors, dtype=torch.float32, device=self.device)[:, None, None]
        where = torch.from_numpy(touched).to(self.device, torch.float32)[..., None] * factors
        return lambda layer, output: self._pushed(output, pushes[layer], where)

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
class _Layout:
    """How texts lie in one pass.

    Attributes:
        tokens: ``[row, column]``.
        depths: Position ids, likewise.
        generated: Which of them are an answer's, likewise.
        factors: Of each row.
        sees: ``[column, column]``: which tokens a token sees; None where those are all before it.
        answers: For each factor and then each text, the row and the columns at which its answer's tokens are predicted.
    """

    tokens: Ints
    depths: Ints
    generated: NDArray[np.bool_]
    factors: tuple[float, ...]
    sees: NDArray[np.bool_] | None
    answers: tuple[tuple[int, Ints], ...]


def _apart(texts: Texts, factors: Sequence[float]) -> _Layout:
    """A row for each factor and text, padded at the end, which nothing sees that counts."""
    longest = max(len(told.read) for told in texts)
    tokens = np.zeros((len(texts), longest), dtype=np.int64)
    generated = np.zeros(tokens.shape, dtype=np.bool_)
    for row, told in enumerate(texts):
        tokens[row, : len(told.read)] = told.read
        generated[row, len(told.prompt) :] = True
    answers = [
        (n * len(texts) + row, np.arange(len(told.prompt) - 1, len(told.read)))
        for n in range(len(factors))
        for row, told in enumerate(texts)
    ]
    return _Layout(
        tokens=np.tile(tokens, (len(factors), 1)),
        depths=np.tile(np.arange(longest), (len(factors) * len(texts), 1)),
        generated=np.tile(generated, (len(factors), 1)),
        factors=tuple(factor for factor in factors for _ in texts),
        sees=None,
        answers=tuple(answers),
    )


def _shared(texts: Texts, factors: Sequence[float]) -> _Layout:
    """A row for each factor, in which everything that texts begin with stands once."""
    tree = build_tree([told.read for told in texts])
    nodes = np.arange(len(tree))
    paths = [tree.path(int(end)) for end in tree.ends]
    generated = np.zeros(len(tree), dtype=np.bool_)
    for path, told in zip(paths, texts, strict=True):
        generated[path[len(told.prompt) :]] = True
    return _Layout(
        tokens=np.tile(tree.token, (len(factors), 1)),
        depths=np.tile(tree.depth, (len(factors), 1)),
        generated=np.tile(generated, (len(factors), 1)),
        factors=tuple(factors),
        sees=tree.sees(nodes, nodes),
        answers=tuple(
            (row, path[len(told.prompt) - 1 :])
            for row in range(len(factors))
            for path, told in zip(paths, texts, strict=True)
        ),
    )


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside, the model's weights take no gradients; afterwards they are as they were."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    try:
        for weight in weights:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
