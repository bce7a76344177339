"""Ambient steering: what open ``steered()`` blocks add to the requests and the passes of their context.

A context is a thread or an asyncio task. Requests take the ambient steering with them when they are made, so nothing
has to be on the model for them. Passes that the context runs itself (hidden states, scores, calls of the model) are
steered by hooks, which let the passes of all others through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import get_ident
from typing import Any

from torch import nn

from trimtab.engines.transformers.forward.steer import SteeringHooks
from trimtab.engines.transformers.forward.step_plan import StepPlan
from trimtab.engines.transformers.model.context import ModelContext, ModelLock, model_lock
from trimtab.steering import CompiledSteering


@dataclass(eq=False)
class _Block:
    """One ``steered()`` block."""

    lock: ModelLock  # of the model that it steers
    steering: CompiledSteering
    left: bool = False  # perhaps in another context, so that the variable of its own still has it


_OPEN: ContextVar[tuple[_Block, ...]] = ContextVar("trimtab_steered", default=())  # outermost first


def ambient_steering(model: nn.Module) -> CompiledSteering:
    """Return the terms of the blocks over a model that are open in this context, those of the outermost first."""
    lock = model_lock(model)
    blocks = (block for block in _OPEN.get() if block.lock is lock and not block.left)
    return CompiledSteering(tuple(term for block in blocks for term in block.steering.terms))


@contextmanager
def unsteered() -> Iterator[None]:
    """Inside, no block is open."""
    token = _OPEN.set(())
    try:
        yield
    finally:
        _OPEN.reset(token)


@contextmanager
def steered(context: ModelContext, steering: CompiledSteering) -> Iterator[None]:
    """Inside, add a steering to the requests of this context, and steer the passes that it runs itself.

    Raises:
        SteeringError: What was steered by the hooks is not what was asked for.
    """
    block = _Block(model_lock(context.model), steering)

    def acts() -> bool:
        return block in _OPEN.get()

    plan = StepPlan.of_rows([steering])
    hooks = SteeringHooks(context.blocks, plan, sink=context.sink, scoped=not steering.is_plain, acts=acts)
    _OPEN.set((*_OPEN.get(), block))
    try:
        stack = ExitStack()
        with block.lock:  # between two passes, as torch needs several steps to set a hook
            stack.enter_context(hooks)
            stack.enter_context(_in_turn(context.blocks.body, block.lock, acts))
        try:
            yield
        finally:
            with block.lock:
                stack.close()
    finally:
        block.left = True
        _OPEN.set(tuple(other for other in _OPEN.get() if other is not block))
    hooks.check()


@contextmanager
def _in_turn(body: nn.Module, lock: ModelLock, acts: Callable[[], bool]) -> Iterator[None]:
    """Inside, hold the lock of a model during each pass of this context, so that no other pass is mixed with it."""
    turn = ExitStack()
    reader: int | None = None  # the thread of the pass

    def begin(*_: Any) -> None:
        nonlocal reader
        if acts() and reader != get_ident():  # else Ctrl-C has broken off its last pass
            lock.__enter__()
            turn.push(lock)
            reader = get_ident()

    def end(*_: Any) -> None:
        nonlocal reader
        if reader == get_ident():
            reader = None
            turn.close()

    handles = [
        body.register_forward_pre_hook(begin, prepend=True),
        body.register_forward_hook(end, always_call=True),
    ]
    try:
        yield
    finally:
        end()
        for handle in handles:
            handle.remove()
