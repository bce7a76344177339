"""Exceptions to the general rules, by model type."""

from __future__ import annotations

from architectures.shrinking import Fixes, Part
from architectures.sizes import HEADS, INNER, LAYERS, STATE, WIDTH, WINDOW

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_NO_TIMM = Part("siglip_vision_model")  # in place of a tower that comes from the library timm
_ASSISTANT = {  # has no inputs by layer, and all keys and values come from elsewhere
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 0,
    "num_hidden_layers": LAYERS,
    "num_kv_shared_layers": LAYERS,
}
_TOKENS_OF_GEMMA3N = {"vocab_size": 8, "vocab_offset": 300}  # soft tokens follow those of text

FIXES: Fixes = {
    # no defaults for what is inside
    "musicgen": {
        "text_encoder": Part("t5"),
        "audio_encoder": Part("encodec"),
        "decoder": Part("musicgen_decoder"),
    },
    "musicgen_melody": {
        "text_encoder": Part("t5"),
        "audio_encoder": Part("encodec"),
        "decoder": Part("musicgen_melody_decoder"),
    },
    "encoder-decoder": {
        "encoder": Part("bert"),
        "decoder": Part("bert", {"is_decoder": True, "add_cross_attention": True}),
    },
    "vision-encoder-decoder": {"encoder": Part("vit"), "decoder": Part("gpt2", {"add_cross_attention": True})},
    "gemma4_assistant": {"text_config": Part("gemma4_text", _ASSISTANT)},
    "gemma4_unified_assistant": {"text_config": Part("gemma4_unified_text", _ASSISTANT)},
    # the default inner config is of a type that the model cannot use
    "granite4_vision": {
        "text_config": Part("granite4_vision_text"),
        "deepstack_layer_map": [[-2, 1]],
        "spatial_target_layers": [2],
        "downsample_rate": "1/2",
    },
    "fast_vlm": {"vision_config": _NO_TIMM},
    "perception_lm": {"vision_config": Part("siglip_vision_model", {"model_args": {"embed_dim": WIDTH}})},
    "gemma3n": {
        "vision_config": Part("siglip_vision_model", {**_TOKENS_OF_GEMMA3N, "rms_norm_eps": 1e-6}, forced=True)
    },
    "gemma3n_audio": {"vocab_size": 8, "vocab_offset": 308},
    # fields that the model needs and the config leaves empty
    "deepseek_ocr2_text": {
        "mlp_layer_types": ["dense", "sparse"] * 2,
        "n_shared_experts": 1,
    },
    "dots1": {"n_shared_experts": 1, "first_k_dense_replace": 1},
    "bamba": {"attn_layer_indices": [1, 3]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "blip-2": {"image_token_index": 310},
    "instructblip": {"image_token_index": 310},
    "instructblipvideo": {"video_token_index": 310},
    "chameleon": {"vocabulary_map": {"<image>": 310, "IMGIMGAZ": 311, "IMGIMGBZ": 312}},
    "emu3": {"vocabulary_map": {"<image>": 310, "<|extra_200|>": 311, "<|visual token 000000|>": 312}},
    "step3p5": {"sliding_window": WINDOW},
    "xmod": {"default_language": "en_XX"},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8.0}},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            kind: {**_ROPE, "mrope_section": [2, 1, 1]} for kind in ("sliding_attention", "full_attention")
        },
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
    },
    "diffusion_gemma_text": {
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": WIDTH,
        "global_head_dim": 16,
    },
    "diffusion_gemma": {"vision_config": Part("gemma4_vision")},
    "mllama_text_model": {"cross_attention_layers": [1]},  # skipped without pictures; the others remain
    # sizes that must agree in a way of the family's own
    "gpt_neo": {"attention_types": [[["global", "local"], LAYERS // 2]]},
    "glm5_next_text": {"qk_rope_head_dim": 0, "index_kpool": 4, "num_key_value_heads": HEADS},
    "mamba2": {"head_dim": INNER // HEADS, "state_size": STATE},
    "gemma4_text": {"global_head_dim": 16},
    "gemma4_unified_text": {"global_head_dim": 16},
    "deepseek_ocr2_sam_vision_model": {"downsample_channels": [WIDTH, WIDTH]},
    "florence_vision": {"patch_size": (7, 3, 3, 3)},
    "reformer": {"axial_pos_shape": (16, 40), "axial_pos_embds_dim": (WIDTH // 2, WIDTH // 2)},
    "openai-gpt": {"n_positions": 256},  # its buffers grow with the square of it
    "vibevoice_acoustic_tokenizer_encoder": {"downsampling_ratios": [2, 2], "depths": [1, 1, 1]},
    "vibevoice_semantic_tokenizer_encoder": {"downsampling_ratios": [2, 2], "depths": [1, 1, 1]},
    "emu3_vqgan": {"channel_multiplier": [1, 1]},
    "chameleon_vqgan": {"channel_multiplier": [1, 1]},
    "janus_vqgan": {"channel_multiplier": [1, 1]},
    "zamba": {"attention_hidden_size": 2 * WIDTH, "attention_head_dim": 2 * WIDTH // HEADS},
    # rotary sections of time, height and width, which the default config does not have
    **{
        name: {"rope_parameters": {**_ROPE, "mrope_section": [2, 1, 1]}}
        for name in (
            "glm4v_text",
            "glm_ocr_text",
            "hunyuan_vl_text",
            "paddleocr_vl_text",
            "qwen2_5_omni_text",
            "qwen2_5_vl_text",
            "qwen2_vl_text",
        )
    },
    "glm4v_moe_text": {"rope_parameters": {**_ROPE, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.5}},
    "ernie4_5_vl_moe_text": {"rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]}},
    # what makes the model causal
    "xlm": {"causal": True},
}
