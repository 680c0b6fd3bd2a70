"""gpt-oss: sliding and full layers in turn. Source: transformers configuration_gpt_oss.py."""

from __future__ import annotations

from kvcalc.io.families._decoder import FULL, SLIDING, Decoder, gqa_decoder
from kvcalc.io.fields import Fields

MODEL_TYPES = ("gpt_oss",)


def decoder(config: Fields, model_type: str) -> Decoder:
    """layer_types where the config has it, else sliding, full, sliding, full."""
    return gqa_decoder(config, [SLIDING, FULL])
