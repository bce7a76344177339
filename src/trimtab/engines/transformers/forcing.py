"""Teacher forcing, made for asking the same question under many steerings.

Two things make it quick, and neither changes a result:

- *Packing.* What all prompts begin with stands once in a pass, then each prompt with all its answers behind it; a mask
  lets each answer see its prompt and itself only, and position ids restart. A probe compares this with the plain way; a
  model that does not honour custom masks or positions, or does not look back as far as the items are long, takes the
  plain way, one prompt with one answer at a time.
- *Skipping.* Blocks up to the lowest steered one put out what they put out without steering, so their stored outputs
  are handed on instead of computed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trimtab.engines.base import ForcedItem, ForcedScores, Tokens
from trimtab.engines.blocks import Blocks, block_output
from trimtab.engines.transformers.hooks import SteeringHooks

PASS_TOKENS = 512
CACHE_BYTES = 2 * 1024**3
PROVEN_FACTOR = 1.5  # a mask honoured at one length is honoured at lengths not much greater
PROBE_TOLERANCE = 1e-3  # nats; a mask that is not honoured is off by far more
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")  # what configs call a limit on looking back
SINK_FACTOR = 8.0  # a token whose norm is so many times the median is an attention sink


@dataclass(frozen=True)
class _Answer:
    """Where one answer's predictions are in a pass: ``targets[i]`` is predicted at ``positions[i]``."""

    item: int
    answer: int
    positions: tuple[int, ...]
    targets: Tokens


@dataclass(frozen=True)
class _Pass:
    """One row of tokens through the model. ``owner`` and ``place`` are None for a plain, causal row.

    ``owner[t]`` is (prompt number, answer number or -1 for the prompt itself), (-1, -1) for what all prompts of the
    pass begin with; ``place[t]`` is the position id.
    """

    tokens: Tokens
    answers: tuple[_Answer, ...]
    owner: tuple[tuple[int, int], ...] | None = None
    place: tuple[int, ...] | None = None


@final
class PackedTeacherForcing:
    """Prompts and answers prepared for one model; see ``TeacherForcing``."""

    def __init__(self, model: nn.Module, blocks: Blocks, items: Sequence[ForcedItem], *, probe: PackingProbe) -> None:
        self._model = model
        self._blocks = blocks
        self._items = tuple(items)
        self._device = next(model.parameters()).device
        self.packed = probe.is_exact(model, self._items)
        self._passes = _pack(self._items) if self.packed else _plain(self._items)
        self._stored: list[list[Any]] = []
        self._reference: dict[int, Tensor] = {}
        self._norm_sums = np.zeros(len(blocks.modules))
        self._norm_tokens = np.zeros(len(blocks.modules))
        self._store = self._bytes_to_store() <= CACHE_BYTES
        self.base = self._measure_base()

    @property
    def norms(self) -> NDArray[np.float64]:
        """Mean hidden-state norm per layer, ``[layer]``; attention sinks are left out."""
        return self._norm_sums / self._norm_tokens

    def measure(self, additions: Mapping[int, NDArray[np.float32]]) -> ForcedScores:
        """Scores with ``additions[layer]`` added to the output of each block.

        Raises:
            SteeringError: A layer did not steer every token.
        """
        additions = {layer: added for layer, added in additions.items() if added.any()}
        if not additions:
            return self.base
        scores = _Scores(self._items)
        with SteeringHooks(self._model, self._blocks, additions) as hooks:
            for number, row in enumerate(self._passes):
                with self._skipping(number, up_to=min(additions)):
                    self._score(row, scores)
        hooks.check()
        return scores.done()

    def _measure_base(self) -> ForcedScores:
        scores = _Scores(self._items)
        for row in self._passes:
            with self._recording():
                self._score(row, scores, keep_reference=True)
        return scores.done()

    def _score(self, row: _Pass, scores: _Scores, *, keep_reference: bool = False) -> None:
        positions = [position for answer in row.answers for position in answer.positions]
        with torch.inference_mode():
            logits = _logits_at(self._model, row, positions, self._device)
            at = 0
            for answer in row.answers:
                logprobs = logits[at : at + len(answer.targets)].float().log_softmax(-1)
                at += len(answer.targets)
                targets = torch.tensor(answer.targets, device=logprobs.device)
                total = float(logprobs.gather(-1, targets[:, None]).sum(dtype=torch.float64))
                scores.add_logprob(answer, total)
                if self._items[answer.item].reference != answer.answer:
                    continue
                if keep_reference:
                    self._reference[answer.item] = logprobs
                else:
                    base = self._reference[answer.item]
                    scores.add_kl(answer, float((base.exp() * (base - logprobs)).sum(dtype=torch.float64)))

    def _bytes_to_store(self) -> int:
        tokens = sum(len(row.tokens) for row in self._passes)
        width = next(self._model.parameters()).element_size()
        return tokens * self._blocks.hidden_size * len(self._blocks.modules) * width

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Keep every block's output of the pass inside, and add up norms."""
        outputs: list[Any] = [None] * len(self._blocks.modules)

        def keep(layer: int) -> Any:
            def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
                norms = block_output(output)[0].float().norm(dim=-1)
                norms = norms[norms <= SINK_FACTOR * norms.median()]
                self._norm_sums[layer] += float(norms.sum())
                self._norm_tokens[layer] += len(norms)
                if self._store:
                    outputs[layer] = output

            return hook

        handles = [  # before the hooks of a steered() around this, which add to what is handed on
            block.register_forward_hook(keep(layer), prepend=True) for layer, block in enumerate(self._blocks.modules)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        self._stored.append(outputs)

    @contextmanager
    def _skipping(self, number: int, *, up_to: int) -> Iterator[None]:
        """Blocks ``0 … up_to`` hand on their stored outputs; only the last of them matters."""
        if not self._store:
            yield
            return
        stored = self._stored[number][up_to]
        skipped = self._blocks.modules[: up_to + 1]
        before = [block.__dict__.get("forward") for block in skipped]
        try:
            for block in skipped:
                block.forward = lambda *args, **kwargs: stored
            yield
        finally:
            for block, forward in zip(skipped, before, strict=True):
                if forward is None:
                    block.__dict__.pop("forward", None)
                else:
                    block.forward = forward


@final
class _Scores:
    """Sums under way."""

    def __init__(self, items: Sequence[ForcedItem]) -> None:
        self._logprob = [np.zeros(len(item.answers)) for item in items]
        self._tokens = tuple(np.array([len(answer) for answer in item.answers], dtype=np.int64) for item in items)
        self._kl = np.zeros(len(items))
        self._kl_tokens = np.array(
            [0 if item.reference is None else len(item.answers[item.reference]) for item in items],
            dtype=np.int64,
        )

    def add_logprob(self, answer: _Answer, total: float) -> None:
        self._logprob[answer.item][answer.answer] = total

    def add_kl(self, answer: _Answer, total: float) -> None:
        self._kl[answer.item] = total

    def done(self) -> ForcedScores:
        return ForcedScores(tuple(self._logprob), self._tokens, self._kl, self._kl_tokens)


def _logits_at(model: nn.Module, row: _Pass, positions: Sequence[int], device: torch.device) -> Tensor:
    """Logits ``[len(positions), vocabulary]`` of one pass; the head runs at ``positions`` alone where it can."""
    inputs: dict[str, Any] = {"input_ids": torch.tensor([row.tokens], device=device), "use_cache": False}
    if row.owner is not None:
        dtype = next(model.parameters()).dtype
        inputs["attention_mask"] = _tree_mask(row.owner, dtype).to(device)
        inputs["position_ids"] = torch.tensor([row.place], device=device)
    index = torch.tensor(positions, device=device)
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        logits: Tensor = model(**inputs, logits_to_keep=index).logits[0]
        return logits
    logits = model(**inputs).logits[0]
    return logits[index]


def _tree_mask(owner: Sequence[tuple[int, int]], dtype: torch.dtype) -> Tensor:
    """Additive mask ``[1, 1, token, token]``: a token sees what stands before it in its prompt and in its answer."""
    prompt = torch.tensor([p for p, _ in owner])
    answer = torch.tensor([a for _, a in owner])
    root = (prompt == -1)[None]
    same_prompt = prompt[:, None] == prompt[None]
    sees = root | same_prompt & ((answer[None] == -1) | (answer[:, None] == answer[None]))
    sees &= torch.ones(len(owner), len(owner), dtype=torch.bool).tril()
    mask = torch.zeros(len(owner), len(owner), dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)
    return mask[None, None]


def _plain(items: Sequence[ForcedItem]) -> list[_Pass]:
    """One prompt with one answer in each pass."""
    return [
        _Pass(
            item.prompt + answer[:-1],
            (_Answer(n, a, tuple(range(len(item.prompt) - 1, len(item.prompt) + len(answer) - 1)), answer),),
        )
        for n, item in enumerate(items)
        for a, answer in enumerate(item.answers)
        if answer
    ]


def _pack(items: Sequence[ForcedItem]) -> list[_Pass]:
    """Each prompt once with its answers behind it; several prompts in a pass of about ``PASS_TOKENS``."""
    root = _common_beginning([item.prompt for item in items])
    passes: list[_Pass] = []
    row = _Row(root)
    for n, item in enumerate(items):
        size = len(item.prompt) - len(root) + sum(len(answer) - 1 for answer in item.answers)
        if row.answers and len(row.tokens) + size > PASS_TOKENS:
            passes.append(row.closed())
            row = _Row(root)
        row.add(n, item)
    if row.answers:
        passes.append(row.closed())
    return passes


def _common_beginning(prompts: Sequence[Tokens]) -> Tokens:
    """The tokens that all prompts begin with, short of the last token of any."""
    if len(prompts) < 2:
        return ()
    first, last = min(prompts), max(prompts)
    bound = min(map(len, prompts)) - 1
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), bound)
    return first[: min(same, bound)]


@final
class _Row:
    """A pass under construction."""

    def __init__(self, root: Tokens) -> None:
        self._root = len(root)
        self.tokens = list(root)
        self.owner = [(-1, -1)] * len(root)
        self.place = list(range(len(root)))
        self.answers: list[_Answer] = []

    def add(self, number: int, item: ForcedItem) -> None:
        own = item.prompt[self._root :]
        last = len(self.tokens) + len(own) - 1
        self._append(own, (number, -1), start=self._root)
        for index, answer in enumerate(item.answers):
            if not answer:
                continue
            fed = answer[:-1]
            positions = (last, *range(len(self.tokens), len(self.tokens) + len(fed)))
            self.answers.append(_Answer(number, index, positions, answer))
            self._append(fed, (number, index), start=len(item.prompt))

    def _append(self, tokens: Tokens, owner: tuple[int, int], *, start: int) -> None:
        self.tokens += tokens
        self.owner += [owner] * len(tokens)
        self.place += range(start, start + len(tokens))

    def closed(self) -> _Pass:
        return _Pass(tuple(self.tokens), tuple(self.answers), tuple(self.owner), tuple(self.place))


@final
class PackingProbe:
    """Whether packed passes give what plain ones give; asked of the model once, and again for much longer items."""

    def __init__(self) -> None:
        self._proven = 0
        self._refused = False

    def is_exact(self, model: nn.Module, items: Sequence[ForcedItem]) -> bool:
        """Whether these items may be packed, tried on the two longest of them where nothing is known yet."""
        longest = max(map(_length, items), default=0)
        if self._refused or not items or longest > _reach(model):
            return False
        if longest > PROVEN_FACTOR * self._proven:
            self._refused = not _is_packing_exact(model, items)
            self._proven = longest
        return not self._refused


def _is_packing_exact(model: nn.Module, items: Sequence[ForcedItem]) -> bool:
    longest = sorted(items, key=_length, reverse=True)[:2]
    sample = [replace(item, answers=item.answers[:2]) for item in longest]
    packed = _pack(sample)
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            return all(
                abs(a - b) <= PROBE_TOLERANCE * max(1.0, abs(a))
                for a, b in zip(
                    _logprob_sums(model, _plain(sample), device),
                    _logprob_sums(model, packed, device),
                    strict=True,
                )
            )
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False  # the model has no use for a mask of this shape


def _length(item: ForcedItem) -> int:
    return len(item.prompt) + max(map(len, item.answers), default=0)


def _reach(model: nn.Module) -> float:
    """How many tokens every block can look back on; a mask of our own would let it look back further."""
    config = getattr(model, "config", None)
    text = config.get_text_config() if config is not None else None
    windows = [getattr(text, name, None) for name in WINDOWS]
    return min((window for window in windows if isinstance(window, int) and window > 0), default=math.inf)


def _logprob_sums(model: nn.Module, passes: Sequence[_Pass], device: torch.device) -> Iterator[float]:
    for row in passes:
        positions = [position for answer in row.answers for position in answer.positions]
        targets = torch.tensor([target for answer in row.answers for target in answer.targets], device=device)
        logprobs = _logits_at(model, row, positions, device).float().log_softmax(-1).gather(-1, targets[:, None])
        at = 0
        for answer in row.answers:
            yield float(logprobs[at : at + len(answer.targets)].sum())
            at += len(answer.targets)
