"""DeepSeek-V2, V3 and R1, and Kimi-K2 which is built like them: multi-head latent attention in every layer.

Source: transformers configuration_deepseek_v3.py; Kimi-K2's own configuration_deepseek.py.
"""

from __future__ import annotations

from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.io.families._decoder import FULL, Decoder, Facts, decoder_of, num_layers
from kvcalc.io.fields import Fields

MODEL_TYPES = ("deepseek_v2", "deepseek_v3", "kimi_k2")


def decoder(config: Fields, model_type: str) -> Decoder:
    """A latent of kv_lora_rank and a rotary key of qk_rope_head_dim in every layer."""
    facts = Facts()
    facts.take(config, "num_query_heads", "num_attention_heads")
    for name in ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"):
        facts.take(config, name, name)
    return decoder_of(config, facts, MultiHeadLatentAttention, (FULL,) * num_layers(config))
