"""Passes with vectors added to hidden states, through which gradients with respect to those vectors flow.

A pass reads some texts, each once for every factor of the vectors, and returns the logits at their answers' tokens.
Where prefix sharing is exact on the model, common prefixes are read once: tree attention, as in ``forward.run``, but in
one pass without a cache, through which gradients could not flow from later passes to earlier ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from trimtab.arrays import F32
from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.prefix_tree import Ints, PrefixTreePlan, build_tree
from trimtab.engines.protocol import Tokens
from trimtab.engines.transformers.forward.run import is_out_of_memory, place, release
from trimtab.engines.transformers.model.context import ModelContext, model_lock, running
from trimtab.engines.transformers.model.source import first_line
from trimtab.engines.transformers.score.logits import logits_at_columns
from trimtab.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def recomputed(blocks: DecoderLayers) -> Iterator[None]:
    """Inside, a pass keeps only the input of each layer; the backward pass computes the layer's inner values again.

    Hooks on the layers run once, as they are outside of what is computed again. Transformers' own gradient
    checkpointing works in training mode only, which turns on dropout. Layers are computed again to their end (no early
    stop), so that those of an offloaded model release their weights.
    """
    modules = dict.fromkeys(blocks.modules)
    forwards = {module: module.__dict__.get("forward") for module in modules}
    try:
        for module in modules:
            module.forward = partial(checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False)
        with set_checkpoint_early_stop(False):
            yield
    finally:
        for module, forward in forwards.items():
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.forward = forward


Texts: TypeAlias = Sequence["AnsweredPrompt"]
Part = TypeVar("Part")
Values = TypeVar("Values", bound=tuple[float, ...])

NO_GRADIENTS = (
    "load the model in float32 or bfloat16, without quantised weights; or train with refine=0 and not distilled"
)
NO_MEMORY = "ask for shorter answers, or train with refine=0 and not distilled"


@dataclass(frozen=True)
class AnsweredPrompt:
    """Token ids of a prompt and of its answer."""

    prompt: Tokens
    answer: Tokens

    @property
    def read(self) -> Tokens:
        """Return all tokens but the answer's last, which predicts nothing that is scored."""
        return self.prompt + self.answer[:-1]


def has_gradients(context: ModelContext) -> bool:
    """Return whether texts can be padded at their end without effect, which separate rows rely on."""
    return context.start is None and context.blocks.causal and not context.blocks.encoder


def gains_from_bf16(device: torch.device, dtype: torch.dtype) -> bool:
    """Return whether a model of 32-bit weights is on a device that multiplies 16-bit numbers much faster."""
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
        bf16: Whether matrix products are in bfloat16 where the device gains from that.
        shared_tokens: Best number of tokens of a pass with shared prefixes; None where sharing is not exact on the
            model, and each text gets a separate row.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: DecoderLayers,
        *,
        sink: bool,
        generated: bool = False,
        bf16: bool = False,
        shared_tokens: int | None,
    ) -> None:
        self.model = model
        self.lock = model_lock(model)
        self._blocks = blocks
        self._sink = sink
        self._generated = generated
        self._bf16 = bf16
        self._shared_tokens = shared_tokens
        self._recompute = False  # set once memory did not suffice for one text; see ``recomputed``

    @classmethod
    def of(
        cls, context: ModelContext, texts: Iterable[Texts], *, generated: bool = False, bf16: bool = False
    ) -> AdditivePasses:
        """Prepare passes of a model for which ``has_gradients`` holds, over any of these texts."""
        texts = list(texts)
        cost = context.cost()
        tree = build_tree([text.read for several in texts for text in several])
        with running(context.model):  # the prefix-sharing check runs the model
            shares = isinstance(context.prefix_sharing.plan(tree, cost, times=len(texts)), PrefixTreePlan)
        shared_tokens = cost.prefix_tree_tokens if shares else None
        return cls(
            context.model,
            context.blocks,
            sink=context.sink,
            generated=generated,
            bf16=bf16,
            shared_tokens=shared_tokens,
        )

    @property
    def device(self) -> torch.device:
        """Return the device of the model."""
        return place(self.model)[0]

    def tensors(self, additions: Mapping[int, F32], *, gradients: bool = True) -> dict[int, Tensor]:
        """Return additions as tensors, ``[hidden]`` each."""
        return {
            layer: torch.tensor(added, dtype=torch.float32, device=self.device, requires_grad=gradients)
            for layer, added in additions.items()
        }

    def gradient(
        self,
        additions: Mapping[int, F32],
        texts: Sequence[Texts],
        numbers: Sequence[int],
        part: Callable[[Sequence[int], Mapping[int, Tensor]], tuple[Tensor, Values]],
    ) -> tuple[Values, dict[int, F32]]:
        """Sum an objective's reported values and its gradient over parts, each of which fits into one pass.

        Only one part's graph is in memory at a time: the gradient of a sum is the sum of the parts' gradients.

        Args:
            additions: Layer to ``[hidden]``.
            texts: The texts of each number.
            numbers: The numbers to process.
            part: Returns the objective's share of some numbers, given the additions, and the values to report.

        Raises:
            ModelError: The model has no gradients, or there is no memory for even one of the numbers.
        """
        added = self.tensors(additions)
        total = {layer: np.zeros_like(vector, dtype=np.float32) for layer, vector in additions.items()}
        reported: list[Values] = []

        def work(group: Sequence[int]) -> tuple[Values, Sequence[Tensor]]:
            with frozen(self.model):
                objective, values = part(group, added)
                return values, torch.autograd.grad(objective, list(added.values()))

        with running(self.model) as give_way, torch.enable_grad():
            for values, gradients in self.parts(texts, numbers, work):
                reported.append(values)
                for layer, gradient in zip(added, gradients, strict=True):
                    total[layer] += gradient.cpu().numpy()
                give_way()
        return cast(Values, tuple(sum(column) for column in zip(*reported, strict=True))), total

    def parts(
        self, texts: Sequence[Texts], numbers: Sequence[int], work: Callable[[Sequence[int]], Part]
    ) -> Iterator[Part]:
        """Yield the results of ``work`` on groups of the numbers, several in a pass.

        A pass that memory does not suffice for is split. If it cannot be, and gradients are wanted, that and all later
        ones compute layers again in the backward pass.

        Raises:
            ModelError: The model has no gradients, or there is no memory for even one of them.
        """
        groups = deque(self._groups(texts, numbers))
        while groups:
            group = groups.popleft()
            try:
                with self.lock as lock:  # held in the backward pass too, which may compute layers again
                    part = work(group)
                    lock.give_way()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise ModelError(f"no gradients: {first_line(error)}", fix=NO_GRADIENTS) from error
                release(error)
                if len(group) == 1 and not self._recompute and torch.is_grad_enabled():
                    self._recompute = True
                    groups.appendleft(group)
                    continue
                if len(group) == 1:
                    problem = "memory does not suffice for the gradients of one question"
                    raise ModelError(problem, fix=NO_MEMORY) from None
                groups.extendleft([n] for n in reversed(group))
            else:
                yield part

    def _groups(self, texts: Sequence[Texts], numbers: Sequence[int]) -> list[list[int]]:
        """Split the numbers into passes of equal size; one more small pass costs more than somewhat larger ones."""
        if self._shared_tokens is None:
            return [list(numbers)]
        whole = len(build_tree([text.read for n in numbers for text in texts[n]]))
        passes = max(min(round(whole / self._shared_tokens), len(numbers)), 1)
        return [part.tolist() for part in np.array_split(np.asarray(numbers), passes) if part.size]

    def logprobs(self, texts: Texts, factors: Sequence[float], added: Mapping[int, Tensor]) -> list[list[Tensor]]:
        """Return, for each factor and text, the log-probabilities at its answer, ``[token, vocabulary]``."""
        logits = self.logits(texts, factors, added)
        lengths = [len(text.answer) for text in texts]
        return [list(torch.split(each, lengths)) for each in torch.split(logits.log_softmax(-1), sum(lengths))]

    def logits(self, texts: Texts, factors: Sequence[float], added: Mapping[int, Tensor]) -> Tensor:
        """Return the logits of ``logprobs``, concatenated: ``[factor · text · token, vocabulary]``.

        No table of log-probabilities is made: with a large vocabulary it is the largest tensor of the whole pass.
        """
        device, dtype = place(self.model)
        layout = _separate_rows(texts, factors) if self._shared_tokens is None else _tree_rows(texts, factors)
        inputs: dict[str, Any] = {"input_ids": torch.from_numpy(layout.tokens).to(device), "use_cache": False}
        if layout.sees is not None:
            sees = torch.from_numpy(layout.sees)
            mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
            inputs["attention_mask"] = mask.expand(len(layout.tokens), 1, *sees.shape).to(device)
            inputs["position_ids"] = torch.from_numpy(layout.depths).to(device)
        half = self._bf16 and gains_from_bf16(device, dtype)
        autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)
        recompute = recomputed(self._blocks) if self._recompute and torch.is_grad_enabled() else nullcontext()
        with self.lock, eagerly(), autocast, self._blocks.rewritten(added, self._adding(layout, added)), recompute:
            # Columns repeat where texts share a prompt. ``logits_at`` would make them unique and copy the rows
            # afterwards; with gradients, every further table of ``[token, vocabulary]`` takes memory.
            logits = logits_at_columns(self.model, inputs, layout.selected)
        rows, columns = (torch.from_numpy(each).to(device) for each in layout.predicts)
        return (logits.flatten(0, 1) if layout.sees is not None else logits[rows, columns]).float()

    def _adding(self, layout: _Layout, added: Mapping[int, Tensor]) -> Callable[[int, Tensor], Tensor]:
        """Return a function that adds the vectors, times each row's factor, at every token in scope."""
        touched = layout.generated if self._generated else (layout.depths > 0) | (not self._sink)
        factors = torch.tensor(layout.factors, dtype=torch.float32, device=self.device)[:, None, None]
        where = torch.from_numpy(touched).to(self.device, torch.float32)[..., None] * factors
        offset = self._blocks.layout.offset

        def rewrite(layer: int, hidden: Tensor) -> Tensor:
            at_positions = torch.zeros(len(where), hidden.shape[1], 1, device=hidden.device)
            at_positions[:, offset : offset + where.shape[1]] = where.to(hidden.device)
            return hidden + (at_positions * added[layer].to(hidden.device)).to(hidden.dtype)

        return rewrite


@dataclass(frozen=True)
class _Layout:
    """Arrangement of texts in one pass; arrays are ``[row, column]``.

    ``predicts`` has, for each factor, text and token of its answer, the row and the index in ``selected`` where that
    token is predicted. With ``sees`` these are all rows and indices in order, so no gathering is needed.
    """

    tokens: Ints
    depths: Ints  # position ids
    generated: NDArray[np.bool_]  # which tokens are an answer's
    factors: tuple[float, ...]  # of each row
    sees: NDArray[np.bool_] | None  # [column, column], attention of tokens to tokens; None: causal
    selected: Ints  # columns at which answers' tokens are predicted
    predicts: tuple[Ints, Ints]


def _separate_rows(texts: Texts, factors: Sequence[float]) -> _Layout:
    """Give each factor and text a row, padded at the end, where a causal model cannot see it."""
    longest = max(len(text.read) for text in texts)
    tokens = np.zeros((len(texts), longest), dtype=np.int64)
    generated = np.zeros(tokens.shape, dtype=np.bool_)
    for row, text in enumerate(texts):
        tokens[row, : len(text.read)] = text.read
        generated[row, len(text.prompt) :] = True
    lengths = [len(text.answer) for text in texts]
    columns = [np.arange(len(text.prompt) - 1, len(text.read)) for text in texts]
    first = min(int(each[0]) for each in columns)
    return _Layout(
        tokens=np.tile(tokens, (len(factors), 1)),
        depths=np.tile(np.arange(longest), (len(factors) * len(texts), 1)),
        generated=np.tile(generated, (len(factors), 1)),
        factors=tuple(factor for factor in factors for _ in texts),
        sees=None,
        selected=np.arange(first, longest),
        predicts=(
            np.repeat(np.arange(len(factors) * len(texts)), lengths * len(factors)),
            np.tile(np.concatenate(columns) - first, len(factors)),
        ),
    )


def _tree_rows(texts: Texts, factors: Sequence[float]) -> _Layout:
    """Give each factor a row with the prefix tree of all texts, in which every common prefix occurs once."""
    tree = build_tree([text.read for text in texts])
    nodes = np.arange(len(tree))
    paths = [tree.path(int(end)) for end in tree.ends]
    generated = np.zeros(len(tree), dtype=np.bool_)
    for path, text in zip(paths, texts, strict=True):
        generated[path[len(text.prompt) :]] = True
    selected = np.concatenate([path[len(text.prompt) - 1 :] for path, text in zip(paths, texts, strict=True)])
    return _Layout(
        tokens=np.tile(tree.token, (len(factors), 1)),
        depths=np.tile(tree.depth, (len(factors), 1)),
        generated=np.tile(generated, (len(factors), 1)),
        factors=tuple(factors),
        sees=tree.sees(nodes, nodes),
        selected=selected,
        predicts=(
            np.repeat(np.arange(len(factors)), len(selected)),
            np.tile(np.arange(len(selected)), len(factors)),
        ),
    )


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Inside, the model's weights take no gradients; afterwards their flags are restored."""
    named = dict(model.named_parameters(remove_duplicate=False))
    wanted = {name for name, weight in named.items() if weight.requires_grad}
    try:
        for name in wanted:
            named[name].requires_grad_(False)
        yield
    finally:
        # Placeholders of offloaded weights are new objects after every pass, and may be inference tensors.
        for name, weight in model.named_parameters(remove_duplicate=False):
            if name in wanted:
                with torch.inference_mode(weight.is_inference()):
                    weight.requires_grad_(True)
