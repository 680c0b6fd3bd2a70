"""What every module has: weights, a cache, and a forward pass that reads and writes that cache."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kvcalc.model import Attention
from kvcalc.verify.modules._slots import Cache

ROPE_BASE = 10_000.0
"""Base of the rotary frequencies; no byte depends on it."""


class Context(NamedTuple):
    """What a layer's parts exchange, and external inputs.

    chosen: tokens that each query may attend to, (sequences, queries, tokens). standing: rows that every query sees
    before the tokens, by the cache's names. encoded: what cross-attention looks at, (sequences, tokens, hidden_size).
    """

    chosen: Tensor | None = None
    standing: Mapping[str, Tensor] = MappingProxyType({})
    encoded: Tensor | None = None


ALONE = Context()
Kept = Mapping[str, Tensor]


class CacheModule(nn.Module, ABC):
    """One part of a layer, with random weights.

    facts: of the part. hidden_size: width of what it reads and writes; no cache depends on it unless the facts do.
    """

    def __init__(self, facts: Attention, hidden_size: int, *, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.facts = facts
        self.hidden_size = hidden_size
        self.dtype = dtype
        self.device = device

    @abstractmethod
    def new_cache(self, sequences: int, capacity: int, dtype: torch.dtype) -> Cache:
        """Empty cache of one layer for `capacity` tokens, K and V stored as `dtype`."""

    @abstractmethod
    def forward(self, hidden: Tensor, cache: Cache | None = None, context: Context = ALONE) -> Tensor:
        """Output (sequences, tokens, hidden_size) for the next tokens; without a cache, for a whole sequence."""

    @abstractmethod
    def kept(self, hidden: Tensor) -> Kept:
        """What a cache keeps for `hidden` (sequences, tokens, hidden_size), to fill caches with."""

    @abstractmethod
    def write(self, kept: Kept, cache: Cache, tokens: int) -> None:
        """Fills an empty cache to `tokens` tokens without attention, by repeating the rows of a few."""

    def advise(self, hidden: Tensor, cache: Cache | None, context: Context) -> Context:  # noqa: ARG002
        """What this part passes to the other parts of its layer before they run."""
        return context

    def linear(self, inputs: int, outputs: int) -> nn.Linear:
        """Projection with weights of a variance that keeps that of its input."""
        layer = nn.Linear(inputs, outputs, bias=False, dtype=self.dtype, device=self.device)
        return layer.requires_grad_(False)

    def weight(self, *shape: int, std: float = 1.0) -> nn.Parameter:
        """Normal random weights."""
        weight = torch.empty(*shape, dtype=self.dtype, device=self.device)
        return nn.Parameter(nn.init.normal_(weight, std=std), requires_grad=False)


class Advisor(CacheModule):
    """A part without output: it selects what the other parts attend to."""

    def forward(self, hidden: Tensor, cache: Cache | None = None, context: Context = ALONE) -> Tensor:  # noqa: ARG002
        """Nothing."""
        return torch.zeros_like(hidden)


def rotate(vectors: Tensor, positions: Tensor) -> Tensor:
    """Rotary position embedding of (..., tokens, width); an odd last dimension is unchanged."""
    width = vectors.shape[-1] // 2 * 2
    frequencies = ROPE_BASE ** -(torch.arange(0, width, 2, dtype=torch.float64, device=vectors.device) / max(width, 1))
    angles = positions[:, None].to(torch.float64) * frequencies  # (tokens, width / 2)
    cosine, sine = angles.cos().to(vectors.dtype), angles.sin().to(vectors.dtype)
    even, odd, rest = vectors[..., 0:width:2], vectors[..., 1:width:2], vectors[..., width:]
    rotated = torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)
    return torch.cat([rotated, rest], dim=-1)
