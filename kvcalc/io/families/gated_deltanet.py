"""Gated DeltaNet layers with attention between them: Qwen3-Next, Qwen3.5 and 3.6, Qwen4 Exp, OLMo Hybrid.

Source: transformers 5.23 configuration_qwen3_next.py, modeling_qwen4_exp.py, configuration_olmo_hybrid.py.
"""

from __future__ import annotations

from kvcalc.attention.gated_deltanet import GatedDeltaNet
from kvcalc.attention.indexer import Indexer
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    INDEXED,
    LINEAR,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_layer,
    kinds_of,
)
from kvcalc.io.families._drafts import num_drafts

MODEL_TYPES = (*("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text", "olmo_hybrid"),)
UNUSED: tuple[str, ...] = ()
_INTERVAL = 4


def decoder(config: Config) -> Decoder:
    """layer_types, else each 4th layer (full_attention_interval) is attention; with an indexer in Qwen4 Exp."""
    with_indexer = config.model_type == "qwen4_exp_text"

    def default(layers: int) -> list[str]:
        interval = config.integer_or("full_attention_interval", _INTERVAL) or _INTERVAL
        if config.model_type == "olmo_hybrid":
            interval = _INTERVAL
        kinds = [LINEAR if (layer + 1) % interval else FULL for layer in range(layers)]
        if config.model_type == "olmo_hybrid" and FULL not in kinds:
            kinds[-1] = FULL
        return kinds

    kinds = kinds_of(config, default)
    if with_indexer:
        kinds = [INDEXED if kind == FULL else kind for kind in kinds]
    return decoder_of(config, kinds, _layer, draft=FULL, num_drafts=num_drafts(config))


def _layer(kind: str, config: Config) -> Layer:
    if kind == LINEAR:
        return _linear(config)
    if kind == INDEXED:
        facts = Facts(config).take("index_head_dim", "indexer_head_dim")
        return gqa_layer(FULL, config) + facts.build(Indexer)
    return gqa_layer(kind, config)


def _linear(config: Config) -> Layer:
    facts = Facts(config)
    if config.model_type == "olmo_hybrid":
        config = _with_olmo_defaults(config)
        facts = Facts(config)
    for field in ("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"):
        facts.take(field)
    facts.take("linear_conv_kernel", "linear_conv_kernel_dim").take_dtype("state_dtype", "mamba_ssm_dtype")
    return facts.build(GatedDeltaNet)


def _with_olmo_defaults(config: Config) -> Config:
    """OLMo Hybrid's heads are those of its attention, a key head 3/4 of their width, a value head twice a key head."""
    heads = config.integer("num_attention_heads")
    key_heads = config.integer_or("linear_num_key_heads", heads) or heads
    key_width = config.integer_or("linear_key_head_dim", None) or 3 * config.integer("hidden_size") // (4 * key_heads)
    return config.with_values(
        {
            "linear_num_key_heads": key_heads,
            "linear_num_value_heads": config.integer_or("linear_num_value_heads", heads),
            "linear_key_head_dim": key_width,
            "linear_value_head_dim": config.integer_or("linear_value_head_dim", 2 * key_width),
        }
    )
