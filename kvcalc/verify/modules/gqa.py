"""Multi-head, grouped-query and multi-query attention, full, sliding or chunked: one module."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.verify.modules._module import AttentionModule, Cache, attention, rotate
from kvcalc.verify.modules._slots import Slots


class GroupedQueryModule(AttentionModule):
    """Attention whose num_kv_heads keys and values each serve num_query_heads / num_kv_heads queries.

    Source: Ainslie et al. 2023, arXiv 2305.13245; Shazeer 2019, arXiv 1911.02150.
    """

    def __init__(self, facts: GroupedQueryAttention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.key_width, self.value_width = facts.head_widths
        self.q_proj = self.linear(hidden_size, facts.num_query_heads * self.key_width)
        self.k_proj = self.linear(hidden_size, facts.num_kv_heads * self.key_width)
        self.v_proj = self.linear(hidden_size, facts.num_kv_heads * self.value_width)
        self.o_proj = self.linear(facts.num_query_heads * self.value_width, hidden_size)

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:
        """k: (sequences, num_kv_heads, slots, key_width) and v: (sequences, num_kv_heads, slots, value_width)."""
        widths = {"k": self.k_proj.out_features, "v": self.v_proj.out_features}
        heads = self.facts.num_kv_heads
        return {
            name: Slots(sequences, (heads, width // heads), capacity, self.reach, dtype, self.device)
            for name, width in widths.items()
        }

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """Rotated keys and values: (sequences, num_kv_heads, tokens, width)."""
        heads = self.facts.num_kv_heads
        key = self.k_proj(hidden).unflatten(-1, (heads, self.key_width)).transpose(1, 2)  # (B, H_kv, N, D)
        value = self.v_proj(hidden).unflatten(-1, (heads, self.value_width)).transpose(1, 2)
        return {"k": rotate(key, positions), "v": value}

    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], seen: Tensor) -> Tensor:
        """Softmax(q k^T / sqrt(D)) v, the heads side by side, and the output projection."""
        query = self.q_proj(hidden).unflatten(-1, (self.facts.num_query_heads, self.key_width)).transpose(1, 2)
        mask = self.scores_mask(positions, seen)
        mixed = attention(rotate(query, positions), rows["k"], rows["v"], mask, self.key_width**-0.5)  # (B, H, N, D_v)
        output: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))  # (B, N, H * D_v) -> (B, N, hidden)
        return output


MODULE = GroupedQueryModule
