"""Lightning attention between layers of attention: MiniCPM-SALA and Ling's linear models (bailing_moe_linear).

Source: SGLang 0.5.23 configs/minicpm.py; MLX-LM 0.32.2 models/bailing_moe_linear.py.
"""

from __future__ import annotations

from kvcalc.attention.lightning import LightningAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    LINEAR,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_layer,
    hidden_per_head,
    num_layers,
    per_head_origin,
)
from kvcalc.units import shown

MODEL_TYPES = ("minicpm_sala", "bailing_moe_linear")
UNUSED = ("lightning_nh", "lightning_scale", "lightning_layerwise_decay", "lightning_use_rope", "sparse_config")
"""Query heads, as many as key heads; kernel options."""
_MIXERS = {
    **dict.fromkeys(("minicpm4", "minicpm", "standard", "attention", "attn"), FULL),
    **dict.fromkeys(("lightning", "lightning_attn", "lightning-attn"), LINEAR),
}


def decoder(config: Config) -> Decoder:
    """mixer_types, repeated over the layers; or the last layer of each layer_group_size is full.

    Ling's layers after the last whole group are full, too.
    """
    layers = num_layers(config)
    if config.model_type == "minicpm_sala":
        return decoder_of(config, _mixers(config, layers), _layer)
    size = config.integer("layer_group_size")
    whole = layers // size * size
    kinds = [FULL if (layer + 1) % size == 0 or layer >= whole else LINEAR for layer in range(layers)]
    return decoder_of(config, kinds, _layer)


def _mixers(config: Config, layers: int) -> list[str]:
    names = config.texts("mixer_types") or ["minicpm4"]
    if len(names) > layers or not {*names} <= {*_MIXERS}:
        raise config.wrong(
            "mixer_types",
            f"mixer_types must name up to {layers} layers (num_hidden_layers) {' or '.join(_MIXERS)}, not "
            f"{shown(config.value('mixer_types'))}",
            "write minicpm4 or lightning-attn per layer",
        )
    return [_MIXERS[names[layer % len(names)]] for layer in range(layers)]


def _layer(kind: str, config: Config) -> Layer:
    """Ling's linear heads are hidden_size / heads wide, ignoring head_dim."""
    if kind == FULL:
        return gqa_layer(kind, config)
    facts = Facts(config)
    if config.model_type == "bailing_moe_linear":
        facts.take("linear_num_heads", "num_attention_heads")
        return facts.put("linear_head_dim", hidden_per_head(config), per_head_origin(config)).build(LightningAttention)
    facts.take("linear_num_heads", "lightning_nkv" if config.given("lightning_nkv") else "num_key_value_heads")
    for field in ("lightning_head_dim", "head_dim"):
        if config.given(field):
            return facts.take("linear_head_dim", field).build(LightningAttention)
    return facts.put("linear_head_dim", hidden_per_head(config), per_head_origin(config)).build(LightningAttention)
