"""Llama 3.2 Vision: some layers attend to an image's tokens instead of the text's.

Source: transformers 5.23 modeling_mllama.py; IDEFICS, which adds such layers between its own, modeling_idefics.py.
"""

from __future__ import annotations

from kvcalc.attention.cross import CrossAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import FULL, Decoder, Facts, Layer, decoder_of, gqa_facts, gqa_layer, num_layers
from kvcalc.units import shown

MODEL_TYPES = ("mllama_text_model",)
UNUSED: tuple[str, ...] = ()
_CROSS = "cross"
_CROSS_LAYERS = range(3, 40, 5)
"""Of the 11B model, the class's default."""


def decoder(config: Config) -> Decoder:
    """cross_attention_layers hold only vision tokens, given by encoder_tokens: none without an image."""
    layers = num_layers(config)
    cross = config.value("cross_attention_layers") if "cross_attention_layers" in config else list(_CROSS_LAYERS)
    if not isinstance(cross, list) or not all(isinstance(layer, int) for layer in cross):
        raise config.wrong(
            "cross_attention_layers",
            f"cross_attention_layers must be a list of layers, not {shown(cross)}",
            "count layers from 0",
        )
    kinds = [_CROSS if layer in cross else FULL for layer in range(layers)]
    note = "layers that attend to an image are counted without one: set encoder_tokens to its vision tokens"
    return decoder_of(config, kinds, _layer, notes=(note,) if _CROSS in kinds else ())


def _layer(kind: str, config: Config) -> Layer:
    if kind == FULL:
        return gqa_layer(kind, config)
    facts = gqa_facts(config)
    cross = Facts(config).put("cross_num_kv_heads", facts.values["num_kv_heads"], facts.origins["num_kv_heads"])
    cross.put("cross_head_dim", facts.values["head_dim"], facts.origins["head_dim"])
    return cross.put("encoder_tokens", 0, "no image").build(CrossAttention)
