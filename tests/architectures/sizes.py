"""Meaning and small value of config fields, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping

LAYERS = 4
TOWER_LAYERS = 2
WIDTH = 32
INNER = 64
HEADS = 4
KEY_HEADS = 2
HEAD_WIDTH = 8
EXPERTS = 4
CHOSEN_EXPERTS = 2
RANK = 16
STATE = 8
CHUNK = 8
WINDOW = 12
CONTEXT = 640  # some families count positions from the id of the padding token on
IMAGE = 32
PATCH = 8
MELS = 16
CODES = 64
FIRST_FREE_TOKEN = 256
VOCABULARY = 320

DEPTHS = frozenset(
    [
        "num_hidden_layers",
        "n_layer",
        "n_layers",
        "num_layers",
        "layers",
        "decoder_layers",
        "num_encoder_layers",
        "encoder_layers",  # caches have as many layers, so that a decoder may not be deeper
        "num_decoder_layers",
        "depth",
        "num_blocks",
        "num_layers_per_stack",
    ]
)
TOWER_DEPTHS = frozenset(
    [
        "t2u_encoder_layers",
        "t2u_decoder_layers",
        "speech_encoder_layers",
        "conf_num_hidden_layers",
        "resampler_depth",
        "num_global_layers",
        "aligner_num_add_layers",
    ]
)
SIZES: Mapping[str, int] = {
    name: size
    for size, names in (
        (
            WIDTH,
            """
            hidden_size d_model n_embd dim_model embed_dim emb_dim embedding_size embedding_dim
            word_embed_proj_dim out_hidden_size encoder_hidden_size cross_attention_hidden_size
            hidden_size_global backbone_hidden_size text_hidden_size vision_hidden_size projection_dim
            lru_width output_dim projector_input_dim projector_output_dim vision_output_dim
            image_text_hidden_size input_embedding_size output_embedding_size pronunciation_embed_dim
            shape_embed_dim unit_embed_dim lang_embed_dim spkr_embed_dim hidden_dim attention_hidden_size
            downsample_hidden_size patch_embed_hidden_size moe_intermediate_size expert_ffn_hidden_size
            moe_latent_size ple_embed_dim image_token_embed_dim output_channels prompt_mid_dim
            hidden_size_per_layer_input input_size router_hidden_size decoder_hidden_size dim_model_base
            post_conv_in_channels post_conv_mid_channels post_conv_out_channels base_channels
            output_proj_dims
            """,
        ),
        (1, "depths"),
        (
            INNER,
            """
            intermediate_size ffn_dim encoder_ffn_dim decoder_ffn_dim d_ff dim_ff dff n_inner d_inner
            ffn_hidden_size shared_expert_intermediate_size moe_shared_expert_intermediate_size
            share_expert_dim intermediate_size_mlp mamba_d_ssm dense_intermediate_size
            shared_intermediate_size feed_forward_size speech_encoder_intermediate_size t2u_encoder_ffn_dim
            t2u_decoder_ffn_dim projector_hidden_size alignment_intermediate_size
            projection_intermediate_size projection_hidden_size merged_hidden_size
            """,
        ),
        (
            HEADS,
            """
            num_attention_heads n_head n_heads num_heads attention_heads encoder_attention_heads
            decoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads num_query_groups
            swa_num_attention_heads num_sliding_attention_heads speech_encoder_attention_heads
            t2u_encoder_attention_heads t2u_decoder_attention_heads conf_num_attention_heads
            resampler_n_heads resampler_heads linear_num_value_heads linear_num_heads mamba_n_heads
            mamba_num_heads
            """,
        ),
        (
            KEY_HEADS,
            """
            num_key_value_heads num_kv_heads kv_n_heads swa_num_key_value_heads linear_num_key_heads
            num_global_key_value_heads resampler_num_key_value_heads n_mamba_heads swa_num_kv_heads o_groups
            """,
        ),
        (
            HEAD_WIDTH,
            """
            head_dim d_kv d_head dim_head kv_channels attention_head_dim attention_head_size global_head_dim
            swa_head_dim qk_nope_head_dim qk_rope_head_dim v_head_dim swa_v_head_dim index_head_dim
            linear_key_head_dim linear_value_head_dim linear_head_dim resampler_head_dim resampler_dim_head
            query_pre_attn_scalar
            """,
        ),
        (2 * HEAD_WIDTH, "qk_head_dim mamba_d_head mamba_head_dim mamba_headdim"),
        (
            EXPERTS,
            """
            num_experts n_routed_experts num_local_experts moe_num_experts num_mel_experts
            encoder_num_experts decoder_num_experts zero_expert_num
            """,
        ),
        (
            RANK,
            """
            kv_lora_rank q_lora_rank o_lora_rank adapter_rank gated_norm_rank time_step_rank mamba_dt_rank
            laurel_rank hc_lowrank lora_rank
            """,
        ),
        (STATE, "state_size ssm_state_size mamba_d_state"),
        (8 * HEADS, "index_n_heads"),  # with few of them many scores are exactly 0, and which token is chosen is chance
        (
            CHUNK,
            """
            chunk_size mamba_chunk_size block_size index_topk index_block_size lsh_attn_chunk_length
            local_attn_chunk_length attention_window_size global_block_size local_radius d_rel
            """,
        ),
        (
            WINDOW,
            """
            sliding_window sliding_window_size local_attention swa_window_size sliding_window_sizes
            keep_window_size rel_extent
            """,
        ),
        (2 * CHUNK, "attention_chunk_size attention_window conv_attention_chunk_size"),
        (
            CONTEXT,
            """
            max_position_embeddings n_positions n_ctx max_seq_len max_source_positions max_target_positions
            max_encoder_position_embeddings max_decoder_position_embeddings context_length max_pos_emb
            t2u_max_position_embeddings max_2d_position_embeddings max_sequence_length
            """,
        ),
        (IMAGE, "image_size min_image_size max_image_size crop_size max_img_size resolution"),
        (PATCH, "patch_size"),
        (
            16,
            """
            num_position_embeddings num_patches seq_len max_num_patches max_temporal_embeddings
            img_max_token_num max_vit_seq_len mm_tokens_per_image num_image_tokens image_seq_length
            video_seq_length vision_soft_tokens_per_image audio_soft_tokens_per_image num_pos_feats
            conv_chunksize n_window
            """,
        ),
        (
            4,
            """
            num_query_tokens latent_query_num resampler_n_latents resampler_num_latents pos_emb_height
            pos_emb_width num_conv_pos_embedding_groups prompt_length vocoder_num_langs vocoder_num_spkrs
            num_filters
            """,
        ),
        (
            MELS,
            """
            num_mel_bins n_mel_bins input_feat_size feature_size input_dim feature_projection_input_dim
            conv_dim mask_feature_length
            """,
        ),
        (
            CODES,
            """
            encoder_hash_byte_group_vocab codebook_size num_embeddings codebook_dim
            vector_quantization_hidden_dimension ext_pw_out_channel
            depthwise_separable_out_channel nemo_conv_channels upsample_initial_channel
            variance_predictor_hidden_dim t2u_variance_predictor_embed_dim t2u_variance_predictor_hidden_dim
            """,
        ),
    )
    for name in names.split()
}
AT_MOST: Mapping[str, int] = {  # as by default, but no more than this
    "num_experts_per_tok": CHOSEN_EXPERTS,
    "num_experts_per_token": CHOSEN_EXPERTS,
    "moe_topk": CHOSEN_EXPERTS,
    "moe_top_k": CHOSEN_EXPERTS,
    "moe_k": CHOSEN_EXPERTS,
    "top_k_experts": CHOSEN_EXPERTS,
    "n_group": 2,
    "topk_group": 1,
    "n_groups": 2,
    "mamba_n_groups": 2,
    "mamba_ngroups": 2,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "moe_num_shared_experts": 1,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "moe_layer_start_index": 1,
    "moe_layer_end_index": LAYERS - 1,
    "num_nextn_predict_layers": 1,
    "num_kv_shared_layers": 2,
    "max_window_layers": 2,
    "num_codebooks": 4,
    "num_quantizers": 4,
    "index_topk_blocks": 2,
    "latent_channels": WIDTH,
    "rotary_dim": HEAD_WIDTH // 2,
    "mem_len": 0,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "sliding_window_pattern": 2,
    "global_attn_every_n_layers": 2,
    "no_rope_layer_interval": 2,
    "encoder_sparse_step": 2,
    "decoder_sparse_step": 2,
    "num_sparse_encoder_layers": 1,
    "num_sparse_decoder_layers": 2,
    "insert_layer_id": 0,
    "num_res_blocks": 1,
}
AT_LEAST: Mapping[str, float] = {"partial_rotary_factor": 0.5}
NEEDED: Mapping[str, int] = {  # where the default is None
    "head_dim": HEAD_WIDTH,
    "num_key_value_heads": KEY_HEADS,
    "n_routed_experts": EXPERTS,
    "num_experts_per_tok": CHOSEN_EXPERTS,
}
DERIVED = frozenset({"id2label", "label2id", "per_layer_config"})
TOKEN = re.compile(r"(_token_(id|index|idx|ids)|^im_\w+_id|^(bos|eos|pad|unk|mask)_index)$")
LAYER_INDICES = re.compile(
    r"(_idxs|_indexes|_indices|_layer_ids|^moe_layers|^cross_attention_layers|^spatial_target_layers|^vision_feature_layers)$"
)
TOWER = re.compile(r"vision|audio|speech|image|vq|qformer|perceiver|sam_|protein|acoustic|semantic|high_res|backbone")
