"""Families: the class of transformers that reads a checkpoint, and what is refused instead of read wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSeq2SeqLM, PreTrainedConfig

import trimtab
from tiny_models import BY_NAME, byte_tokenizer
from trimtab.engines.transformers.model.source import auto_class, check_own_code
from trimtab.errors import MissingDependencyError, ModelError

TINY = {"vocab_size": 259, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def config_of(name: str, *architectures: str) -> PreTrainedConfig:
    config = getattr(transformers, name)()
    config.architectures = list(architectures) or None
    return config


@pytest.mark.parametrize(
    ("config", "auto"),
    [
        (config_of("LlamaConfig"), AutoModelForCausalLM),
        (config_of("LlamaConfig", "LLaMAForCausalLM"), AutoModelForCausalLM),
        (config_of("GPT2Config", "GPT2Model"), AutoModelForCausalLM),
        (config_of("BertConfig", "BertLMHeadModel"), AutoModelForCausalLM),
        (config_of("T5Config", "T5ForConditionalGeneration"), AutoModelForSeq2SeqLM),
        (config_of("BartConfig", "BartForConditionalGeneration"), AutoModelForSeq2SeqLM),
        (config_of("BartConfig", "BartForCausalLM"), AutoModelForCausalLM),
        (config_of("BartConfig", "BartModel"), AutoModelForSeq2SeqLM),
        (config_of("LlavaConfig", "LlavaForConditionalGeneration"), AutoModelForImageTextToText),
        (config_of("Qwen2VLConfig"), AutoModelForImageTextToText),
        (config_of("Llama4Config", "Llama4ForConditionalGeneration"), AutoModelForImageTextToText),
    ],
    ids=lambda value: f"{type(value).__name__} {value.architectures}" if isinstance(value, PreTrainedConfig) else "",
)
def test_load_class_named_by_checkpoint_decides(config: PreTrainedConfig, auto: Any) -> None:
    assert auto_class(config, name="x") is auto


def test_gemma_multimodal_is_read_whole() -> None:
    config = config_of("Gemma3Config", "Gemma3ForConditionalGeneration")
    auto = auto_class(config, name="x")
    assert auto._model_mapping[type(config)].__name__ == "Gemma3ForConditionalGeneration"


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (config_of("BertConfig", "BertForMaskedLM"), "BertForMaskedLM"),
        (config_of("RobertaConfig", "RobertaForSequenceClassification"), "RobertaForSequenceClassification"),
        (config_of("ViTConfig", "ViTForImageClassification"), "ViTForImageClassification"),
        (config_of("ViTConfig"), "model of type vit"),
        (config_of("WhisperConfig", "WhisperForAudioClassification"), "WhisperForAudioClassification"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_load_non_generating_model_is_refused(config: PreTrainedConfig, what: str) -> None:
    with pytest.raises(
        ModelError, match=f"'x' is a {what}, which does not generate text; give a causal, an image-text"
    ):
        auto_class(config, name="x")


def saved(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_load_masked_language_model_is_refused(tmp_path: Path) -> None:
    config = transformers.BertConfig(**TINY)
    with pytest.raises(ModelError, match="is a BertForMaskedLM, which does not generate text"):
        trimtab.load(saved(transformers.BertForMaskedLM(config), tmp_path))


@pytest.mark.parametrize("kind", ["LlamaForSequenceClassification", "LlamaModel"])
def test_load_model_without_head_is_refused(tmp_path: Path, kind: str) -> None:
    config = transformers.LlamaConfig(**TINY)
    with pytest.raises(ModelError, match=r"not generate text|lacks 1 weights of the model, such as 'lm_head\.weight'"):
        trimtab.load(saved(getattr(transformers, kind)(config), tmp_path))


def test_load_tied_head_without_head_weights_is_complete(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(**TINY, tie_word_embeddings=True)
    engine = trimtab.load(saved(transformers.LlamaModel(config), tmp_path))
    assert engine.info.architecture == "LlamaForCausalLM"


def test_load_sharded_checkpoint_is_complete(tmp_path: Path) -> None:
    model = BY_NAME["llama"].build()
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    byte_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    loaded = trimtab.load(tmp_path).model.state_dict()
    assert all(torch.equal(loaded[name], weight) for name, weight in model.state_dict().items())


def test_load_custom_code_is_refused_and_never_run(tmp_path: Path) -> None:
    saved(BY_NAME["llama"].build(), tmp_path)
    edit_config(tmp_path, model_type="mine", auto_map={"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"})
    (tmp_path / "code.py").write_text("raise SystemExit('ran')")
    with pytest.raises(
        ModelError,
        match=r"the type 'mine'.*which trimtab never runs; if you trust it, load it",
    ):
        trimtab.load(tmp_path)


def test_load_known_type_ignores_custom_code(tmp_path: Path) -> None:
    saved(BY_NAME["llama"].build(), tmp_path)
    edit_config(tmp_path, auto_map={"AutoModelForCausalLM": "code.M"})
    (tmp_path / "code.py").write_text("raise SystemExit('ran')")
    check_own_code(str(tmp_path))
    assert trimtab.load(tmp_path).info.architecture == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("quantisation", "install"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "optimum gptqmodel"),
        ({"quant_method": "awq", "bits": 4}, "gptqmodel"),
    ],
    ids=["bitsandbytes", "gptq", "awq"],
)
def test_load_quantised_without_reader_names_install(
    tmp_path: Path, quantisation: dict[str, Any], install: str
) -> None:
    saved(BY_NAME["llama"].build(), tmp_path)
    edit_config(tmp_path, quantization_config=quantisation)
    with pytest.raises(MissingDependencyError, match=f"is quantised by.*; run: pip install {install}$"):
        trimtab.load(tmp_path)
