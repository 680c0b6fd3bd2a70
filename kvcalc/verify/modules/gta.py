"""Grouped-tied attention: key and value of a group are one cached state, except for the rotary half of the key."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.attention.gta import GroupedTiedAttention
from kvcalc.verify.modules._attention import AttentionModule, attention, heads_beside, split_heads
from kvcalc.verify.modules._module import rotate


class GroupedTiedModule(AttentionModule):
    """v = kv; k = [the first of kv, k_rope]: the rotary key is one for all heads.

    Source: Zadouri et al. 2025, arXiv 2505.21487, section 3.
    """

    facts: GroupedTiedAttention

    def __init__(self, facts: GroupedTiedAttention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.heads, self.width, self.rope = facts.num_query_heads, facts.head_dim, facts.qk_rope_head_dim
        self.copies = facts.num_query_heads if facts.repeats_rope else 1
        self.q_proj = self.linear(hidden_size, self.heads * self.width)
        self.kv_proj = self.linear(hidden_size, facts.num_kv_heads * self.width)
        self.k_rope_proj = self.linear(hidden_size, self.rope)
        self.o_proj = self.linear(self.heads * self.width, hidden_size)

    def row_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """kv: (num_kv_heads, head_dim); k_rope: (qk_rope_head_dim), or (num_query_heads, qk_rope_head_dim)."""
        groups, rope = self.facts.num_kv_heads, self.k_rope_proj.out_features
        kv = (groups, self.kv_proj.out_features // groups)
        return {"kv": kv, "k_rope": (self.copies, rope) if self.facts.repeats_rope else (rope,)}

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """The tied state (sequences, num_kv_heads, tokens, head_dim) and the rotary key, rotated."""
        k_rope = rotate(self.k_rope_proj(hidden), positions)  # (B, N, rope)
        if self.facts.repeats_rope:
            k_rope = k_rope[:, None].repeat(1, self.copies, 1, 1)  # (B, H, N, rope)
        return {"kv": split_heads(self.kv_proj(hidden), self.facts.num_kv_heads), "k_rope": k_rope}

    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """Attention with the tied state as value and, with the rotary key, as key; then the output projection."""
        tied, k_rope = rows["kv"], rows["k_rope"]
        if self.facts.repeats_rope:
            tied = tied.repeat_interleave(self.heads // tied.shape[1], dim=1)  # (B, H_kv, T, D) -> (B, H, T, D)
        else:
            k_rope = k_rope[:, None].expand(-1, tied.shape[1], -1, -1)  # (B, T, rope) -> (B, H_kv, T, rope)
        nope, rope = split_heads(self.q_proj(hidden), self.heads).split([self.width - self.rope, self.rope], dim=-1)
        query = torch.cat([nope, rotate(rope, positions)], dim=-1)  # (B, H, N, D)
        key = torch.cat([tied[..., : self.width - self.rope], k_rope], dim=-1)
        output: Tensor = self.o_proj(heads_beside(attention(query, key, tied, mask, self.width**-0.5)))
        return output


MODULE = GroupedTiedModule
