"""MFA with key reuse: many wide queries over one cached key, whose value is a gated projection of the key itself."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from kvcalc.attention.mfa_kr import KeyReuseAttention
from kvcalc.verify.modules._attention import AttentionModule, attention, heads_beside
from kvcalc.verify.modules._module import rotate


class KeyReuseModule(AttentionModule):
    """q_h = Q_h S_q x, k = S_k x, v = k + alpha * (N k). The key is cached before it is rotated, since v reads it.

    Source: Hu et al. 2024, arXiv 2412.19255.
    """

    def __init__(self, facts: KeyReuseAttention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.width = facts.head_dim
        self.q_down, self.k_proj = (self.linear(hidden_size, self.width) for _ in "qk")
        self.q_up = self.weight(facts.num_query_heads, self.width, self.width, std=self.width**-0.5)
        self.reuse_proj = self.linear(self.width, self.width)
        self.reuse_gate = self.weight(self.width)
        self.o_proj = self.linear(facts.num_query_heads * self.width, hidden_size)

    def row_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """k: (head_dim)."""
        return {"k": (self.k_proj.out_features,)}

    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:  # noqa: ARG002
        """The key, not rotated yet: (sequences, tokens, head_dim)."""
        return {"k": self.k_proj(hidden)}

    def read(self, rows: Mapping[str, Tensor], seen: Tensor) -> Mapping[str, Tensor]:
        """The rotated key, and the value that is read from it."""
        key = rows["k"]
        return {"k": rotate(key, seen), "v": key + self.reuse_gate * self.reuse_proj(key)}

    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """Attention with one KV head, and the output projection."""
        shared = rms_norm(self.q_down(hidden), (self.width,), eps=1e-6)
        query = rotate(torch.einsum("bnc,hdc->bhnd", shared, self.q_up), positions)  # (B, H, N, D)
        key, value = rows["k"][:, None], rows["v"][:, None]  # (B, 1, T, D)
        output: Tensor = self.o_proj(heads_beside(attention(query, key, value, mask, self.width**-0.5)))
        return output


MODULE = KeyReuseModule
