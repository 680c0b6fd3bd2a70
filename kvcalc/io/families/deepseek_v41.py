"""DeepSeek-V4.1: every layer has a window, and a few produce the compressed entries that the others read.

Source: vLLM 0.33 transformers_utils/configs/deepseek_v41.py; MLX-LM 0.32.2 models/deepseek_v41.py.
"""

from __future__ import annotations

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import SLIDING, Decoder, Facts, Layer, decoder_of, num_layers
from kvcalc.io.families._drafts import num_drafts
from kvcalc.units import shown

MODEL_TYPES = ("deepseek_v41_text",)
UNUSED = ("num_key_value_heads", "qk_rope_head_dim", "engram_layer_ids", "candidate_source_layer_id")
"""Heads that share one entry; a part of head_dim; memories that are weights; start of the search."""


def decoder(config: Config) -> Decoder:
    """kv_source_layer_ids keep entries of compress_ratios tokens, with index keys if they are also index sources.

    compress_ratios may continue for the multi-token-prediction layers, which only have a window.
    """
    layers = num_layers(config)
    ratios, sources = _ratios(config, layers), _layers(config, "kv_source_layer_ids", layers)
    indexed = _layers(config, "index_source_layer_ids", layers)
    kinds = [
        f"pooled-{ratio}{'-indexed' if layer in indexed else ''}" if ratio and layer in sources else SLIDING
        for layer, ratio in enumerate(ratios)
    ]

    def layer_of(kind: str, own: Config) -> Layer:
        facts = Facts(own).take("num_query_heads", "num_attention_heads").take("head_dim").take("sliding_window")
        if kind == SLIDING:
            return facts.build(CompressedAttention)
        facts.put("compress_rate", ratios[kinds.index(kind)], own.origin("compress_ratios"))
        facts.put("closed_groups", True, own.origin("kv_source_layer_ids"))
        return (facts.take("index_head_dim") if kind.endswith("-indexed") else facts).build(CompressedAttention)

    return decoder_of(config, kinds, layer_of, draft=SLIDING, num_drafts=num_drafts(config))


def _ratios(config: Config, layers: int) -> list[int]:
    given = config.value("compress_ratios")
    listed = given if isinstance(given, list) else []
    ratios = [ratio for ratio in listed[:layers] if type(ratio) is int and ratio >= 0]
    if len(ratios) < layers:
        raise config.wrong(
            "compress_ratios",
            f"compress_ratios must name {layers} layers (num_hidden_layers) with whole numbers, not {shown(given)}",
            "write the tokens per entry of each layer, 0 for window only",
        )
    return ratios


def _layers(config: Config, field: str, layers: int) -> set[int]:
    given = config.value(field)
    listed = given if isinstance(given, list) else [None]
    found = {layer for layer in listed if type(layer) is int and 0 <= layer < layers}
    if not all(layer in found for layer in listed):
        raise config.wrong(
            field, f"{field} must list layers from 0 to {layers - 1}, not {shown(given)}", "count layers from 0"
        )
    return found
