"""Passes with vectors added to hidden states, through which gradients with respect to those vectors flow.

A pass reads some texts, each once for every factor of the vectors, and gives the log-probabilities of their answers'
tokens. What texts begin with in common is read once, where the model allows for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from trimtab.arrays import F32
from trimtab.engines.batching import PrefixTreePlan
from trimtab.engines.layers import DecoderLayers, eagerly, layer_output, with_layer_output
from trimtab.engines.prefix_tree import Ints, build_tree
from trimtab.engines.protocol import Tokens
from trimtab.engines.transformers.forward.run import is_out_of_memory, place, release
from trimtab.engines.transformers.model.context import ModelContext
from trimtab.engines.transformers.model.lock import model_lock
from trimtab.engines.transformers.model.source import first_line
from trimtab.engines.transformers.score.logits import logits_at_columns
from trimtab.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def recomputed(blocks: DecoderLayers) -> Iterator[None]:
    """Inside, a pass keeps of each block what it reads alone; gradients may be taken later, of the model as it is now.

    Hooks on the blocks run once: they lie outside of what is computed again. Transformers' own way would have blocks
    believe that they are being trained, and some then drop numbers at random. Blocks are computed again to their end:
    so those of an offloaded model let go of their weights.
    """
    modules = dict.fromkeys(blocks.modules)
    own = {module: module.__dict__.get("forward") for module in modules}
    try:
        for module in modules:
            module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
        with set_checkpoint_early_stop(False):
            yield
    finally:
        for module, forward in own.items():
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.forward = forward


Texts: TypeAlias = Sequence["PersonaText"]
Part = TypeVar("Part")

NO_GRADIENTS = (
    "load the model in float32 or bfloat16, without quantised weights; or train with refine=0 and not distilled"
)
NO_MEMORY = "ask for shorter answers, or train with refine=0 and not distilled"


@dataclass(frozen=True)
class PersonaText:
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


def has_gradients(host: ModelContext) -> bool:
    """Whether texts of a model can be padded at their end without effect, which passes rely on."""
    return host.start is None and host.blocks.causal and not host.blocks.encoder


def multiplies_halves(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a model of 32-bit weights is at a place that multiplies 16-bit numbers much faster."""
    if dtype != torch.float32:
        return False
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public name for this
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in names)


@final
class AdditivePasses:
    """Passes of one model.

    Args:
        model: The model.
        blocks: Its blocks.
        sink: Whether nothing is added at a text's first token.
        generated: Whether vectors are added at the answers' tokens alone.
        swift: Whether matrix products are in bfloat16 where the device is made for that.
        shared_tokens: How many tokens a pass best has in which texts share what they begin with; None where the model
            does not allow for it, and each text has a row of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: DecoderLayers,
        *,
        sink: bool,
        generated: bool = False,
        swift: bool = False,
        shared_tokens: int | None,
    ) -> None:
        self.model = model
        self.lock = model_lock(model)
        self._blocks = blocks
        self._sink = sink
        self._generated = generated
        self._swift = swift
        self._shared_tokens = shared_tokens
        self._sparing = False  # whether blocks are computed again on the way back, since memory did not suffice

    @classmethod
    def of(
        cls, host: ModelContext, texts: Sequence[Texts], *, generated: bool = False, swift: bool = False
    ) -> AdditivePasses:
        """For a model for which ``has_gradients`` holds, and every set of texts that a pass may be asked for."""
        cost = host.cost()
        tree = build_tree([told.read for several in texts for told in several])
        with model_lock(host.model):  # whether prefixes may be shared is tried on the model
            shares = isinstance(host.prefix_sharing.plan(tree, cost, times=len(texts)), PrefixTreePlan)
        shared_tokens = cost.prefix_tree_tokens if shares else None
        return cls(
            host.model, host.blocks, sink=host.sink, generated=generated, swift=swift, shared_tokens=shared_tokens
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return place(self.model)[0]

    def pushes(self, additions: Mapping[int, F32], *, gradients: bool = True) -> dict[int, Tensor]:
        """Additions as tensors, ``[hidden]`` each."""
        return {
            layer: torch.tensor(added, dtype=torch.float32, device=self.device, requires_grad=gradients)
            for layer, added in additions.items()
        }

    def parts(
        self, texts: Sequence[Texts], numbers: Sequence[int], work: Callable[[Sequence[int]], Part]
    ) -> Iterator[Part]:
        """What ``work`` makes of the numbers, several in a pass.

        A pass that memory does not suffice for is split. If it cannot be, and gradients are wanted, that and all later
        ones remember less.

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
                with self.lock:  # also while blocks are computed again on the way back
                    part = work(group)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise ModelError(f"no gradients: {first_line(error)}", fix=NO_GRADIENTS) from error
                release(error)
                if len(group) == 1 and not self._sparing and torch.is_grad_enabled():
                    self._sparing = True
                    groups.appendleft(group)
                    continue
                if len(group) == 1:
                    problem = "memory does not suffice for the gradients of one question"
                    raise ModelError(problem, fix=NO_MEMORY) from None
                groups.extendleft([n] for n in reversed(group))
            else:
                yield part

    def _groups(self, texts: Sequence[Texts], numbers: Sequence[int]) -> list[list[int]]:
        """The numbers pass by pass, as many in each; one more small pass costs more than somewhat larger ones."""
        if self._shared_tokens is None:
            return [list(numbers)]
        whole = len(build_tree([told.read for n in numbers for told in texts[n]]))
        passes = max(min(round(whole / self._shared_tokens), len(numbers)), 1)
        return [part.tolist() for part in np.array_split(np.asarray(numbers), passes) if part.size]

    def logprobs(self, texts: Texts, factors: Sequence[float], pushes: Mapping[int, Tensor]) -> list[list[Tensor]]:
        """For each factor and text the log-probabilities ``[token, vocabulary]`` at its answer, in one pass.

        Args:
            texts: What is read.
            factors: What the pushes are multiplied by.
            pushes: Layer to ``[hidden]``.
        """
        logits = self.logits(texts, factors, pushes)
        lengths = [len(told.answer) for told in texts]
        return [list(torch.split(each, lengths)) for each in torch.split(logits.log_softmax(-1), sum(lengths))]

    def logits(self, texts: Texts, factors: Sequence[float], pushes: Mapping[int, Tensor]) -> Tensor:
        """As ``logprobs``, but as the head gives them, one behind the other: ``[factor · text · token, vocabulary]``.

        With a large vocabulary each copy counts.
        """
        device, dtype = place(self.model)
        layout = _apart(texts, factors) if self._shared_tokens is None else _shared(texts, factors)
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(layout.tokens).to(device), "use_cache": False}
        if layout.sees is not None:
            sees = torch.from_numpy(layout.sees)
            mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
            inputs["attention_mask"] = mask.expand(len(layout.tokens), 1, *sees.shape).to(device)
            inputs["position_ids"] = torch.from_numpy(layout.depths).to(device)
        half = self._swift and multiplies_halves(device, dtype)
        cast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)
        sparing = recomputed(self._blocks) if self._sparing and torch.is_grad_enabled() else nullcontext()
        with self.lock, eagerly(), cast, self._blocks.hooked(pushes, self._adding(layout, pushes)), sparing:
            # Columns repeat where texts share a prompt. ``logits_at`` would make them unique and copy the rows
            # afterwards; with gradients, every further table of ``[token, vocabulary]`` takes memory.
            logits = logits_at_columns(self.model, inputs, layout.kept)
        rows, columns = (torch.from_numpy(each).to(device) for each in layout.predicts)
        return (logits.flatten(0, 1) if layout.sees is not None else logits[rows, columns]).float()

    def _adding(self, layout: _Layout, pushes: Mapping[int, Tensor]) -> Callable[[int, Any], Any]:
        """A hook that adds the pushes at every token that is in scope."""
        touched = layout.generated if self._generated else (layout.depths > 0) | (not self._sink)
        factors = torch.tensor(layout.factors, dtype=torch.float32, device=self.device)[:, None, None]
        where = torch.from_numpy(touched).to(self.device, torch.float32)[..., None] * factors
        return lambda layer, output: self._pushed(output, pushes[layer], where)

    def _pushed(self, output: Any, push: Tensor, where: Tensor) -> Any:
        """A block's output with ``push`` added as often as ``where`` (``[row, token, 1]``) says."""
        state = layer_output(output)
        view = self._blocks.layout.view(state)
        factors = torch.zeros(len(where), view.shape[1], 1, device=view.device)
        offset = self._blocks.layout.offset
        factors[:, offset : offset + where.shape[1]] = where.to(view.device)
        return with_layer_output(
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
        kept: Columns at which something is predicted.
        predicts: For each factor, text and token of its answer, the row and the number in ``kept`` where that token is
            predicted. If ``sees`` is given, those are all there are, row by row.
    """

    tokens: Ints
    depths: Ints
    generated: NDArray[np.bool_]
    factors: tuple[float, ...]
    sees: NDArray[np.bool_] | None
    kept: Ints
    predicts: tuple[Ints, Ints]


def _apart(texts: Texts, factors: Sequence[float]) -> _Layout:
    """A row for each factor and text, padded at the end, which nothing sees that counts."""
    longest = max(len(told.read) for told in texts)
    tokens = np.zeros((len(texts), longest), dtype=np.int64)
    generated = np.zeros(tokens.shape, dtype=np.bool_)
    for row, told in enumerate(texts):
        tokens[row, : len(told.read)] = told.read
        generated[row, len(told.prompt) :] = True
    lengths = [len(told.answer) for told in texts]
    columns = [np.arange(len(told.prompt) - 1, len(told.read)) for told in texts]
    first = min(int(each[0]) for each in columns)
    return _Layout(
        tokens=np.tile(tokens, (len(factors), 1)),
        depths=np.tile(np.arange(longest), (len(factors) * len(texts), 1)),
        generated=np.tile(generated, (len(factors), 1)),
        factors=tuple(factor for factor in factors for _ in texts),
        sees=None,
        kept=np.arange(first, longest),
        predicts=(
            np.repeat(np.arange(len(factors) * len(texts)), lengths * len(factors)),
            np.tile(np.concatenate(columns) - first, len(factors)),
        ),
    )


def _shared(texts: Texts, factors: Sequence[float]) -> _Layout:
    """A row for each factor, in which everything that texts begin with stands once."""
    tree = build_tree([told.read for told in texts])
    nodes = np.arange(len(tree))
    paths = [tree.path(int(end)) for end in tree.ends]
    generated = np.zeros(len(tree), dtype=np.bool_)
    for path, told in zip(paths, texts, strict=True):
        generated[path[len(told.prompt) :]] = True
    kept = np.concatenate([path[len(told.prompt) - 1 :] for path, told in zip(paths, texts, strict=True)])
    return _Layout(
        tokens=np.tile(tree.token, (len(factors), 1)),
        depths=np.tile(tree.depth, (len(factors), 1)),
        generated=np.tile(generated, (len(factors), 1)),
        factors=tuple(factors),
        sees=tree.sees(nodes, nodes),
        kept=kept,
        predicts=(
            np.repeat(np.arange(len(factors)), len(kept)),
            np.tile(np.arange(len(kept)), len(factors)),
        ),
    )


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside, the model's weights take no gradients; afterwards they are as they were."""
    named = dict(model.named_parameters(remove_duplicate=False))
    wanted = {name for name, weight in named.items() if weight.requires_grad}
    try:
        for name in wanted:
            named[name].requires_grad_(False)
        yield
    finally:
        # Placeholders of offloaded weights are made anew in every pass, and may be inference tensors.
        for name, weight in model.named_parameters(remove_duplicate=False):
            if name in wanted:
                with torch.inference_mode(weight.is_inference()):
                    weight.requires_grad_(True)
