"""Toy language models that look like something else than they are."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

WIDTH = 16
WORDS = 64
TOKENS = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 13, 14]])
Named = namedtuple("Named", ["state", "weights"])
Body = Callable[[Any, Tensor, Tensor], Tensor]


class Block(nn.Module):
    """A residual block that looks back; ``wrap`` makes of the state what it returns."""

    def __init__(self, wrap: Callable[[Tensor], Any] = lambda state: state) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.wrap = wrap

    def forward(self, state: Any) -> Any:
        state = state[0] if isinstance(state, (tuple, list)) else state
        state = state + self.mix(_before(self.norm(state)))
        return self.wrap(state + self.inner(torch.tanh(state)))


class PostNorm(Block):
    """Norms behind the sums."""

    def forward(self, state: Tensor) -> Tensor:
        state = self.norm(state + self.mix(_before(state)))
        return self.norm(state + self.inner(torch.tanh(state)))


class Parallel(Block):
    """Looks back and thinks side by side."""

    def forward(self, state: Tensor) -> Tensor:
        read = self.norm(state)
        return state + self.mix(_before(read)) + self.inner(torch.tanh(read))


class Deaf(Block):
    """Reads what its ``heard`` holds, whatever it is given."""

    heard: Tensor

    def forward(self, state: Tensor) -> Tensor:
        return super().forward(self.heard)


class Toy(nn.Module):
    """Embeddings, a body, a norm and a head. The body is ``body(toy, embedded tokens, tokens)``."""

    def __init__(self, body: Body, **parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.tower_embed = nn.Embedding(WORDS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, WORDS)
        for name, part in parts.items():
            self.add_module(name, part)
        self._body = body
        self.eval()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> SimpleNamespace:
        state = self._body(self, self.embed(input_ids), input_ids)
        return SimpleNamespace(logits=self.head(self.norm(state)))


def _before(state: Tensor) -> Tensor:
    """The mean of what was read so far."""
    return state.cumsum(1) / torch.arange(1, state.shape[1] + 1)[:, None]


def listed(count: int, kind: Callable[[], nn.Module] = Block) -> nn.ModuleList:
    return nn.ModuleList(kind() for _ in range(count))


def through(blocks: Iterable[nn.Module], state: Any) -> Any:
    for block in blocks:
        state = block(state)
    return state[0] if isinstance(state, (tuple, list)) else state


def logits_of(model: nn.Module, tokens: Tensor = TOKENS) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits


@contextmanager
def adding(runs: Mapping[nn.Module, Mapping[int, Tensor]], *, sink: bool = False) -> Iterator[None]:
    """Inside, a vector is added behind the n-th run of a module, by plain hooks. Counts over one pass.

    With ``sink`` the first of several tokens is left alone.
    """
    done = dict.fromkeys(runs, 0)

    def moved(state: Tensor, vector: Tensor) -> Tensor:
        total = state + vector
        return torch.cat([state[:, :1], total[:, 1:]], dim=1) if sink and state.shape[1] > 1 else total

    def hook(module: nn.Module, _: Any, output: Any) -> Any:
        vector = runs[module].get(done[module])
        done[module] += 1
        if vector is None:
            return None
        if isinstance(output, Named):
            return output._replace(state=moved(output.state, vector))
        if isinstance(output, (tuple, list)):
            return type(output)((moved(output[0], vector), *output[1:]))
        return moved(output, vector)

    handles = [module.register_forward_hook(hook) for module in runs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
