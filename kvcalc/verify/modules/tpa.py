"""Tensor product attention: keys and values are multiplied out of the factors that were cached."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kvcalc.attention.tpa import TensorProductAttention
from kvcalc.verify.modules._attention import AttentionModule, attention, heads_beside, split_heads
from kvcalc.verify.modules._module import rotate

QUERY_RANK = 6
"""Products that a query is made of (q_rank in the authors' configs): nothing of them is cached."""


class TensorProductModule(AttentionModule):
    """x_h = 1/R sum over r of a[h, r] b[r], for queries, keys and values; rotating each b rotates every head's sum.

    Source: Zhang et al. 2025, arXiv 2501.06425, section 3.
    """

    facts: TensorProductAttention

    def __init__(self, facts: TensorProductAttention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        heads, (key_width, value_width) = facts.num_query_heads, facts.head_widths
        self.scale = key_width**-0.5
        self.a_q = self.linear(hidden_size, heads * QUERY_RANK)
        self.b_q = self.linear(hidden_size, QUERY_RANK * key_width)
        self.a_k = self.linear(hidden_size, heads * facts.k_rank)
        self.b_k = self.linear(hidden_size, facts.k_rank * key_width)
        self.a_v = self.linear(hidden_size, heads * facts.v_rank)
        self.b_v = self.linear(hidden_size, facts.v_rank * value_width)
        self.o_proj = self.linear(heads * value_width, hidden_size)

    def row_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """a_k: (heads, k_rank), b_k: (k_rank, head_dim), a_v: (heads, v_rank), b_v: (v_rank, v_head_dim)."""
        facts = self.facts
        firsts = {"a_k": facts.num_query_heads, "b_k": facts.k_rank, "a_v": facts.num_query_heads, "b_v": facts.v_rank}
        return {name: (first, getattr(self, name).out_features // first) for name, first in firsts.items()}

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """The factors, those over the width of keys rotated: (sequences, heads or rank, tokens, rank or width)."""
        firsts = {name: first for name, (first, _) in self.row_shapes().items()}
        factors = {name: split_heads(getattr(self, name)(hidden), first) for name, first in firsts.items()}
        return {**factors, "b_k": rotate(factors["b_k"], positions)}

    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """Attention of all heads over keys and values that are multiplied out, and the output projection."""
        a_q = split_heads(self.a_q(hidden), self.facts.num_query_heads)  # (B, H, N, R_q)
        b_q = rotate(split_heads(self.b_q(hidden), QUERY_RANK), positions)  # (B, R_q, N, D)
        query, key = multiplied(a_q, b_q), multiplied(rows["a_k"], rows["b_k"])
        value = multiplied(rows["a_v"], rows["b_v"])
        output: Tensor = self.o_proj(heads_beside(attention(query, key, value, mask, self.scale)))
        return output


def multiplied(over_heads: Tensor, over_width: Tensor) -> Tensor:
    """(sequences, heads, tokens, rank) and (sequences, rank, tokens, width) -> (sequences, heads, tokens, width)."""
    return torch.einsum("bhtr,brtd->bhtd", over_heads, over_width) / over_width.shape[1]


MODULE = TensorProductModule
