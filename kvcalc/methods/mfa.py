"""MFA: one wide key and value for many low-rank query heads; with key reuse, only the key."""

from __future__ import annotations

from kvcalc.attention._token_cache import TokenCache
from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.attention.mfa_kr import KeyReuseAttention
from kvcalc.methods._rebuild import rebuilt
from kvcalc.methods._traits import ARCHITECTURE, Traits
from kvcalc.model import Model

TRAITS = Traits(
    ARCHITECTURE,
    "one wide KV head for all, or only its key",
    source="Hu et al. 2024, arXiv 2412.19255",
    formula="Elements per token and layer: 2 * head_dim; with key_reuse (MFA-KR) head_dim.",
    parameters={
        "head_dim": "width of the key and value head, 256 in the paper (C)",
        "key_reuse": "true reads values from the cached key",
    },
    remarks=("The low-rank queries, possibly more than before, cache nothing.",),
    retraining=True,
    caveat="every tensor-parallel rank holds the single head",
)


def apply(model: Model, head_dim: int = 256, key_reuse: bool = False) -> Model:
    """`model` with one wide KV head in every layer that caches tokens.

    Raises NotApplicableError if no layer caches tokens.
    """

    def factorised(attention: TokenCache) -> TokenCache:
        if key_reuse:
            return KeyReuseAttention(num_query_heads=attention.num_query_heads, head_dim=head_dim, **attention.reach)
        return GroupedQueryAttention(
            num_query_heads=attention.num_query_heads, num_kv_heads=1, head_dim=head_dim, **attention.reach
        )

    return rebuilt(model, "MFA-KR" if key_reuse else "MFA", factorised)
