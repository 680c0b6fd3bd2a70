"""Kimi Delta Attention between layers of MLA: Kimi Linear, Kimi K3, Ling (bailing_hybrid), GLM-5 Next, Alice AI.

Ling 2.5, of the same type as Ling 3, has lightning attention instead; Alice AI has GQA instead of MLA.

Source: transformers 5.23 configuration_kimi_linear.py, configuration_bailing_hybrid.py, configuration_glm5_next.py,
modeling_glm5_next.py; Kimi-K3's own configuration_kimi_k3.py; vLLM 0.33
models/bailing_moe_linear.py, models/alice_ai.py.
"""

from __future__ import annotations

from kvcalc.attention.indexer import Indexer
from kvcalc.attention.kda import KimiDeltaAttention
from kvcalc.attention.lightning import LightningAttention
from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    INDEXED,
    LINEAR,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_layer,
    hidden_per_head,
    kinds_of,
    only,
    per_head_origin,
)
from kvcalc.io.families._drafts import num_drafts
from kvcalc.io.families._indexers import indexer_types
from kvcalc.io.families.mla import mla_facts
from kvcalc.units import shown

MODEL_TYPES = ("kimi_linear", "bailing_hybrid", "glm5_next_text", "alice_ai")
UNUSED = ("num_key_value_heads", "head_dim", "qk_head_dim", "activation_situ_linear_beta")
"""Heads that share one latent; a sum; a constant of an activation."""
_SHARED_INDEX = "indexed-shared"
_LISTS = {"full_attn_layers": FULL, "kda_layers": LINEAR}
_GROUP_SIZE = 6


def decoder(config: Config) -> Decoder:
    """layer_types, or linear_attn_config's lists of layers (counted from 1), else the type's own pattern."""
    kinds = kinds_of(config, lambda layers: _default(config, layers))
    if config.model_type == "glm5_next_text":
        kinds = [INDEXED if kind == FULL else kind for kind in kinds]
        own = indexer_types(config, len(kinds))
        kinds = [kind if kind != INDEXED or is_own else _SHARED_INDEX for kind, is_own in zip(kinds, own, strict=True)]
    return decoder_of(config, kinds, _layer, draft=FULL, num_drafts=num_drafts(config))


def _default(config: Config, layers: int) -> list[str]:
    if config.model_type == "bailing_hybrid":
        size = config.integer_or("layer_group_size", _GROUP_SIZE) or _GROUP_SIZE
        return [LINEAR if (layer + 1) % size else FULL for layer in range(layers)]
    if config.model_type == "glm5_next_text":
        return [LINEAR if (layer + 1) % 4 else INDEXED for layer in range(layers)]
    section = config.section("linear_attn_config") if "linear_attn_config" in config else None
    if section is None or any(name not in section for name in _LISTS):
        return [FULL if layer and layer % 4 == 0 else LINEAR for layer in range(layers)]
    kinds = [""] * layers
    for name, kind in _LISTS.items():
        listed = section.value(name)
        for layer in listed if isinstance(listed, list) else [None]:
            if not isinstance(layer, int) or not 1 <= layer <= layers:
                raise section.wrong(
                    name, f"{name} must list layers from 1 to {layers}, not {shown(layer)}", "count layers from 1"
                )
            kinds[layer - 1] = kind
    if "" in kinds:
        missing = kinds.index("") + 1
        raise section.wrong("kda_layers", f"layer {missing} is in neither list", f"add {missing} to one of them")
    return kinds


def _layer(kind: str, config: Config) -> Layer:
    if kind == LINEAR:
        return _lightning(config) if _is_ling_2(config) else _kda(config)
    if config.model_type == "alice_ai":
        return gqa_layer(kind, config)
    only(config, kind, FULL, LINEAR, INDEXED, _SHARED_INDEX)
    layer = mla_facts(config).build(MultiHeadLatentAttention)
    if kind != INDEXED:
        return layer
    facts = Facts(config).take("index_head_dim").put("index_pooling", True, "modeling_glm5_next.py")
    return layer + facts.take_if_there("index_pool_tokens", "index_kpool").build(Indexer)


def _is_ling_2(config: Config) -> bool:
    """Ling 2.5: BailingMoeV2_5, or a file without architecture and convolution."""
    if config.model_type != "bailing_hybrid":
        return False
    named = "".join(config.top.texts("architectures"))
    if "BailingMoeV" in named:
        return "BailingMoeV2" in named
    return not any(config.given(name) for name in ("short_conv_kernel_size", "linear_conv_kernel_dim"))


def _lightning(config: Config) -> Layer:
    """A state per attention head; no convolution."""
    facts = Facts(config).take("linear_num_heads", "num_attention_heads")
    if config.given("head_dim"):
        return facts.take("linear_head_dim", "head_dim").build(LightningAttention)
    width = hidden_per_head(config)
    return facts.put("linear_head_dim", width, per_head_origin(config)).build(LightningAttention)


def _kda(config: Config) -> Layer:
    facts = Facts(config)
    if config.model_type == "alice_ai":
        _check_alike(config)
        facts.take("linear_num_heads", "linear_num_key_heads").take("linear_head_dim", "linear_key_head_dim")
        return facts.take("linear_conv_kernel", "linear_conv_kernel_dim").build(KimiDeltaAttention)
    section = config.section("linear_attn_config") if "linear_attn_config" in config else None
    if config.model_type == "bailing_hybrid" and not config.given("linear_num_heads"):  # as published
        facts.take("linear_num_heads", "num_attention_heads").take("linear_head_dim", "head_dim")
        return facts.take("linear_conv_kernel", "short_conv_kernel_size").build(KimiDeltaAttention)
    for fact, field, name in (
        ("linear_num_heads", "linear_num_heads", "num_heads"),
        ("linear_head_dim", "linear_head_dim", "head_dim"),
        ("linear_conv_kernel", "linear_conv_kernel_dim", "short_conv_kernel_size"),
    ):
        if section is not None and name in section:
            facts.put(fact, section.integer(name), section.origin(name))
        else:
            facts.take(fact, field)
    return facts.build(KimiDeltaAttention)


def _check_alike(config: Config) -> None:
    """Raises InvalidValueError if the heads of keys and values differ, which KDA does not support."""
    for key, value in (
        ("linear_num_key_heads", "linear_num_value_heads"),
        ("linear_key_head_dim", "linear_value_head_dim"),
    ):
        if config.value(key) != config.value(value):
            raise config.wrong(
                value,
                f"{value} ({shown(config.value(value))}) must equal {key} ({shown(config.value(key))}) in KDA",
                f"write {value}: {shown(config.value(key))}",
            )
