"""Generate with transformers' own loop, steered, one answer per prompt, reproducibly."""

from __future__ import annotations

import hashlib
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper
from transformers.generation.streamers import BaseStreamer

from trimtab.arrays import F32
from trimtab.defaults import ANSWER_TOKENS
from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.prefix_tree import Cost, PrefixTreePlan, build_tree
from trimtab.engines.protocol import Tokens
from trimtab.engines.transformers.forward.run import Pass, PrefixSharingCheck, encoder_inputs, place, rows_of, run_plan
from trimtab.engines.transformers.forward.steer import SteeringCounters, SteeringHooks
from trimtab.engines.transformers.forward.step_plan import StepPlan
from trimtab.engines.transformers.score.logits import log_normalizers
from trimtab.errors import ModelError, PromptError


@dataclass(frozen=True)
class Sampling:
    """Options of choosing the next token.

    Attributes:
        max_new_tokens: Upper bound on the answer's length.
        temperature: 0 is greedy.
        top_p: Sample from the smallest set of tokens with this much probability.
        seed: Makes sampling reproducible; None draws a new seed each time.
        use_cache: Keep keys and values between steps; off, every step reads everything again.
    """

    max_new_tokens: int = ANSWER_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    use_cache: bool = True

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise PromptError(f"max_new_tokens is {self.max_new_tokens}", fix="ask for at least 1")
        if not 0.0 <= self.temperature < float("inf"):
            raise PromptError(f"temperature is {self.temperature}", fix="give a number of at least 0")
        if not 0.0 < self.top_p <= 1.0:
            raise PromptError(f"top_p is {self.top_p}", fix="give a number above 0 and up to 1")


@dataclass(frozen=True)
class Generated:
    """An answer's tokens and, where it was greedy, their summed log-probability in nats."""

    tokens: Tokens
    logprob: float | None


def generate_tokens(
    model: PreTrainedModel,
    prompts: Sequence[Tokens],
    sampling: Sampling,
    *,
    stop: Sequence[int],
    pad: int,
    repeats: Sequence[int],
    start: Tokens | None = None,
    on_token: Callable[[int], None] | None = None,
    on_step: Callable[[], None] | None = None,
    ended: Callable[[], bool] | None = None,
    prefilled: DynamicCache | None = None,
) -> list[Generated]:
    """Continue every prompt; each answer ends with a stop token or at ``max_new_tokens``.

    ``start`` is with what the decoder of an encoder-decoder model begins; its encoder reads the prompts.
    ``prefilled`` has the keys and values of the prompts' first tokens, where those were read before. ``on_step`` is
    called after each pass, before a token is chosen; ``ended`` says whether to stop where the answers are.

    Nothing of the model's own generation config applies, no penalty and no forbidden token. A row's sampling noise
    depends on the seed, its prompt and ``repeats``, how often that prompt came before, not on its neighbours: noise
    that all rows shared would make answers to different prompts lean to the same tokens.
    """
    inputs = _inputs(prompts, pad=pad, device=place(model)[0], encoder=start is not None)
    ran = _Ran(on_step)
    processors = LogitsProcessorList([ran])
    best = _BestLogprobs() if sampling.temperature == 0 else None
    if best:
        processors.append(best)
    if sampling.temperature > 0:
        processors.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_p < 1.0:
            processors.append(TopPLogitsWarper(sampling.top_p))
        processors.append(_GumbelNoise(prompts, repeats, sampling.seed))
    with torch.inference_mode(), eagerly():
        output = _with_blank_config(model).generate(
            **inputs,
            generation_config=_greedy(sampling, stop=stop, pad=pad, start=start),
            logits_processor=processors,
            streamer=_Streamer(on_token, stop) if on_token else None,
            stopping_criteria=StoppingCriteriaList([_Ended(ended)]) if ended else None,
            past_key_values=prefilled,
        )
    if not ran.steps:
        raise ModelError(
            f"generate() of {type(model).__name__} chooses by itself: it takes no notice of temperature and seed",
            fix="use model.generate of transformers inside engine.steered(), and its own settings",
        )
    begun = inputs["input_ids"].shape[1] if start is None else len(start)
    answers = [_up_to_stop(row, stop) for row in output[:, begun:].tolist()]
    return [Generated(answer, best.total(n, len(answer)) if best else None) for n, answer in enumerate(answers)]


def prepares_plainly(model: PreTrainedModel) -> bool:
    """Return True if a model's ``generate`` passes it the usual inputs, so that it computes what a plain pass does."""
    own = type(model).prepare_inputs_for_generation
    return own is GenerationMixin.prepare_inputs_for_generation


def keeps_keys_and_values(model: PreTrainedModel) -> bool:
    """Return True if a model remembers a text by keys and values of its tokens alone, so that a cache can be cut."""
    kinds = {type(layer) for layer in DynamicCache(config=model.config.get_text_config(decoder=True)).layers}
    return kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


def count_repeats(prompts: Sequence[Tokens]) -> list[int]:
    """Return how often each prompt came before in the list."""
    seen: Counter[Tokens] = Counter()
    repeats = []
    for prompt in prompts:
        repeats.append(seen[prompt])
        seen[prompt] += 1
    return repeats


def _with_blank_config(model: PreTrainedModel) -> PreTrainedModel:
    """Return a view of the model (same modules, same hooks) whose own generation config is blank.

    ``generate`` fills whatever a given config leaves open from ``model.generation_config``. Setting that one aside on
    the model itself would show in other threads.
    """
    view = object.__new__(type(model))
    view.__dict__ = {**model.__dict__, "generation_config": GenerationConfig()}
    return view


def _inputs(prompts: Sequence[Tokens], *, pad: int, device: torch.device, encoder: bool) -> dict[str, Tensor]:
    """The prompts as the model takes them: padded on the left, on the right for an encoder."""
    if encoder:
        return encoder_inputs(prompts, pad=pad, device=device)
    width = max(map(len, prompts))
    ids = torch.tensor([(pad,) * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    pads = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
    mask = (torch.arange(width, device=device)[None] >= pads[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask}


def _greedy(sampling: Sampling, *, stop: Sequence[int], pad: int, start: Tokens | None) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=sampling.use_cache,
        eos_token_id=list(stop) or None,
        pad_token_id=pad,
        decoder_start_token_id=start[0] if start is not None else None,
    )


def _up_to_stop(tokens: Sequence[int], stop: Sequence[int]) -> Tokens:
    for at, token in enumerate(tokens):
        if token in stop:
            return tuple(tokens[: at + 1])
    return tuple(tokens)


@final
class _BestLogprobs(LogitsProcessor):  # type: ignore[misc]
    """Notes the log-probability of every step's likeliest token, and changes nothing."""

    def __init__(self) -> None:
        self._steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        logits = scores.float()
        self._steps.append(logits.amax(-1) - log_normalizers(logits))
        return scores

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        """``[row, step]``, once all steps are done."""
        table: NDArray[np.float64] = torch.stack(self._steps, dim=1).double().cpu().numpy()
        return table

    def total(self, row: int, steps: int) -> float:
        """Summed over a row's first steps."""
        return float(self._table[row, :steps].sum())


@final
class _Ran(LogitsProcessor):  # type: ignore[misc]
    """Sees whether a model's own ``generate`` asks for what it was given, and tells of every step."""

    def __init__(self, on_step: Callable[[], None] | None) -> None:
        self.steps = 0
        self._on_step = on_step

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps += 1
        if self._on_step is not None:
            self._on_step()
        return scores


@final
class _Ended(StoppingCriteria):  # type: ignore[misc]
    """Stops all rows once nobody waits for them any more."""

    def __init__(self, ended: Callable[[], bool]) -> None:
        self._ended = ended

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        return torch.full((len(input_ids),), self._ended(), device=input_ids.device)


@final
class _GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Turns the greedy choice into a sample: the largest of logits plus Gumbel noise is distributed as the softmax."""

    def __init__(self, prompts: Sequence[Tokens], repeats: Sequence[int], seed: int | None) -> None:
        self._generators = [
            np.random.Generator(np.random.SFC64(None if seed is None else _seed_of(seed, prompt, repeat)))
            for prompt, repeat in zip(prompts, repeats, strict=True)
        ]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        exponential = np.empty(scores.shape)  # four times as fast as torch; in 32 bits some would be 0
        for generator, row in zip(self._generators, exponential, strict=True):
            generator.standard_exponential(out=row)
        return scores.float() - torch.from_numpy(exponential).float().log().to(scores.device)


def _seed_of(seed: int, prompt: Tokens, repeat: int) -> int:
    told = repr((operator.index(seed), repeat, *prompt)).encode()
    return int.from_bytes(hashlib.blake2b(told, digest_size=16).digest(), "little")


@final
class _Streamer(BaseStreamer):  # type: ignore[misc]
    """Hands every token of the first row on, the stop token included; neither the prompt nor what pads the row."""

    def __init__(self, on_token: Callable[[int], None], stop: Sequence[int]) -> None:
        self._on_token = on_token
        self._stop = stop
        self._prompt_seen = False
        self._stopped = False

    def put(self, value: Any) -> None:
        if self._prompt_seen and not self._stopped:
            token = int(value.reshape(-1)[0])
            self._on_token(token)
            self._stopped = token in self._stop
        self._prompt_seen = True

    def end(self) -> None:
        pass


Key = TypeVar("Key")


@dataclass(frozen=True)
class Prefilled:
    """Keys and values of prompts read before decoding: all of each but its last token.

    Attributes:
        cache: Keys and values, ``[row, head, token, size]``, padded on the left.
        lengths: Norms of the states that were steered, by layer, ``[row, token]``, padded alike.
        moves: Norms of what was changed, by step and layer.
    """

    cache: DynamicCache
    lengths: dict[int, F32] = field(default_factory=dict)
    moves: dict[tuple[int, int], F32] = field(default_factory=dict)

    def renumbered(self, part: StepPlan, whole: StepPlan, numbers: Sequence[int]) -> Prefilled:
        """The same with the steps of ``whole``, of which ``part`` is the plan that has these term rows."""
        step_of = {number: n for n, step in enumerate(whole.steps) for number in step.numbers}
        moves = {(step_of[numbers[part.steps[n].numbers[0]]], layer): norms for (n, layer), norms in self.moves.items()}
        return replace(self, moves=moves)


def shared_prefill(
    model: PreTrainedModel,
    blocks: DecoderLayers,
    prompts: Sequence[Tokens],
    *,
    cost: Cost,
    proof: PrefixSharingCheck,
    hooks: SteeringHooks,
) -> Prefilled | None:
    """Read every prompt but for its last token.

    Hooks that steer are at work here as in any other pass. None where reading prompt by prompt is as cheap, or where
    the model does not allow prefix-tree passes.
    """
    if len(prompts) < 2 or min(map(len, prompts)) < 2:
        return None
    tree = build_tree([prompt[:-1] for prompt in prompts])
    padded = len(prompts) * max(map(len, prompts))
    if len(tree) + cost.launch > padded or not isinstance(plan := proof.plan(tree, cost), PrefixTreePlan):
        return None
    parts: list[list[tuple[Tensor, Tensor]]] = []

    def read(row: Pass) -> None:
        with torch.inference_mode(), eagerly():
            blocks.body(**row.inputs)
        new = row.nodes.shape[1]
        parts.append([_last(layer, new) for layer in row.inputs["past_key_values"].layers])

    counters = SteeringCounters()
    with hooks.writing(counters):
        for _ in run_plan(tree, plan, read, model=model, keep_cache=True, on_halved=lambda _: None):
            pass
    nodes = rows_of(tree, tree.ends)
    shift = nodes.shape[1] - 1 - tree.depth[tree.ends]
    columns = np.arange(nodes.shape[1])[None] - shift[:, None]
    where = np.maximum(np.take_along_axis(nodes, np.maximum(columns, 0), axis=1), 0)  # the mask hides what pads
    lengths, moves = counters.flat() if hooks.layers else ({}, {})
    cache = DynamicCache(
        ddp_cache_data=[
            (_rows_first([keys for keys, _ in layer], where), _rows_first([values for _, values in layer], where))
            for layer in zip(*parts, strict=True)
        ]
    )
    return Prefilled(
        cache,
        {layer: norms[where] for layer, norms in lengths.items()},
        {key: norms[where] for key, norms in moves.items()},
    )


def join_prefilled(parts: Sequence[Prefilled], rows: Sequence[Sequence[int]]) -> Prefilled:
    """One of several, row ``i`` of ``parts[n]`` at ``rows[n][i]``; shorter ones are padded on the left."""
    cache = join_rows([part.cache for part in parts], rows)
    columns = int(cache.get_seq_length())
    return Prefilled(
        cache,
        _joined_norms([part.lengths for part in parts], rows, columns),
        _joined_norms([part.moves for part in parts], rows, columns),
    )


def _joined_norms(parts: Sequence[dict[Key, F32]], rows: Sequence[Sequence[int]], columns: int) -> dict[Key, F32]:
    joined: dict[Key, F32] = {}
    for tables, own in zip(parts, rows, strict=True):
        for key, norms in tables.items():
            whole = joined.setdefault(key, np.full((sum(map(len, rows)), columns), np.nan, dtype=np.float32))
            whole[list(own), columns - norms.shape[1] :] = norms
    return joined


def join_rows(caches: Sequence[DynamicCache], rows: Sequence[Sequence[int]]) -> DynamicCache:
    """One cache of several, row ``i`` of ``caches[n]`` at ``rows[n][i]``; shorter ones are padded on the left."""
    if len(caches) == 1:
        return caches[0]
    width = max(cache.get_seq_length() for cache in caches)
    order = np.argsort(np.concatenate([np.asarray(part) for part in rows]))

    def joined(parts: Sequence[Tensor]) -> Tensor:
        padded = [nn.functional.pad(part, (0, 0, width - part.shape[-2], 0)) for part in parts]
        return torch.cat(padded)[torch.from_numpy(order).to(padded[0].device)]

    return DynamicCache(
        ddp_cache_data=[
            (joined([layer.keys for layer in layers]), joined([layer.values for layer in layers]))
            for layers in zip(*(cache.layers for cache in caches), strict=True)
        ]
    )


def _last(layer: Any, count: int) -> tuple[Tensor, Tensor]:
    """Keys and values of a pass's own tokens, ``[head, token, size]``."""
    return layer.keys[0, :, -count:], layer.values[0, :, -count:]


def _rows_first(parts: Sequence[Tensor], where: Any) -> Tensor:
    """``[row, head, token, size]`` from all nodes' ``[head, node, size]`` in pieces."""
    nodes = torch.cat(list(parts), dim=1)
    return nodes[:, torch.from_numpy(where).to(nodes.device)].transpose(0, 1).contiguous()
