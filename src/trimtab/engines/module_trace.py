"""Trace of one small pass through a model: which modules ran, in what order, what they read and what they put out.

Two rows of three tokens are read, which begin alike and end differently. So where a tensor keeps its rows and its
tokens shows in its values, and so does whether a state knows of later tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from trimtab.engines.layers import Layout, eagerly
from trimtab.errors import ModelError

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
    """One run of a module.

    Attributes:
        name: Which module.
        module: The module itself.
        start: When it began; calls are numbered through.
        end: When it ended.
        reads: Fingerprints of the tensors that it was given.
        given: Those tensors, if it is one that may be a block.
        output: The first tensor that it returned, if it is one that may be a block; held, so that no other tensor
            takes its place in memory.
        state: What was in it then.
    """

    name: str
    module: nn.Module
    start: int
    end: int = -1
    reads: frozenset[Key] = frozenset()
    given: tuple[Tensor, ...] = ()
    output: Tensor | None = None
    state: Tensor | None = None

    @property
    def key(self) -> Key | None:
        """Fingerprint of its output."""
        return None if self.output is None else _key(self.output)

    def was_given(self, tensor: Tensor) -> bool:
        """Whether a tensor was among its arguments."""
        return _key(tensor) in self.reads


@dataclass
class Watched:
    """A pass: every call in order of its beginning, and what the model returned."""

    calls: list[Call] = field(default_factory=list)
    result: Tensor | None = None


def probe_tokens(vocabulary: int, device: torch.device) -> Tensor:
    """``[row, token]``: rows that begin alike and end differently."""
    second = [*range(ALIKE), *range(TOKENS, 2 * TOKENS - ALIKE)]
    tokens = torch.tensor([list(range(TOKENS)), second], device=device)
    return (tokens + FIRST_TOKEN) % vocabulary


def watched_pass(model: nn.Module, run: Run, tokens: Tensor, candidates: Mapping[str, nn.Module]) -> Watched:
    """Run the model once and write down what every module did.

    Args:
        model: The model.
        run: Runs it on tokens ``[row, token]``.
        tokens: From ``probe_tokens``.
        candidates: Modules that may be blocks: what they read and put out is kept.

    Raises:
        ModelError: The model does not run on tokens alone.
    """
    seen = Watched()
    kept = {id(module) for module in candidates.values()}
    with _tracing(model, seen, kept):
        seen.result = result_of(run_once(model, run, tokens))
    return seen


def run_once(model: nn.Module, run: Run, tokens: Tensor) -> Any:
    """What the model returns for some tokens.

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
    """The logits, or else the last hidden state, that a model returned.

    Raises:
        ModelError: It returned neither.
    """
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    for found in (getattr(output, "logits", None), getattr(output, "last_hidden_state", None), first):
        if isinstance(found, Tensor):
            return found
    raise ModelError(f"the model returned {type(output).__name__} without logits", fix="use a language model")


def layout_of(state: Tensor) -> Layout | None:
    """Where the two rows and the tokens of the probe are in a tensor; None if they are nowhere."""
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
    """Which of the vectors on the last axis differ by more than rounding."""
    distance = (one.float() - other.float()).norm(dim=-1) / other.float().norm(dim=-1).clamp_min(1e-30)
    found: Tensor = distance > rounding(one.dtype, at_least=SAME)
    return found


def rounding(dtype: torch.dtype, *, at_least: float) -> float:
    """A relative difference that means nothing."""
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
    """The first of some calls that was given just what ``earlier`` put out."""
    return next((call for call in later if earlier.key in call.reads), None)
