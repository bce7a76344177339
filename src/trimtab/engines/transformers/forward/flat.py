"""Flat passes: tokens of many texts in one row of a pass, each token with its slot and its position.

A pass reads one new token of every text that is being answered and blocks of the prompts of those that join. Keys and
values lie in a table with one slot for each text. Attention is that of transformers, through its attention interface:
each token sees the tokens of its slot up to its position.

The shapes of all products in attention depend on the text alone: prompts are read in blocks that begin at multiples of
``BLOCK``, and generated tokens see a width that is a multiple of ``WIDTH``. So with reordered weights a text has the
same logits, bit for bit, whatever is read beside it, in how many pieces, and after whichever kept prefix.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from trimtab.engines.layer_search import is_encoder_decoder
from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.protocol import Tokens
from trimtab.engines.transformers.forward.run import (
    is_out_of_memory,
    keeps_keys_and_values,
    place,
    prepares_plainly,
)
from trimtab.engines.transformers.model.reorder import is_reordered
from trimtab.engines.transformers.score.logits import selects_positions
from trimtab.errors import ModelError

ATTENTION = "trimtab_flat"
BLOCK = 8  # tokens of a prompt whose attention is one product
WIDTH = 64  # of which the width that generated tokens see is a multiple
GROWTH = 256  # tokens by which slots grow
LEAST = 2  # tokens of a pass, and of its logits, with reordered weights: one row has other roundings than many
REFUSED = ("softcap", "s_aux", "position_bias", "alibi", "head_mask")  # other kinds of attention


@dataclass(frozen=True)
class Segment:
    """Tokens of one text in a pass, which follow those already in its slot.

    Attributes:
        slot: Slot of the text.
        start: Position of the first of the tokens.
        tokens: Token ids.
        generated: Whether they belong to the answer; else they are a piece of a prompt.
        wanted: After how many of the last tokens logits are wanted.
    """

    slot: int
    start: int
    tokens: Tokens
    generated: bool = False
    wanted: int = 1

    @property
    def stop(self) -> int:
        """Return the position behind the last token."""
        return self.start + len(self.tokens)

    @property
    def single(self) -> bool:
        """Return True for one generated token."""
        return self.generated and len(self.tokens) == 1


@dataclass(frozen=True)
class _Run:
    """Generated tokens of neighbouring slots that see the same width."""

    first: int  # slot
    last: int
    at: int  # column of the first in the pass
    width: int
    ends: Tensor  # position behind each token, [slot, 1, 1, 1]

    def hidden(self, window: int | None) -> Tensor:
        """Return which positions each token does not see, ``[slot, 1, 1, width]``."""
        positions = torch.arange(self.width, device=self.ends.device)
        beyond = positions >= self.ends
        return beyond if window is None else beyond | (positions < self.ends - window)

    @property
    def columns(self) -> slice:
        return slice(self.at, self.at + self.last + 1 - self.first)


@dataclass(frozen=True)
class _Block:
    """Tokens of a prompt between two multiples of ``BLOCK``."""

    slot: int
    start: int
    stop: int
    at: int  # column of the first in the pass


@dataclass(frozen=True)
class _Pass:
    """One pass, as cache and attention need it."""

    table: SlotTable
    slots: Tensor  # of each token
    positions: Tensor
    runs: tuple[_Run, ...]
    blocks: tuple[_Block, ...]
    masks: dict[tuple[int, int, int | None], Tensor]

    def hidden(self, run: _Run, window: int | None) -> Tensor:
        """Return which positions the tokens of a run do not see; layers with the same window share it."""
        key = -1, run.at, window
        if key not in self.masks:
            self.masks[key] = run.hidden(window)
        return self.masks[key]

    def mask(self, block: _Block, window: int | None) -> Tensor:
        """Return what is added to the weights of a block, ``[token, position]``: 0, or -inf for what is not seen."""
        key = block.start, block.stop, window
        if key not in self.masks:
            ends = torch.arange(block.start + 1, block.stop + 1, device=self.slots.device)[:, None]
            positions = torch.arange(block.stop, device=self.slots.device)
            unseen = positions >= ends if window is None else (positions >= ends) | (positions < ends - window)
            self.masks[key] = torch.zeros(unseen.shape, device=unseen.device).masked_fill_(unseen, -torch.inf)
        return self.masks[key]


_NOW = threading.local()  # ``_NOW.running`` is the pass that runs in this thread


@final
class SlotTable:
    """Keys and values of every slot, in one tensor ``[layer, 2, slot, head, position, size]``."""

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.tensor: Tensor | None = None
        self.slots = 1
        self.positions = GROWTH
        self._of_position: int | None = None  # bytes; known once there has been a table

    @property
    def size(self) -> int:
        """Return its bytes."""
        return 0 if self.tensor is None else self.tensor.numel() * self.tensor.element_size()

    def fits(self, limit: int, *, slots: int, positions: int) -> bool:
        """Return True if a table of that size takes at most ``limit`` bytes; False as long as that is not known."""
        if self._of_position is None:
            return False
        return slots * _rounded(positions, GROWTH) * self._of_position <= limit

    def reserve(self, *, slots: int, positions: int) -> None:
        """Make room for a number of slots, of a number of positions each; what is there stays."""
        before = self.slots, self.positions
        self.slots, self.positions = max(slots, self.slots), max(_rounded(positions, GROWTH), self.positions)
        if self.tensor is not None and before != (self.slots, self.positions):
            try:
                grown = self._zeros(self.tensor.shape[3], self.tensor.shape[5], self.tensor)
            except BaseException:  # there is no memory for it: what is there goes on
                self.slots, self.positions = before
                raise
            grown[:, :, : before[0], :, : before[1]] = self.tensor
            self.tensor = grown

    def put(self, slot: int, start: int, block: Tensor) -> None:
        """Write a copy of some tokens into a slot."""
        if self.tensor is None:
            self.tensor = self._zeros(block.shape[2], block.shape[4], block)
        self.tensor[:, :, slot, :, start : start + block.shape[3]] = block

    def copy(self, slot: int, start: int, stop: int) -> Tensor:
        """Return a copy of some tokens of a slot, ``[layer, 2, head, token, size]``."""
        assert self.tensor is not None
        return self.tensor[:, :, slot, :, start:stop].clone()

    def clear(self, slot: int) -> None:
        """Set a slot to 0: what is not finite would reach others that are multiplied by 0."""
        if self.tensor is not None:
            self.tensor[:, :, slot] = 0

    def release(self) -> None:
        """Free the memory."""
        self.tensor, self.slots, self.positions = None, 1, GROWTH

    def of_layer(self, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of a layer, ``[slot, head, position, size]``, made for keys ``like`` at first."""
        if self.tensor is None:
            self.tensor = self._zeros(like.shape[1], like.shape[3], like)
        return self.tensor[layer, 0], self.tensor[layer, 1]

    def _zeros(self, heads: int, size: int, like: Tensor) -> Tensor:
        self._of_position = self.layers * 2 * heads * size * like.element_size()
        shape = self.layers, 2, self.slots, heads, self.positions, size
        return torch.zeros(shape, dtype=like.dtype, device=like.device)


def _rounded(count: int, unit: int) -> int:
    return -(-count // unit) * unit


@final
class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer of the table, as models of transformers write to it."""

    is_sliding = False

    def __init__(self, layer: int) -> None:
        super().__init__()
        self._layer = layer
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        now: _Pass = _NOW.running
        keys, values = now.table.of_layer(self._layer, key_states)
        keys[now.slots, :, now.positions] = key_states[0].transpose(0, 1)
        values[now.slots, :, now.positions] = value_states[0].transpose(0, 1)
        return key_states, value_states

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_seq_length(self) -> int:
        return 0

    def get_max_length(self) -> int:
        return -1


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Return what every token of the pass sees in its slot, ``[1, token, head, size]``."""
    refused = [name for name in REFUSED if options.get(name) is not None]
    if refused:
        raise ModelError(f"attention with {', '.join(refused)} has no flat form")
    now: _Pass = _NOW.running
    keys, values = now.table.of_layer(module.layer_idx, key)
    scaling, window = options.get("scaling") or query.shape[-1] ** -0.5, options.get("sliding_window")
    heads, tokens, size = query.shape[1:]
    groups = key.shape[1]
    output = query.new_zeros(tokens, heads, value.shape[-1])
    for run in now.runs:
        slots, count = slice(run.first, run.last + 1), run.last + 1 - run.first
        # The query heads that share a key head are rows of one product.
        queries = query[0, :, run.columns].transpose(0, 1).reshape(count, groups, heads // groups, size)
        weights = torch.matmul(queries, keys[slots, :, : run.width].transpose(2, 3)) * scaling
        weights = weights.masked_fill_(now.hidden(run, window), -torch.inf)
        weights = weights.softmax(-1, dtype=torch.float32).to(query.dtype)
        output[run.columns] = torch.matmul(weights, values[slots, :, : run.width]).reshape(count, heads, -1)
    for block in now.blocks:
        count = block.stop - block.start
        columns = slice(block.at, block.at + count)
        queries = query[0, :, columns].reshape(groups, heads // groups * count, size)
        weights = torch.matmul(queries, keys[block.slot, :, : block.stop].transpose(-1, -2)) * scaling
        weights = weights.view(groups, heads // groups, count, block.stop) + now.mask(block, window)
        weights = weights.softmax(-1, dtype=torch.float32).to(query.dtype)
        seen = torch.matmul(weights.view(groups, -1, block.stop), values[block.slot, :, : block.stop])
        output[columns] = seen.view(heads, count, -1).transpose(0, 1)
    return output[None], None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attend)


@final
class FlatModel:
    """A model with a table of slots, which reads segments of texts in flat passes.

    Args:
        model: The model.
        layers: Number of its layers.

    Attributes:
        table: Keys and values of every slot.
        least: Tokens of a pass; smaller ones are filled up.
    """

    def __init__(self, model: PreTrainedModel, *, layers: int) -> None:
        self.model = model
        self.table = SlotTable(layers)
        self._cache = Cache(layers=[_SlotLayer(layer) for layer in range(layers)])
        self.least = LEAST if is_reordered(model) else 1  # tokens of a pass

    def read(self, segments: Sequence[Segment], *, device: torch.device) -> Tensor:
        """Read segments, and return the logits after those that are wanted, ``[segment, vocabulary]``.

        Single generated tokens come first, ordered by slot; then several ones of a slot, and the pieces of prompts,
        which begin at multiples of ``BLOCK`` and end there or at the end of the prompt. Slot 0 is nobody's: what fills
        small passes up goes there.

        Args:
            segments: One for each slot that takes part.
            device: Where the model's inputs belong.
        """
        tokens = [token for segment in segments for token in segment.tokens]
        slots = [segment.slot for segment in segments for _ in segment.tokens]
        positions = [at for segment in segments for at in range(segment.start, segment.stop)]
        ends = torch.tensor([len(segment.tokens) for segment in segments]).cumsum(0) - 1
        wanted = [
            at
            for end, segment in zip(ends.tolist(), segments, strict=True)
            for at in range(end + 1 - segment.wanted, end + 1)
        ]
        chosen = [*wanted]
        missing = max(self.least - len(tokens), 0)
        tokens += [0] * missing
        slots += [0] * missing
        positions += range(missing)
        chosen += [len(tokens) - 1] * max(self.least - len(chosen), 0)
        place = torch.tensor(positions, device=device)
        now = _Pass(
            self.table,
            torch.tensor(slots, device=device),
            place,
            tuple(_runs(segments, device)),
            tuple(_blocks(segments)),
            {},
        )
        with torch.inference_mode(), _flat_attention(self.model), _running(now):
            output = self.model(
                input_ids=torch.tensor([tokens], device=device),
                position_ids=place[None],
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=torch.tensor(chosen, device=device),
            )
        logits: Tensor = output.logits[0, : len(wanted)]
        return logits


def _blocks(segments: Sequence[Segment]) -> Iterator[_Block]:
    at = 0
    for segment in segments:
        start = segment.start
        while not segment.single and start < segment.stop:
            stop = min((start // BLOCK + 1) * BLOCK, segment.stop)
            yield _Block(segment.slot, start, stop, at + start - segment.start)
            start = stop
        at += len(segment.tokens)


def _runs(segments: Sequence[Segment], device: torch.device) -> Iterator[_Run]:
    """Join generated tokens of neighbouring slots that see the same width."""
    generated = [segment for segment in segments if segment.single]
    first = 0
    for n, segment in enumerate(generated):
        width = _rounded(segment.stop, WIDTH)
        after = generated[n + 1] if n + 1 < len(generated) else None
        if after is not None and after.slot == segment.slot + 1 and _rounded(after.stop, WIDTH) == width:
            continue
        run = generated[first : n + 1]
        ends = torch.tensor([each.stop for each in run], device=device)
        yield _Run(run[0].slot, segment.slot, first, width, ends[:, None, None, None])
        first = n + 1


TEXTS = (21, 13)  # tokens of the two texts that are read flat and plainly
PIECE = 16  # tokens of the first piece of the longer one
SAME = 1e-4  # relative to the greatest logit, in float32
ROUNDINGS = 16.0  # in coarser types


def why_not_flat(model: PreTrainedModel, layers: DecoderLayers) -> str | None:
    """Return why flat passes are not right for a model; None if they are, which is tried on it.

    Two texts are read in pieces, one beside the other, with a few generated tokens each. Models with another kind of
    attention either say so or show other logits than plain passes. What fails in plain passes too is raised.
    """
    standard = layers.causal and not layers.encoder and not layers.layout.extra and not layers.repeated
    if is_encoder_decoder(model):
        return "an encoder reads its prompts"
    if not standard or (layers.layout.rows, layers.layout.tokens) != (0, 1):
        return "its layers are not those of a plain decoder"
    if not selects_positions(model) or not prepares_plainly(model) or not keeps_keys_and_values(model):
        return "it remembers a text by more than keys and values of its tokens, or prepares its passes itself"
    if len({weight.device for weight in model.parameters()}) > 1 or hasattr(model, "_orig_mod"):
        return "it is compiled, or spread over several devices"
    try:
        off = _distance_from_plain(model, len(layers))
    except Exception as error:  # whatever a model does that has no use for such passes
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        _plain_logits(model, (0, 1))  # raises where plain passes fail as well, which says nothing about flat ones
        return f"flat passes fail: {(str(error).strip() or type(error).__name__).splitlines()[0][:100]}"
    if off <= max(SAME, ROUNDINGS * torch.finfo(place(model)[1]).eps):
        return None
    return f"its logits in flat passes are off by {off:.0e}"


def _distance_from_plain(model: PreTrainedModel, layers: int) -> float:
    """Return the greatest difference of logits from those of plain passes, relative to the greatest logit."""
    device, _ = place(model)
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    long, short = (tuple((7 * n + 11 * count) % vocabulary for n in range(count)) for count in TEXTS)
    flat = FlatModel(model, layers=layers)
    flat.table.reserve(slots=3, positions=TEXTS[0] + 3)
    passes = (
        [Segment(1, 0, long[:PIECE], wanted=0)],
        [Segment(1, PIECE, long[PIECE:-2]), Segment(2, 0, short[:-2])],
        [Segment(1, TEXTS[0] - 2, long[-2:-1], generated=True), Segment(2, TEXTS[1] - 2, short[-2:-1], generated=True)],
        [Segment(1, TEXTS[0] - 1, long[-1:], generated=True), Segment(2, TEXTS[1] - 1, short[-1:], generated=True)],
    )
    with eagerly():
        logits = [flat.read(segments, device=device) for segments in passes][1:]
        off = 0.0
        for number, text in enumerate((long, short)):
            plain = _plain_logits(model, text)[-3:].float()
            read = torch.stack([each[number] for each in logits]).float()
            off = max(off, float((read - plain).abs().max() / plain.abs().max().clamp_min(1e-30)))
    return off


def _plain_logits(model: PreTrainedModel, tokens: Tokens) -> Tensor:
    device, _ = place(model)
    with torch.inference_mode():
        logits: Tensor = model(input_ids=torch.tensor([tokens], device=device), use_cache=False).logits[0]
    return logits


@contextmanager
def _running(now: _Pass) -> Iterator[None]:
    _NOW.running = now
    try:
        yield
    finally:
        _NOW.running = None


@contextmanager
def _flat_attention(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model's attention is that of flat passes; its lock must be held."""
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before
