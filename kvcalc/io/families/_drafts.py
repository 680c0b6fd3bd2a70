"""Layers that predict further tokens (multi-token prediction), of which a config says how many there are."""

from __future__ import annotations

from kvcalc.io.families._config import Config
from kvcalc.model import MAX_LAYERS

_FIELDS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")


def num_drafts(config: Config) -> int:
    """Layers of multi-token prediction; 0 where the config itself names none."""
    for field in _FIELDS:
        if config.given(field) and config.value(field) != 0:
            return config.integer(field, most=MAX_LAYERS)
    return 0
