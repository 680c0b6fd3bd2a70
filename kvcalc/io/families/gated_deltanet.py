"""Gated DeltaNet layers with attention between them: Qwen3-Next, 3.5 and 3.6, Qwen4 Exp, OLMo Hybrid and others.

GigaChat 3.5 has MLA between them; Jet-Nemotron and Lara also have windows.

Source: transformers 5.23 configuration_qwen3_next.py, modeling_qwen4_exp.py, configuration_olmo_hybrid.py; 5.24
configuration_lara_mini.py; SGLang 0.5.23 configs/gigachat35.py, configs/jet_nemotron.py.
"""

from __future__ import annotations

from kvcalc.attention.gated_deltanet import GatedDeltaNet
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.ngram_conv import NgramConvolution
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    INDEXED,
    LINEAR,
    SLIDING,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_facts,
    gqa_layer,
    kinds_of,
    letters,
    num_layers,
    only,
)
from kvcalc.io.families._drafts import num_drafts
from kvcalc.io.families.mla import mla_facts
from kvcalc.io.fields import Fields
from kvcalc.units import shown

MODEL_TYPES = (
    *("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp_text", "olmo_hybrid", "gigachat3_5"),
    *("jet_nemotron", "lara_mini"),
)
UNUSED = ("linear_attention_type", "linear_sigmoid_gate_scale")
"""GigaChat 3.5: the class of its linear layers, and a constant of their gate."""
_INTERVAL = 4
_NGRAMS = "-ngrams"
_MOST_EXPANDED = 10_000


def decoder(config: Config) -> Decoder:
    """layer_types, else each 4th layer (full_attention_interval) is attention; with an indexer in Qwen4 Exp.

    Lara has windows in two of each five layers.
    """
    if config.model_type == "jet_nemotron":
        return _jet_nemotron(config)
    with_indexer = config.model_type == "qwen4_exp_text"

    def default(layers: int) -> list[str]:
        if config.model_type == "gigachat3_5":
            return _listed(config, layers)
        if config.model_type == "lara_mini":
            return letters("LSLFS")(layers)
        interval = config.integer_or("full_attention_interval", _INTERVAL) or _INTERVAL
        if config.model_type == "olmo_hybrid":
            interval = _INTERVAL
        kinds = [LINEAR if (layer + 1) % interval else FULL for layer in range(layers)]
        if config.model_type == "olmo_hybrid" and FULL not in kinds:
            kinds[-1] = FULL
        return kinds

    kinds = kinds_of(config, default)
    if with_indexer:
        kinds = [INDEXED if kind == FULL else kind for kind in kinds]
        kinds = _with_ngrams(config, kinds)
    return decoder_of(config, kinds, _layer, draft=FULL, num_drafts=num_drafts(config))


def _with_ngrams(config: Config, kinds: list[str]) -> list[str]:
    """Qwen4 Exp: layers of ple_layer_ids, counted from 1, have n-gram embeddings in addition to their own part."""
    given = config.value("ple_layer_ids") or []
    if not isinstance(given, list) or not all(type(layer) is int and 0 < layer <= len(kinds) for layer in given):
        raise config.wrong(
            "ple_layer_ids",
            f"ple_layer_ids must list layers from 1 to {len(kinds)}, not {shown(given)}",
            "count layers from 1",
        )
    return [f"{kind}{_NGRAMS}" if layer in given else kind for layer, kind in enumerate(kinds, 1)]


def _ngram_conv(config: Config) -> Layer:
    channels = config.integer("hc_count") * config.integer("hidden_size")
    columns = (config.integer("ple_conv_kernel_size") - 1) * config.integer("ngram_size")
    facts = Facts(config).put("ngram_conv_channels", channels, config.origin("hc_count"))
    return facts.put("ngram_conv_columns", columns, config.origin("ple_conv_kernel_size")).build(NgramConvolution)


def _layer(kind: str, config: Config) -> Layer:
    if kind.endswith(_NGRAMS):
        return _layer(kind.removesuffix(_NGRAMS), config) + _ngram_conv(config)
    if kind == LINEAR:
        return _linear(config)
    if kind == INDEXED:
        facts = Facts(config).take("index_head_dim", "indexer_head_dim")
        facts.take_if_there("index_pool_tokens", "indexer_compress_ratio")
        return gqa_layer(FULL, config) + facts.build(Indexer)
    if config.model_type == "gigachat3_5":
        only(config, kind, FULL)
        return mla_facts(config).build(MultiHeadLatentAttention)
    return gqa_layer(kind, config)


def _linear(config: Config) -> Layer:
    facts = Facts(config)
    if config.model_type == "olmo_hybrid":
        config = _with_olmo_defaults(config)
        facts = Facts(config)
    for field in ("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"):
        facts.take(field)
    facts.take("linear_conv_kernel", "linear_conv_kernel_dim").take_dtype("state_dtype", "mamba_ssm_dtype")
    return facts.build(GatedDeltaNet)


def _listed(config: Config, layers: int) -> list[str]:
    """GigaChat 3.5 without layer_types: full_attention_layers, counted from 0; otherwise all are full."""
    given = config.value("full_attention_layers")
    if given is None:
        return [FULL] * layers
    if not isinstance(given, list) or not all(type(layer) is int and 0 <= layer < layers for layer in given):
        raise config.wrong(
            "full_attention_layers",
            f"full_attention_layers must list layers from 0 to {layers - 1}, not {shown(given)}",
            "count layers from 0",
        )
    return [FULL if layer in given else LINEAR for layer in range(layers)]


_JET = {"jet": LINEAR, "attn": FULL, "swa": SLIDING}


def _jet_nemotron(config: Config) -> Decoder:
    """layer_types jet, attn and swa; the heads of the first and the window of the last in efficient_attention_config.

    A jet layer's values are expand_v times as wide as its keys.
    """
    types, layers = config.texts("layer_types"), num_layers(config)
    if len(types) != layers or not {*types} <= {*_JET}:
        raise config.wrong(
            "layer_types",
            f"layer_types must name {layers} layers (num_hidden_layers) {', '.join(_JET)}, not "
            f"{shown(config.value('layer_types'))}",
            "give one entry per layer",
        )
    section = config.section("efficient_attention_config")

    def layer_of(kind: str, own: Config) -> Layer:
        if kind == LINEAR:
            return _jet(section.section("jet"))
        facts = gqa_facts(own)
        if kind == SLIDING:
            inner = section.section("swa")
            facts.put("sliding_window", inner.integer("window_size"), inner.origin("window_size"))
        return facts.build(GroupedQueryAttention)

    def _jet(jet: Fields) -> Layer:
        heads, width = jet.integer("num_heads"), jet.integer("head_dim")
        expand = jet.value("expand_v")
        if isinstance(expand, bool) or not isinstance(expand, int | float) or not 0 < expand <= _MOST_EXPANDED:
            raise jet.wrong(
                "expand_v", f"expand_v must be a number above 0, not {shown(expand)}", "write expand_v: 2.0"
            )
        facts = Facts(config)
        for fact, value, name in (
            ("linear_num_key_heads", heads, "num_heads"),
            ("linear_num_value_heads", heads, "num_heads"),
            ("linear_key_head_dim", width, "head_dim"),
            ("linear_value_head_dim", int(width * expand), "expand_v"),
            ("linear_conv_kernel", jet.integer("conv_size"), "conv_size"),
        ):
            facts.put(fact, value, jet.origin(name))
        return facts.build(GatedDeltaNet)

    return decoder_of(config, [_JET[name] for name in types], layer_of)


def _with_olmo_defaults(config: Config) -> Config:
    """OLMo Hybrid's heads are those of its attention, a key head 3/4 of their width, a value head twice a key head."""
    heads = config.integer("num_attention_heads")
    key_heads = config.integer_or("linear_num_key_heads", heads) or heads
    key_width = config.integer_or("linear_key_head_dim", None) or 3 * config.integer("hidden_size") // (4 * key_heads)
    return config.with_values(
        {
            "linear_num_key_heads": key_heads,
            "linear_num_value_heads": config.integer_or("linear_num_value_heads", heads),
            "linear_key_head_dim": key_width,
            "linear_value_head_dim": config.integer_or("linear_value_head_dim", 2 * key_width),
        }
    )
