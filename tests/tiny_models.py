"""Tiny models of several families with random weights, a tokenizer of bytes, and random vectors for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from trimtab.engines.transformers import TransformersEngine
from trimtab.vectors import BehaviourRef, ControlVector

LAYERS = 4
HIDDEN = 32
WINDOW = 12  # of the families with a sliding window
CONTEXT = 256
SPECIAL = ("<bos>", "<eos>", "<pad>")
VOCABULARY = 256 + len(SPECIAL)
BOS, EOS, PAD = 256, 257, 258
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant'] %}{{ raise_exception('unknown role') }}{% endif %}"
    "[{{ message.role }}]{{ message.content }}\n"
    "{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
)


@dataclass(frozen=True)
class Family:
    """How to make a tiny model of one architecture, and where its decoder blocks are.

    ``sizes`` are the config's own names of width, inner width, depth and heads.
    """

    name: str
    model: str
    config: str
    path: str
    extra: Mapping[str, Any]
    sizes: tuple[str, str, str, str] = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")

    def build(self, *, seed: int = 0, **changes: Any) -> transformers.PreTrainedModel:
        width, inner, depth, heads = self.sizes
        settings = {
            "vocab_size": VOCABULARY,
            "max_position_embeddings": CONTEXT,
            "initializer_range": 0.2,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
            width: HIDDEN,
            inner: 2 * HIDDEN,
            depth: LAYERS,
            heads: 4,
            **self.extra,
            **changes,
        }
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = getattr(transformers, self.model)(getattr(transformers, self.config)(**settings))
        return model.eval()

    def blocks(self, model: nn.Module) -> nn.ModuleList:
        blocks = model.get_submodule(self.path)
        assert isinstance(blocks, nn.ModuleList)
        return blocks


FAMILIES = (
    Family("llama", "LlamaForCausalLM", "LlamaConfig", "model.layers", {"num_key_value_heads": 2}),
    Family("gpt2", "GPT2LMHeadModel", "GPT2Config", "transformer.h", {}, ("n_embd", "n_inner", "n_layer", "n_head")),
    Family("gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXConfig", "gpt_neox.layers", {}),
    Family(
        "gemma3",
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        "model.layers",
        {
            "num_key_value_heads": 2,
            "head_dim": 8,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    Family(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        "model.layers",
        {
            "num_key_value_heads": 2,
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": HIDDEN,
        },
    ),
    Family(
        "opt",
        "OPTForCausalLM",
        "OPTConfig",
        "model.decoder.layers",
        {"word_embed_proj_dim": HIDDEN},
        ("hidden_size", "ffn_dim", "num_hidden_layers", "num_attention_heads"),
    ),
    Family("falcon", "FalconForCausalLM", "FalconConfig", "transformer.h", {"ffn_hidden_size": 2 * HIDDEN}),
    Family("falcon_alibi", "FalconForCausalLM", "FalconConfig", "transformer.h", {"alibi": True}),
    Family(
        "mistral",
        "MistralForCausalLM",
        "MistralConfig",
        "model.layers",
        {"num_key_value_heads": 2, "sliding_window": WINDOW},
    ),
    Family("phi", "PhiForCausalLM", "PhiConfig", "model.layers", {"partial_rotary_factor": 0.5}),
)
RECURRENT = (  # what they read is in a state that no mask parts; the last two have blocks of attention too
    Family("mamba", "MambaForCausalLM", "MambaConfig", "backbone.layers", {"state_size": 4}),
    Family(
        "mamba2",
        "Mamba2ForCausalLM",
        "Mamba2Config",
        "backbone.layers",
        {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 2, "chunk_size": 8},
    ),
    Family(
        "lfm2",
        "Lfm2ForCausalLM",
        "Lfm2Config",
        "model.layers",
        {"num_key_value_heads": 2, "layer_types": ["conv", "full_attention"] * 2},
    ),
    Family(
        "jamba",
        "JambaForCausalLM",
        "JambaConfig",
        "model.layers",
        {
            "num_key_value_heads": 2,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "num_experts": 2,
            "mamba_d_state": 4,
        },
    ),
)
BY_NAME = {family.name: family for family in (*FAMILIES, *RECURRENT)}


def byte_tokenizer(*, chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """One token for each byte; puts a BOS before every text, as the chat template does too."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIAL))
    core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        chat_template=chat_template,
    )


def vector_for(
    engine: TransformersEngine,
    *,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    size: float = 0.2,
    ratio: float = 1.3,
    name: str = "random",
) -> ControlVector:
    """A calibrated vector of random directions, which adds about ``size`` of a state's norm at strength 1.

    At strength −1 it adds ``ratio`` times as much.
    """
    noise = np.random.default_rng(seed)
    chosen = range(engine.info.layers) if layers is None else layers
    norms = np.linalg.norm(engine.hidden_states(["A quiet text."])[0], axis=-1)
    directions = {layer: noise.standard_normal(engine.info.hidden_size).astype(np.float32) for layer in chosen}
    return ControlVector(
        model=engine.info,
        directions={layer: direction / np.linalg.norm(direction) for layer, direction in directions.items()},
        norms={layer: float(norms[layer]) for layer in chosen},
        weights={layer: float(noise.uniform(0.5, 1.0)) for layer in chosen},
        scale={"+": size, "-": size * ratio},
        behaviour=BehaviourRef(name, "0" * 64),
    )


def small_t5() -> transformers.PreTrainedModel:
    """A decoder beside an encoder, of bytes."""
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 3, "num_decoder_layers": 3, "num_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = T5Config(vocab_size=259, **sizes, decoder_start_token_id=258, pad_token_id=258, eos_token_id=257)
        return T5ForConditionalGeneration(config).eval()
