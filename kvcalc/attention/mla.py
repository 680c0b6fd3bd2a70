"""Multi-head latent attention: keys and values of all heads are read from one small latent per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kvcalc.attention._token_cache import TokenCache
from kvcalc.cache.tensor import CacheTensor, Dim


@dataclass(frozen=True, kw_only=True)
class MultiHeadLatentAttention(TokenCache):
    """MLA in its absorbed form, which caches the latent and one shared rotary key, independent of the head count.

    Elements per token and layer: kv_lora_rank + qk_rope_head_dim (d_c + d_h^R in the paper).

    qk_nope_head_dim and v_head_dim are there for `mla-naive` and for comparisons with other attention. A layer without
    positions has a qk_rope_head_dim of 0, and caches only the latent.
    Source: DeepSeek-V2, arXiv 2405.04434, section 2.1.
    """

    MAY_BE_ZERO = ("qk_rope_head_dim", "qk_nope_head_dim")

    kv_lora_rank: Annotated[int, "width of the latent shared by all heads"]
    qk_rope_head_dim: Annotated[int, "width of the one rotary key shared by all heads"]
    qk_nope_head_dim: Annotated[int, "width of a head's key without position, after expanding the latent; not cached"]
    v_head_dim: Annotated[int, "width of a head's value, after expanding the latent; not cached"]

    @property
    def label(self) -> str:
        """`MLA`, with the widths of latent and rotary key."""
        return f"MLA {self.kv_lora_rank}+{self.qk_rope_head_dim}"

    @property
    def head_widths(self) -> tuple[int, int]:
        """Widths of one head's key and value without a latent: v_head_dim for both, as in papers' comparisons."""
        return self.v_head_dim, self.v_head_dim

    def tensors(self) -> tuple[CacheTensor, ...]:
        """c_kv: (kv_lora_rank) and k_rope: (qk_rope_head_dim), one slot per token."""
        latent = CacheTensor("c_kv", (Dim("kv_lora_rank", self.kv_lora_rank),), self.slot_rule)
        rotary = CacheTensor("k_rope", (Dim("qk_rope_head_dim", self.qk_rope_head_dim),), self.slot_rule)
        return (latent, rotary) if self.qk_rope_head_dim else (latent,)


KIND = MultiHeadLatentAttention
