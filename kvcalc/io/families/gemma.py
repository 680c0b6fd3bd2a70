"""Gemma 2, 3, 3n and 4: sliding layers with a full one at intervals.

Source: transformers 5.23 configuration_gemma2.py, configuration_gemma3.py, configuration_gemma3n.py and
configuration_gemma4.py.
"""

from __future__ import annotations

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    SHARED,
    SHARED_SLIDING,
    SLIDING,
    Decoder,
    Layer,
    decoder_of,
    full_each,
    gqa_facts,
    gqa_layer,
    kinds_of,
    only,
)

_GEMMA4 = ("gemma4_text", "gemma4_unified_text", "gemma4_assistant", "diffusion_gemma_text")
MODEL_TYPES = ("gemma2", "gemma3_text", "gemma3n_text", *_GEMMA4)
UNUSED = ("sliding_window_size",)
"""Gemma 2: duplicate of sliding_window."""
_PERIODS = {"gemma2": 2, "gemma3n_text": 5}
_PERIOD = 6
_GLOBAL_HEAD_DIM = 512
"""Default width of a full layer's heads in Gemma 4."""


def decoder(config: Config) -> Decoder:
    """The last layer of each period is full: every 2nd in Gemma 2, 5th in 3n, 6th (sliding_window_pattern) in 3 and 4.

    Gemma 4 always ends with a full layer, and its full layers have their own heads.
    """
    period = config.integer_or("sliding_window_pattern", None) if config.model_type == "gemma3_text" else None
    kinds = kinds_of(config, full_each(period or _PERIODS.get(config.model_type, _PERIOD)))
    if config.model_type in _GEMMA4 and not {SHARED, SHARED_SLIDING} & {*kinds}:
        kinds = [*kinds[:-1], FULL]
    return decoder_of(config, kinds, _gemma4_layer if config.model_type in _GEMMA4 else _layer)


def _layer(kind: str, config: Config) -> Layer:
    if kind == SLIDING and _sees_both_sides(config):
        # flash attention's bounds exclude the token itself: half of the window to each side
        return gqa_layer(kind, config.with_values({"sliding_window": config.integer("sliding_window") // 2 + 1}))
    return gqa_layer(kind, config)


def _sees_both_sides(config: Config) -> bool:
    """Gemma 4 gives which tokens do, Gemma 3 whether they do."""
    field = "use_bidirectional_attention"
    return config.text(field) == "all" if config.model_type in _GEMMA4 else config.boolean(field)


def _gemma4_layer(kind: str, config: Config) -> Layer:
    only(config, kind, FULL, SLIDING)
    if kind != FULL or "per_layer_config" in config:  # as saved by transformers: per layer, already applied
        return _layer(kind, config)
    facts = gqa_facts(config)
    if "global_head_dim" in config:
        facts.take("head_dim", "global_head_dim")
    else:
        facts.put("head_dim", _GLOBAL_HEAD_DIM, f"global_head_dim, default of {config.model_type}")
    if config.boolean("attention_k_eq_v"):
        facts.take_if_there("num_kv_heads", "num_global_key_value_heads")
    return facts.build(GroupedQueryAttention)
