"""Types whose number of KV heads is behind a switch, in a separate section, or derived from other fields.

Falcon, GPT-BigCode, DBRX, PLaMo, OpenELM and Apple's AFM.
Source: transformers 5.23 modeling_falcon.py, modeling_gpt_bigcode.py, modeling_dbrx.py; vLLM 0.33
transformers_utils/configs/falcon.py; MLX-LM 0.32.2 models/plamo.py, models/openelm.py, models/afm7.py.
"""

from __future__ import annotations

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    SHARED,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    hidden_per_head,
    num_layers,
    per_head_origin,
    whole_number_or,
)
from kvcalc.units import shown

MODEL_TYPES = ("falcon", "gpt_bigcode", "dbrx", "plamo", "openelm", "afm7")
UNUSED: tuple[str, ...] = ()
_SHARED_HEAD = 8
"""Default query heads per KV head in PLaMo."""


def decoder(config: Config) -> Decoder:
    """All layers are full; OpenELM lists heads per layer, and AFM's last layers read the cache of others."""
    layers = num_layers(config)
    if config.model_type == "openelm":
        return _openelm(config, layers)
    if config.model_type == "afm7":
        shared = whole_number_or(config, "num_kv_reuse_layers", 0)
        if shared >= layers:
            raise config.wrong(
                "num_kv_reuse_layers",
                f"num_kv_reuse_layers ({shared}) leaves none of the {layers} layers with a cache to reuse",
                "use fewer than num_layers",
            )
        return decoder_of(config, [FULL] * (layers - shared) + [SHARED] * shared, _layer)
    return decoder_of(config, [FULL] * layers, _layer)


def _openelm(config: Config, layers: int) -> Decoder:
    """num_query_heads and num_kv_heads list the heads of each layer."""
    heads = {name: config.value(name) for name in ("num_query_heads", "num_kv_heads")}
    for name, listed in heads.items():
        if not isinstance(listed, list) or len(listed) != layers or not all(type(n) is int for n in listed):
            raise config.wrong(
                name,
                f"{name} must give the heads of {layers} layers, not {shown(listed)}",
                "give one number per layer",
            )
    pairs = list(zip(*heads.values(), strict=True))
    names = {pair: f"heads-{number}" for number, pair in enumerate(dict.fromkeys(pairs), 1)}
    of_kind = {name: pair for pair, name in names.items()}

    def layer_of(kind: str, own: Config) -> Layer:
        facts = Facts(own)
        for name, count in zip(heads, of_kind[kind], strict=True):
            facts.put(name, count, own.origin(name))
        return facts.take("head_dim").build(GroupedQueryAttention)

    return decoder_of(config, [names[pair] for pair in pairs], layer_of)


def _layer(kind: str, config: Config) -> Layer:
    facts = Facts(config).take("num_query_heads", "num_attention_heads")
    heads = facts.values["num_query_heads"]
    if config.model_type == "dbrx" and "attn_config" in config:
        section = config.section("attn_config")
        facts.put("num_kv_heads", section.integer_or("kv_n_heads", 1), section.origin("kv_n_heads"))
    elif config.model_type == "plamo":
        shared = config.integer_or("n_shared_head", _SHARED_HEAD) or _SHARED_HEAD
        facts.put("num_kv_heads", -(-facts.whole("num_query_heads") // shared), config.origin("n_shared_head"))
    elif config.model_type == "afm7":
        facts.take("num_kv_heads")
    elif config.model_type == "falcon" and _counts_kv_heads(config):
        facts.take("num_kv_heads", "num_kv_heads") if "num_kv_heads" in config else facts.take(
            "num_kv_heads", "num_attention_heads"
        )
    elif config.model_type == "dbrx" or config.boolean("multi_query", default=True):
        facts.put("num_kv_heads", 1, config.origin("multi_query"))
    else:
        facts.put("num_kv_heads", heads, config.origin("multi_query"))
    facts.put("head_dim", hidden_per_head(config), per_head_origin(config))
    return facts.build(GroupedQueryAttention)


def _counts_kv_heads(config: Config) -> bool:
    """Whether the field for KV heads counts; Falcon 40B as first published (RefinedWeb) has n_head_kv and no switch."""
    first_published = config.key("num_kv_heads") == "n_head_kv" and config.given("num_kv_heads")
    return config.boolean("new_decoder_architecture") or first_published
