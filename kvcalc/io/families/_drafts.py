"""Layers for multi-token prediction, whose number is in the config."""

from __future__ import annotations

from kvcalc.io.families._config import Config
from kvcalc.model import MAX_LAYERS

_FIELDS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")


def num_drafts(config: Config) -> int:
    """Layers for multi-token prediction; 0 if the config does not name them."""
    for field in _FIELDS:
        if config.given(field) and config.value(field) != 0:
            return config.integer(field, most=MAX_LAYERS)
    return 0
