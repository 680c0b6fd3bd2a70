"""Gemma 2 and 3: sliding layers with a full one after each few.

Source: transformers configuration_gemma2.py and configuration_gemma3.py.
"""

from __future__ import annotations

from kvcalc.io.families._decoder import FULL, SLIDING, Decoder, gqa_decoder
from kvcalc.io.fields import Fields

MODEL_TYPES = ("gemma2", "gemma3", "gemma3_text")
_PERIODS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6}


def decoder(config: Fields, model_type: str) -> Decoder:
    """The last layer of each period is full: every 2nd in Gemma 2, every 6th (sliding_window_pattern) in Gemma 3."""
    period = config.integer_or("sliding_window_pattern", None) or _PERIODS[model_type]
    return gqa_decoder(config, [SLIDING] * (period - 1) + [FULL])
