"""Generate with transformers' own loop, steered, one answer per prompt, reproducibly."""

from __future__ import annotations

import hashlib
import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

from trimtab.defaults import ANSWER_TOKENS
from trimtab.engines.layers import DecoderLayers, eagerly
from trimtab.engines.prefix_tree import Cost, PrefixTreePlan, build_tree
from trimtab.engines.protocol import Tokens
from trimtab.engines.transformers.forward.run import Pass, PrefixSharingCheck, encoder_inputs, place, rows_of, run_plan
from trimtab.engines.transformers.forward.steer import SteeringCounters, SteeringHooks
from trimtab.engines.transformers.score.logits import log_normalizers
from trimtab.errors import ModelError, PromptError


@dataclass(frozen=True)
class Sampling:
    """Options of choosing the next token."""

    max_new_tokens: int = ANSWER_TOKENS  # upper bound on the answer's length
    temperature: float = 0.0  # 0 is greedy
    top_p: float = 1.0  # sample from the smallest set of tokens with this much probability
    seed: int | None = None  # makes sampling reproducible; None draws a new seed each time
    use_cache: bool = True  # keep keys and values between steps; off, every step reads everything again

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise PromptError(f"max_new_tokens is {self.max_new_tokens}", fix="ask for at least 1")
        if not 0.0 <= self.temperature < float("inf"):
            raise PromptError(f"temperature is {self.temperature}", fix="give a number of at least 0")
        if not 0.0 < self.top_p <= 1.0:
            raise PromptError(f"top_p is {self.top_p}", fix="give a number above 0 and up to 1")


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
) -> list[tuple[Tokens, float | None]]:
    """Continue every prompt; each answer ends with a stop token or at ``max_new_tokens``.

    The model's generation config is ignored, with its penalties and forbidden tokens. A row's sampling noise depends on
    the seed, its prompt and ``repeats``, not on its neighbours: noise that all rows shared would make answers to
    different prompts lean to the same tokens.

    Args:
        model: The model.
        prompts: Token ids; read by the encoder of an encoder-decoder model.
        sampling: How tokens are chosen.
        stop: Tokens that end an answer.
        pad: Token that pads rows.
        repeats: How often each prompt came before.
        start: Start tokens of a decoder beside an encoder.
        on_token: Called with each token of the first row.
        on_step: Called after each pass, before a token is chosen.
        ended: Returns True to break the answers off.
        prefilled: Keys and values of the prompts' first tokens.

    Returns:
        The tokens of each answer and, where it was greedy, the sum of their log-probabilities in nats.

    Raises:
        ModelError: The model's ``generate`` ignores the options, or its logits are not numbers.
    """
    inputs = _inputs(prompts, pad=pad, device=place(model)[0], encoder=start is not None)
    steps = _Steps(on_step, best=sampling.temperature == 0)
    processors = LogitsProcessorList([steps])
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
    if not steps.count:
        raise ModelError(
            f"generate() of {type(model).__name__} chooses tokens without regard to temperature and seed",
            fix="use model.generate of transformers inside engine.steered(), and its own settings",
        )
    if steps.broken:
        raise ModelError(
            f"logits of {type(model).__name__} are not numbers",
            fix="check its weights, load it with dtype='float32', or steer it less",
        )
    begun = inputs["input_ids"].shape[1] if start is None else len(start)
    answers = [_up_to_stop(row, stop) for row in output[:, begun:].tolist()]
    return [(answer, steps.best_logprob(n, len(answer))) for n, answer in enumerate(answers)]


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
    """Return the prompts as model inputs: padded on the left, for an encoder on the right."""
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
class _Steps(LogitsProcessor):  # type: ignore[misc]
    """Counts the steps and reports each; if ``best``, also notes the log-probability of its likeliest token."""

    def __init__(self, on_step: Callable[[], None] | None, *, best: bool) -> None:
        self.count = 0
        self._on_step = on_step
        self._best: list[Tensor] | None = [] if best else None
        self._broken: Tensor | None = None  # read once at the end, so that no step waits for a copy from the device

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.count += 1
        if self._on_step is not None:
            self._on_step()
        broken = scores.isnan().any()
        self._broken = broken if self._broken is None else self._broken | broken
        if self._best is not None:
            logits = scores.float()
            self._best.append(logits.amax(-1) - log_normalizers(logits))
        return scores

    @property
    def broken(self) -> bool:
        """Return True if a logit was not a number."""
        return self._broken is not None and bool(self._broken)

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        """Return ``[row, step]``; called once all steps are done."""
        table: NDArray[np.float64] = torch.stack(self._best or [], dim=1).double().cpu().numpy()
        return table

    def best_logprob(self, row: int, count: int) -> float | None:
        """Return the sum over a row's first steps, in nats."""
        return None if self._best is None else float(self._table[row, :count].sum())


@final
class _Ended(StoppingCriteria):  # type: ignore[misc]
    """Stops all rows once ``ended`` returns True."""

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
    content = repr((operator.index(seed), repeat, *prompt)).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little")


@final
class _Streamer(BaseStreamer):  # type: ignore[misc]
    """Passes on every token of the first row, with the stop token, without prompt and padding."""

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


Norms = TypeVar("Norms", int, tuple[int, int])


def shared_prefill(
    model: PreTrainedModel,
    blocks: DecoderLayers,
    prompts: Sequence[Tokens],
    *,
    cost: Cost,
    proof: PrefixSharingCheck,
    hooks: SteeringHooks,
) -> tuple[DynamicCache, SteeringCounters] | None:
    """Read all tokens of every prompt but its last, steered by ``hooks``, as one prefix tree.

    Returns:
        Keys and values ``[row, head, token, size]`` and steering counters ``[row, token]``, both padded on the left.
        None where reading prompt by prompt is as cheap, or where prefix-tree passes are not exact on the model.
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

    with hooks.following() as passes:
        for _ in run_plan(tree, plan, read, model=model, keep_cache=True, on_halved=lambda _: None):
            pass
    nodes = rows_of(tree, tree.ends)
    shift = nodes.shape[1] - 1 - tree.depth[tree.ends]
    columns = np.arange(nodes.shape[1])[None] - shift[:, None]
    where = np.maximum(np.take_along_axis(nodes, np.maximum(columns, 0), axis=1), 0)  # the mask hides what pads
    cache = DynamicCache(
        ddp_cache_data=[
            (_rows_first([keys for keys, _ in layer], where), _rows_first([values for _, values in layer], where))
            for layer in zip(*parts, strict=True)
        ]
    )
    at = torch.from_numpy(where)
    counters = SteeringCounters()
    for layer in {layer for part in passes for layer in part.lengths}:
        counters.lengths[layer] = torch.cat([part.lengths[layer][0] for part in passes]).cpu()[at]
    for key in {key for part in passes for key in part.moves}:
        moves = [part.moves[key] if key in part.moves else torch.zeros_like(part.lengths[key[1]]) for part in passes]
        counters.moves[key] = torch.cat([norms[0] for norms in moves]).cpu()[at]
    return cache, counters


def join_prefilled(
    parts: Sequence[tuple[DynamicCache, SteeringCounters]], rows: Sequence[Sequence[int]]
) -> tuple[DynamicCache, SteeringCounters]:
    """Join prefilled prompts, row ``i`` of ``parts[n]`` at ``rows[n][i]``; shorter ones are padded on the left."""
    caches, counters = zip(*parts, strict=True)
    width = max(cache.get_seq_length() for cache in caches)
    order = np.argsort(np.concatenate([np.asarray(part) for part in rows]))

    def joined(tables: Sequence[Tensor]) -> Tensor:
        padded = [nn.functional.pad(table, (0, 0, width - table.shape[-2], 0)) for table in tables]
        return torch.cat(padded)[torch.from_numpy(order).to(padded[0].device)]

    def joined_norms(tables: Sequence[Mapping[Norms, Tensor]]) -> dict[Norms, Tensor]:
        result: dict[Norms, Tensor] = {}
        for at, by_key in zip(rows, tables, strict=True):
            for key, norms in by_key.items():
                whole = result.setdefault(key, torch.full((len(order), width), torch.nan))
                whole[list(at), width - norms.shape[1] :] = norms.float()
        return result

    cache = caches[0]
    if len(caches) > 1:
        cache = DynamicCache(
            ddp_cache_data=[
                (joined([layer.keys for layer in layers]), joined([layer.values for layer in layers]))
                for layers in zip(*(cache.layers for cache in caches), strict=True)
            ]
        )
    return cache, SteeringCounters(
        0, joined_norms([part.lengths for part in counters]), joined_norms([part.moves for part in counters])
    )


def _last(layer: Any, count: int) -> tuple[Tensor, Tensor]:
    """Return keys and values of the last tokens, ``[head, token, size]``."""
    return layer.keys[0, :, -count:], layer.values[0, :, -count:]


def _rows_first(parts: Sequence[Tensor], where: Any) -> Tensor:
    """Return ``[row, head, token, size]`` from all nodes' ``[head, node, size]`` in pieces."""
    nodes = torch.cat(list(parts), dim=1)
    return nodes[:, torch.from_numpy(where).to(nodes.device)].transpose(0, 1).contiguous()
