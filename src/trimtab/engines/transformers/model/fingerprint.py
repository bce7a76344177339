"""Loaded models as others hand them over: compiled, with adapters, quantised, or spread over devices and disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.errors import ModelError


def unwrapped(model: nn.Module) -> PreTrainedModel:
    """The transformers model within ``torch.compile``'s wrapper and peft's.

    Both keep the model's own modules, so that hooks on these act on the wrapped model too, and adapters stay in place.

    Raises:
        ModelError: It is no model of transformers, or its adapter is a soft prompt.
    """
    while (inner := _inner(model)) is not None:
        model = inner
    if not isinstance(model, PreTrainedModel):
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        raise ModelError(f"a {kind} is no model of transformers", fix="give a PreTrainedModel, or its name")
    return model


def _inner(model: nn.Module) -> nn.Module | None:
    compiled = getattr(model, "_orig_mod", None)
    if isinstance(compiled, nn.Module):
        return compiled
    adapters = getattr(model, "peft_config", None)
    if not isinstance(adapters, dict) or isinstance(model, PreTrainedModel):  # those keep adapters in place themselves
        return None
    for name, adapter in adapters.items():
        if getattr(adapter, "is_prompt_learning", False):
            kind = str(getattr(adapter.peft_type, "value", adapter.peft_type))
            raise ModelError(
                f"the adapter {name!r} is a soft prompt ({kind}): it puts in states of its own, which have no tokens",
                fix="steer the model without it, model.get_base_model(), or use an adapter of weights such as LoRA",
            )
    base: nn.Module = model.get_base_model()  # type: ignore[operator]
    return base


def fixed_by(model: PreTrainedModel) -> str | None:
    """What forbids to move or to cast the model: ``"quantised"`` or ``"spread over devices"``; None if nothing does."""
    if is_quantised(model):
        return "quantised"
    spread: dict[str, Any] = getattr(model, "hf_device_map", None) or {}
    if len(set(map(str, spread.values()))) > 1 or any(weight.is_meta for weight in model.parameters()):
        return "spread over devices"
    return None


def is_quantised(model: PreTrainedModel) -> bool:
    """Whether the weights are kept in fewer bits than they compute with."""
    return bool(getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None))


def kept_weight(module: nn.Module, name: str, weight: torch.Tensor) -> torch.Tensor | None:
    """The values of a weight, fetched from where accelerate keeps them if they are not in place; None if nobody does.

    Args:
        module: The module that owns the weight.
        name: The weight's name within the module.
        weight: What stands there now.
    """
    if not weight.is_meta:
        return weight
    hook = getattr(module, "_hf_hook", None)
    for each in getattr(hook, "hooks", (hook,)):  # hooks may be chained
        kept = getattr(each, "weights_map", None)
        if kept is not None:
            try:
                found = kept[name]
            except KeyError:
                continue
            return found if isinstance(found, torch.Tensor) else torch.as_tensor(found)
    return None


SAMPLES = 64
CONFIG_KEYS = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
)


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 over the config's shape and a sample of every matrix (a stack of experts counts as one), in hexadecimal.

    The sample is rounded to bfloat16, so that one model loaded in float32 and in bfloat16 is one model. Where weights
    are kept makes no difference: of one that accelerate keeps in memory or on disk the sample is taken there. A
    quantised model has a fingerprint of its own, over its integers too; its states differ from the whole model's.
    """
    config = model.config.get_text_config().to_dict()
    digest = hashlib.sha256(json.dumps({key: config.get(key) for key in CONFIG_KEYS}, sort_keys=True).encode())
    integers = is_quantised(model)
    for name, module, own, weight in sorted(_matrices(model, integers=integers), key=lambda item: item[0]):
        kept = kept_weight(module, own, weight)
        digest.update(name.encode())
        # Of a weight that nobody has, the shape is all that is known.
        digest.update(_sample(kept) if kept is not None else str(tuple(weight.shape)).encode())
    return digest.hexdigest()


def _matrices(model: PreTrainedModel, *, integers: bool) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Each matrix once: its name, the module that has it, its name there, and what stands there."""
    # Of tied weights the first one counts. Offloaded, they are no longer one object, and only the model knows of it.
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    seen: set[str] = set()
    buffers = model.named_buffers() if integers else ()
    for name, weight in chain(model.named_parameters(), buffers):
        if weight.ndim < 2 or not (integers or weight.is_floating_point()):
            continue
        source = tied.get(name, name)
        if source in seen and weight.is_meta:
            continue
        seen.add(source)
        path, _, own = name.rpartition(".")
        yield name, model.get_submodule(path), own, weight


def _sample(weight: Tensor) -> bytes:
    plain = weight.detach()
    if hasattr(plain, "__tensor_flatten__"):  # quantised in a type of its own, such as torchao's, which knows no slices
        plain = plain.dequantize()
    flat = plain.flatten()
    step = max(1, flat.numel() // SAMPLES)
    sample = flat[::step][:SAMPLES].cpu()
    if sample.is_floating_point():
        sample = sample.to(torch.bfloat16).view(torch.int16)
    return sample.numpy().tobytes()
