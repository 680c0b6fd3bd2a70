"""MiniMax: lightning attention in turn with full attention (01), and full attention with an indexer (M3).

Source: transformers 5.23 configuration_minimax.py, configuration_minimax_m3_vl.py; MiniMax-M3's config.json.
"""

from __future__ import annotations

from kvcalc.attention.indexer import Indexer
from kvcalc.attention.lightning import LightningAttention
from kvcalc.io.families._config import Config
from kvcalc.io.families._decoder import (
    FULL,
    INDEXED,
    LINEAR,
    Decoder,
    Facts,
    Layer,
    decoder_of,
    gqa_facts,
    gqa_layer,
    kinds_of,
    letters,
)
from kvcalc.io.families._drafts import num_drafts
from kvcalc.io.fields import Fields
from kvcalc.units import shown

MODEL_TYPES = ("minimax", "minimax_text_01", "minimax_m1", "minimax_m3", "minimax_m3_vl_text")
UNUSED = ("shared_intermediate_size", "use_sparse_attention", "sparse_disable_index_value")
"""Width of an MLP; repeated per layer by sparse_attention_freq; the index keeps only keys in any case."""


def decoder(config: Config) -> Decoder:
    """layer_types; attn_type_list (0 linear, 1 full); sparse_attention_freq (1 for a layer with an indexer)."""
    if config.model_type.startswith("minimax_m3"):
        kinds = kinds_of(config, lambda layers: _sparse(config, layers))
    else:
        kinds = kinds_of(config, lambda layers: _linear_or_full(config, layers))
    return decoder_of(config, kinds, _layer, draft=FULL, num_drafts=num_drafts(config))


def _linear_or_full(config: Config, layers: int) -> list[str]:
    if "attn_type_list" not in config:
        return letters("FL")(layers)
    return _flagged(config, "attn_type_list", config.value("attn_type_list"), layers, (LINEAR, FULL))


def _sparse(config: Config, layers: int) -> list[str]:
    section = config.section("sparse_attention_config") if "sparse_attention_config" in config else None
    if section is None or "sparse_attention_freq" not in section:
        return [FULL] * layers
    frequencies = section.value("sparse_attention_freq")
    return _flagged(section, "sparse_attention_freq", frequencies, layers, (FULL, INDEXED))


def _flagged(holder: Fields, name: str, flags: object, layers: int, kinds: tuple[str, str]) -> list[str]:
    if (
        not isinstance(flags, list)
        or len(flags) != layers
        or any(type(flag) not in (int, bool) or flag not in (0, 1) for flag in flags)
    ):
        raise holder.wrong(
            name,
            f"{name} must be {layers} flags of 0 or 1 (num_hidden_layers), not {shown(flags)}",
            "write one flag per layer",
        )
    return [kinds[flag] for flag in flags]


def _is_flag(value: object) -> bool:
    return isinstance(value, int) and value in (0, 1)


def _layer(kind: str, config: Config) -> Layer:
    if kind == LINEAR:
        found = gqa_facts(config)
        facts = Facts(config)
        facts.put("linear_num_heads", found.values["num_query_heads"], found.origins["num_query_heads"])
        facts.put("linear_head_dim", found.values["head_dim"], found.origins["head_dim"])
        return facts.build(LightningAttention)
    layer = gqa_layer(FULL if kind == INDEXED else kind, config)
    return layer + _indexer(config) if kind == INDEXED else layer


def _indexer(config: Config) -> Layer:
    facts = Facts(config)
    section = config.section("sparse_attention_config") if "sparse_attention_config" in config else None
    if section is not None and "sparse_index_dim" in section:
        facts.put("index_head_dim", section.integer("sparse_index_dim"), section.origin("sparse_index_dim"))
    else:
        facts.take("index_head_dim")
    return facts.build(Indexer)
