"""Multi-head latent attention, with or without an indexer: DeepSeek-V2 to V3.2, Kimi-K2, GLM-5, LongCat and others.

Source: transformers 5.23 configuration_deepseek_v32.py, configuration_glm_moe_dsa.py, configuration_hy_v4.py,
configuration_mistral_large4.py, configuration_dots3_note.py, modeling_longcat_flash.py; Kimi-K2's own
configuration_deepseek.py.
"""

from __future__ import annotations

from collections.abc import Callable

from kvcalc.attention.indexer import Indexer
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    INDEXED,
    SHARED,
    SLIDING,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_layer,
    hidden_per_head,
    kinds_of,
    only,
    rotary_layers,
    with_reach,
)
from kvcalc.io.families._drafts import num_drafts
from kvcalc.io.families._indexers import indexer_types
from kvcalc.model import MAX_LAYERS
from kvcalc.units import shown

MODEL_TYPES = (
    *("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots3_note_text", "glm4_moe_lite"),
    *("glm_moe_dsa", "hy_v4", "hy_v4_vl_text", "kimi_k2", "longcat_flash", "minicpm3", "mistral4"),
    *("mistral_large4_text", "sarvam_mla", "youtu"),
)
UNUSED = ("num_key_value_heads", "qk_head_dim", "index_skip_topk_offset", "index_topk_freq")
"""Heads that share one latent; a sum; duplicates of indexer_types."""
_SHARES_INDEXERS = {"glm_moe_dsa", "hy_v4", "hy_v4_vl_text", "mistral_large4_text"}
_WITH_INDEXER = {"axk2", "deepseek_v32", *_SHARES_INDEXERS}
_INDEXES_FOR_DRAFTS = {"deepseek_v32", "glm_moe_dsa"}
"""Types whose draft layers have their own indexer, independent of indexer_types (vLLM 0.33.0, deepseek_v2.py; SGLang
0.5.23 stores its rows, too)."""
_FULL_AT_START = 2
_SLIDING_DOTS3 = {
    "num_attention_heads": 64,
    "kv_lora_rank": 1024,
    "head_dim": 256,
    "qk_nope_head_dim": 192,
    "v_head_dim": 128,
}
"""Fields of sliding layers (swa_*) with their defaults, configuration_dots3_note.py."""
_INDEXED_ONLY, _LATENT_ONLY, _NO_POSITIONS = "indexed-only", "indexed-shared", "-nope"


def decoder(config: Config) -> Decoder:
    """A latent in every layer, plus an index key in those with their own indexer."""
    if not config.boolean("use_mla", default=True):  # DeepSeek-VL2 tiny: the V2 class with plain attention
        return decoder_of(config, kinds_of(config, lambda layers: [FULL] * layers), gqa_layer)
    if config.model_type == "longcat_flash":  # each layer attends twice
        return decoder_of(config, [FULL] * (2 * config.integer("num_layers", most=MAX_LAYERS // 2)), _layer)._replace(
            num_layers_origin=config.origin("num_layers")
        )
    kinds = kinds_of(config, _default(config))
    if config.model_type in _SHARES_INDEXERS:
        own = indexer_types(config, len(kinds))
        kinds = [kind if kind != INDEXED or is_own else _LATENT_ONLY for kind, is_own in zip(kinds, own, strict=True)]
    if config.model_type == "mistral_large4_text":
        rotary = rotary_layers(config, len(kinds))
        kinds = [kind if flag else f"{kind}{_NO_POSITIONS}" for kind, flag in zip(kinds, rotary, strict=True)]
        kinds = _with_sources(config, kinds)
    last = kinds[-1] if kinds[-1] in (FULL, INDEXED) else FULL
    draft = INDEXED if config.model_type in _INDEXES_FOR_DRAFTS else last
    return decoder_of(config, kinds, _layer, draft=draft, num_drafts=num_drafts(config))


def mla_facts(config: Config) -> Facts:
    """Facts of the latent; a class without rotary keys in it has a qk_rope_head_dim of 0."""
    facts = Facts(config).take("num_query_heads", "num_attention_heads").take("kv_lora_rank")
    facts.take("qk_rope_head_dim").take("qk_nope_head_dim")
    if "v_head_dim" in config:
        return facts.take("v_head_dim")
    return facts.put("v_head_dim", hidden_per_head(config), config.origin("hidden_size"))  # MiniCPM3


def _default(config: Config) -> Callable[[int], list[str]]:
    if config.model_type == "dots3_note_text":
        full = INDEXED if config.boolean("use_dsa", default=True) else FULL
        windowed = config.boolean("use_sliding_window", default=True)
        return lambda layers: [
            SLIDING if windowed and layer >= _FULL_AT_START and layer % 4 != 1 else full for layer in range(layers)
        ]
    kind = INDEXED if config.model_type in _WITH_INDEXER else FULL
    return lambda layers: [kind] * layers


def _layer(kind: str, config: Config) -> Layer:
    if kind == _INDEXED_ONLY:
        return _indexer(config)
    if kind.endswith(_NO_POSITIONS):
        return _layer(kind.removesuffix(_NO_POSITIONS), config.with_values({"qk_rope_head_dim": 0}))
    only(config, kind, FULL, INDEXED, SLIDING, _LATENT_ONLY)
    sliding = kind == SLIDING and config.model_type == "dots3_note_text"
    facts = mla_facts(_with_window_fields(config) if sliding else config)
    layer = with_reach(facts, kind).build(MultiHeadLatentAttention)
    return layer + _indexer(config) if kind == INDEXED else layer


def _indexer(config: Config) -> Layer:
    facts = Facts(config).take("index_head_dim")
    if config.model_type == "dots3_note_text":
        facts.put("index_dtype", "fp32", "modeling_dots3_note.py")
    return facts.build(Indexer)


def _with_window_fields(config: Config) -> Config:
    """dots3_note as published: swa_* fields for sliding layers, which transformers saves as per_layer_config."""
    if "per_layer_config" in config:
        return config
    own = {name: config.integer_or(f"swa_{name}", default) or default for name, default in _SLIDING_DOTS3.items()}
    rotary = config.integer_or("swa_qk_rope_head_dim", None) or own.pop("head_dim") - own["qk_nope_head_dim"]
    return config.with_values({**own, "qk_rope_head_dim": rotary})


def _with_sources(config: Config, kinds: list[str]) -> list[str]:
    """Mistral Large 4: layers that read another's latent keep at most their own index key."""
    sources = config.value("kv_source_layers")
    if not isinstance(sources, list):
        return kinds
    if len(sources) != len(kinds):
        raise config.wrong(
            "kv_source_layers",
            f"kv_source_layers has {len(sources)} entries, but num_hidden_layers is {len(kinds)}",
            "give one source per layer",
        )
    if not all(type(source) is int and 0 <= source <= layer for layer, source in enumerate(sources)):
        raise config.wrong(
            "kv_source_layers",
            f"kv_source_layers must name layers from 0 up to the layer itself, not {shown(sources)}",
            "count layers from 0",
        )
    return [
        kind
        if source == layer
        else _INDEXED_ONLY
        if kind.startswith(INDEXED) and not kind.startswith(_LATENT_ONLY)
        else SHARED
        for layer, (kind, source) in enumerate(zip(kinds, sources, strict=True))
    ]
