"""Kept prefixes: keys and values of the beginnings of prompts, for later requests with the same beginning."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from torch import Tensor

from trimtab.engines.transformers.forward.flat import BLOCK, SlotTable
from trimtab.engines.transformers.forward.rows import RowPlan, RowSteering
from trimtab.engines.transformers.forward.steer import SteeringCounters

Effect: TypeAlias = tuple[str, int]  # of a term's changes: their digest, and how many equal ones act before it


@dataclass(frozen=True)
class _Kept:
    """One block of a prompt that was read under some steering."""

    keys_and_values: Tensor  # [layer, 2, head, token, size]
    lengths: Mapping[int, Tensor]  # norms of hidden states by layer, [1, token]
    moves: Mapping[tuple[Effect, int], Tensor]  # norms of changes by effect and layer, [1, token]

    @property
    def size(self) -> int:
        """Return its bytes; the norms are small beside keys and values."""
        return self.keys_and_values.numel() * self.keys_and_values.element_size()


@final
class KeptPrefixes:
    """Blocks of prompts by identity; the least recently used are dropped where they exceed a number of bytes.

    The identity of a block (``RowSteering.block_keys``) holds all tokens up to its end, everything that steers them,
    and a salt. Beginnings are shared where it is the same, and only there.

    Args:
        limit: Bytes of all blocks together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._blocks: OrderedDict[bytes, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def clear(self) -> None:
        """Drop all blocks."""
        self._blocks.clear()
        self.size = 0

    def known(self, keys: Sequence[bytes]) -> int:
        """Return how many blocks from the beginning on are kept."""
        return next((n for n, key in enumerate(keys) if key not in self._blocks), len(keys))

    def restore(self, keys: Sequence[bytes], row: RowSteering, table: SlotTable, slot: int) -> None:
        """Put the blocks ``keys``, all of them kept, into a slot, and their counters into the text's steering."""
        counters = []
        for n, key in enumerate(keys):
            block = self._blocks[key]
            table.put(slot, n * BLOCK, block.keys_and_values)
            counters.append(SteeringCounters(n * BLOCK, dict(block.lengths), dict(_by_step(block, row.plan))))
        row.keep(counters)
        self._touch(keys)

    def keep(self, keys: Sequence[bytes], row: RowSteering, table: SlotTable, slot: int) -> None:
        """Keep the first blocks of a slot, which has been read up to their end."""
        missing = [n for n, key in enumerate(keys) if key not in self._blocks]
        if missing:
            counted = row.counters()
            effects = _effects(row.plan)
            for n in missing:
                block = _Kept(table.copy(slot, n * BLOCK, (n + 1) * BLOCK), *_norms(counted, n * BLOCK, effects))
                self._blocks[keys[n]] = block
                self.size += block.size
        self._touch(keys)
        while self.size > self.limit:
            _, dropped = self._blocks.popitem(last=False)
            self.size -= dropped.size

    def _touch(self, keys: Sequence[bytes]) -> None:
        """Note a use; the last blocks of a prompt count as older, as they are of no use without the first ones."""
        for key in reversed(keys):
            self._blocks.move_to_end(key)


def _effects(plan: RowPlan) -> dict[int, Effect]:
    """Return the effect of each step that is no addition, whose moves are counted; such a step has one term."""
    seen: dict[str, int] = {}
    effects: dict[int, Effect] = {}
    for number, step in enumerate(plan.steps.steps):
        if step.kind != "add":
            digest = plan.effects[step.numbers[0]]
            effects[number] = digest, seen.get(digest, 0)
            seen[digest] = seen.get(digest, 0) + 1
    return effects


def _by_step(block: _Kept, plan: RowPlan) -> Iterator[tuple[tuple[int, int], Tensor]]:
    numbers = {effect: number for number, effect in _effects(plan).items()}
    for (effect, layer), norms in block.moves.items():
        if effect in numbers:
            yield (numbers[effect], layer), norms


def _norms(
    counted: Sequence[SteeringCounters], start: int, effects: Mapping[int, Effect]
) -> tuple[dict[int, Tensor], dict[tuple[Effect, int], Tensor]]:
    """Return the norms of the block that begins at ``start``; no pass reads a part of a block."""
    for part in counted:
        width = max((norms.shape[1] for norms in part.lengths.values()), default=0)
        if part.start <= start < part.start + width:
            columns = slice(start - part.start, start - part.start + BLOCK)
            lengths = {layer: norms[:, columns].clone() for layer, norms in part.lengths.items()}
            moves = {(effects[n], layer): norms[:, columns].clone() for (n, layer), norms in part.moves.items()}
            return lengths, moves
    return {}, {}
