"""Grouped-query attention with windows in special fields: PLaMo 3, Pangu, Domyn Edge, IQuest Q1, Spark.

Mistral's own params.json, whose sliding_window may be a list, is read here, too.

Source: vLLM 0.33 models/plamo3.py, openpangu.py, domyn_edge.py; SGLang 0.5.23 configs/iquest_q1.py, spark2_5.py;
MLX-LM 0.32.2 models/plamo3.py, spark2_5.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.region_summary import RegionSummary
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    SLIDING,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    full_each,
    gqa_facts,
    gqa_layer,
    kinds_of,
    letters,
    num_layers,
    only,
)
from kvcalc.io.families._drafts import num_drafts
from kvcalc.units import shown

MODEL_TYPES = ("plamo3", "PanguEmbedded", "PanguProMoE", "domyn_edge", "iquest_q1", "spark2_5", "step5")
UNUSED = ("position_layers", "param_sink_number", "param_sink_with_value", "qk_nope_dim", "qk_rope_dim", "layer_types")
"""Which layers have rotary positions; sinks that are weights; parts of head_dim; what IQuest Q1 lists again."""
_PERIOD, _WINDOW = 8, 2048
"""Defaults of PLaMo 3."""
_BLOCKS = ("full_attention", "sliding_attention", "sliding_attention", "sliding_attention")
_SUMMARY, _REGION = 256, 8
"""Step 5's, the only ones vLLM supports (models/step5/nvidia/config.py)."""
_NUM_BLOCKS, _LAST = 21, 3
"""IQuest Q1's: one full layer, 21 blocks, three full layers."""


def decoder(config: Config) -> Decoder:
    """Each type has its own fields for windows."""
    if config.model_type == "iquest_q1":
        return _iquest_q1(config)
    if config.model_type == "step5":
        return _step5(config)
    if config.model_type == "domyn_edge":
        return _of_windows(config, _domyn_windows(config, num_layers(config)))
    if config.model_type == "spark2_5":
        kinds = kinds_of(config, letters("SSSF"))
        return decoder_of(config, kinds, gqa_layer, draft=FULL, num_drafts=num_drafts(config))
    if config.model_type == "plamo3":
        config = _with_window(config)
        if "layer_types" in config or not config.given("interleaved_sliding_window"):
            period = config.integer_or("sliding_window_pattern", _PERIOD) or _PERIOD
            return decoder_of(config, kinds_of(config, full_each(period)), gqa_layer)
    return _of_windows(config, _interleaved(config, num_layers(config)))


def _step5(config: Config) -> Decoder:
    """Full layers have summaries of regions unless sparse_config is disabled; layer_types may continue for drafts."""
    layers, drafts = num_layers(config), num_drafts(config)
    types = config.value("layer_types")
    if isinstance(types, list) and len(types) > layers:
        config = config.with_values({"layer_types": types[:layers]})

    def layer_of(kind: str, own: Config) -> Layer:
        attention = gqa_layer(kind, own)
        if kind != FULL or own.section("sparse_config").value("enabled") is False:
            return attention
        facts = Facts(own).put("summary_dim", _SUMMARY, own.origin("sparse_config"))
        return attention + facts.put("region_tokens", _REGION, own.origin("sparse_config")).build(RegionSummary)

    return decoder_of(config, kinds_of(config, letters("SF")), layer_of, draft=FULL, num_drafts=drafts)


def _with_window(config: Config) -> Config:
    """PLaMo 3: sliding_window, else window_size."""
    if config.given("sliding_window"):
        return config
    return config.with_values({"sliding_window": config.integer_or("window_size", _WINDOW)})


def _of_windows(config: Config, windows: Sequence[int | None]) -> Decoder:
    """A layer per window, None for full attention: one group per window size."""
    sizes = dict.fromkeys(size for size in windows if size is not None)
    names = {size: SLIDING if len(sizes) == 1 else f"{SLIDING}-{size}" for size in sizes}
    by_kind = {name: size for size, name in names.items()}
    kinds = [FULL if size is None else names[size] for size in windows]

    def layer_of(kind: str, own: Config) -> Layer:
        facts = gqa_facts(own).take_if_there("v_head_dim", "v_channels")
        if kind in by_kind:
            field = "window_sizes" if own.model_type == "domyn_edge" else "interleaved_sliding_window"
            facts.put("sliding_window", by_kind[kind], own.origin(field))
        return facts.build(GroupedQueryAttention)

    return decoder_of(config, kinds, layer_of, draft=FULL, num_drafts=num_drafts(config))


def _interleaved(config: Config, layers: int) -> list[int | None]:
    """interleaved_sliding_window: one window for all layers, or a list repeated over the layers."""
    given = config.value("interleaved_sliding_window")
    listed = given if isinstance(given, list) and given else [given]
    sizes = [size for size in listed if size is None or (type(size) is int and size > 0)]
    if len(sizes) < len(listed):
        raise config.wrong(
            "interleaved_sliding_window",
            f"{config.key('interleaved_sliding_window')} must be a window or a list of windows and nulls, not "
            f"{shown(given)}",
            "write null for a full-attention layer",
        )
    return [sizes[layer % len(sizes)] for layer in range(layers)]


def _domyn_windows(config: Config, layers: int) -> list[int | None]:
    """window_sizes [[512, 0], ...]: tokens before the query's own that are seen with it; below 1: all."""
    given = config.value("window_sizes")
    pairs = given if isinstance(given, list) and len(given) == layers else []
    sizes = [pair[0] if isinstance(pair, list) and pair else None for pair in pairs]
    if not pairs or not all(type(size) is int for size in sizes):
        raise config.wrong(
            "window_sizes",
            f"window_sizes must have {layers} pairs (num_hidden_layers) such as [512, 0], not {shown(given)}",
            "write [-1, -1] for a full-attention layer",
        )
    return [size + 1 if size is not None and size > 0 else None for size in sizes]


def _iquest_q1(config: Config) -> Decoder:
    """first_layers_types, num_hybrid_layers_block times hybrid_layers_types_block, last_layers_types.

    All are full if use_hybrid_layers or use_sliding_window is false; layer_types of the file is not read.
    """
    layers = num_layers(config)
    first = config.texts("first_layers_types") or ["full_attention"]
    block = config.texts("hybrid_layers_types_block") or list(_BLOCKS)
    last = config.texts("last_layers_types") or ["full_attention"] * _LAST
    times = config.integer_or("num_hybrid_layers_block", _NUM_BLOCKS) or _NUM_BLOCKS
    types = [*first, *block * min(times, layers + 1), *last]
    hybrid = config.boolean("use_hybrid_layers", default=True) and config.boolean("use_sliding_window", default=True)
    if not hybrid:
        types = ["full_attention"] * layers
    kinds = kinds_of(config.with_values({"layer_types": types}), letters("F"))

    def layer_of(kind: str, own: Config) -> Layer:
        only(own, kind, FULL, SLIDING)
        return gqa_layer(kind, own)

    return decoder_of(config, kinds, layer_of, draft=FULL, num_drafts=num_drafts(config))
