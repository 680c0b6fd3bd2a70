"""Llama 4: layers with rotary positions attend within chunks, those without see everything.

Source: transformers 5.23 configuration_llama4.py.
"""

from __future__ import annotations

from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import CHUNKED, FULL, Decoder, decoder_of, gqa_layer, kinds_of, rotary_layers

MODEL_TYPES = ("llama4_text",)
UNUSED: tuple[str, ...] = ()


def decoder(config: Config) -> Decoder:
    """no_rope_layers[i] is 0 for a full layer and 1 for a chunked one; without it each 4th layer is full."""

    def default(layers: int) -> list[str]:
        if "attention_chunk_size" not in config:
            return [FULL] * layers
        return [CHUNKED if rotary else FULL for rotary in rotary_layers(config, layers)]

    return decoder_of(config, kinds_of(config, default), gqa_layer)
