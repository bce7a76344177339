"""Run the passes that a plan asks for.

Each prefix-tree pass computes the next nodes of the tree in preorder. Whatever they need of earlier passes lies on the
path to the first of them, so between passes the keys and values are gathered down to that path. A mask lets every token
see itself and its ancestors, and position ids are depths. Nothing is computed twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.prefix_tree import (
    CPU,
    CPU_HALF,
    GPU,
    BatchPlan,
    Cost,
    Ints,
    Plan,
    PrefixTree,
    PrefixTreePlan,
    build_tree,
    plan_batches,
    plan_passes,
)
from trimtab.engines.protocol import Tokens
from trimtab.engines.transformers.forward.capture import capture_outputs
from trimtab.engines.transformers.score.logits import selects_positions

T = TypeVar("T")
KeysAndValues: TypeAlias = list[tuple[Tensor | None, Tensor | None]]


@dataclass(frozen=True)
class Pass:
    """One run of the model."""

    nodes: Ints  # node of the tree at each place, ``[row, column]``; -1 for a repeated node or padding
    inputs: dict[str, Any]  # the model's keyword arguments


@dataclass(frozen=True)
class Sources:
    """Texts that the encoder reads beside each sequence of its decoder."""

    tokens: Mapping[int, Tokens]  # token ids, by the leaf at which the decoder's sequence ends
    pad: int  # what fills shorter ones up; a mask hides it

    def inputs(self, leaves: Ints, device: torch.device) -> dict[str, Any]:
        """Return the model's keyword arguments for the encoder."""
        return encoder_inputs([self.tokens[leaf] for leaf in leaves.tolist()], pad=self.pad, device=device)


def encoder_inputs(sequences: Sequence[Tokens], *, pad: int, device: torch.device) -> dict[str, Tensor]:
    """Return token ids padded on the right, as absolute positions need, and the mask that hides the padding."""
    width = max(map(len, sequences))
    ids = torch.tensor([tokens + (pad,) * (width - len(tokens)) for tokens in sequences])
    mask = torch.arange(width)[None] < torch.tensor([[len(tokens)] for tokens in sequences])
    return {"input_ids": ids.to(device), "attention_mask": mask.long().to(device)}


def run_plan(
    tree: PrefixTree,
    plan: Plan,
    forward: Callable[[Pass], T],
    *,
    model: nn.Module,
    keep_cache: bool = False,
    sources: Sources | None = None,
    on_halved: Callable[[int], None] | None = None,
) -> Iterator[T]:
    """Run every pass of a plan through ``forward``, and hand on what it returns.

    Args:
        tree: What to read.
        plan: The passes.
        forward: Runs the model, without gradients.
        model: Tells where inputs belong and what dtype masks have.
        keep_cache: Have every prefix-tree pass leave keys and values in ``past_key_values``, also a single one.
        sources: What an encoder reads beside each sequence; only plain batches take that.
        on_halved: Called with the new size when a pass ran out of memory and is tried again in halves; without it,
            running out of memory is an error.
    """
    if isinstance(plan, PrefixTreePlan):
        yield from _run_tree(tree, plan, forward, model, keep_cache, on_halved)
    else:
        yield from _run_batches(tree, plan, forward, model, sources, on_halved)


def _run_tree(
    tree: PrefixTree,
    plan: PrefixTreePlan,
    forward: Callable[[Pass], T],
    model: nn.Module,
    keep_cache: bool,
    on_halved: Callable[[int], None] | None,
) -> Iterator[T]:
    spans = deque(zip(plan.bounds[:-1], plan.bounds[1:], strict=True))
    path = np.zeros(0, dtype=np.int64)
    kept: KeysAndValues = []
    while spans:
        start, stop = spans.popleft()
        if start == stop:
            continue
        nodes = np.arange(start, stop)
        inputs = _tree_inputs(tree, path, nodes, kept, model, with_cache=keep_cache or len(path) > 0 or len(spans) > 0)
        try:
            output = forward(Pass(nodes[None], inputs))
        except RuntimeError as error:
            if on_halved is None or stop - start == 1 or not is_out_of_memory(error):
                raise
            half = (stop - start) // 2
            spans = deque(piece for span in ((start, stop), *spans) for piece in _pieces(*span, half))
            release(error)
            on_halved(half)
            continue
        yield output
        if spans:
            ahead = tree.path(int(tree.parent[spans[0][0]]))
            kept = _gathered(inputs["past_key_values"], np.searchsorted(np.concatenate([path, nodes]), ahead))
            path = ahead


def _tree_inputs(
    tree: PrefixTree, path: Ints, nodes: Ints, kept: KeysAndValues, model: nn.Module, *, with_cache: bool
) -> dict[str, Any]:
    device, dtype = place(model)
    inputs: dict[str, Any] = {"input_ids": torch.from_numpy(tree.token[nodes])[None].to(device), "use_cache": False}
    if with_cache:
        inputs["past_key_values"] = DynamicCache(ddp_cache_data=kept) if len(path) else DynamicCache()
        inputs["use_cache"] = True
    columns = np.concatenate([path, nodes])
    sees = torch.from_numpy(tree.sees(nodes, columns))
    if not len(path) and bool(sees.tril().sum() == len(nodes) * (len(nodes) + 1) // 2):
        return inputs  # one sequence from its beginning: the model's own mask and positions
    mask = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
    inputs["attention_mask"] = mask[None, None].to(device)
    inputs["position_ids"] = torch.from_numpy(tree.depth[nodes])[None].to(device)
    return inputs


def _gathered(cache: DynamicCache, columns: Ints) -> KeysAndValues:
    """Return keys and values of some columns; layers that did not run have none."""
    if not len(columns):
        return []
    return [
        (None, None) if layer.keys is None else (_columns(layer.keys, columns), _columns(layer.values, columns))
        for layer in cache.layers
    ]


def _columns(tensor: Tensor, columns: Ints) -> Tensor:
    return tensor.index_select(-2, torch.from_numpy(columns).to(tensor.device))


def _run_batches(
    tree: PrefixTree,
    plan: BatchPlan,
    forward: Callable[[Pass], T],
    model: nn.Module,
    sources: Sources | None,
    on_halved: Callable[[int], None] | None,
) -> Iterator[T]:
    device, _ = place(model)
    batches = deque(plan.leaves)
    while batches:
        leaves = batches.popleft()
        nodes = rows_of(tree, leaves)
        tokens = np.where(nodes >= 0, tree.token[nodes], 0)  # padding at the end is seen by nothing that counts
        ids = torch.from_numpy(tokens).to(device)
        read = {"input_ids": ids} if sources is None else {"decoder_input_ids": ids, **sources.inputs(leaves, device)}
        inputs: dict[str, Any] = {**read, "use_cache": False}
        try:
            output = forward(Pass(_once(tree, nodes, leaves), inputs))
        except RuntimeError as error:
            if on_halved is None or len(leaves) == 1 or not is_out_of_memory(error):
                raise
            half = len(leaves) // 2
            batches = deque(rows[a:b] for rows in (leaves, *batches) for a, b in _pieces(0, len(rows), half))
            release(error)
            on_halved(half * nodes.shape[1])
            continue
        yield output


def rows_of(tree: PrefixTree, ends: Ints) -> Ints:
    """Return the path to each of some nodes, ``[row, column]``, -1 after its end."""
    nodes = np.full((len(ends), int(tree.depth[ends].max()) + 1), -1, dtype=np.int64)
    at, rows = ends.copy(), np.arange(len(ends))
    while len(rows):
        nodes[rows, tree.depth[at]] = at
        at = tree.parent[at]
        rows, at = rows[at >= 0], at[at >= 0]
    return nodes


def _once(tree: PrefixTree, nodes: Ints, leaves: Ints) -> Ints:
    """Return ``nodes`` with each node only on the row of the first leaf that begins with it, else -1."""
    return np.where((nodes >= 0) & (tree.leaf_below(np.maximum(nodes, 0)) == leaves[:, None]), nodes, -1)


def _pieces(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    for at in range(start, stop, size):
        yield at, min(at + size, stop)


def place(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Return the device of a model's inputs and the dtype of its hidden states."""
    embeddings = model.get_input_embeddings()  # type: ignore[operator]
    device = embeddings.weight.device
    if device.type == "meta":  # accelerate fetches the weights when they are needed
        device = torch.device(getattr(getattr(embeddings, "_hf_hook", None), "execution_device", None) or "cpu")
    return device, next(p.dtype for p in model.parameters() if p.dtype.is_floating_point)


def prepares_plainly(model: PreTrainedModel) -> bool:
    """Return True if a model's ``generate`` passes it the usual inputs, so that it computes what a plain pass does."""
    own = type(model).prepare_inputs_for_generation
    return own is GenerationMixin.prepare_inputs_for_generation


def keeps_keys_and_values(model: PreTrainedModel) -> bool:
    """Return True if a model remembers a text by keys and values of its tokens alone, so that a cache can be cut."""
    kinds = {type(layer) for layer in DynamicCache(config=model.config.get_text_config(decoder=True)).layers}
    return kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return True if an allocation failed."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release(error: RuntimeError) -> None:
    """Free the memory of a failed pass."""
    error.__traceback__ = None  # it refers to the tensors of the failed pass
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


EXACT = 1e-5  # relative error of a state in float32
ROUNDINGS = 12.0  # in coarser dtypes, whose rounding hides anything finer; a mask not honoured is off by far more
MARGIN = 1.25  # checked on somewhat longer sequences than needed, so that few need another check
SHORTEST = 128  # shorter sequences gain little from a shorter check


@final
class PrefixSharingCheck:
    """Prefix-sharing check: whether prefix-tree passes are exact on one model.

    A sliding window, for one, shows only in sequences that are longer, so a check holds up to the length that was
    tried.

    Args:
        model: The model.
        blocks: Its blocks.
        limit: How many tokens it can read.
        never: Why prefixes are never shared, where that is known beforehand.

    Attributes:
        problem: Why long sequences are not read as a tree, where that was found.
        skips: Whether blocks may hand on outputs of an earlier pass instead of running; None if that was never tried.
    """

    def __init__(self, model: nn.Module, blocks: DecoderLayers, *, limit: int | None, never: str = "") -> None:
        self._model = model
        self._blocks = blocks
        self._limit = limit
        self._no_head: dict[str, Any] = {"logits_to_keep": 1} if selects_positions(model) else {}
        self._proven: list[_Tried] = []
        self._refused: int | None = 0 if never else None
        self.problem = never
        self.skips: bool | None = False if blocks.repeated else None

    def plan(self, tree: PrefixTree, cost: Cost, *, times: int = 1) -> Plan:
        """Return the cheapest exact plan to read a tree ``times`` times; prefixes are shared only after the check."""
        longest = int(tree.depth.max()) + 1 if len(tree) else 0
        if self._refused is not None and longest >= self._refused:
            return plan_batches(tree, cost, may_pad=self._blocks.causal)
        wanted = _Tried(longest, cost.prefix_tree_tokens)
        plan = plan_passes(tree, cost, proven=self._covers(wanted), times=times)
        if isinstance(plan, PrefixTreePlan) and not self._holds(tree, wanted):
            return plan_batches(tree, cost, may_pad=self._blocks.causal)
        return plan

    def _covers(self, wanted: _Tried) -> bool:
        return any(tried.covers(wanted) for tried in self._proven)

    def _holds(self, tree: PrefixTree, wanted: _Tried) -> bool:
        if self._covers(wanted):
            return True
        longest = max(wanted.length, 2)
        tokens = tree.token[tree.path(int(tree.depth.argmax()))]
        roomy = max(int(MARGIN * longest), SHORTEST)
        for length in dict.fromkeys((max(min(roomy, self._limit or roomy), longest), longest)):
            try:
                problem = self._problem(np.resize(tokens, length), row=wanted.row)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                release(error)
                self.problem = "memory ran out while sharing prefixes was tried"
                return False  # there may be more of it the next time
            if problem is None:
                self._proven.append(_Tried(length, wanted.row))
                return True
        self._refused, self.problem = wanted.length, problem or ""
        return False

    def _problem(self, tokens: Ints, *, row: int) -> str | None:
        """Return what is wrong with prefix-tree passes over sequences that share most of ``tokens``, or None.

        The last of its passes has ``row`` tokens and several endings in it, and sees what they share through the cache.
        Compared are the first sequence and the last, which has most before it that it must not see.
        """
        vocabulary = int(self._model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
        own = min(len(tokens) - len(tokens) // 2, max(row // 3, 1))
        shared = len(tokens) - own
        count = min(2 + row // own, vocabulary)
        endings = (tokens[None, shared:] + np.arange(count)[:, None]) % vocabulary
        tree = build_tree([(*tokens[:shared].tolist(), *ending) for ending in endings.tolist()])
        ends = [tree.leaves[0], tree.leaves[-1]]
        bounds = (0, *sorted(range(len(tree), 0, -row)))
        try:
            shared_states = self._states(tree, PrefixTreePlan(bounds, 0.0), ends)
        except Exception as error:  # whatever a model does that has no use for such inputs
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            return f"a mask of ours makes it fail: {(str(error).strip() or type(error).__name__).splitlines()[0][:100]}"
        plain = self._states(tree, BatchPlan(tuple(np.array([end]) for end in ends), 0.0), ends)
        sizes = np.maximum(np.linalg.norm(plain, axis=-1), 1e-30)
        off = float((np.linalg.norm(shared_states - plain, axis=-1) / sizes).max())
        if off <= max(EXACT, ROUNDINGS * torch.finfo(place(self._model)[1]).eps):
            return None
        return f"over {len(tokens)} tokens it does not honour a mask and position ids of ours (states off by {off:.0e})"

    def _states(self, tree: PrefixTree, plan: Plan, ends: list[np.int64]) -> NDArray[np.float32]:
        """Return hidden states at some leaves, ``[leaf, layer, hidden]``."""
        every = range(len(self._blocks))
        states = np.zeros((len(ends), len(every), self._blocks.hidden_size), dtype=np.float32)

        def read(row: Pass) -> None:
            rows, columns = np.nonzero(np.isin(row.nodes, ends))
            with capture_outputs(self._blocks, every, rows, columns) as captured, torch.inference_mode(), eagerly():
                self._model(**row.inputs, **self._no_head)
            if len(rows):
                states[np.searchsorted(ends, row.nodes[rows, columns])] = captured.stacked()

        for _ in run_plan(tree, plan, read, model=self._model):
            pass
        return states


@dataclass(frozen=True)
class _Tried:
    """Lengths of sequences and passes on which prefix-tree passes were exact."""

    length: int
    row: int

    def covers(self, wanted: _Tried) -> bool:
        return wanted.length <= self.length and wanted.row <= self.row


def prepared_proof(model: nn.Module, blocks: DecoderLayers, *, limit: int | None, encoder: bool) -> PrefixSharingCheck:
    """Return the check, which is made when it is needed; for some models it is known beforehand that it would fail."""
    never = "" if blocks.causal else "a state knows of the tokens after it too"
    if encoder:
        never = "an encoder reads every text as a whole"
    return PrefixSharingCheck(model, blocks, limit=limit, never=never)


def cost_of(model: nn.Module, blocks: DecoderLayers, *, max_tokens: int | None) -> Cost:
    """Return the cost of passes of a model on its device."""
    device, dtype = place(model)
    cpu = CPU if dtype == torch.float32 else CPU_HALF
    return Cost.of(
        cpu if device.type == "cpu" else GPU,
        layers=len(blocks),
        hidden=blocks.hidden_size,
        parameters=blocks.parameters,
        max_tokens=max_tokens,
    )
