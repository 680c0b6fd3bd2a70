"""Layers without a cache: an MLP of its own, or attention that reads what an earlier layer cached."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from kvcalc.attention.none import NoCache
from kvcalc.verify.modules._attention import attention, heads_beside, split_heads
from kvcalc.verify.modules._module import ALONE, CacheModule, Context, Kept, rotate
from kvcalc.verify.modules._slots import Cache, Slots
from kvcalc.verify.modules.gqa import GroupedQueryModule


class CachelessModule(CacheModule):
    """A block that looks at one token at a time."""

    def __init__(self, facts: NoCache, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__(facts, hidden_size, dtype=dtype, device=device)
        self.up, self.down = self.linear(hidden_size, hidden_size), self.linear(hidden_size, hidden_size)

    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:  # noqa: ARG002
        """Nothing."""
        return {}

    def kept(self, hidden: Tensor) -> Kept:  # noqa: ARG002
        """Nothing."""
        return {}

    def write(self, kept: Kept, cache: Cache, tokens: int) -> None:
        """Nothing."""

    def forward(self, hidden: Tensor, cache: Cache | None = None, context: Context = ALONE) -> Tensor:  # noqa: ARG002
        """W_down silu(W_up x)."""
        output: Tensor = self.down(silu(self.up(hidden)))
        return output


class BorrowingModule(nn.Module):
    """Attention with queries of its own over the keys and values that another layer cached; it caches nothing.

    Source: Gemma 3n (num_kv_shared_layers), transformers 5.23 modeling_gemma3n.py; Brandon et al. 2024,
    arXiv 2405.12981.
    """

    def __init__(self, lender: GroupedQueryModule) -> None:
        super().__init__()
        self.lender = lender
        self.q_proj = lender.linear(lender.hidden_size, lender.q_proj.out_features)
        self.o_proj = lender.linear(lender.o_proj.in_features, lender.hidden_size)

    def forward(self, hidden: Tensor, lent: dict[str, Slots]) -> Tensor:
        """Output for the newest tokens, whose keys and values the lender has cached already."""
        rows = {name: slots.held()[0].to(hidden.dtype) for name, slots in lent.items()}
        seen = lent["k"].held()[1]
        positions = torch.arange(lent["k"].tokens - hidden.shape[1], lent["k"].tokens, device=hidden.device)
        query = split_heads(self.q_proj(hidden), self.lender.facts.num_query_heads)  # (B, H, N, D)
        mask = self.lender.mask(positions, seen, ALONE)
        mixed = attention(rotate(query, positions), rows["k"], rows["v"], mask, self.lender.key_width**-0.5)
        output: Tensor = self.o_proj(heads_beside(mixed))
        return output


MODULE = CachelessModule
