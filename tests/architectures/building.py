"""A tiny random model of every class that the installed transformers can generate text with."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from architectures.beside import BESIDE
from architectures.families import FIXES
from architectures.shrinking import shrink

Kind = Literal["causal", "vision", "seq2seq"]
SPREAD = 0.2  # the least standard deviation of a weight matrix
MAPPINGS: tuple[tuple[Kind, str], ...] = (
    ("vision", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"),
    ("seq2seq", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),
    ("causal", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
)


@dataclass(frozen=True)
class Architecture:
    """A class of models under one of the configs that lead to it; ``kind`` is the mapping that has it."""

    name: str
    config: str
    model_type: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.name}({self.config})"


class NotTextAlone(Exception):  # noqa: N818
    """The model cannot read text without something else; says what."""


def every_architecture() -> tuple[Architecture, ...]:
    """All of them: vision-language, then sequence to sequence, then causal, each in the order of the mapping."""
    found: dict[tuple[str, str], Architecture] = {}
    for kind, mapping in MAPPINGS:
        for model_type, names in getattr(modeling_auto, mapping).items():
            config = CONFIG_MAPPING[model_type].__name__
            for name in (names,) if isinstance(names, str) else names:
                found.setdefault((name, config), Architecture(name, config, model_type, kind))
    return tuple(found.values())


def config_for(architecture: Architecture) -> PreTrainedConfig:
    """The small config, of the type that stands in the mapping."""
    with quietly():
        return shrink(architecture.model_type, fixes=FIXES)


def build(architecture: Architecture, *, seed: int = 0) -> PreTrainedModel:
    """The model in evaluation mode, float32, every weight from ``seed``; what hinders it raises its own error."""
    with quietly():
        model_class = getattr(transformers, architecture.name)
    config = _part_for(model_class, config_for(architecture))
    with torch.random.fork_rng(), quietly(), _uninitialised_memory_shown():
        torch.manual_seed(seed)
        model = model_class(config).float()
        _spread_weights(model)
    return model.eval()


def _part_for(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedConfig:
    """The config itself, or that part of it which the class really takes."""
    if isinstance(config, model_class.config_class):
        return config
    parts = [value for value in vars(config).values() if isinstance(value, model_class.config_class)]
    return parts[0] if parts else config


def inputs_for(
    model: PreTrainedModel, architecture: Architecture, tokens: Tensor, *, beside_text: bool = False
) -> dict[str, Tensor]:
    """What to call the model with so that it reads ``tokens`` (row, token) and returns their logits.

    An encoder, where there is one, reads the same tokens. Some models cannot do with text alone: ``beside_text`` gives
    them noise for the rest.

    Raises:
        NotTextAlone: where text alone will not do and ``beside_text`` is not set, or does not help either.

    """
    beside = BESIDE.get(architecture.name)
    more: dict[str, Tensor] = {}
    if beside is not None:
        if not beside_text or beside.inputs is None:
            raise NotTextAlone(beside.why)
        more = beside.inputs(model, tokens)
    arguments = _arguments(type(model))
    if not model.config.is_encoder_decoder or "decoder_input_ids" not in arguments:
        return {"input_ids": tokens, **more}
    if more.keys() & {"pixel_values", "flattened_patches"}:
        return {"decoder_input_ids": tokens, **more}
    return {"input_ids": tokens, "decoder_input_ids": tokens, **more}


def _arguments(model_class: type[PreTrainedModel]) -> frozenset[str]:
    return frozenset(inspect.signature(model_class.forward).parameters)


@torch.no_grad()
def _spread_weights(model: nn.Module) -> None:
    """Make matrices large and vectors uneven, and fill what nothing has initialised, so that every weight matters."""
    for parameter in model.parameters():
        if not parameter.is_floating_point():
            continue
        if not parameter.isfinite().all() or (parameter.ndim > 1 and parameter.std() == 0):
            parameter.normal_(std=SPREAD)
        elif parameter.ndim > 1 and parameter.std() < SPREAD:
            parameter.mul_(SPREAD / parameter.std())
        else:
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point() and buffer.isnan().any():
            raise ValueError(f"the buffer {name} is left uninitialised")


@contextmanager
def _uninitialised_memory_shown() -> Iterator[None]:
    """Within, memory that nothing has been written to holds NaN."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    deterministic: Any = torch.utils.deterministic
    filling = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        deterministic.fill_uninitialized_memory = filling


@contextmanager
def quietly() -> Iterator[None]:
    """Within, transformers does not comment on the default configs."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
