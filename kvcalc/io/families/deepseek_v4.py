"""DeepSeek-V4: compressed sparse, heavily compressed, and window-only layers.

Source: transformers 5.23 configuration_deepseek_v4.py.
"""

from __future__ import annotations

from kvcalc.attention.compressed import CompressedAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import CSA, HCA, SLIDING, Decoder, Facts, Layer, decoder_of, kinds_of, only
from kvcalc.io.families._drafts import num_drafts
from kvcalc.units import shown

MODEL_TYPES = ("deepseek_v4",)
UNUSED = ("qk_rope_head_dim",)
"""Part of head_dim."""
_KIND_OF_RATIO = {0: SLIDING, 4: CSA, 128: HCA}
_TYPE_OF_KIND = {CSA: "compressed_sparse_attention", HCA: "heavily_compressed_attention"}
_LEGACY_RATE = {CSA: "compress_rate_csa", HCA: "compress_rate_hca"}
_RATE = {CSA: 4, HCA: 128}


def decoder(config: Config) -> Decoder:
    """layer_types, or compress_ratios of each layer (0, 4, 128); else two HCA layers, then HCA and CSA in turn.

    compress_ratios may continue for the multi-token-prediction layers, which only have a window.
    """

    def default(layers: int) -> list[str]:
        if "compress_ratios" in config:
            return _by_ratio(config, layers)
        return [CSA if layer % 2 and layer > 1 else HCA for layer in range(layers)]

    kinds = kinds_of(config, default)
    return decoder_of(config, kinds, _layer, draft=SLIDING, num_drafts=num_drafts(config))


def _by_ratio(config: Config, layers: int) -> list[str]:
    ratios = config.value("compress_ratios")
    listed = ratios if isinstance(ratios, list) else []
    if len(listed) < layers or not all(isinstance(r, int) and r in _KIND_OF_RATIO for r in listed):
        raise config.wrong(
            "compress_ratios",
            f"compress_ratios must name {layers} layers (num_hidden_layers) 0, 4 or 128, not {shown(ratios)}",
            "write the ratio of each layer: 0 for window only, 4 for CSA, 128 for HCA",
        )
    return [_KIND_OF_RATIO[ratio] for ratio in listed[:layers]]


def _layer(kind: str, config: Config) -> Layer:
    only(config, kind, CSA, HCA, SLIDING)
    facts = Facts(config).take("num_query_heads", "num_attention_heads").take("head_dim").take("sliding_window")
    if kind == SLIDING:
        return facts.build(CompressedAttention)
    rates = config.section("compress_rates") if "compress_rates" in config else None
    if _LEGACY_RATE[kind] in config:
        facts.take("compress_rate", _LEGACY_RATE[kind])
    elif rates is not None and _TYPE_OF_KIND[kind] in rates:
        name = _TYPE_OF_KIND[kind]
        facts.put("compress_rate", rates.value(name), rates.origin(name))
    else:
        facts.put("compress_rate", _RATE[kind], f"compress_rates, default of {config.model_type}")
    return (facts.take("index_head_dim") if kind == CSA else facts).build(CompressedAttention)
