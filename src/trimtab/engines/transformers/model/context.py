"""Model context: a model with everything that reading and answering with it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Lock, get_ident
from types import TracebackType
from typing import Protocol, final
from weakref import WeakKeyDictionary

from torch import nn
from transformers import PreTrainedModel

from trimtab.engines.layers import DecoderLayers
from trimtab.engines.prefix_tree import Cost
from trimtab.engines.protocol import ThinkingMarkers, Tokens
from trimtab.engines.transformers.forward.run import PrefixSharingCheck, cost_of
from trimtab.engines.transformers.forward.steer import SteeringHooks
from trimtab.engines.transformers.model.reorder import refresh_reordered
from trimtab.errors import CancelledGenerationError, ModelError, SteeringError
from trimtab.vectors import ModelInfo

ADAPTERS = ("_disable_adapters", "_active_adapter", "merged_adapters")  # what layers of peft have


class OpenStream(Protocol):
    """Stream that holds the lock of its model."""

    reader: int  # the thread that takes its tokens
    worker: int | None  # the thread that runs the model; None until it has begun
    stopped: bool  # broken off, so that its worker is about to end

    def stop(self) -> None:
        """Break the stream off without waiting for its worker."""


@final
class ModelLock:
    """Re-entrant lock; other threads wait for it.

    A stream takes the lock in the thread that reads it and gives it back in the worker thread that runs the model. In
    between, the reader's thread is refused instead of waiting: it would wait for a stream that waits for its reader. A
    stream may begin inside the reader's own ``with lock``; it ends before that does.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._owner: int | None = None
        self._depth = 0
        self._stream: OpenStream | None = None
        self._refuses = False
        self.scopes: list[SteeringHooks] = []  # hooks of each open steered(), outermost first

    def __enter__(self) -> ModelLock:
        with self._changed:
            self._wait_until_free()
            if self._stream is None:
                self._owner = get_ident()
            self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._depth -= 1
            if self._depth == 0:
                self._owner = None
            self._changed.notify_all()

    @property
    def held(self) -> bool:
        """Return True if this thread holds the lock."""
        return self._owner == get_ident()

    def check_no_stream(self) -> None:
        """Refuse a thread that has a stream open.

        Raises:
            SteeringError: This thread reads a stream that is not at its end.
        """
        stream = self._stream
        if stream is not None and stream.reader == get_ident() and not stream.stopped:
            raise SteeringError(
                "an answer of this model is being streamed", fix="read the stream to its end, or close it"
            )

    def begin_stream(self, stream: OpenStream) -> None:
        """Take the lock for a stream, which gives it back with ``end_stream`` from any thread.

        Raises:
            SteeringError: This thread reads another stream that is not at its end.
        """
        with self._changed:
            self._wait_until_free()
            self._stream = stream

    def end_stream(self) -> None:
        """Give back what ``begin_stream`` took."""
        with self._changed:
            self._stream = None
            self._changed.notify_all()

    def stop_stream(self) -> None:
        """Break off the stream that is open, if any, and wait until its worker has released the model."""
        with self._changed:
            stream = self._stream
            if stream is not None:
                stream.stop()
                self._changed.wait_for(lambda: self._stream is not stream)

    def _wait_until_free(self) -> None:
        thread = get_ident()
        while True:
            stream = self._stream
            if stream is None:
                if self._owner in (None, thread):
                    return
            elif stream.worker == thread:
                return
            else:
                self.check_no_stream()
            if self._refuses:
                raise CancelledGenerationError("the interpreter ends")
            self._changed.wait()

    def refuse_waits(self) -> None:
        """From now on, have every thread that waits for the lock give up."""
        with self._changed:
            self._refuses = True
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
def running(model: PreTrainedModel, *, changed: bool = True) -> Iterator[None]:
    """Hold the lock of a model that is about to run, and keep it in evaluation mode.

    Dropout would change hidden states, and gradient checkpointing drops keys and values. The modules that were in
    training mode are so again afterwards.

    Args:
        model: The model.
        changed: Whether its weights may be others than those that were reordered; looking at them takes 2 ms.

    Raises:
        ModelError: Its config asks for tuples, with which models of transformers do not run.
    """
    with model_lock(model):
        check_config(model)
        if changed:
            refresh_reordered(model)
        training = [module for module in model.modules() if module.training] if model.training else []
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True


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
    scopes: list[SteeringHooks] = field(default_factory=list)  # hooks of each open steered(), outermost first

    @property
    def reads_sources(self) -> bool:
        """Return True if an encoder reads the texts and the steered layers are a decoder's."""
        return self.start is not None and not self.blocks.encoder

    def cost(self, max_tokens: int | None = None) -> Cost:
        """Return the cost of passes on the model's device, with an upper bound on the tokens of a pass."""
        return cost_of(self.model, self.blocks, max_tokens=max_tokens)
