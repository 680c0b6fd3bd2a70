"""Falcon: multi_query and new_decoder_architecture say how many KV heads there are; no usual field does.

Source: transformers modeling_falcon.py.
"""

from __future__ import annotations

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.io.families._decoder import FULL, Decoder, Facts, decoder_of, num_layers, put_head_dim
from kvcalc.io.fields import Fields

MODEL_TYPES = ("falcon",)


def decoder(config: Fields, model_type: str) -> Decoder:
    """num_kv_heads KV heads with the new decoder architecture, else one with multi_query, else one a query head."""
    facts = Facts()
    facts.take(config, "num_query_heads", "num_attention_heads")
    if config.boolean("new_decoder_architecture"):
        facts.take(config, "num_kv_heads", "num_kv_heads")
    elif config.boolean("multi_query", default=True):
        facts.put("num_kv_heads", 1, f"{config.origin('multi_query')}")
    else:
        facts.put("num_kv_heads", facts.values["num_query_heads"], f"{config.origin('multi_query')} is false")
    put_head_dim(facts, config)
    return decoder_of(config, facts, GroupedQueryAttention, (FULL,) * num_layers(config))
