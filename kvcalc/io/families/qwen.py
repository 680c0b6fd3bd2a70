"""Qwen 2, 2.5 and 3: a sliding_window in the config counts only where use_sliding_window is true.

Source: transformers configuration_qwen2.py, configuration_qwen3.py and configuration_qwen3_moe.py.
"""

from __future__ import annotations

from kvcalc.io.families._decoder import FULL, SLIDING, Decoder, gqa_decoder, num_layers
from kvcalc.io.fields import Fields

MODEL_TYPES = ("qwen2", "qwen3", "qwen3_moe")


def decoder(config: Fields, model_type: str) -> Decoder:
    """Full layers; with use_sliding_window those from max_window_layers on slide (qwen3_moe: all of them)."""
    if not config.boolean("use_sliding_window") or "sliding_window" not in config:
        return gqa_decoder(config, [FULL])
    layers = num_layers(config)
    first = (
        0
        if model_type == "qwen3_moe" or config.values.get("max_window_layers") == 0
        else min(layers, config.integer("max_window_layers"))
    )
    return gqa_decoder(config, [FULL] * first + [SLIDING] * (layers - first))
