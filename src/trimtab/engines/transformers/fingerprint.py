"""Tell models apart by what they are, not by what they are called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from trimtab.engines.transformers.wrapped import is_quantised, kept_weight

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
