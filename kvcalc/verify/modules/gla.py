"""Grouped latent attention, absorbed: queries of each group are projected into the space of their own latent."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from kvcalc.attention.gla import GroupedLatentAttention
from kvcalc.verify.modules._attention import AttentionModule, attention, heads_beside, split_heads
from kvcalc.verify.modules._module import rotate


class GroupedLatentModule(AttentionModule):
    """MLA for each group of heads with its own latent; all groups share one rotary key.

    Source: Zadouri et al. 2025, arXiv 2505.21487, section 3.
    """

    def __init__(self, facts: GroupedLatentAttention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.heads, self.latents, self.rank = facts.num_query_heads, facts.num_latent_heads, facts.latent_head_dim
        self.nope, self.rope = facts.qk_nope_head_dim, facts.qk_rope_head_dim
        self.scale = (self.nope + self.rope) ** -0.5
        self.q_proj = self.linear(hidden_size, self.heads * (self.nope + self.rope))
        self.kv_down = self.linear(hidden_size, self.latents * self.rank)
        self.k_rope_proj = self.linear(hidden_size, self.rope) if self.rope else None
        self.o_proj = self.linear(self.heads * facts.v_head_dim, hidden_size)
        self.w_uk = self.weight(self.heads, self.nope, self.rank, std=self.rank**-0.5)
        self.w_uv = self.weight(self.heads, facts.v_head_dim, self.rank, std=self.rank**-0.5)

    def row_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """c_kv: (num_latent_heads, latent_head_dim) and, where the layer has positions, k_rope: (qk_rope_head_dim)."""
        c_kv = {"c_kv": (self.latents, self.kv_down.out_features // self.latents)}
        return {**c_kv, "k_rope": (self.k_rope_proj.out_features,)} if self.k_rope_proj else c_kv

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """Latents (sequences, latents, tokens, rank), each normalised, and the rotary key (sequences, tokens, rope)."""
        c_kv = {"c_kv": rms_norm(split_heads(self.kv_down(hidden), self.latents), (self.rank,), eps=1e-6)}
        return {**c_kv, "k_rope": rotate(self.k_rope_proj(hidden), positions)} if self.k_rope_proj else c_kv

    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """Attention of each group over its latent and the rotary key, with the latent as value; then W_UV."""
        nope, rope = split_heads(self.q_proj(hidden), self.heads).split([self.nope, self.rope], dim=-1)
        into_latent = torch.einsum("bhnd,hdc->bhnc", nope, self.w_uk)
        query = torch.cat([into_latent, rotate(rope, positions)], dim=-1)  # (B, H, N, rank + rope)
        key = rows["c_kv"]  # (B, latents, T, rank)
        if self.k_rope_proj is not None:
            k_rope = rows["k_rope"][:, None].expand(-1, self.latents, -1, -1)  # (B, T, rope) -> (B, latents, T, rope)
            key = torch.cat([key, k_rope], dim=-1)
        # The fused kernels want values as wide as keys, so the rotary part is mixed too, and dropped.
        mixed = attention(query, key, key, mask, self.scale)[..., : self.rank]
        output: Tensor = self.o_proj(heads_beside(torch.einsum("bhnc,hvc->bhnv", mixed, self.w_uv)))
        return output


MODULE = GroupedLatentModule
