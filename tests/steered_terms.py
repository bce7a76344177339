"""Terms for the engine beside the same ones for the reference, and a look at what left the blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

import steered_reference
from steered_reference import HandTerm, Prompt, Rule
from trimtab.engines.transformers import TransformersEngine
from trimtab.engines.transformers.decode.prefixes import KeptPrefixes
from trimtab.engines.transformers.forward.flat import FlatModel, Segment
from trimtab.steering import Ablate, Add, Clamp, Floor, Rotate, Scope, Term
from trimtab.steering.operators import Operator
from trimtab.vectors import ControlVector


@dataclass(frozen=True)
class ModelContext:
    """An engine, and its blocks as known without it."""

    engine: TransformersEngine
    blocks: nn.ModuleList
    vectors: tuple[ControlVector, ControlVector]

    def prompt(self, chat: Any) -> Prompt:
        """Rendered; where its tokens stand is said by the tokenizer."""
        text = self.engine.render(chat)
        tokens = self.engine.encode(text)
        own = self.engine.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        assert tuple(own["input_ids"]) == tokens
        return Prompt(text, tokens, own["offset_mapping"], self.engine.tokenizer.decode)


# What each operator is, here and there -----------------------------------------------------------------------------


def term(
    vector: ControlVector, operator: Operator, *, amount: float | None = None, scope: str = "", rule: Rule | None = None
) -> tuple[Term, HandTerm]:
    """A term for the engine, and the same for the reference."""
    tokens = Scope.of(scope) if scope else Scope()
    takes = isinstance(operator, Add) or operator == Rotate()
    asked = Term(vector, coefficient=amount if takes else None, operator=operator, tokens=tokens)
    operation, amounts = _by_hand(vector, operator, amount or 0.0)
    return asked, HandTerm(operation, vector.directions, amounts, rule or (lambda seen: 1.0))


def _by_hand(vector: ControlVector, operator: Operator, amount: float) -> tuple[Any, Mapping[int, float]]:
    layers = vector.directions
    if isinstance(operator, Add):
        added = {layer: amount * vector.weights[layer] * vector.norms[layer] for layer in layers}
        return steered_reference.add_preserving_norm if operator.preserve_norm else steered_reference.add, added
    if isinstance(operator, Rotate):
        if operator.degrees is None:
            return steered_reference.rotate, {layer: amount * vector.weights[layer] for layer in layers}
        return steered_reference.rotate, dict.fromkeys(layers, math.radians(operator.degrees))
    if isinstance(operator, Clamp):
        return steered_reference.clamp_to(operator.low.value, operator.high.value), {}
    if isinstance(operator, Ablate):
        return steered_reference.ablate, {}
    operation = steered_reference.floor if isinstance(operator, Floor) else steered_reference.cap
    return operation, dict.fromkeys(layers, operator.bound.value)


# Scopes ----

SYSTEM, USER, SAID = "Be kind, please.", "Where is the ship?", "It sank."
CHAT = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": USER},
    {"role": "assistant", "content": SAID},
    {"role": "user", "content": "Oh no! Why?"},
]
SCOPES: tuple[tuple[str, Rule], ...] = (
    ("prompt", steered_reference.in_prompt),
    ("generated", steered_reference.in_answer),
    ("system", steered_reference.words_of(SYSTEM)),
    ("user", steered_reference.words_of(USER, "Oh no! Why?")),
    ("assistant", lambda seen: max(steered_reference.words_of(SAID)(seen), steered_reference.in_answer(seen))),
    ('after:"the ship"', steered_reference.after("the ship")),
    ('before:"the ship"', steered_reference.before("the ship")),
    (
        'after:"kind", before:"Oh no"',
        steered_reference.both(steered_reference.after("kind"), steered_reference.before("Oh no")),
    ),
    ("first 2", steered_reference.counted(0, 2)),
    ("from 3", steered_reference.counted(3, math.inf)),
    ("first 4, from 1", steered_reference.counted(1, 4)),
    ("decay 4", steered_reference.decay(4)),
    ("half-life 1.5", steered_reference.half_life(1.5)),
    ("generated, half-life 2", steered_reference.both(steered_reference.in_answer, steered_reference.half_life(2))),
)


def scoped_rows(host: ModelContext, scopes: Sequence[tuple[str, Rule]]) -> list[list[tuple[Term, HandTerm]]]:
    first, second = host.vectors
    return [
        [
            term(first, Add(), amount=0.8, scope=scope, rule=rule),
            term(second, Rotate(35.0), scope=scope, rule=rule),
        ]
        for scope, rule in scopes
    ]


# Seeing what left the blocks ---------------------------------------------------------------------------------------


@contextmanager
def states_between(blocks: nn.ModuleList, *, cached: bool) -> Iterator[dict[int, torch.Tensor]]:
    """What each block but the first is given, ``[row, column, hidden]``, by the layer before it; complete at the end.

    Rows are padded on the left, whether they were read in a static batch or in flat passes.
    """
    found: dict[int, torch.Tensor] = {}
    flat: dict[int, list[tuple[Segment, torch.Tensor]]] = {}  # pieces of rows, by layer
    running: list[Sequence[Segment]] = []
    read = FlatModel.read

    def noting(self: FlatModel, segments: Sequence[Segment], **options: Any) -> torch.Tensor:
        running.append(segments)
        try:
            return read(self, segments, **options)
        finally:
            running.pop()

    def hook(layer: int) -> Callable[..., None]:
        def see(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            state = (args[0] if args else kwargs["hidden_states"]).detach().float().clone()
            if not running:
                found[layer] = torch.cat([found[layer], state], dim=1) if cached and layer in found else state
                return
            at = 0
            for segment in running[-1]:
                flat.setdefault(layer, []).append((segment, state[0, at : at + len(segment.tokens)]))
                at += len(segment.tokens)

        return see

    handles = [
        block.register_forward_pre_hook(hook(layer), with_kwargs=True) for layer, block in enumerate(list(blocks)[1:])
    ]
    with patch.object(FlatModel, "read", noting), patch.object(KeptPrefixes, "known", lambda *_: 0):
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()
    for layer, pieces in flat.items():
        found[layer] = _padded_left(pieces)


def _padded_left(pieces: Sequence[tuple[Segment, torch.Tensor]]) -> torch.Tensor:
    """Rows are in the order of their slots, which are given in the order of the request."""
    slots = sorted({segment.slot for segment, _ in pieces})
    prompts = {slot: max(s.stop for s, _ in pieces if s.slot == slot and not s.generated) for slot in slots}
    width = max(prompts.values())
    longest = max(segment.stop + width - prompts[segment.slot] for segment, _ in pieces)
    table = torch.zeros(len(slots), longest, pieces[0][1].shape[-1])
    for segment, state in pieces:
        start = width - prompts[segment.slot] + segment.start
        table[slots.index(segment.slot), start : start + len(state)] = state
    return table
