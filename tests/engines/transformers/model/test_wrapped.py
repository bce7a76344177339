"""Loaded models as others hand them over: compiled, with adapters, quantised, spread over memory and disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

import trimtab
from tiny_models import BY_NAME, LAYERS, byte_tokenizer
from trimtab.engines.protocol import PersonaContrast
from trimtab.engines.transformers.model.fingerprint import fingerprint, fixed_by, offloaded_weight, unwrapped
from trimtab.errors import ModelError

TIED = {"tie_word_embeddings": True}
BOTH = {"+": 1.0, "-": 1.0}
FREE = {"+": 0.0, "-": 0.0}
PRICED = {"+": 0.5, "-": 0.5}


class Adapted(nn.Module):
    """Stand-in for peft's wrapper."""

    def __init__(self, model: nn.Module, adapter: Any) -> None:
        super().__init__()
        self.base_model = model
        self.peft_config = {"default": adapter}

    def get_base_model(self) -> nn.Module:
        return self.base_model


class LowRank:
    is_prompt_learning = False


class SoftPrompt:
    is_prompt_learning = True
    peft_type = "PROMPT_TUNING"


def on_disk(folder: Path, **changes: Any) -> PreTrainedModel:
    """Return a tiny Llama whose middle blocks are on disk."""
    BY_NAME["llama"].build(**changes).save_pretrained(folder / "model", max_shard_size="30KB")
    places = {f"model.layers.{layer}": "disk" if layer in (1, 2) else "cpu" for layer in range(LAYERS)}
    rest = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "cpu")
    return AutoModelForCausalLM.from_pretrained(
        folder / "model", device_map={**rest, **places}, offload_folder=folder / "offload", dtype=torch.float32
    )


def in_memory(folder: Path, **changes: Any) -> PreTrainedModel:
    """Return a tiny Llama whose weights accelerate stores and loads on use."""
    model = BY_NAME["llama"].build(**changes)
    accelerate.cpu_offload(model, torch.device("cpu"))
    assert next(model.parameters()).is_meta
    return model


SPREADS = pytest.mark.parametrize("spread", [on_disk, in_memory])


def test_compiled_model_is_steered_like_wrapped_model() -> None:
    model = BY_NAME["llama"].build()
    assert trimtab.load(torch.compile(model, backend="eager"), tokenizer=byte_tokenizer()).model is model


def test_adapters_stay_in_place() -> None:
    model = BY_NAME["llama"].build()
    adapted = Adapted(model, LowRank())
    assert unwrapped(adapted) is model
    assert unwrapped(torch.compile(adapted, backend="eager")) is model
    assert trimtab.load(adapted, tokenizer=byte_tokenizer()).model is model


def test_soft_prompt_is_refused_with_a_fix() -> None:
    adapted = Adapted(BY_NAME["llama"].build(), SoftPrompt())
    with pytest.raises(ModelError, match=r"'default' is a soft prompt \(PROMPT_TUNING\).*get_base_model"):
        trimtab.load(adapted, tokenizer=byte_tokenizer())


def test_load_module_outside_transformers_is_refused() -> None:
    with pytest.raises(ModelError, match=r"a torch\.nn\.modules\.linear\.Linear is not a transformers model"):
        trimtab.load(nn.Linear(2, 2), tokenizer=byte_tokenizer())


@SPREADS
@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"device": "cpu"}])
def test_spread_model_is_neither_moved_nor_cast(spread: Any, change: dict[str, str], tmp_path: Path) -> None:
    model = spread(tmp_path)
    assert fixed_by(model) == "spread over devices"
    with pytest.raises(ModelError, match="a model that is spread over devices cannot be moved or cast; load it with"):
        trimtab.load(model, tokenizer=byte_tokenizer(), **change)


def test_quantised_model_is_neither_moved_nor_cast() -> None:
    model = BY_NAME["llama"].build()
    assert fixed_by(model) is None
    model.is_quantized = True
    with pytest.raises(ModelError, match="a model that is quantised cannot be moved or cast"):
        trimtab.load(model, tokenizer=byte_tokenizer(), dtype="bfloat16")
    assert trimtab.load(model, tokenizer=byte_tokenizer(), dtype="auto").model is model


@SPREADS
@pytest.mark.parametrize("changes", [{}, TIED], ids=["untied", "tied"])
def test_fingerprint_is_independent_of_device(spread: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    model = spread(tmp_path, **changes)
    assert any(weight.is_meta for weight in model.parameters())
    assert fingerprint(model) == fingerprint(BY_NAME["llama"].build(**changes))


@SPREADS
def test_spread_model_gives_gradients_first(spread: Any, tmp_path: Path) -> None:
    plain = trimtab.load(BY_NAME["llama"].build(), tokenizer=byte_tokenizer())
    engine = trimtab.load(spread(tmp_path), tokenizer=byte_tokenizer())
    items = [PersonaContrast(plain.encode("Hi"), (5, 6, 7), (8, 9), ((10, 11),))]
    additions = {1: np.full(plain.info.hidden_size, 0.1, dtype=np.float32)}
    expected = plain.gradients.ratio_gradients(items).at(additions, [0], factors=BOTH, prices=FREE)
    wanted = [weight.requires_grad for weight in engine.model.parameters()]
    actual = engine.gradients.ratio_gradients(items).at(additions, [0], factors=BOTH, prices=FREE)
    assert np.allclose(actual.gradient[1], expected.gradient[1], atol=1e-6)
    assert [weight.requires_grad for weight in engine.model.parameters()] == wanted


@SPREADS
def test_offloaded_blocks_reload_and_release_weights(spread: Any, tmp_path: Path) -> None:
    plain = trimtab.load(BY_NAME["llama"].build(), tokenizer=byte_tokenizer())
    engine = trimtab.load(spread(tmp_path), tokenizer=byte_tokenizer())
    forwards = [block.__dict__.get("forward") for block in engine.blocks.modules]
    assert any(forwards) == (spread is on_disk)
    items = [PersonaContrast(plain.encode("Hi"), (5, 6, 7), (8, 9), ((10, 11),))]
    additions = {1: np.full(plain.info.hidden_size, 0.1, dtype=np.float32)}
    expected = plain.gradients.ratio_gradients(items).at(additions, [0], factors=BOTH, prices=PRICED)
    slopes = engine.gradients.ratio_gradients(items)
    slopes._passes._recompute = True
    actual = slopes.at(additions, [0], factors=BOTH, prices=PRICED)
    assert np.allclose(actual.gradient[1], expected.gradient[1], atol=1e-6)
    assert [block.__dict__.get("forward") for block in engine.blocks.modules] == forwards
    assert all(weight.is_meta for weight in engine.blocks.modules[1].parameters())


def test_fingerprint_without_weights_uses_shapes() -> None:
    model = BY_NAME["llama"].build().to("meta")
    assert fingerprint(model) == fingerprint(BY_NAME["llama"].build(seed=1).to("meta"))
    assert fingerprint(model) != fingerprint(BY_NAME["llama"].build())
    assert offloaded_weight(model.lm_head, "weight", model.lm_head.weight) is None


def test_integers_count_in_the_fingerprint_of_a_quantised_model() -> None:
    model = BY_NAME["llama"].build()
    plain = fingerprint(model)
    model.lm_head.register_buffer("packed", torch.arange(64, dtype=torch.int32).reshape(8, 8))
    assert fingerprint(model) == plain
    model.is_quantized = True
    before = fingerprint(model)
    assert before != plain
    model.lm_head.packed += 1
    assert fingerprint(model) != before
