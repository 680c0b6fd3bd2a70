"""Where the name of a field does not tell its small value: by config type, the fields of it that go together.

`OVERRIDES` holds for every variant. `SWITCHES` makes the variant `c`: a switch that changes what is cached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shrinking import Size

Values = dict[str, Any]


def _mrope(size: Size, head_dim: int | None = None, **more: Any) -> Values:
    """Rotary settings whose three sections (time, height, width) fill half of the head's width."""
    half = (head_dim or size.head_dim) // 2
    third = half // 3
    sections = [half - 2 * third, third, third]
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections, **more}}


def _plain_mrope(size: Size) -> Values:
    """The same where the head's width is hidden // heads."""
    return _mrope(size, size.hidden // size.heads)


def _both(size: Size) -> Values:
    sections = _plain_mrope(size)["rope_parameters"]
    return {"rope_parameters": {"full_attention": sections, "sliding_attention": sections}}


def _mamba(size: Size) -> Values:
    return {"mamba_n_heads": 2 * size.heads, "mamba_d_head": size.hidden // size.heads, "mamba_n_groups": 2}


def _latent_windows(size: Size) -> Values:
    """dots3_note: sliding layers have heads and latents of their own."""
    heads = {"swa_num_attention_heads": size.heads, "swa_num_key_value_heads": size.heads, "swa_q_lora_rank": 16}
    widths = {"swa_head_dim": 24, "swa_qk_nope_head_dim": 12, "swa_v_head_dim": 20, "swa_kv_lora_rank": 40}
    return {**heads, **widths, "sliding_window": size.window}


def _sectioned(size: Size) -> Values:
    """Rotary sections over half of the hidden // heads where only a part of the head is rotated."""
    half = size.hidden // size.heads // 4
    sections = [half - 2 * (half // 3), half // 3, half // 3]
    return {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": sections,
            "partial_rotary_factor": 0.5,
        }
    }


def _hybrid(size: Size, every: int = 3) -> list[str]:
    return ["hybrid" if i % every == every - 1 else "linear_attention" for i in range(size.layers)]


OVERRIDES: dict[str, Callable[[Size], Values]] = {
    "bamba": lambda s: _mamba(s) | {"attn_layer_indices": [2, s.layers - 1]},
    "chameleon": lambda s: {"vocabulary_map": {"<image>": 100}},
    "codegen": lambda s: {"rotary_dim": 8, "n_head": 4},  # the code has mp_num = 4 built in
    "cohere_compass_text": _both,
    "cosmos3_edge_text": _mrope,
    "dbrx": lambda s: {
        "attn_config": {"kv_n_heads": s.kv_heads or s.heads // 2, "rope_theta": 10000.0, "clip_qkv": 8},
        "ffn_config": {"moe_num_experts": 4, "moe_top_k": 2, "ffn_hidden_size": 48},
    },
    "deepseek_ocr2_text": lambda s: {"num_experts_per_tok": 2, "mlp_layer_types": ["sparse"] * s.layers},
    "deepseek_v2": lambda s: {"num_experts_per_tok": 2},
    "diffllama": lambda s: {"num_key_value_heads": s.heads if s.kv_heads is None else 2},
    "diffusion_gemma_text": lambda s: {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 48},
    "dory": lambda s: {"n_input_layers": 2, "n_output_layers": 1, "head_dim": s.head_dim},
    "dots1": lambda s: {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "dots3_note_text": _latent_windows,
    "dots3_note_vision_encoder": lambda s: {"mlp_layer_types": ["dense"] * s.layers},
    "emu3": lambda s: {"vocabulary_map": {"<image>": 100}},
    "ernie4_5_vl_moe_text": lambda s: {"rope_parameters": {
        "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, s.hidden // s.heads // 2 - 4],
    }},
    "fun_asr_nano": lambda s: {"adaptor_config": {"intermediate_size": s.hidden // 4}},
    "gemma3n_text": lambda s: {"num_hidden_layers": s.layers + 4, "num_kv_shared_layers": 5},
    "gemma4_assistant": lambda s: {"text_config": {
        "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, "num_kv_shared_layers": s.layers,
    }},
    "glm4v_moe_text": _sectioned,
    "glm4v_text": _plain_mrope,
    "glm_ocr_text": _plain_mrope,
    "gpt_neo": lambda s: {"num_layers": 2 * s.layers, "attention_types": [[["global", "local"], s.layers]]},
    "gptj": lambda s: {"rotary_dim": 8},
    "granite4_vision": lambda s: {"deepstack_layer_map": [[0, 0]], "downsample_rate": "4/8"},
    "granitemoehybrid": lambda s: _mamba(s) | {
        "layer_types": [("linear_attention", "full_attention")[i % 3 == 2] for i in range(s.layers)],
    },
    "helium": lambda s: {"head_dim": s.hidden // s.heads},
    "hunyuan_v1_dense": lambda s: {"head_dim": s.head_dim},
    "hunyuan_v1_moe": lambda s: {"head_dim": s.head_dim},
    "hunyuan_vl_text": lambda s: {"head_dim": s.head_dim} | _mrope(s),
    "lfm2_moe": lambda s: {"layer_types": [("conv", "conv", "full_attention")[i % 3] for i in range(s.layers)]},
    "inkling2_loop_text": lambda s: {
        "n_layers_per_attn_res_block": 2, "loop_layer_index_start": 2, "loop_layer_index_end": 4, "loop_num_passes": 3,
    },
    "inkling_vision": lambda s: {"num_hidden_layers": 6},
    "longcat_flash": lambda s: {"head_dim": s.head_dim // 2},
    "mamba2": lambda s: {"num_heads": 2 * s.heads, "head_dim": s.hidden // s.heads, "n_groups": 2},
    "mimi": lambda s: {"upsample_groups": s.hidden},
    "ministral": lambda s: {"head_dim": s.head_dim},
    "molmo2": lambda s: {"adapter_config": {"vision_feature_layer": [-1, -2]}},
    "moonshine_streaming": lambda s: {"num_key_value_heads": s.heads},
    "muse_spark_audio": lambda s: {"num_hidden_layers": 4},
    "nemotron": lambda s: {"num_key_value_heads": s.kv_heads or s.heads},
    "paddleocr_vl_text": _mrope,
    "pix2struct_text_model": lambda s: {"d_kv": s.hidden // s.heads},
    "qwen2_5_omni_text": _plain_mrope,
    "qwen2_5_vl_text": _plain_mrope,
    "qwen2_vl_text": _plain_mrope,
    "qwen4_exp_text": lambda s: {
        "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 40, "indexer_budget": 16,
        "indexer_compress_ratio": 4, "hc_count": 2, "num_hidden_layers": s.layers + 2,
    },
    "reformer": lambda s: {
        "axial_pos_embds_dim": [s.hidden // 4, 3 * s.hidden // 4], "axial_pos_shape": [8, 16],
        "attn_layers": ["local", "lsh"] * (s.layers // 2), "num_buckets": 4,
        "local_attn_chunk_length": 8, "lsh_attn_chunk_length": 8,
    },
    "step3p5": lambda s: {"sliding_window": s.window},
    "unlimited_ocr_text": lambda s: {"num_key_value_heads": s.heads},
    "xlstm": lambda s: {"hidden_size": 64 * s.heads, "num_hidden_layers": s.layers, "chunk_size": 8},
    "xmod": lambda s: {"default_language": "en_XX"},
    "zamba": lambda s: {"num_hidden_layers": s.layers + 6},
    "zamba2": lambda s: {"layers_block_type": _hybrid(s), "n_mamba_heads": 2 * s.heads, "mamba_ngroups": 2},
    "zaya": lambda s: {"num_experts_per_tok": 1},
}  # fmt: skip

_WINDOWED = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 3}
_SHARED = {"num_kv_shared_layers": 2, "attention_k_eq_v": True, "num_global_key_value_heads": 2, "global_head_dim": 40}
_EVERY_THIRD = {"index_topk_freq": 3, "index_skip_topk_offset": 2}
_FEWER_DECODER_LAYERS = {"num_decoder_layers": 3}
_LINEAR = {
    "num_heads": 3,
    "head_dim": 12,
    "short_conv_kernel_size": 3,
    "full_attn_layers": [2, 5],
    "kda_layers": [1, 3],
}

SWITCHES: dict[str, Values] = {
    "bamba": {"attn_layer_indices": [0, 5], "mamba_d_conv": 3},
    "bloom": {"n_layer": 3},
    "cohere2": {"sliding_window_pattern": 2},
    "cpmant": {"prompt_length": 5},
    "deepseek_v32": _EVERY_THIRD,
    "deepseek_v4": {
        "compress_ratios": [0, 4, 128, 4, 0, 128, 4, 4], "compress_rate_csa": 3, "compress_rate_hca": 10,
        "num_hash_layers": 1,
    },
    "dory": {"n_recurrent_loops": 3, "recurrent_kv_cache_mode": "last_loop"},
    "dots1": {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 3},
    "exaone4": {"sliding_window_pattern": 3},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon_h1": {"mamba_d_conv": 3, "mamba_n_groups": 2},
    "gemma3_text": {"sliding_window_pattern": 2},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gemma4": {"text_config": _SHARED},
    "gemma4_text": _SHARED,
    "gemma4_unified": {"text_config": _SHARED},
    "gemma4_unified_text": _SHARED,
    "glm_moe_dsa": {"index_topk_pattern": "FSSFSFFS"},
    "gpt_bigcode": {"multi_query": False},
    "hrm_text": {"H_cycles": 3, "L_cycles": 1},
    "hy_v4": _EVERY_THIRD,
    "inkling2_text": {"conv_kernel_size": 3},
    "inkling2_loop_text": {"conv_kernel_size": 3, "loop_num_passes": 2},
    "inkling_text": {"conv_kernel_size": 3, "local_layer_ids": [0, 2, 3, 6]},
    "kimi_linear": {"linear_attn_config": _LINEAR | {"kda_layers": [1, 3, 4, 6, 7, 8]}},
    "led": {"attention_window": 8},
    "lfm2": {"full_attn_idxs": [1, 4], "conv_L_cache": 5},
    "lfm2_vl": {"text_config": {"full_attn_idxs": [1, 4], "conv_L_cache": 5}},
    "lara_mini": {"linear_conv_kernel_dim": 3},
    "llama4_text": {"no_rope_layer_interval": 2},
    "longt5": {**_FEWER_DECODER_LAYERS, "encoder_attention_type": "transient-global"},
    "mamba": {"conv_kernel": 3},
    "mamba2": {"conv_kernel": 3},
    "mistral": {"sliding_window": None},
    "mixtral": {"sliding_window": 12},
    "mllama": {"text_config": {"cross_attention_layers": [1, 4]}},
    "modernbert-decoder": {"global_attn_every_n_layers": 2, "local_attention": 20},
    "mt5": _FEWER_DECODER_LAYERS,
    "nemotron_h": {"hybrid_override_pattern": "M*-EM*M-", "conv_kernel": 3},
    "phi3": {"sliding_window": 12},
    "phi4_multimodal": {"sliding_window": 12},
    "phimoe": {"sliding_window": 12},
    "qwen2": _WINDOWED,
    "qwen2_5_omni_thinker": {"text_config": _WINDOWED},
    "qwen2_5_vl": {"text_config": _WINDOWED},
    "qwen2_moe": _WINDOWED,
    "qwen2_vl": {"text_config": _WINDOWED},
    "qwen3": _WINDOWED,
    "qwen3_5_text": {"full_attention_interval": 3, "linear_conv_kernel_dim": 3},
    "qwen3_moe": {"use_sliding_window": True, "sliding_window": 12},
    "qwen3_next": {"full_attention_interval": 3, "linear_conv_kernel_dim": 3},
    "qwen4_exp_text": {
        "ple_layer_ids": [1, 4], "eos_token_id": 2, "ple_embed_dim": 16, "ngram_vocab_size_base": 64, "split_ngram_parts": 1,
        "make_ngram_vocab_size_divisible_by": 8, "heads_per_ngram": 2, "full_attention_interval": 3,
    },
    "smollm3": {"use_sliding_window": True, "sliding_window": 12},
    "starcoder2": {"sliding_window": 12},
    "switch_transformers": _FEWER_DECODER_LAYERS,
    "t5": _FEWER_DECODER_LAYERS,
    "umt5": _FEWER_DECODER_LAYERS,
    "xlnet": {"mem_len": 20},
}  # fmt: skip
