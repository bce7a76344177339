"""Loaded models as others hand them over: compiled, with adapters, quantised, or spread over devices and disk."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
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
