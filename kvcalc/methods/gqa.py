"""Grouped-query attention: `gqa:16` gives every layer 16 KV heads."""

from __future__ import annotations

from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.errors import InvalidValueError
from kvcalc.methods._rebuild import rebuilt
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.model import Model
from kvcalc.units import positive_int, shown


def _parse(argument: str) -> dict[str, int]:
    """Number of KV heads."""
    if not (argument.isdecimal() and argument.isascii()) or len(argument) > len("99999999"):
        raise InvalidValueError(
            f"attention gqa takes its number of KV heads, not {shown(argument)}", help="write gqa:8 for 8 KV heads"
        )
    return {"num_kv_heads": int(argument)}


TRAITS = Traits(
    ARCHITECTURE,
    "fewer KV heads, each for a group of query heads",
    source="Ainslie et al. 2023, arXiv 2305.13245",
    formula="Elements per token and layer: num_kv_heads * (head_dim + v_head_dim).",
    parameters={
        "num_kv_heads": "KV heads of each layer, each for equally many query heads",
    },
    remarks=("For an MLA model head_dim = v_head_dim for keys and values, as in published comparisons.",),
    retraining=True,
    parse=_parse,
)


def apply(model: Model, num_kv_heads: int) -> Model:
    """`model` with `num_kv_heads` KV heads in every layer.

    Raises InvalidValueError if the query heads are not a multiple of num_kv_heads.
    """
    positive_int(num_kv_heads, "num_kv_heads")
    return rebuilt(model, f"GQA-{num_kv_heads}", lambda attention: with_kv_heads(attention, num_kv_heads))


def with_kv_heads(attention: TokenCache, num_kv_heads: int) -> GroupedQueryAttention:
    """Layer with the reach and head widths of `attention` and `num_kv_heads` KV heads."""
    key_width, value_width = attention.head_widths
    return GroupedQueryAttention(
        num_query_heads=attention.num_query_heads,
        num_kv_heads=num_kv_heads,
        head_dim=key_width,
        v_head_dim=None if value_width == key_width else value_width,
        **attention.reach,
    )
