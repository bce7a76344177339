"""Generate with transformers' own loop, steered, one answer per prompt, reproducibly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel
from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper
from transformers.generation.streamers import BaseStreamer

from trimtab.engines.base import Tokens
from trimtab.engines.transformers.hooks import SteeringHooks
from trimtab.errors import PromptError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_new_tokens: Upper bound on the answer's length.
        temperature: 0 is greedy.
        top_p: Sample from the smallest set of tokens with this much probability.
        seed: Makes sampling reproducible; None draws anew.
        use_cache: Keep keys and values between steps; off, every step reads everything again.
    """

    max_new_tokens: int = 128
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


def generate_tokens(
    model: PreTrainedModel,
    prompts: Sequence[Tokens],
    sampling: Sampling,
    *,
    hooks: Sequence[SteeringHooks],
    stop: Sequence[int],
    pad: int,
    on_token: Callable[[int], None] | None = None,
) -> list[Tokens]:
    """Continue every prompt; each answer ends with a stop token or at ``max_new_tokens``.

    No penalty of any kind applies, whatever the model's own generation config says. A row's sampling noise depends on
    the seed and on how often its prompt came before in the batch, not on its neighbours.
    """
    width = max(map(len, prompts))
    ids = torch.tensor([(pad,) * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    pads = torch.tensor([width - len(prompt) for prompt in prompts], device=model.device)
    mask = (torch.arange(width, device=model.device)[None] >= pads[:, None]).long()
    processors = LogitsProcessorList()
    if sampling.temperature > 0:
        processors.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_p < 1.0:
            processors.append(TopPLogitsWarper(sampling.top_p))
        processors.append(_GumbelNoise(prompts, sampling.seed))
    for hook in hooks:
        hook.skip_padding(pads)
    try:
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=_greedy(sampling, stop=stop, pad=pad),
                logits_processor=processors,
                streamer=_Streamer(on_token) if on_token else None,
            )
    finally:
        for hook in hooks:
            hook.skip_padding(None)
    return [_up_to_stop(row, stop) for row in output[:, width:].tolist()]


def _greedy(sampling: Sampling, *, stop: Sequence[int], pad: int) -> GenerationConfig:
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        min_new_tokens=0,
        do_sample=False,
        num_beams=1,
        use_cache=sampling.use_cache,
        repetition_penalty=1.0,
        encoder_repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        renormalize_logits=False,
        eos_token_id=list(stop) or None,
        pad_token_id=pad,
        return_dict_in_generate=False,
    )


def _up_to_stop(tokens: Sequence[int], stop: Sequence[int]) -> Tokens:
    for at, token in enumerate(tokens):
        if token in stop:
            return tuple(tokens[: at + 1])
    return tuple(tokens)


@final
class _GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Turns the greedy choice into a sample: the largest of logits plus Gumbel noise is distributed as the softmax."""

    def __init__(self, prompts: Sequence[Tokens], seed: int | None) -> None:
        earlier: dict[Tokens, int] = {}
        self._generators = []
        for prompt in prompts:
            generator = torch.Generator()
            if seed is None:
                generator.seed()
            else:
                generator.manual_seed(seed + 1_000_003 * earlier.get(prompt, 0))
            earlier[prompt] = earlier.get(prompt, 0) + 1
            self._generators.append(generator)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniform = torch.stack([torch.rand(scores.shape[-1], generator=g) for g in self._generators])
        tiny = torch.finfo(torch.float32).tiny
        noise = -torch.log(-torch.log(uniform.clamp(min=tiny)).clamp(min=tiny))
        return scores.float() + noise.to(scores.device)


@final
class _Streamer(BaseStreamer):  # type: ignore[misc]
    """Hands every generated token of the first row on; the prompt comes first and is not."""

    def __init__(self, on_token: Callable[[int], None]) -> None:
        self._on_token = on_token
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        if self._prompt_seen:
            self._on_token(int(value.reshape(-1)[0]))
        self._prompt_seen = True

    def end(self) -> None:
        pass
