"""GTA: key and value of a group are one tied state, plus one rotary key for all heads."""

from __future__ import annotations

from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.gta import GroupedTiedAttention
from kvcalc.methods._rebuild import own_kv_heads, rebuilt
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.model import Model

TRAITS = Traits(
    ARCHITECTURE,
    "key and value tied in one state per group",
    source="Zadouri et al. 2025, arXiv 2505.21487; Dao-AILab/grouped-latent-attention",
    formula="Elements per token and layer: num_key_value_heads * head_dim + rope_dim.",
    parameters={
        "num_key_value_heads": "groups; default: the model's, or one per query head",
        "rope_dim": "width of the rotary key, a part of head_dim; default: half of it, as in the paper",
        "repeat_rope": (
            "true for the released module, which caches num_key_value_heads * head_dim + num_query_heads * rope_dim"
        ),
    },
    retraining=True,
    caveat="the released module caches the rotary key once per query head: repeat_rope=true",
)


def apply(
    model: Model, num_key_value_heads: int | None = None, rope_dim: int | None = None, repeat_rope: bool = False
) -> Model:
    """`model` with grouped tied attention in every layer that caches tokens.

    Raises NotApplicableError if no layer caches tokens, InvalidValueError for groups that do not divide the query
    heads, or a rotary key wider than a head.
    """

    def tied(attention: TokenCache) -> GroupedTiedAttention:
        head_dim = attention.head_widths[1]  # the tied state is the whole value
        return GroupedTiedAttention(
            num_query_heads=attention.num_query_heads,
            num_kv_heads=own_kv_heads(attention) if num_key_value_heads is None else num_key_value_heads,
            head_dim=head_dim,
            qk_rope_head_dim=head_dim // 2 if rope_dim is None else rope_dim,
            repeats_rope=repeat_rope,
            **attention.reach,
        )

    return rebuilt(model, "GTA" if num_key_value_heads is None else f"GTA-{num_key_value_heads}", tied)
