"""Llama and its like: grouped-query attention, every layer the same.

Source: transformers cache_utils.py: without layer_types, a sliding_window that is not null holds for every layer.
"""

from __future__ import annotations

from kvcalc.io.families._decoder import Decoder, gqa_decoder, reach_by_rule
from kvcalc.io.fields import Fields

MODEL_TYPES = ("llama", "mistral", "mixtral")


def decoder(config: Fields, model_type: str) -> Decoder:
    """Every layer sliding if there is a window, chunked if there is a chunk, else full."""
    return gqa_decoder(config, [reach_by_rule(config)])
