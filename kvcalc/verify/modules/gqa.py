"""Multi-head, grouped-query and multi-query attention, full, sliding or chunked: one module."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.attention.gqa import GroupedQueryAttention
from kvcalc.verify.modules._attention import AttentionModule, attention, heads_beside, split_heads
from kvcalc.verify.modules._module import rotate


class GroupedQueryModule(AttentionModule):
    """Attention whose num_kv_heads keys and values each serve num_query_heads / num_kv_heads queries.

    Source: Ainslie et al. 2023, arXiv 2305.13245; Shazeer 2019, arXiv 1911.02150.
    """

    facts: GroupedQueryAttention

    def __init__(self, facts: GroupedQueryAttention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.key_width, value_width = facts.head_widths
        self.q_proj = self.linear(hidden_size, facts.num_query_heads * self.key_width)
        self.k_proj = self.linear(hidden_size, facts.num_kv_heads * self.key_width)
        self.v_proj = self.linear(hidden_size, facts.num_kv_heads * value_width)
        self.o_proj = self.linear(facts.num_query_heads * value_width, hidden_size)

    def row_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """k: (num_kv_heads, head_dim) and v: (num_kv_heads, v_head_dim)."""
        heads = self.facts.num_kv_heads
        projections = {"k": self.k_proj, "v": self.v_proj}
        return {name: (heads, weights.out_features // heads) for name, weights in projections.items()}

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """Rotated keys and values: (sequences, num_kv_heads, tokens, width)."""
        heads = self.facts.num_kv_heads
        key = split_heads(self.k_proj(hidden), heads)  # (B, H_kv, N, D)
        return {"k": rotate(key, positions), "v": split_heads(self.v_proj(hidden), heads)}

    def query(self, hidden: Tensor, positions: Tensor) -> Tensor:
        """Rotated queries: (sequences, num_query_heads, tokens, width)."""
        return rotate(split_heads(self.q_proj(hidden), self.facts.num_query_heads), positions)  # (B, H, N, D)

    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """Softmax(q k^T / sqrt(D)) v, the heads side by side, and the output projection."""
        mixed = attention(self.query(hidden, positions), rows["k"], rows["v"], mask, self.key_width**-0.5)
        output: Tensor = self.o_proj(heads_beside(mixed))
        return output


MODULE = GroupedQueryModule
