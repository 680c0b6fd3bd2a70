"""Grouped latent attention: a few latents, each for a group of query heads, so that TP ranks can split them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._token_cache import TokenCache
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class GroupedLatentAttention(TokenCache):
    """GLA in its absorbed form: MLA whose latent is cut into heads. A tensor-parallel rank holds its own latents.

    Elements per token and layer: num_latent_heads * latent_head_dim + qk_rope_head_dim (h_c * d_c + d_R).

    A layer without positions has a qk_rope_head_dim of 0, and caches only the latents. Raises InvalidValueError if
    num_query_heads is not a multiple of num_latent_heads.
    Source: Zadouri et al. 2025, arXiv 2505.21487, section 3; Dao-AILab/grouped-latent-attention,
    modeling_llama_GLA.py.
    """

    MAY_BE_ZERO = ("qk_rope_head_dim", "qk_nope_head_dim")
    SPLIT_OR_COPIED = ("num_latent_heads",)

    num_latent_heads: Annotated[int, "latents, each for a group of query heads; 2 in GLA-2"]
    latent_head_dim: Annotated[int, "width of one latent; the paper has twice the width of a head"]
    qk_rope_head_dim: Annotated[int, "width of the rotary key shared by all heads, on every rank"]
    qk_nope_head_dim: Annotated[int, "width of a head's key without position, after expanding the latent; not cached"]
    v_head_dim: Annotated[int, "width of a head's value, after expanding the latent; not cached"]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_heads_share("num_latent_heads", "latent")

    @property
    def label(self) -> str:
        """`GLA-2`, with the widths of its latents and of the rotary key."""
        return f"GLA-{self.num_latent_heads} {self.latent_head_dim}+{self.qk_rope_head_dim}"

    @property
    def head_widths(self) -> tuple[int, int]:
        """Widths of one head's key and value without a latent: v_head_dim for both, as for MLA."""
        return self.v_head_dim, self.v_head_dim

    def tensors(self) -> tuple[CacheTensor, ...]:
        """c_kv: (num_latent_heads, latent_head_dim) and k_rope: (qk_rope_head_dim), one slot per token."""
        latents = (Dim("num_latent_heads", self.num_latent_heads), Dim("latent_head_dim", self.latent_head_dim))
        latent = CacheTensor("c_kv", latents, self.slot_rule)
        rotary = CacheTensor("k_rope", (Dim("qk_rope_head_dim", self.qk_rope_head_dim),), self.slot_rule)
        return (latent, rotary) if self.qk_rope_head_dim else (latent,)


KIND = GroupedLatentAttention
