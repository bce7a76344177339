"""Identify loaded models by their weights, also if compiled, with adapters, quantised, or offloaded."""

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
    """Return the transformers model within the wrappers of ``torch.compile`` and peft.

    Both wrappers keep the model's modules, so hooks on these also act on the wrapped model, and adapters stay active.

    Raises:
        ModelError: It is not a transformers model, or its adapter is a soft prompt.
    """
    while (inner := _inner(model)) is not None:
        model = inner
    if not isinstance(model, PreTrainedModel):
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        raise ModelError(f"a {kind} is not a transformers model", fix="pass a PreTrainedModel, or its name")
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
                f"the adapter {name!r} is a soft prompt ({kind}), which adds hidden states that belong to no token",
                fix="pass model.get_base_model() to steer without it, or use a weight adapter such as LoRA",
            )
    base: nn.Module = model.get_base_model()  # type: ignore[operator]
    return base


def fixed_by(model: PreTrainedModel) -> str | None:
    """Return why the model cannot be moved or cast: ``"quantised"``, ``"spread over devices"``, or None if it can."""
    if is_quantised(model):
        return "quantised"
    spread: dict[str, Any] = getattr(model, "hf_device_map", None) or {}
    if len(set(map(str, spread.values()))) > 1 or any(weight.is_meta for weight in model.parameters()):
        return "spread over devices"
    return None


def is_quantised(model: PreTrainedModel) -> bool:
    """Return True if the weights are stored in fewer bits than they are computed with."""
    return bool(getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None))


def offloaded_weight(module: nn.Module, name: str, weight: torch.Tensor) -> torch.Tensor | None:
    """Return a weight's values, from accelerate's store if they are offloaded; None if no store has them.

    Args:
        module: The module that owns the weight.
        name: The weight's name within the module.
        weight: The parameter as it is in the module, perhaps without values (a meta tensor).
    """
    if not weight.is_meta:
        return weight
    hook = getattr(module, "_hf_hook", None)
    for each in getattr(hook, "hooks", (hook,)):  # hooks may be chained
        store = getattr(each, "weights_map", None)
        if store is not None:
            try:
                values = store[name]
            except KeyError:
                continue
            return values if isinstance(values, torch.Tensor) else torch.as_tensor(values)
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
    """Return the hexadecimal SHA-256 of the config's shape and a sample of every matrix (a stack of experts is one).

    The sample is rounded to bfloat16, so a model has the same fingerprint in float32 and in bfloat16. Offloaded weights
    are sampled from accelerate's store. A quantised model has a different fingerprint, which covers its integers too,
    because its hidden states differ from those of the full-precision model.
    """
    config = model.config.get_text_config().to_dict()
    digest = hashlib.sha256(json.dumps({key: config.get(key) for key in CONFIG_KEYS}, sort_keys=True).encode())
    integers = is_quantised(model)
    for name, module, key, weight in sorted(_matrices(model, integers=integers), key=lambda item: item[0]):
        values = offloaded_weight(module, key, weight)
        digest.update(name.encode())
        # Only the shape is known of a weight that no store has.
        digest.update(_sample(values) if values is not None else str(tuple(weight.shape)).encode())
    return digest.hexdigest()


def _matrices(model: PreTrainedModel, *, integers: bool) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Yield each matrix once: its full name, its module, its name within the module, and the parameter."""
    # Tied weights count once, at the first name. Offloaded, they are separate objects: ask the model which are tied.
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
        path, _, key = name.rpartition(".")
        yield name, model.get_submodule(path), key, weight


def _sample(weight: Tensor) -> bytes:
    plain = weight.detach()
    if hasattr(plain, "__tensor_flatten__"):  # a quantised tensor type, such as torchao's, which cannot be sliced
        plain = plain.dequantize()
    flat = plain.flatten()
    step = max(1, flat.numel() // SAMPLES)
    sample = flat[::step][:SAMPLES].cpu()
    if sample.is_floating_point():
        sample = sample.to(torch.bfloat16).view(torch.int16)
    return sample.numpy().tobytes()
