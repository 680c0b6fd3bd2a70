"""Falcon, GPT-BigCode and DBRX: the number of KV heads stands behind a switch or in a section of its own.

Source: transformers 5.23 modeling_falcon.py, modeling_gpt_bigcode.py, modeling_dbrx.py.
"""

from __future__ import annotations

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import FULL, Decoder, Facts, Layer, decoder_of, hidden_per_head, num_layers

MODEL_TYPES = ("falcon", "gpt_bigcode", "dbrx")
UNUSED: tuple[str, ...] = ()


def decoder(config: Config) -> Decoder:
    """All layers are full."""
    return decoder_of(config, [FULL] * num_layers(config), _layer)


def _layer(kind: str, config: Config) -> Layer:
    facts = Facts(config).take("num_query_heads", "num_attention_heads")
    heads = facts.values["num_query_heads"]
    if config.model_type == "dbrx" and "attn_config" in config:
        section = config.section("attn_config")
        facts.put("num_kv_heads", section.integer_or("kv_n_heads", 1), section.origin("kv_n_heads"))
    elif config.model_type == "falcon" and config.boolean("new_decoder_architecture"):
        facts.take("num_kv_heads", "num_kv_heads") if "num_kv_heads" in config else facts.take(
            "num_kv_heads", "num_attention_heads"
        )
    elif config.model_type == "dbrx" or config.boolean("multi_query", default=True):
        facts.put("num_kv_heads", 1, config.origin("multi_query"))
    else:
        facts.put("num_kv_heads", heads, config.origin("multi_query"))
    facts.put("head_dim", hidden_per_head(config), config.origin("hidden_size"))
    return facts.build(GroupedQueryAttention)
