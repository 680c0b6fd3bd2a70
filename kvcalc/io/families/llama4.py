"""Llama 4: layers with rotary positions attend within chunks, those without see everything.

Source: transformers configuration_llama4.py.
"""

from __future__ import annotations

from kvcalc.io.families._decoder import CHUNKED, FULL, Decoder, gqa_decoder, num_layers
from kvcalc.io.fields import Fields
from kvcalc.units import shown

MODEL_TYPES = ("llama4", "llama4_text")
_DEFAULT_INTERVAL = 4


def decoder(config: Fields, model_type: str) -> Decoder:
    """no_rope_layers[i] is 0 for a full layer and 1 for a chunked one; without it each 4th layer is full."""
    if "attention_chunk_size" not in config:
        return gqa_decoder(config, [FULL])
    rotary = config.values.get("no_rope_layers")
    if not rotary:
        interval = config.integer_or("no_rope_layer_interval", None) or _DEFAULT_INTERVAL
        return gqa_decoder(config, [CHUNKED] * (interval - 1) + [FULL])
    layers = num_layers(config)
    if not isinstance(rotary, list) or len(rotary) != layers or any(flag not in (0, 1) for flag in rotary):
        raise config.wrong(
            "no_rope_layers",
            f"no_rope_layers must be {layers} flags of 0 or 1 (num_hidden_layers), not {shown(rotary)}",
            "write one flag for each layer, or leave the field out",
        )
    return gqa_decoder(config, [CHUNKED if flag else FULL for flag in rotary])
