"""Weights of multi-head latent attention, which both of its forms share: they differ in what they cache."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from kvcalc.attention.mla import MultiHeadLatentAttention
from kvcalc.attention.mla_naive import NaiveMultiHeadLatentAttention
from kvcalc.verify.modules._attention import AttentionModule, heads_beside, split_heads
from kvcalc.verify.modules._module import rotate

LATENT_OF_NAIVE = 512
"""kv_lora_rank where a naive layer does not say it: nothing of it is cached."""
LatentFacts = MultiHeadLatentAttention | NaiveMultiHeadLatentAttention


class LatentModule(AttentionModule):
    """Projections of MLA: hidden to latent and rotary key; latent to keys (W_UK) and values (W_UV) of all heads."""

    facts: LatentFacts

    def __init__(self, facts: LatentFacts, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        heads, self.nope, self.rope = facts.num_query_heads, facts.qk_nope_head_dim, facts.qk_rope_head_dim
        self.rank = getattr(facts, "kv_lora_rank", LATENT_OF_NAIVE)
        self.scale = (self.nope + self.rope) ** -0.5
        self.q_proj = self.linear(hidden_size, heads * (self.nope + self.rope))
        self.kv_down = self.linear(hidden_size, self.rank)
        self.k_rope_proj = self.linear(hidden_size, self.rope) if self.rope else None
        self.o_proj = self.linear(heads * facts.v_head_dim, hidden_size)
        self.w_uk = self.weight(heads, self.nope, self.rank, std=self.rank**-0.5)
        self.w_uv = self.weight(heads, facts.v_head_dim, self.rank, std=self.rank**-0.5)

    def latent(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """c_kv (sequences, tokens, rank), normalised, and k_rope (sequences, tokens, rope), rotated."""
        c_kv = rms_norm(self.kv_down(hidden), (self.rank,), eps=1e-6)
        if self.k_rope_proj is None:  # a layer without positions
            return c_kv, hidden.new_empty(*hidden.shape[:2], 0)
        return c_kv, rotate(self.k_rope_proj(hidden), positions)

    def queries(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Queries without position (sequences, heads, tokens, nope), and rotated ones (..., rope)."""
        query = split_heads(self.q_proj(hidden), self.facts.num_query_heads)  # (B, H, N, nope + rope)
        nope, rope = query.split([self.nope, self.rope], dim=-1)
        return nope, rotate(rope, positions)

    def output(self, mixed: Tensor) -> Tensor:
        """The heads (sequences, heads, tokens, v_head_dim) side by side, projected."""
        output: Tensor = self.o_proj(heads_beside(mixed))
        return output
