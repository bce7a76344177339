"""Model context: a model with everything that reading and answering with it needs."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Lock, get_ident
from types import TracebackType
from typing import final
from weakref import WeakKeyDictionary

from torch import nn
from transformers import PreTrainedModel

from trimtab.engines.layers import DecoderLayers
from trimtab.engines.prefix_tree import Cost
from trimtab.engines.protocol import ThinkingMarkers, Tokens
from trimtab.engines.transformers.forward.run import PrefixSharingCheck, cost_of
from trimtab.engines.transformers.model.reorder import refresh_reordered
from trimtab.errors import CancelledGenerationError, ModelError
from trimtab.vectors import ModelInfo

ADAPTERS = ("_disable_adapters", "_active_adapter", "merged_adapters")  # what layers of peft have
PATIENCE = 0.5  # seconds after which a thread that waits for a model looks whether it still should
PAUSE = 0.02  # seconds; between two passes of the decoding loop there are fewer


@final
class ModelLock:
    """Re-entrant lock of a model; other threads wait for it, and get it in the order in which they came.

    Decoding takes it for each pass. Work in batches takes it for a whole call, and gives way between its passes.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._waiting: deque[object] = deque()  # a ticket of each thread that waits
        self._owner: int | None = None
        self._depth = 0
        self._since = 0.0  # when the owner got it, on the clock of ``time.monotonic``
        self._refuses = False

    def __enter__(self) -> ModelLock:
        if self.held:
            self._depth += 1
        else:
            self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.held:
            return  # an error has struck while it gave way
        if self._depth > 1:
            self._depth -= 1
        else:
            with self._changed:
                self._release()

    @property
    def held(self) -> bool:
        """Return True if this thread holds the lock."""
        return self._owner == get_ident()

    def give_way(self) -> None:
        """Let other threads have the model, if they wait for it, for as long as this one has had it.

        Nothing of this thread may be on the model. Where it has taken the lock several times, a caller further up may
        have left something there, so nothing happens.
        """
        if not self._waiting or self._depth > 1 or not self.held:
            return
        now = time.monotonic()
        until = now + now - self._since
        with self._changed:
            self._release()
            while (now := time.monotonic()) < until:
                wanted = self._wanted
                woken = self._changed.wait(until - now if wanted else min(PAUSE, until - now))
                if not (wanted or woken or self._wanted):
                    break
        self._take()

    def refuse_waits(self) -> None:
        """From now on, have every thread that waits for the lock give up."""
        self._refuses = True

    @property
    def _wanted(self) -> bool:
        return self._owner is not None or bool(self._waiting)

    def _take(self) -> None:
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._owner is not None or self._waiting[0] is not ticket:
                    if not self._changed.wait(PATIENCE) and self._refuses:
                        raise CancelledGenerationError("the interpreter ends")
            except BaseException:
                self._waiting.remove(ticket)
                self._changed.notify_all()  # the next one may be the first now
                raise
            self._waiting.popleft()
            self._since = time.monotonic()
            self._depth, self._owner = 1, get_ident()

    def _release(self) -> None:
        self._depth, self._owner = 0, None
        self._changed.notify_all()


_LOCKS: WeakKeyDictionary[nn.Module, ModelLock] = WeakKeyDictionary()
_LOCKS_LOCK = Lock()


def model_lock(model: nn.Module) -> ModelLock:
    """Return the lock of a model, which is the same for all engines over it."""
    with _LOCKS_LOCK:
        return _LOCKS.setdefault(model, ModelLock())


def refuse_waits() -> None:
    """Have every thread that waits for a model give up, as the interpreter ends."""
    with _LOCKS_LOCK:
        locks = list(_LOCKS.values())
    for lock in locks:
        lock.refuse_waits()


def model_state(model: nn.Module) -> bytes:
    """Return a digest of what decides a model's outputs beside its inputs: weights, adapters and hooks.

    In-place changes count up a weight's version, and others move it in memory; both are cheap to see.
    """
    digest = hashlib.blake2b(digest_size=16)
    for module in model.modules():
        registered = (*module._forward_hooks.items(), *module._forward_pre_hooks.items())
        # Ours act on passes that are meant, under the lock.
        hooks = [n for n, hook in registered if not getattr(hook, "__module__", "").startswith("trimtab.")]
        adapters = [str(vars(module).get(name)) for name in ADAPTERS]
        digest.update(repr((id(module), hooks, adapters)).encode())
        for weight in module._parameters.values():
            if weight is not None:
                digest.update(f"{weight.data_ptr()} {weight._version}".encode())
    return digest.digest()


@contextmanager
def running(model: PreTrainedModel, *, changed: bool = True) -> Iterator[Callable[[], None]]:
    """Hold the lock of a model that is about to run, and keep it in evaluation mode.

    Yields a function to call between two passes, while nothing of the caller is on the model: other threads that wait
    run it meanwhile. A model that was in training mode is kept, as the mode that each of them restores would be wrong.

    Dropout would change hidden states, and gradient checkpointing drops keys and values. The modules that were in
    training mode are so again afterwards.

    Args:
        model: The model.
        changed: Whether its weights may be others than those that were reordered; looking at them takes 2 ms.

    Raises:
        ModelError: Its config asks for tuples, with which models of transformers do not run.
    """
    with model_lock(model) as lock:
        check_config(model)
        if changed:
            refresh_reordered(model)
        training = [module for module in model.modules() if module.training] if model.training else []
        for module in training:
            module.training = False
        try:
            yield lock.give_way if not training else _stay
        finally:
            for module in training:
                module.training = True


def _stay() -> None:
    """Let nobody else run the model."""


def check_config(model: PreTrainedModel) -> None:
    """Refuse a config that asks for tuples.

    Raises:
        ModelError: It does.
    """
    if getattr(model.config, "return_dict", True) is False:
        raise ModelError(
            f"the config of {type(model).__name__} has return_dict=False, with which models of transformers do not run",
            fix="set model.config.return_dict = True",
        )


@final
@dataclass(frozen=True, eq=False)
class ModelContext:
    """Model with everything that the parts of an engine share."""

    model: PreTrainedModel
    blocks: DecoderLayers
    info: ModelInfo
    prefix_sharing: PrefixSharingCheck
    stop: tuple[int, ...]  # tokens that end an answer
    pad: int  # token that pads rows
    start: Tokens | None  # start tokens of a decoder beside an encoder; None without an encoder
    sink: bool  # the first token of a text is an attention sink, as in decoders
    markers: ThinkingMarkers | None  # around a reasoning model's thoughts
    decode: Callable[[Sequence[int]], str]  # drops special tokens
    decode_all: Callable[[Sequence[int]], str]  # keeps special tokens

    @property
    def reads_sources(self) -> bool:
        """Return True if an encoder reads the texts and the steered layers are a decoder's."""
        return self.start is not None and not self.blocks.encoder

    def cost(self, max_tokens: int | None = None) -> Cost:
        """Return the cost of passes on the model's device, with an upper bound on the tokens of a pass."""
        return cost_of(self.model, self.blocks, max_tokens=max_tokens)
