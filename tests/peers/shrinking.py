"""Tiny configs of every model type: the class's own defaults, with each size made small by its name.

A variant is a set of sizes: `a` keeps the ratios of the class's defaults, `b` has other head counts and dims and more
layers, and `c` turns a switch of the few types which have one. Layer patterns are never set, so that the class's own
shows, unless that is the switch.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from overrides import OVERRIDES, SWITCHES
from transformers import CONFIG_MAPPING, PreTrainedConfig

Values = dict[str, Any]


class Size(NamedTuple):
    """The sizes that a variant gives to all types."""

    hidden: int
    heads: int
    kv_heads: int | None
    head_dim: int
    layers: int
    window: int = 16


SIZES = {"a": Size(64, 4, None, 16, 6), "b": Size(96, 6, 3, 32, 13, 24), "c": Size(128, 8, 1, 24, 8, 12)}
VARIANTS = tuple(SIZES)

RULES: list[tuple[str, Callable[[Size], Any]]] = [
    # layers, heads and widths of the stack
    (r"num_hidden_layers|n_layers?|num_layers|decoder_layers|num_decoder_layers|layers|decoder_num_hidden_layers"
     r"|num_blocks", lambda s: s.layers),
    (r"encoder_layers|num_encoder_layers", lambda s: s.layers + 1),
    (r"depth|encoder_num_hidden_layers|\w+_(encoder|decoder)_layers|\w+_num_hidden_layers|\w+_depth", lambda s: 2),
    (r"hidden_size|d_model|n_embd|emb_dim|embed_dim|hidden_dim|(out|output|encoder|attention|decoder|text|cross|audio"
     r"|vision|backbone|thinker|projector|projection|cross_attention|moe)_hidden_size|(word_embed_proj|embedding|output"
     r"|projection|proj|adapter_in|adapter_out)_dim|adapter_input_size|(input_embedding|output_embedding|embedding)_size|hidden_size_global|lru_width",
     lambda s: s.hidden),
    (r"num_attention_heads|n_heads?|num_heads|attention_heads|(encoder|decoder|num_encoder|num_decoder|speech_encoder"
     r"|t2u_encoder|t2u_decoder)_attention_heads|(encoder|decoder|swa|cross)_num_attention_heads"
     r"|num_sliding_attention_heads|resampler_n_heads|resampler_heads", lambda s: s.heads),
    (r"num_key_value_heads|num_kv_heads|\w+_num_key_value_heads|num_global_key_value_heads", lambda s: s.kv_heads),
    (r"head_dim|d_kv|kv_channels|dim_head|attention_head_dim|d_head|swa_head_dim|global_head_dim|cross_head_dim"
     r"|attention_head_size|resampler_head_dim", lambda s: s.head_dim),
    (r"\w*intermediate_size\w*|\w*ffn_dim|d_ff|n_inner|dff|dim_ff|mlp_dim|d_inner|feed_forward_size|\w*ffn_hidden_size"
     r"|share_expert_dim|ffn_dim|dense_intermediate_size|alignment_intermediate_size", lambda s: 48),
    # windows, latents, indexers
    (r"sliding_window|attention_chunk_size|attention_window_size|sliding_window_size|window_size|keep_window_size"
     r"|attention_window", lambda s: s.window),
    (r"kv_lora_rank", lambda s: s.head_dim + 8),
    (r"q_lora_rank|o_lora_rank|hc_lowrank|laurel_rank|adapter_rank|gated_norm_rank", lambda s: 16),
    (r"qk_rope_head_dim", lambda s: s.head_dim // 2),
    (r"qk_nope_head_dim|v_head_dim", lambda s: s.head_dim),
    (r"index_head_dim|indexer_head_dim", lambda s: s.head_dim),
    (r"index_n_heads|indexer_n_heads", lambda s: 2),
    (r"index_topk|index_topk_blocks|index_kpool|index_block_size", lambda s: 4),
    # recurrent and convolution states
    (r"state_size|mamba_d_state|ssm_state_size", lambda s: s.head_dim // 2),
    (r"linear_(num_key_heads|num_heads)", lambda s: s.heads // 2),
    (r"linear_num_value_heads", lambda s: s.heads),
    (r"linear_(key_head_dim|head_dim)", lambda s: s.head_dim - 8),
    (r"linear_value_head_dim", lambda s: s.head_dim),
    (r"mamba_chunk_size|chunk_size", lambda s: 8),
    # experts, tokens, positions, pictures
    (r"n_routed_experts|num_experts|num_local_experts|moe_num_experts", lambda s: 4),
    (r"num_experts_per_tok|moe_k|moe_topk|top_k_experts", lambda s: 2),
    (r"n_group|topk_group|n_shared_experts|num_shared_experts|moe_num_shared_experts|first_k_dense_replace"
     r"|zero_expert_num", lambda s: 1),
    (r"\w*vocab_size\w*", lambda s: 128),
    (r"pad_token_id|\w+_pad_token_id", lambda s: 0),
    (r"bos_token_id|decoder_start_token_id|\w+_bos_token_id", lambda s: 1),
    (r"eos_token_id|sep_token_id|\w*eos_token_id", lambda s: 2),
    (r"\w+_token_(id|index)", lambda s: 100),
    (r"max_position_embeddings|n_positions|n_ctx|max_seq_len|\w*_(encoder|decoder)_position_embeddings"
     r"|max_target_positions", lambda s: 512),
    (r"hidden_size_per_layer_input", lambda s: 8),
    (r"image_size", lambda s: 32),
    (r"num_mel_bins", lambda s: 16),
    (r"max_source_positions", lambda s: 32),
]  # fmt: skip
KV_HEADS = {"num_key_value_heads", "num_kv_heads"}
PATTERNS = [(re.compile(pattern), value) for pattern, value in RULES]


def small(name: str, default: Any, size: Size) -> Any:
    """The small value of a field, by its name; what is not a count stays as it is."""
    if isinstance(default, bool) or not isinstance(default, int) or default <= 0:
        return default
    return next((value(size) for pattern, value in PATTERNS if pattern.fullmatch(name)), default)


def defaults(config_class: type[PreTrainedConfig]) -> Values:
    """The fields of a config class and their defaults."""
    fields = [field for field in dataclasses.fields(config_class) if field.default is not dataclasses.MISSING]
    return {field.name: field.default for field in fields}


def shrunken(config_class: type[PreTrainedConfig], size: Size, given: Values | None = None) -> Values:
    """The fields of a config class that have to differ from its defaults, nested configs included."""
    known = defaults(config_class) | (given or {})
    values = {name: value for name, value in (given or {}).items() if not isinstance(value, dict)}
    heads = next((known[name] for name in ("num_attention_heads", "n_heads", "heads") if known.get(name)), None)
    for name, default in known.items():
        value = small(name, default, size)
        if value is None and default is not None:  # kv heads in the ratio of the defaults
            value = size.heads if default == heads else max(1, size.heads // 2) if default > 1 else 1
        if value != default:
            values[name] = value
    for name in KV_HEADS & known.keys():
        if "kv_lora_rank" in known:
            values[name] = heads and size.heads
        elif size.kv_heads and known[name] != 1:
            values[name] = size.kv_heads
    for name, spec in config_class.sub_configs_defaults.items():
        if spec.optional:
            continue
        nested = (given or {}).get(name) or spec.init_kwargs
        kind = spec.config_class
        if not issubclass(kind, PreTrainedConfig):
            kind = CONFIG_MAPPING[nested.get("model_type", spec.model_type)]
            values[name] = {"model_type": kind.model_type}
        values[name] = values.get(name, {}) | shrunken(kind, size, nested)
    special = OVERRIDES.get(config_class.model_type)
    return merged(values, special(size) if special else {})


def merged(one: Values, other: Values) -> Values:
    """Two configs, the other one's values first, nested ones too."""
    both = one | other
    for name in one.keys() & other.keys():
        if isinstance(one[name], dict) and isinstance(other[name], dict):
            both[name] = merged(one[name], other[name])
    return both


def tiny_config(model_type: str, variant: str, task: str = "causal") -> Values:
    """The fields of a tiny config.json of a model type. LookupError: it has no such variant."""
    config_class = CONFIG_MAPPING[model_type]
    if variant == "c" and model_type not in SWITCHES:
        raise LookupError(f"{model_type} has no variant {variant}")
    values = shrunken(config_class, SIZES[variant])
    if variant == "c":
        values = merged(values, SWITCHES[model_type])
    if task == "causal" and "is_decoder" in defaults(config_class):
        values["is_decoder"] = True
    return values
