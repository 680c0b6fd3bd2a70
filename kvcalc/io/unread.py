"""Fields of a config.json that were not read and may decide what is cached: they are always reported."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache

from kvcalc.io.families._config import Config

_SUSPICIOUS = re.compile(
    r"kv_|_kv|(^|_)kvs?($|_)|cache|window|chunk|latent|lora_rank|state_size|d_state|conv_|_conv|index_|indexer|compress|"
    r"linear_|mamba|ssm|share|layer_types|block_type|layer_pattern|sparse_attention|cross_attention|head_dim|"
    r"num_.*heads|recurrent"
)
"""Names of fields that may decide what is cached."""
_HARMLESS = re.compile(
    r"use_cache|expert|moe|mlp|share_encoder|shared_expert|quant|chunk_size_feed|vision|image|audio|video|token|"
    r"dropout|bias|dense_sparse|_eps|scale|conv_bias|mamba_chunk|use_mamba|use_conv|num_shared|n_shared|vocab|"
    r"cross_attention_hidden_size|add_cross_attention|index_topk|index_n_heads|num_index_heads|index_block|"
    r"index_local|index_rope|indexer_rope|indexer_n_heads|indexer_budget|indexer_kv|q_lora|o_lora|chunk_size$|"
    r"cache_implementation|gated|softmax|compress_rope|hc_|compress_ratio$|pruned_heads|attention_sink|dt_|block_size|"
    r"sparse_block|sparse_topk|index_share_for_mtp|compression_config|gradient|encoder_|full_attention_interval"
)
"""Names that look relevant but are not, as measured for every family: they concern weights, kernels or training."""
_EMPTY: tuple[object, ...] = (False, 0, [], {})


def unread_fields(config: Config, unused: Collection[str], sections: Collection[str]) -> Iterator[str]:
    """Names of the unread fields, with the fields they may be misspellings of.

    unused: fields known to cache nothing. sections: possible names of a text part.
    """
    entry = config.entry
    known = {*entry.defaults, *entry.names, *entry.names.values(), *config.asked, *unused}
    yield from _strange(config.values, known, config.asked - config.values.keys())
    for layer_values in config.overrides:
        yield from _strange(layer_values, known, config.asked)
    for section in config.sections.values():
        for name in _strange(section.values, {*section.asked, *unused}, section.asked - section.values.keys()):
            yield f"{section.path[-1]}.{name}"
    top = config.top.values
    others = tuple(name for name in top if name not in sections)
    misspelt = _suspects(others, frozenset(sections)).items()
    yield from (_asking(name, near) for name, near in misspelt if near and isinstance(top[name], Mapping))


def _strange(values: Mapping[str, object], known: Collection[str], absent: Collection[str]) -> Iterator[str]:
    """Unknown fields that sound as if they decide what is cached, or resemble a missing one."""
    unknown = tuple([name for name in values if name not in known])
    for name, near in _suspects(unknown, frozenset(absent)).items():
        value = values[name]
        if value is not None and (near or value not in _EMPTY):
            yield _asking(name, near)


def _asking(name: str, near: str) -> str:
    return f"{name} ({near}?)" if near else name


@lru_cache(maxsize=256)  # configs of one type have the same fields
def _suspects(names: tuple[str, ...], absent: frozenset[str]) -> Mapping[str, str]:
    """Suspicious `names`, each with the absent name that differs by one letter."""
    nearest = {name: _near(name, absent) for name in names}
    return {name: near for name, near in nearest.items() if near or _may_decide(name)}


def _near(name: str, others: Collection[str]) -> str:
    """The one of `others` that differs from `name` by one letter; else nothing."""
    return next((other for other in others if abs(len(name) - len(other)) <= 1 and _is_one_letter_off(name, other)), "")


def _is_one_letter_off(one: str, other: str) -> bool:
    at = next((index for index, pair in enumerate(zip(one, other, strict=False)) if len({*pair}) > 1), None)
    if at is None:  # one starts with the other
        return one != other
    return one[at + 1 :] in (other[at + 1 :], other[at:]) or one[at:] == other[at + 1 :]


def _may_decide(name: str) -> bool:
    return bool(_SUSPICIOUS.search(name) and not _HARMLESS.search(name))
