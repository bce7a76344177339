"""Tell models apart by what they are, not by what they are called."""

from __future__ import annotations

import hashlib
import json

import torch
from transformers import PreTrainedModel

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

    The sample is rounded to bfloat16, so that one model loaded in float32 and in bfloat16 is one model.
    """
    config = model.config.get_text_config().to_dict()
    digest = hashlib.sha256(json.dumps({key: config.get(key) for key in CONFIG_KEYS}, sort_keys=True).encode())
    for name, weight in sorted(model.named_parameters(), key=lambda item: item[0]):
        if weight.ndim < 2 or not weight.is_floating_point():
            continue
        flat = weight.detach().flatten()
        step = max(1, flat.numel() // SAMPLES)
        sample = flat[::step][:SAMPLES].to(device="cpu", dtype=torch.bfloat16)
        digest.update(name.encode())
        digest.update(sample.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()
