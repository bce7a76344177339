"""Prove that steering some blocks steers the model, in two passes of six tokens.

The first adds a vector at every block, and hands one row's state on in the place of the other's behind the last block.
The second is as it was before. Then

- what a block put out, with the vector in it, is exactly what is read next;
- every block reads its input: with another one it puts out something else;
- the model's result has changed;
- the result hangs on the last state alone: rows with the same state there have the same result, whatever they read;
- with the hooks gone the result is the same as before, bit for bit.

So a list of blocks that belongs to a vision tower, to an unused part or to a side branch is not taken for the stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trimtab.engines.blocks import Blocks, block_output, with_block_output
from trimtab.engines.probing import result_of, rounding

PUSH = 0.5  # of the root mean square of a state
BRANCHING = 0.02  # of what the rows' results are apart: less than this is rounding, more is another way to the result
HIDDEN = 1e30  # logits of forbidden tokens are about minus infinity


@dataclass(frozen=True)
class Proof:
    """What was seen when a model was steered on trial.

    Attributes:
        problem: Why the blocks cannot be steered; None if they can.
        passes: Passes that it took, of six tokens each.
        moved: How far the result moved, in units of what it is by itself (norms).
    """

    problem: str | None
    passes: int
    moved: float = 0.0


@dataclass
class _Seen:
    """What the steered pass showed, by layer."""

    put_out: list[Tensor] = field(default_factory=list)
    pushed: list[Tensor] = field(default_factory=list)
    read: list[bool] = field(default_factory=list)


def prove(
    run: Callable[[], Any], blocks: Blocks, unsteered: Sequence[tuple[str, Tensor | None]], base: Tensor
) -> Proof:
    """Steer a model on trial.

    Args:
        run: Runs it on the probe's tokens.
        blocks: What is believed to be its blocks.
        unsteered: The name and the unsteered output of each.
        base: The unsteered result.
    """
    seen = _Seen()
    with ExitStack() as stack:
        stack.enter_context(blocks.hooked(range(len(blocks)), _push(blocks, seen)))
        for handle in _watch_readers(blocks, seen):
            stack.callback(handle.remove)
        steered = result_of(run())
    problem = _problem(blocks, seen, unsteered, steered, base)
    if problem is not None:
        return Proof(problem, passes=1)
    if not torch.equal(result_of(run()), base):
        return Proof("the result is not the same again once the hooks are gone", passes=2)
    return Proof(None, passes=2, moved=moved_by(base[0], steered[0]))


def moved_by(before: Tensor, after: Tensor) -> float:
    """How far a result moved, in units of what it was (norms); logits of forbidden tokens are left out."""
    before, after = before.float(), after.float()
    told = (before.abs() < HIDDEN) & (after.abs() < HIDDEN)
    return float((after - before)[told].norm() / before[told].norm().clamp_min(1e-30))


def _push(blocks: Blocks, seen: _Seen) -> Callable[[int, Any], Any]:
    def act(layer: int, output: Any) -> Any:
        state = block_output(output)
        seen.put_out.append(state.clone())
        view = blocks.layout.view(state)
        signs = torch.ones(view.shape[-1], device=state.device, dtype=state.dtype)
        signs[layer % 3 :: 3] = -1.0
        size = view.float().square().mean().sqrt().clamp_min(1e-3).to(state.dtype)
        pushed = blocks.layout.add(state, PUSH * size * signs)
        if layer == len(blocks) - 1:
            rows = blocks.layout.rows
            pushed = pushed.narrow(rows, 0, 1).expand_as(pushed).contiguous()
        seen.pushed.append(pushed.clone())
        seen.read.append(False)
        return with_block_output(output, pushed)

    return act


def _watch_readers(blocks: Blocks, seen: _Seen) -> list[torch.utils.hooks.RemovableHandle]:
    """See whether what is put out, with the vector in it, is what some module is given next."""

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not seen.pushed or seen.read[-1]:
            return
        wanted = seen.pushed[-1]
        seen.read[-1] = any(
            isinstance(given, Tensor) and given.shape == wanted.shape and torch.equal(given, wanted)
            for given in (*args, *kwargs.values())
        )

    inside = {id(part) for block in blocks.modules for part in block.modules()} - set(map(id, blocks.modules))
    return [
        module.register_forward_pre_hook(before, with_kwargs=True)
        for module in blocks.body.modules()
        if id(module) not in inside
    ]


def _problem(
    blocks: Blocks, seen: _Seen, unsteered: Sequence[tuple[str, Tensor | None]], steered: Tensor, base: Tensor
) -> str | None:
    if len(seen.put_out) != len(blocks):
        return f"{len(seen.put_out)} of {len(blocks)} blocks took notice of a hook"
    last = len(blocks) - 1
    for layer, (name, before) in enumerate(unsteered):
        if layer < last and not seen.read[layer]:
            return f"what is added to the output of {name} does not reach what reads it"
        if layer > 0 and before is not None and torch.equal(seen.put_out[layer], before):
            return f"{name} ignores what it is given: another input gave the same output"
    if torch.equal(steered[0], base[0]):
        return "adding to it does not move the result"
    apart = (base[0].float() - base[1].float()).norm()
    left = (steered[0].float() - steered[1].float()).norm()
    if float(apart) == 0.0:
        return "the result does not depend on what is read"
    if float(left / apart) > rounding(base.dtype, at_least=BRANCHING):
        return "the result does not hang on the last of them alone: something else leads to it past them"
    return None
