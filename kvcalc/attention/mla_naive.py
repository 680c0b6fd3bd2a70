"""Multi-head latent attention as naive code caches it: expanded, one full key and value for every head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._token_cache import TokenCache
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class NaiveMultiHeadLatentAttention(TokenCache):
    """MLA whose latent was expanded before caching.

    Elements per token and layer: num_query_heads * (qk_nope_head_dim + qk_rope_head_dim + v_head_dim), for
    DeepSeek-R1 128 * 320.

    Source: DeepSeek-V3 inference/model.py, attn_impl = "naive"; transformers before 5.15.
    """

    MAY_BE_ZERO = ("qk_rope_head_dim", "qk_nope_head_dim")

    qk_rope_head_dim: Annotated[int, "width of the rotary key, one for all heads and repeated in each"]
    qk_nope_head_dim: Annotated[int, "width of a head's key without position"]
    v_head_dim: Annotated[int, "width of a head's value"]

    @property
    def label(self) -> str:
        """`MLA naive`."""
        return "MLA naive"

    @property
    def head_widths(self) -> tuple[int, int]:
        """Widths of one head's key and value without a latent: v_head_dim for both, as in papers' comparisons."""
        return self.v_head_dim, self.v_head_dim

    def tensors(self) -> tuple[CacheTensor, ...]:
        """k: (num_query_heads, qk_head_dim = qk_nope + qk_rope) and v: (num_query_heads, v_head_dim)."""
        heads = Dim("num_query_heads", self.num_query_heads)
        qk_head_dim = Dim("qk_head_dim", self.qk_nope_head_dim + self.qk_rope_head_dim)
        return (
            CacheTensor("k", (heads, qk_head_dim), self.slot_rule),
            CacheTensor("v", (heads, Dim("v_head_dim", self.v_head_dim)), self.slot_rule),
        )


KIND = NaiveMultiHeadLatentAttention
