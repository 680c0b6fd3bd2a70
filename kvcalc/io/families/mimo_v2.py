"""MiMo-V2: sliding layers with twice the KV heads, and values narrower than keys.

Source: transformers 5.23 configuration_mimo_v2_flash.py, modeling_mimo_v2_flash.py; MiMo-V2-Flash's config.json.
"""

from __future__ import annotations

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    SLIDING,
    Decoder,
    Layer,
    decoder_of,
    flags,
    gqa_facts,
    kinds_of,
    only,
    with_reach,
)
from kvcalc.io.families._drafts import num_drafts

MODEL_TYPES = ("mimo_v2_flash",)
UNUSED = ("attention_chunk_size",)
"""MiMo-V2.5: in the file, but read by no engine."""
_PERIOD = 6


def decoder(config: Config) -> Decoder:
    """layer_types, or hybrid_layer_pattern (1 for sliding); else the first layer and each 6th are full."""

    def default(layers: int) -> list[str]:
        if "hybrid_layer_pattern" in config:
            return [SLIDING if flag else FULL for flag in flags(config, "hybrid_layer_pattern", layers)]
        return [FULL if layer == 0 or (layer + 1) % _PERIOD == 0 else SLIDING for layer in range(layers)]

    return decoder_of(config, kinds_of(config, default), _layer, draft=SLIDING, num_drafts=num_drafts(config))


def _layer(kind: str, config: Config) -> Layer:
    only(config, kind, FULL, SLIDING)
    facts = gqa_facts(config).take_if_there("v_head_dim")
    if kind == SLIDING:
        if config.given("swa_num_key_value_heads"):
            facts.take("num_kv_heads", "swa_num_key_value_heads")
        else:
            heads = 2 * config.integer("num_key_value_heads")
            facts.put("num_kv_heads", heads, config.origin("num_key_value_heads", "2 x num_key_value_heads"))
        facts.take_if_there("num_query_heads", "swa_num_attention_heads").take_if_there("head_dim", "swa_head_dim")
        facts.take_if_there("v_head_dim", "swa_v_head_dim")
        if config.given("sliding_window_size"):
            # as published: the tokens before the query's own
            size = config.integer("sliding_window_size")
            facts.put("sliding_window", size + 1, config.origin("sliding_window_size"))
        else:
            with_reach(facts, kind)
    return facts.build(GroupedQueryAttention)
