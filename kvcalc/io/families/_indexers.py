"""Which layers have their own indexer, and which reuse an earlier one's selection."""

from __future__ import annotations

from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import whole_number_or

_OFFSET = 2
_HY_PERIOD = 4


def indexer_types(config: Config, layers: int) -> list[bool]:
    """For each layer, whether it has its own indexer.

    indexer_types if the config has it ("full" or "shared"); else index_topk_pattern ("FSS..." or a list of them); else
    each index_topk_freq-th layer from index_skip_topk_offset on.
    """
    for field in ("indexer_types", "index_topk_pattern"):
        if field in config:
            value = config.value(field)
            names = list(value) if isinstance(value, str) else config.texts(field)
            if len(names) != layers or not {*names} <= {"full", "shared", "F", "S"}:
                raise config.wrong(
                    field,
                    f"{field} must name {layers} layers (num_hidden_layers) full or shared, not {len(names)}",
                    "write full or shared for each layer",
                )
            return [name in ("full", "F") for name in names]
    if config.model_type in ("hy_v4", "hy_v4_vl_text"):
        return [layer == 0 or (layer - 1) % _HY_PERIOD == 0 for layer in range(layers)]
    frequency = max(whole_number_or(config, "index_topk_freq", 1), 1)
    offset = (
        whole_number_or(config, "index_skip_topk_offset", _OFFSET) if "index_skip_topk_offset" in config else _OFFSET
    )
    return [max(layer - offset + 1, 0) % frequency == 0 for layer in range(layers)]
