"""Cross-attention: keys and values of the encoder's output, projected once and read by every token."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from kvcalc.attention.cross import CrossAttention
from kvcalc.verify.modules._attention import attention, heads_beside, split_heads
from kvcalc.verify.modules._module import ALONE, CacheModule, Context, Kept
from kvcalc.verify.modules._slots import Cache, Reach, Slots


class CrossModule(CacheModule):
    """Multi-head attention whose keys and values come from `context.encoded` and do not change.

    Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2.3.
    """

    def __init__(self, facts: CrossAttention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.encoder_tokens = facts.encoder_tokens or 0  # nothing is sized before they are known
        self.heads, width = facts.cross_num_kv_heads, facts.cross_num_kv_heads * facts.cross_head_dim
        self.q_proj, self.k_proj, self.v_proj = (self.linear(hidden_size, width) for _ in range(3))
        self.o_proj = self.linear(width, hidden_size)

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:  # noqa: ARG002
        """cross_k and cross_v: (sequences, cross_num_kv_heads, encoder_tokens, cross_head_dim)."""
        shape = (self.heads, self.k_proj.out_features // self.heads)
        tokens = self.encoder_tokens
        return {name: Slots(sequences, shape, tokens, Reach(), dtype, self.device) for name in ("cross_k", "cross_v")}

    def project(self, encoded: Tensor) -> dict[str, Tensor]:
        """Keys and values (sequences, heads, encoder tokens, width): they have no positions of the decoder's."""
        projections = {"cross_k": self.k_proj, "cross_v": self.v_proj}
        return {name: split_heads(weights(encoded), self.heads) for name, weights in projections.items()}

    def kept(self, hidden: Tensor) -> Kept:
        """Keys and values, as if `hidden` were encoded."""
        return self.project(hidden)

    def write(self, kept: Kept, cache: Cache, tokens: int) -> None:  # noqa: ARG002
        """Each slot of the encoder's tokens, however many the decoder has."""
        for name, rows in kept.items():
            cast("Slots", cache[name]).repeat(rows, self.encoder_tokens)

    def forward(self, hidden: Tensor, cache: Cache | None = None, context: Context = ALONE) -> Tensor:
        """Every token attends to the whole encoder output; the first call projects it, later ones read the cache."""
        slots = {name: cast("Slots", held) for name, held in (cache or {}).items()}
        if not slots or not slots["cross_k"].tokens:
            assert context.encoded is not None
            rows = self.project(context.encoded)
            for name, held in slots.items():
                held.append(rows[name])
        if slots:
            rows = {name: held.held()[0].to(self.dtype) for name, held in slots.items()}
        query = split_heads(self.q_proj(hidden), self.heads)  # (B, H, N, D)
        mixed = attention(query, rows["cross_k"], rows["cross_v"], None, query.shape[-1] ** -0.5)
        output: Tensor = self.o_proj(heads_beside(mixed))
        return output


MODULE = CrossModule
