"""Qwen 2, 2.5 and 3, and others with their fields: a window counts only if use_sliding_window is true.

Source: transformers 5.23 configuration_qwen2.py, configuration_qwen3_moe.py, configuration_dots1.py,
configuration_smollm3.py.
"""

from __future__ import annotations

from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    SLIDING,
    Decoder,
    decoder_of,
    gqa_layer,
    kinds_of,
    rotary_layers,
    whole_number_or,
)
from kvcalc.io.families._drafts import num_drafts

MODEL_TYPES = (
    *("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text", "dots1"),
    *("smollm3", "mimo"),
)
UNUSED = ("max_window_layers", "sliding_window")
"""If use_sliding_window is false, and in Qwen3-MoE, whose layers are all equal."""
_ALWAYS_WINDOWED = {"dots1"}
"""Types without use_sliding_window, whose layers from max_window_layers on are windowed if there is a window."""


def decoder(config: Config) -> Decoder:
    """Layers from max_window_layers on are sliding, in Qwen3-MoE all; in SmolLM3 those without rotary positions."""
    windowed = config.boolean("use_sliding_window") or config.model_type in _ALWAYS_WINDOWED
    windowed = windowed and "sliding_window" in config

    def default(layers: int) -> list[str]:
        if not windowed:
            return [FULL] * layers
        if config.model_type == "smollm3":
            return [FULL if rotary else SLIDING for rotary in rotary_layers(config, layers)]
        start = 0 if config.model_type == "qwen3_moe" else whole_number_or(config, "max_window_layers", 0)
        return [SLIDING if layer >= start else FULL for layer in range(layers)]

    return decoder_of(config, kinds_of(config, default), gqa_layer, draft=FULL, num_drafts=num_drafts(config))
