"""Short convolutions instead of or in addition to attention: LFM2 and 3, Inkling, Zaya, Baichuan-M1.

Source: transformers 5.23 configuration_lfm2.py, configuration_lfm3.py, modeling_inkling.py, modeling_zaya.py; 5.24
modeling_inkling2_loop.py; MLX-LM 0.32.2 models/baichuan_m1.py.
"""

from __future__ import annotations

from kvcalc.attention.cca import CompressedConvolution
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.short_conv import ShortConvolution
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    CONV,
    FULL,
    HYBRID,
    HYBRID_SLIDING,
    SLIDING,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_facts,
    gqa_layer,
    hidden_per_head,
    kinds_of,
    num_layers,
    only,
    per_head_origin,
    with_reach,
)
from kvcalc.io.families._drafts import num_drafts
from kvcalc.model import MAX_LAYERS
from kvcalc.units import shown

MODEL_TYPES = (
    *("lfm2", "lfm2_moe", "lfm3", "inkling_text", "inkling2_text", "inkling2_loop_text", "zaya", "baichuan_m1"),
)
UNUSED = ("conv_dim", "conv_dim_out", "conv_use_xavier_init", "num_heads")
"""LFM2: widths equal to hidden_size, and duplicates of the heads."""
_INKLING_PERIOD = 6
_LOOP = ("loop_layer_index_start", "loop_layer_index_end", "loop_num_passes")
_PUBLISHED_LOOP = ("core_start", "core_end", "num_passes")


def decoder(config: Config) -> Decoder:
    """layer_types; LFM2: full_attn_idxs; Inkling: local_layer_ids; Zaya: all layers equal."""
    if config.model_type.startswith("lfm"):
        return decoder_of(config, kinds_of(config, lambda layers: _lfm(config, layers)), _lfm_layer)
    if config.model_type == "baichuan_m1":
        local = _indices(config, "sliding_window_layers", num_layers(config))
        kinds = [HYBRID_SLIDING if layer in local else HYBRID for layer in range(num_layers(config))]
        return decoder_of(config, kinds, _baichuan_layer)
    if config.model_type == "zaya":
        return decoder_of(config, kinds_of(config, lambda layers: [HYBRID] * layers), _zaya_layer)
    kinds = kinds_of(config, lambda layers: _inkling(config, layers))
    if config.model_type == "inkling2_loop_text":
        kinds += _looped(config, kinds)
    return decoder_of(config, kinds, _inkling_layer, draft=HYBRID, num_drafts=num_drafts(config))


def _lfm(config: Config, layers: int) -> list[str]:
    if config.model_type == "lfm3":
        kinds = {0: SLIDING, 2: FULL}
        return [kinds.get(layer % 4, CONV) if layer else CONV for layer in range(layers)]
    if "full_attn_idxs" not in config:
        return [FULL] * layers
    indices = _indices(config, "full_attn_idxs", layers)
    return [FULL if layer in indices else CONV for layer in range(layers)]


def _lfm_layer(kind: str, config: Config) -> Layer:
    if kind == CONV:
        return (
            Facts(config)
            .take("conv_channels", "hidden_size")
            .take("conv_kernel", "conv_L_cache")
            .build(ShortConvolution)
        )
    return gqa_layer(kind, config)


def _inkling(config: Config, layers: int) -> list[str]:
    if "local_layer_ids" in config:
        local = _indices(config, "local_layer_ids", layers)
        return [HYBRID_SLIDING if layer in local else HYBRID for layer in range(layers)]
    return [HYBRID_SLIDING if (layer + 1) % _INKLING_PERIOD else HYBRID for layer in range(layers)]


def _looped(config: Config, kinds: list[str]) -> list[str]:
    """Layers from loop_layer_index_start to _end run loop_num_passes times, and cache each time.

    As published, in loop_config: core_start, core_end, num_passes.
    """
    given = config.section("loop_config") if "loop_config" in config else config
    names = _LOOP if given is config else _PUBLISHED_LOOP
    start, end, passes = (
        given.integer(name, most=MAX_LAYERS) if name in given else config.integer(usual, most=MAX_LAYERS)
        for name, usual in zip(names, _LOOP, strict=True)
    )
    again = (passes - 1) * kinds[start:end]
    if len(kinds) + len(again) > MAX_LAYERS:
        raise config.wrong(
            "loop_num_passes",
            f"{len(kinds) + len(again):,} cached layers exceed the limit of {MAX_LAYERS:,}",
            "check the number of passes",
        )
    return again


def _inkling_layer(kind: str, config: Config) -> Layer:
    """Attention, and short convolutions over its keys, its values, and the layer's two inputs."""
    only(config, kind, HYBRID, HYBRID_SLIDING)
    facts = gqa_facts(config)
    if kind == HYBRID_SLIDING:
        facts.take("num_query_heads", "swa_num_attention_heads").take("num_kv_heads", "swa_num_key_value_heads")
        facts.take("head_dim", "swa_head_dim")
    layer = with_reach(facts, kind).build(GroupedQueryAttention)
    keys_and_values = 2 * facts.whole("num_kv_heads") * facts.whole("head_dim")
    channels = keys_and_values + 2 * config.integer("hidden_size")
    convolutions = Facts(config).put("conv_channels", channels, config.origin("hidden_size"))
    return layer + convolutions.take("conv_kernel", "conv_kernel_size").build(ShortConvolution)


def _baichuan_layer(kind: str, config: Config) -> Layer:
    """Attention, and convolutions of conv_window tokens over its keys and values; window layers have their own heads.

    The width of a head is always hidden_size / query heads.
    """
    heads = "num_attention_heads"
    if kind == HYBRID_SLIDING and config.given("num_swa_attention_heads"):
        heads = "num_swa_attention_heads"
    facts = Facts(config).take("num_query_heads", heads).take("num_kv_heads", "num_key_value_heads")
    if kind == HYBRID_SLIDING:
        facts.take_if_there("num_kv_heads", "num_swa_key_value_heads")
    facts.put("head_dim", hidden_per_head(config, heads), per_head_origin(config, heads))
    layer = with_reach(facts, kind).build(GroupedQueryAttention)
    channels = 2 * facts.whole("num_kv_heads") * facts.whole("head_dim")  # keys and values
    convolutions = Facts(config).put("conv_channels", channels, config.origin("num_key_value_heads"))
    return layer + convolutions.take("conv_kernel", "conv_window").build(ShortConvolution)


def _zaya_layer(kind: str, config: Config) -> Layer:
    only(config, kind, HYBRID, HYBRID_SLIDING)
    facts = gqa_facts(config)
    layer = with_reach(facts, kind).build(GroupedQueryAttention)
    kv_heads, head_dim = facts.whole("num_kv_heads"), facts.whole("head_dim")
    heads = facts.whole("num_query_heads") + kv_heads
    columns = config.integer("cca_time0") + config.integer("cca_time1") - 2  # of two kernels, each minus one
    states = Facts(config).put("cca_conv_channels", heads * head_dim, facts.origins["head_dim"])
    states.put("cca_conv_columns", columns, config.origin("cca_time0"))
    states.put("cca_value_width", kv_heads * head_dim // 2, facts.origins["head_dim"])
    return layer + states.build(CompressedConvolution)


def _indices(config: Config, field: str, layers: int) -> list[int]:
    indices = config.value(field)
    if not isinstance(indices, list) or not all(isinstance(i, int) and 0 <= i < layers for i in indices):
        raise config.wrong(
            field, f"{field} must list layers from 0 to {layers - 1}, not {shown(indices)}", "count layers from 0"
        )
    return indices
