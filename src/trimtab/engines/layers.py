"""Decoder layers of a torch model: their modules, the layout of their outputs, and hooks on them.

``layer_search`` finds them and checks that steering them steers the model.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from trimtab.errors import ModelError


@dataclass(frozen=True)
class Layout:
    """Axes of a hidden state: rows and tokens; all others are its width.

    Most models put out ``[row, token, hidden]``. Some have the tokens first, and some carry several streams, which
    count as one of their width together.
    """

    rows: int = 0  # the axis of rows
    tokens: int = 1  # the axis of tokens
    offset: int = 0  # positions before the first token, such as those of a learned prefix
    extra: bool = False  # whether there are more positions than tokens at all

    def view(self, state: Tensor) -> Tensor:
        """Return a hidden state as ``[row, position, hidden]``, without a copy where possible."""
        if (self.rows, self.tokens, state.ndim) == (0, 1, 3):
            return state
        return state.movedim((self.rows, self.tokens), (0, 1)).flatten(2)

    def put(self, state: Tensor, view: Tensor) -> Tensor:
        """Return a hidden state in the shape of ``state`` from its view, ``[row, position, hidden]``."""
        if (self.rows, self.tokens, state.ndim) == (0, 1, 3):
            return view
        moved = state.movedim((self.rows, self.tokens), (0, 1))
        return view.reshape(moved.shape).movedim((0, 1), (self.rows, self.tokens))


@dataclass(frozen=True)
class DecoderLayers:
    """The blocks of the residual stream, in order of computation."""

    path: str  # the list that they are members of, such as ``model.layers``
    names: tuple[str, ...]  # where each layer's module is
    modules: tuple[nn.Module, ...]  # the module of each layer; one that runs several times in a pass is listed as often
    hidden_size: int  # width of the stream
    body: nn.Module  # the smallest known part of the model that runs them all; it leaves the head out where that can be
    layout: Layout = Layout()  # what their outputs look like
    causal: bool = True  # whether a state depends on the tokens before it alone
    encoder: bool = False  # whether they are an encoder's, beside a decoder
    reader: str = ""  # the module that reads what the last block puts out; empty if none reads just that
    idle: tuple[str, ...] = ()  # members of the list that do not run on text alone

    def __len__(self) -> int:
        return len(self.modules)

    @cached_property
    def parameters(self) -> int:
        """Return the number of weights, each counted as often as it takes part in a pass."""
        return sum(weight.numel() for block in self.modules for weight in block.parameters())

    @cached_property
    def repeated(self) -> bool:
        """Return True if one module is several layers."""
        return len(set(self.modules)) < len(self.modules)

    def state(self, output: Any) -> Tensor:
        """Return the hidden state of a layer's output, ``[row, position, hidden]``."""
        return self.layout.view(layer_output(output))

    def tokens(self, state: Tensor, count: int) -> Tensor:
        """Return ``state`` (``[row, position, hidden]``) at the ``count`` tokens only."""
        return state[:, self.layout.offset : self.layout.offset + count] if self.layout.extra else state

    def rewritten(
        self, layers: Iterable[int], rewrite: Callable[[int, Tensor], Tensor | None]
    ) -> AbstractContextManager[None]:
        """Inside, replace the hidden states that some layers put out.

        Args:
            layers: Layers to rewrite.
            rewrite: Called with the layer and its hidden state, ``[row, position, hidden]``; returns another one of
                that shape, or None to leave it unchanged.
        """

        def act(layer: int, output: Any) -> Any:
            state = layer_output(output)
            changed = rewrite(layer, self.layout.view(state))
            return None if changed is None else with_layer_output(output, self.layout.put(state, changed))

        return self.hooked(layers, act)

    @contextmanager
    def hooked(self, layers: Iterable[int], act: Callable[[int, Any], Any], *, prepend: bool = False) -> Iterator[None]:
        """Inside, call ``act(layer, output)`` when a layer has run; its result, unless None, replaces the output.

        ``prepend`` calls it before the hooks that are there already, instead of after them.
        """
        wanted = frozenset(layers)
        own: defaultdict[nn.Module, list[int]] = defaultdict(list)
        for layer, module in enumerate(self.modules):
            own[module].append(layer)
        runs = dict.fromkeys(own, 0)  # of each module, in the current pass

        def after(module: nn.Module, _: tuple[Any, ...], output: Any) -> Any:
            which = own[module]
            layer = which[runs[module] % len(which)]
            runs[module] += 1
            return act(layer, output) if layer in wanted else None

        def begin(*_: Any) -> None:
            runs.update(dict.fromkeys(own, 0))

        handles = [self.body.register_forward_pre_hook(begin)] if self.repeated else []
        handles += [
            module.register_forward_hook(after, prepend=prepend)
            for module, which in own.items()
            if wanted.intersection(which)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def layer_output(output: Any) -> Tensor:
    """Return the hidden state of a layer's output, a tensor or a tuple that begins with it.

    Raises:
        ModelError: It is neither.
    """
    state = output[0] if isinstance(output, (tuple, list)) and output else output
    if not isinstance(state, Tensor):
        raise ModelError(f"a decoder block returned {type(output).__name__}, expected a tensor")
    return state


def with_layer_output(output: Any, state: Tensor) -> Any:
    """Return a layer's output with its hidden state replaced."""
    if isinstance(output, tuple):
        rest = (state, *output[1:])
        return type(output)(*rest) if hasattr(output, "_fields") else rest
    if isinstance(output, list):
        return [state, *output[1:]]
    return state


_STANCE = ExitStack()  # of torch, which is one for all threads: it stays while any of them is inside
_STANCE_LOCK = Lock()
_inside = 0


@contextmanager
def eagerly() -> Iterator[None]:
    """Inside, compiled models run uncompiled: compiled code ignores hooks that were registered later."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled, and the import takes seconds
        yield
        return
    global _inside
    with _STANCE_LOCK:
        if _inside == 0:
            _STANCE.enter_context(torch.compiler.set_stance("force_eager"))
        _inside += 1
    try:
        yield
    finally:
        with _STANCE_LOCK:
            _inside -= 1
            if _inside == 0:
                _STANCE.close()


ROWS = 2
ALIKE = 2  # tokens with which both rows begin
TOKENS = 3
FIRST_TOKEN = 20  # the lowest ids are often special ones
SAME = 1e-4  # relative difference that counts as none: rows of a batch may be rounded differently
ROUNDINGS = 8.0  # the same in coarser dtypes

Key: TypeAlias = tuple[int, torch.Size]
Run: TypeAlias = Callable[[Tensor], Any]


@dataclass
class Call:
    """One run of a module; arguments and outputs are those of modules that may be layers."""

    name: str
    module: nn.Module
    start: int  # time of its beginning; beginnings and ends are counted together
    end: int = -1
    reads: frozenset[Key] = frozenset()  # fingerprints of its arguments
    given: tuple[Tensor, ...] = ()  # copies of its arguments
    output: Tensor | None = None  # the first tensor returned; referenced, so that no other takes its place in memory
    state: Tensor | None = None  # copy of the output

    @property
    def key(self) -> Key | None:
        """Return the fingerprint of its output."""
        return None if self.output is None else _key(self.output)

    def was_given(self, tensor: Tensor) -> bool:
        """Return True if a tensor was among its arguments."""
        return _key(tensor) in self.reads


@dataclass
class Watched:
    """Pass with every call in order of its beginning, and the model's result."""

    calls: list[Call] = field(default_factory=list)
    result: Tensor | None = None


def probe_tokens(vocabulary: int, device: torch.device) -> Tensor:
    """Return ``[row, token]``: rows that begin alike and end differently."""
    second = [*range(ALIKE), *range(TOKENS, 2 * TOKENS - ALIKE)]
    tokens = torch.tensor([list(range(TOKENS)), second], device=device)
    return (tokens + FIRST_TOKEN) % vocabulary


def watched_pass(model: nn.Module, run: Run, tokens: Tensor, candidates: Mapping[str, nn.Module]) -> Watched:
    """Run the model once on ``probe_tokens`` and record the calls of every module; see ``run_once`` for errors.

    Of ``candidates``, modules that may be layers, arguments and outputs are stored.
    """
    seen = Watched()
    kept = {id(module) for module in candidates.values()}
    with _tracing(model, seen, kept):
        seen.result = result_of(run_once(model, run, tokens))
    return seen


def run_once(model: nn.Module, run: Run, tokens: Tensor) -> Any:
    """Return the model's result for some tokens.

    Raises:
        ModelError: It does not run on them.
    """
    try:
        with torch.inference_mode(), eagerly():
            return run(tokens)
    except Exception as error:  # whatever a model does that wants more than tokens
        problem = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(
            f"{type(model).__name__} does not run on tokens alone: {problem}",
            fix="use a model that reads text without anything beside it",
        ) from error


def result_of(output: Any) -> Tensor:
    """Return the logits, or else the last hidden state, of a model's output.

    Raises:
        ModelError: It has neither.
    """
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    for result in (getattr(output, "logits", None), getattr(output, "last_hidden_state", None), first):
        if isinstance(result, Tensor):
            return result
    raise ModelError(f"the model returned {type(output).__name__} without logits", fix="use a language model")


def layout_of(state: Tensor) -> Layout | None:
    """Return the axes of the probe's two rows and its tokens in a tensor; None if it lacks them."""
    axes = range(state.ndim - 1)
    for rows in axes:
        for tokens in axes:
            if rows == tokens or state.shape[rows] != ROWS or state.shape[tokens] < TOKENS:
                continue
            differ = differing(*state.movedim((rows, tokens), (0, 1)).flatten(2))
            if not differ.any():
                continue
            start = int(differ.int().argmax()) - ALIKE
            if start >= 0 and bool(differ[start + ALIKE : start + TOKENS].all()):
                return Layout(rows, tokens, start, extra=state.shape[tokens] > TOKENS)
    return None


def differing(one: Tensor, other: Tensor) -> Tensor:
    """Return which of the vectors on the last axis differ by more than rounding."""
    distance = (one.float() - other.float()).norm(dim=-1) / other.float().norm(dim=-1).clamp_min(1e-30)
    differ: Tensor = distance > rounding(one.dtype, at_least=SAME)
    return differ


def rounding(dtype: torch.dtype, *, at_least: float) -> float:
    """Return the largest relative difference that may be rounding."""
    return max(at_least, ROUNDINGS * torch.finfo(dtype).eps)


@contextmanager
def _tracing(model: nn.Module, seen: Watched, kept: set[int]) -> Iterator[None]:
    clock = iter(range(10**9))
    open_calls: list[Call] = []
    handles: list[torch.utils.hooks.RemovableHandle] = []

    def before(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tensors = [given for given in (*args, *kwargs.values()) if isinstance(given, Tensor)]
            call = Call(name, module, next(clock), reads=frozenset(map(_key, tensors)))
            if id(module) in kept:
                call.given = tuple(given.clone() for given in tensors if given.is_floating_point())
            seen.calls.append(call)
            open_calls.append(call)

        return hook

    def after(module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        call = open_calls.pop()
        call.end = next(clock)
        state = output[0] if isinstance(output, (tuple, list)) and output else output
        if id(module) in kept and isinstance(state, Tensor) and state.is_floating_point():
            call.output, call.state = state, state.clone()

    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
        handles.append(module.register_forward_hook(after))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _key(tensor: Tensor) -> Key:
    return tensor.data_ptr(), tensor.shape


def read_by(earlier: Call, later: Sequence[Call]) -> Call | None:
    """Return the first of some calls whose arguments contain the output of ``earlier``."""
    return next((call for call in later if earlier.key in call.reads), None)
