"""What every attention module has: its weights, its cache, and a forward pass that reads and writes that cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from kvcalc.attention._token_cache import TokenCache
from kvcalc.verify.modules._slots import Reach, Slots

Cache = Mapping[str, Slots]
ROPE_BASE = 10_000.0
"""Base of the rotary frequencies; no byte depends on it."""


class AttentionModule(nn.Module, ABC):
    """One layer's attention with random weights.

    facts: of the layer. hidden_size: width of what it reads and writes; no cache depends on it.
    """

    def __init__(self, facts: Any, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.facts = facts
        self.hidden_size = hidden_size
        self.dtype = dtype
        self.device = device
        self.reach = reach_of(facts)

    @abstractmethod
    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:
        """Empty cache of one layer, by the names that sizing gives its tensors."""

    @abstractmethod
    def project(self, hidden: Tensor, positions: Tensor) -> Mapping[str, Tensor]:
        """Rows that the cache keeps of `hidden` (sequences, tokens, hidden_size), by the cache's names."""

    @abstractmethod
    def attend(self, hidden: Tensor, positions: Tensor, rows: Mapping[str, Tensor], seen: Tensor) -> Tensor:
        """Attention of `hidden` at `positions` over cache rows, the slots of which stand for the tokens `seen`."""

    def forward(self, hidden: Tensor, cache: Cache | None = None) -> Tensor:
        """Output (sequences, tokens, hidden_size) for the next tokens; without a cache, for a whole sequence."""
        start = next(iter(cache.values())).tokens if cache else 0
        positions = torch.arange(start, start + hidden.shape[1], device=hidden.device)
        rows = self.project(hidden, positions)
        if cache is None:
            return self.attend(hidden, positions, rows, positions)
        held = {name: slots.held() for name, slots in cache.items()}
        turns = any(slots.tokens + hidden.shape[1] > slots.size for slots in cache.values())
        if turns:  # the ring would forget what the first of these tokens still see: read before writing
            seen = torch.cat([next(iter(held.values()))[1], positions])
            keys = {name: torch.cat([held[name][0].to(new.dtype), new], dim=-2) for name, new in rows.items()}
        for name, new in rows.items():
            cache[name].append(new)
        if not turns:
            now = {name: slots.held() for name, slots in cache.items()}
            seen = next(iter(now.values()))[1]
            keys = {name: data.to(self.dtype) for name, (data, _) in now.items()}
        return self.attend(hidden, positions, keys, seen)

    def scores_mask(self, positions: Tensor, seen: Tensor) -> Tensor | None:
        """Which tokens each query sees, (queries, tokens); None where each sees all of them."""
        if len(positions) == 1 and self.reach.limit is None:
            return None
        return (seen <= positions[:, None]) & (seen >= self.reach.first_seen(positions)[:, None])

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        """Projection with weights of a variance that keeps that of its input."""
        layer = nn.Linear(inputs, outputs, bias=False, dtype=self.dtype, device=self.device)
        return layer.requires_grad_(False)


def reach_of(facts: TokenCache) -> Reach:
    """How far back a layer of these facts looks."""
    return Reach(facts.sliding_window, facts.attention_chunk_size)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """SDPA of (sequences, heads, queries, width) over (sequences, kv_heads, tokens, width), heads grouped over KV."""
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
    )


def rotate(vectors: Tensor, positions: Tensor) -> Tensor:
    """Rotary position embedding of (..., tokens, width); an odd last dimension stays as it is."""
    width = vectors.shape[-1] // 2 * 2
    frequencies = ROPE_BASE ** -(torch.arange(0, width, 2, dtype=torch.float64, device=vectors.device) / max(width, 1))
    angles = positions[:, None].to(torch.float64) * frequencies  # (tokens, width / 2)
    cosine, sine = angles.cos().to(vectors.dtype), angles.sin().to(vectors.dtype)
    even, odd, rest = vectors[..., 0:width:2], vectors[..., 1:width:2], vectors[..., width:]
    rotated = torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)
    return torch.cat([rotated, rest], dim=-1)
