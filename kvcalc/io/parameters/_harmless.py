"""Fields of a config.json on which no tensor depends."""

from __future__ import annotations

import re

_HARMLESS = re.compile(
    r"_?name_or_path|_?commit_hash|model_type|architectures|auto_map|transformers_version|(torch_)?dtype|"
    r"quantization_config|compression_config|unsloth\w*|_attn_implementation\w*|attn_implementation|"
    r"\w*token_ids?|\w*token_index|\w*eps|\w*epsilon|\w*dropout\w*|\w*_pdrop|\w*theta|rope\w*|\w*rotary\w*|"
    r"partial_rotary_factor|init\w*|initializer\w*|\w*_range|\w*scale|\w*scaling|\w*scaling_factor|\w*multiplier|"
    r"\w*softcapping|\w*coef|\w*loss\w*|use_cache|cache_implementation|(use_)?sliding_window\w*|_sliding_window_pattern|"
    r"max_window_layers|layer_types|attention_chunk_size|no_rope_layer\w*|hidden_act|hidden_activation|activation_function|"
    r"max_position_embeddings|max_sequence_length|original_max_position_embeddings|model_max_length|seq_length|"
    r"max_model_len|pretraining_tp|task_specific_params|id2label|label2id|problem_type|norm_topk_prob|topk_method|"
    r"scoring_func|n_group|topk_group|num_expert_group|output_\w+|return_dict\w*|\w*jitter_noise|"
    r"query_pre_attn_scalar|is_decoder|use_bidirectional_attention|use_mrope|clip_qkv|seq_aux|ep_size|"
    r"num_nextn_predict_layers|num_mtp_layers|mtp_\w+|attn_output_gate|mamba_ssm_dtype|full_attention_interval|index_topk|swiglu_\w+|max_seq_len|torchscript|tokenizer_class|pad_token|"
    r"bos_token|eos_token|language|finetuning_task|experts_implementation|moe_norm_min|moe_capacity|use_parallel_residual|"
    r"route_norm|router_scaling_factor|num_attention_groups|moe_topk_group|enable_\w+_fp32|use_qk_norm_fp32|"
    r"(num_)?experts_per_tok\w*|is_llama_config|_from_model_config|chunk_size_feed_forward|prefix|"
    r"(min|max)_length|temperature|top_[kp]|do_sample|num_beams|repetition_penalty|length_penalty"
)
"""Fields that no tensor has its shape or its being there from."""
_SAME_IF = {"moe_layer_freq": 1, "model_parallel_size": 1}
"""Fields that change nothing at this value."""


def is_harmless(name: str, value: object) -> bool:
    """Whether a field shapes no tensor, whatever its value, or not at this one."""
    return bool(_HARMLESS.fullmatch(name)) or _SAME_IF.get(name) == value
